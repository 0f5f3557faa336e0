package kmsnode

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	unlockedDesc = prometheus.NewDesc("keyfold_kms_unlocked", "1 while the root key can be used.", nil, nil)
	auditOKDesc  = prometheus.NewDesc("keyfold_kms_audit_writable", "1 while the audit can be written; else no key is changed until a restart.", nil, nil)
	auditDesc    = prometheus.NewDesc("keyfold_kms_audit_records", "Number of the last record of the audit.", nil, nil)
	jobsDesc     = prometheus.NewDesc("keyfold_kms_jobs", "Jobs that are kept, by where they stand.", []string{"kind", "status"}, nil)
	unitsDesc    = prometheus.NewDesc("keyfold_kms_job_units", "Units of work of running jobs: in all, done (failed ones included), failed.", []string{"kind", "of"}, nil)
)

// collector shows where the process stands. No name of a key is in it.
type collector struct{ keys *keys }

func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{unlockedDesc, auditOKDesc, auditDesc, jobsDesc, unitsDesc} {
		out <- d
	}
}

func (c collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, n int, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(n), labels...)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	gauge(unlockedDesc, oneIfNil(c.keys.cfg.Root.Check(ctx)))
	gauge(auditOKDesc, oneIfNil(c.keys.audit.Err()))
	seq, _ := c.keys.audit.Head()
	gauge(auditDesc, int(seq))
	jobs, err := c.keys.kms.Jobs(ctx)
	if err != nil {
		return // what is above is all that can be said
	}
	count, units := map[[2]string]int{}, map[[2]string]int{}
	for _, j := range jobs {
		count[[2]string{j.Kind, j.Status}]++
		if j.Status == "running" {
			units[[2]string{j.Kind, "all"}] += max(j.Total, j.Processed)
			units[[2]string{j.Kind, "done"}] += j.Processed
			units[[2]string{j.Kind, "failed"}] += j.Failed
		}
	}
	for k, n := range count {
		gauge(jobsDesc, n, k[0], k[1])
	}
	for k, n := range units {
		gauge(unitsDesc, n, k[0], k[1])
	}
}

func oneIfNil(err error) int {
	if err == nil {
		return 1
	}
	return 0
}
