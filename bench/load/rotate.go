package main

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/keyfold/keyfold/cmek"
)

// rotation is what op cmek-rotate found: the re-encryption of all versions of a
// vault under another key, by the server, alone and while others read.
type rotation struct {
	Versions  int     `json:"versions"`
	Seconds   float64 `json:"seconds"` // from the request until the job is completed
	PerSecond float64 `json:"per_second"`
	CPU       float64 `json:"server_cpu_us_per_version"` // an external key process included
	KMSCPU    float64 `json:"kms_cpu_us_per_version,omitempty"`
	RSSBefore int64   `json:"server_rss_before_bytes"`
	RSSMost   int64   `json:"server_rss_most_bytes"` // the most that was seen while it ran
	KMSBefore int64   `json:"kms_rss_before_bytes,omitempty"`
	KMSMost   int64   `json:"kms_rss_most_bytes,omitempty"`

	Meanwhile float64 `json:"per_second_while_reading"` // of a second rotation, beside the reads of the result
	ReadsP50  float64 `json:"reads_alone_p50_us"`
	Reads     float64 `json:"reads_alone_per_second"`
}

// rotating is a vault whose versions are rotated from key to key.
type rotating struct {
	o     options
	vault string
	key   *cmek.Key
	reads workload
}

// measureRotation fills a vault with o.secrets versions of o.size bytes, reads
// alone, rotates alone, and does both at once. The result is that of the reads
// beside the second rotation.
func measureRotation(o options) (*result, error) {
	v, err := fillSealed(o)
	if err != nil {
		return nil, fmt.Errorf("setting up: %w", err)
	}
	alone := newResult(o.op, o.shape)
	alone.observe(o, func(win window) *tally { return drive(o.url, v.reads, o.connections, win) })
	if alone.Errors > 0 {
		return alone, nil
	}
	out := rotation{Versions: v.versions(), Reads: alone.PerSecond, ReadsP50: alone.P50}
	if err := v.measure(&out); err != nil {
		return nil, err
	}
	r := newResult(o.op, o.shape)
	if err := v.beside(r, &out); err != nil {
		return nil, err
	}
	r.Rotation = &out
	return r, nil
}

func (v *rotating) versions() int { return max(1, v.o.secrets/v.o.connections) * v.o.connections }

// fillSealed makes the vault and its versions, all with the same blob.
func fillSealed(o options) (*rotating, error) {
	v := &rotating{o: o, key: cmek.Generate()}
	var err error
	if v.vault, err = newVault(o.target, shape{}); err != nil {
		return nil, err
	}
	if err := call(o.target, "POST", "/v1/vaults/"+v.vault+"/cmek", map[string]string{"fingerprint": v.key.Fingerprint()}, &struct{}{}); err != nil {
		return nil, err
	}
	value, err := cmek.EncryptValue(v.key, []byte(text(o.size)))
	if err != nil {
		return nil, err
	}
	per := v.versions() / o.connections
	if err := fill(o.url, puts(o.target, o.shape, v.vault, value), o.connections, per); err != nil {
		return nil, err
	}
	var reqs [][]byte
	for i := range min(per, 1000) { // of each connection's
		for w := range o.connections {
			reqs = append(reqs, request("GET", fmt.Sprintf("/v1/vaults/%s/secrets/c%04d/s%010d", v.vault, w, i*max(1, per/1000)), o.key, nil))
		}
	}
	v.reads = workload{least: len(value), next: func(worker, i int) []byte { return reqs[(worker*131+i)%len(reqs)] }}
	return v, nil
}

