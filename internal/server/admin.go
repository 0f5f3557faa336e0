package server

import (
	"bytes"
	"context"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/thread"
	"github.com/keyfold/keyfold/internal/vault"
)

// admin is what an operator may do: start jobs, look at them, and read metrics.
type admin struct {
	jobs    Jobs
	vaults  *vault.Service
	gate    access.Gate
	metrics prometheus.Gatherer
}

// Jobs is what the server needs of the runner of jobs.
type Jobs interface {
	Start(ctx context.Context, kind string, args any) (job.Job, error)
	Wait(ctx context.Context, id string) (job.Job, error)
	vault.Jobs
}

// operates is the gate of the calls that only show; those that do something are
// recorded as well.
func operates(c *httpx.Call) error {
	return access.Allow(c.Principal, access.Operate, access.Resource{}, nil, time.Time{})
}

// recorded is id when it has the form of one. Any other text, perhaps a key that
// went astray, is not for the record.
func recorded(id string) string {
	if len(id) != 36 || strings.Trim(id, "0123456789abcdef-") != "" {
		return ""
	}
	return id
}

func (a admin) rotate(ctx context.Context, c *httpx.Call, in api.RotateKEK) (api.Jobs, error) {
	return a.start(ctx, c, in, true)
}

func (a admin) rewrap(ctx context.Context, c *httpx.Call, in api.RotateKEK) (api.Jobs, error) {
	return a.start(ctx, c, in, false)
}

// start starts the jobs that in asks for. Of two, the second may fail to start
// when the first has: then the first goes on, and the caller asks again.
func (a admin) start(ctx context.Context, c *httpx.Call, in api.RotateKEK, rotate bool) (out api.Jobs, err error) {
	what := access.Resource{Type: "kek", ID: recorded(in.VaultID), As: "kek.rewrap"}
	if rotate {
		what.As = "kek.rotate"
	}
	if err := a.gate.Check(ctx, c.Principal, access.Operate, what); err != nil {
		return out, err
	}
	named := 0
	for _, is := range []bool{in.VaultID != "", in.Threads, in.All} {
		if is {
			named++
		}
	}
	if named != 1 {
		return out, fault.New(fault.Invalid, "name one: vault_id, threads or all")
	}
	if in.VaultID != "" {
		if err := a.vaults.Exists(ctx, in.VaultID); err != nil {
			return out, err
		}
	}
	if in.VaultID != "" || in.All {
		err = a.add(ctx, &out, vault.RewrapJob, vault.RewrapArgs{Vault: in.VaultID, Rotate: rotate})
	}
	if err == nil && (in.Threads || in.All) {
		err = a.add(ctx, &out, thread.RewrapJob, thread.RewrapArgs{Rotate: rotate})
	}
	if err == nil && in.All {
		err = a.add(ctx, &out, sealed.RewrapJob, sealed.RewrapArgs{Rotate: rotate})
	}
	if err != nil {
		return api.Jobs{}, err
	}
	c.SetHeader("Location", "/admin/jobs/"+out.Jobs[0].ID)
	return out, nil
}

// add starts a job, or takes the one that does the same already.
func (a admin) add(ctx context.Context, out *api.Jobs, kind string, args any) error {
	j, err := a.running(ctx, kind, args)
	if err == nil && j.ID == "" {
		j, err = a.jobs.Start(ctx, kind, args)
	}
	if err == nil {
		out.Jobs = append(out.Jobs, wireJob(j))
	}
	return err
}

// running returns the job of this kind and these arguments that has not ended,
// or the zero Job. Two requests at the same moment may both find none: then two
// jobs do the same, which harms nothing.
func (a admin) running(ctx context.Context, kind string, args any) (job.Job, error) {
	want, err := json.Marshal(args)
	if err != nil {
		return job.Job{}, err
	}
	jobs, err := a.jobs.List(ctx)
	for _, j := range jobs {
		if j.Kind == kind && j.Status == job.Running && bytes.Equal(j.Args, want) {
			return j, nil
		}
	}
	return job.Job{}, err
}

func (a admin) list(ctx context.Context, c *httpx.Call) (api.Jobs, error) {
	if err := operates(c); err != nil {
		return api.Jobs{}, err
	}
	jobs, err := a.jobs.List(ctx)
	out := api.Jobs{Jobs: []api.Job{}}
	for _, j := range jobs {
		out.Jobs = append(out.Jobs, wireJob(j))
	}
	return out, err
}

func (a admin) job(ctx context.Context, c *httpx.Call) (api.Job, error) {
	return oneJob(ctx, c, a.jobs.Get)
}

func (a admin) cancel(ctx context.Context, c *httpx.Call) (api.Job, error) {
	what := access.Resource{Type: "job", ID: recorded(c.Param("job")), As: "job.cancel"}
	if err := a.gate.Check(ctx, c.Principal, access.Operate, what); err != nil {
		return api.Job{}, err
	}
	return oneJob(ctx, c, a.jobs.Cancel)
}

func oneJob(ctx context.Context, c *httpx.Call, call func(context.Context, string) (job.Job, error)) (api.Job, error) {
	if err := operates(c); err != nil {
		return api.Job{}, err
	}
	j, err := call(ctx, c.Param("job"))
	return wireJob(j), err
}

func wireJob(j job.Job) api.Job {
	return api.Job{
		ID: j.ID, Kind: j.Kind, Status: string(j.Status), Total: j.Total, Processed: j.Processed, Failed: j.Failed,
		FailedItems: j.FailedOf, Error: j.Error, CreatedAt: j.Created, UpdatedAt: j.Updated,
	}
}