// begin asks for a rotation to a new key and returns the job's path.
func (v *rotating) begin() (string, error) {
	fresh := cmek.Generate()
	body, err := json.Marshal(map[string]string{"new_fingerprint": fresh.Fingerprint()})
	if err != nil {
		return "", err
	}
	path := "/v1/vaults/" + v.vault + "/cmek-rotate"
	req := request("POST", path, v.o.key, body)
	keys := fmt.Sprintf("\r\nX-Cmek-Old-Key: %s\r\nX-Cmek-New-Key: %s\r\n\r\n", base64.StdEncoding.EncodeToString(v.key.Bytes()), base64.StdEncoding.EncodeToString(fresh.Bytes()))
	head := len(req) - len(body) - len("\r\n\r\n")
	req = append(append(append([]byte{}, req[:head]...), keys...), body...)
	var job struct {
		ID string `json:"id"`
	}
	if err := send(v.o.url, "POST "+path, req, &job); err != nil || job.ID == "" {
		return "", errors.Join(err, errors.New("no rotation began"))
	}
	v.key = fresh
	return path + "/" + job.ID, nil
}

// rotate rotates once and calls watch now and then. It returns how long it took.
func (v *rotating) rotate(watch func()) (time.Duration, error) {
	start := time.Now()
	path, err := v.begin()
	for err == nil {
		var job struct {
			Status    string `json:"status"`
			Processed int    `json:"processed"`
			Error     string `json:"error"`
		}
		if err = call(v.o.target, "GET", path, nil, &job); err != nil {
			break
		}
		took := time.Since(start)
		if job.Status == "completed" {
			if job.Processed < v.versions() {
				err = fmt.Errorf("the job is completed after %d of %d versions", job.Processed, v.versions())
			}
			return took, err
		}
		if job.Status != "running" {
			return took, fmt.Errorf("the job is %s: %s", job.Status, job.Error)
		}
		watch()
		time.Sleep(20 * time.Millisecond)
	}
	return 0, err
}

// measure rotates with nobody else on the server.
func (v *rotating) measure(out *rotation) error {
	o := v.o
	out.RSSBefore, out.KMSBefore = rss(o.pid), rss(o.kmsPID)
	server0, err := cpuTime(o.pid)
	if err != nil {
		return err
	}
	kms0, _ := cpuTime(o.kmsPID)
	took, err := v.rotate(func() {
		out.RSSMost, out.KMSMost = max(out.RSSMost, rss(o.pid)), max(out.KMSMost, rss(o.kmsPID))
	})
	if err != nil {
		return err
	}
	server1, _ := cpuTime(o.pid)
	kms1, _ := cpuTime(o.kmsPID)
	n := float64(out.Versions)
	out.Seconds, out.PerSecond = took.Seconds(), n/took.Seconds()
	out.CPU, out.KMSCPU = micros(server1-server0+kms1-kms0)/n, micros(kms1-kms0)/n
	return nil
}

// beside rotates again and again while others read, for as long as r's window.
func (v *rotating) beside(r *result, out *rotation) error {
	done, ended := make(chan struct{}), make(chan error, 1)
	var took time.Duration
	rounds := 0
	go func() {
		for {
			select {
			case <-done:
				ended <- nil
				return
			default:
			}
			d, err := v.rotate(func() {})
			if err != nil {
				ended <- err
				return
			}
			took, rounds = took+d, rounds+1
		}
	}()
	r.observe(v.o, func(win window) *tally { return drive(v.o.url, v.reads, v.o.connections, win) })
	close(done)
	if err := <-ended; err != nil {
		return err
	}
	out.Meanwhile = float64(out.Versions*rounds) / took.Seconds()
	return nil
}

// line is the rotation for people, beside the reads of r.
func (x *rotation) line(r *result) string {
	return fmt.Sprintf("%s: %d versions of %d bytes in %.2f s: %.0f/s, %.1f us of CPU each (key process %.1f); resident %.0f MB, at most %.0f MB (key process %.0f, %.0f MB)\n"+
		"%s: reads alone %.0f/s, p50 %.0f us; meanwhile %.0f/s (%.0f%%), p50 %.0f us, beside %.0f versions/s\n",
		r.Op, x.Versions, r.Size, x.Seconds, x.PerSecond, x.CPU, x.KMSCPU, mb(x.RSSBefore), mb(x.RSSMost), mb(x.KMSBefore), mb(x.KMSMost),
		r.Op, x.Reads, x.ReadsP50, r.PerSecond, 100*r.PerSecond/x.Reads, r.P50, x.Meanwhile)
}
