package server

import (
	"context"
	"net/http"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/thread"
)

// encryption answers the calls that encrypt what was stored while the server did
// not. Both begin with each thread, start the job that does the rest, and wait for
// it a while.
type encryption struct {
	admin
	threads *thread.Service
}

func (h encryption) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "POST", Pattern: "/admin/encryption/encrypt-existing", Admin: true, MaxBody: maxSmall, Timeout: time.Minute, Handler: httpx.Body(http.StatusOK, h.existing)},
		{Method: "POST", Pattern: "/admin/encryption/encrypt-threads", Admin: true, MaxBody: maxSmall, OptionalBody: true, Timeout: time.Minute, Handler: httpx.Body(http.StatusOK, h.all)},
	}
}

// maxNamed is how many threads a call may name.
const maxNamed = 1000

// checkNamed tests which threads a call names.
func checkNamed(ids []string, all bool) error {
	switch {
	case all && len(ids) > 0:
		return fault.New(fault.Invalid, "thread_ids and all are two ways to name threads; send one of them")
	case len(ids) > maxNamed:
		return fault.New(fault.Invalid, "thread_ids names %d threads, and a call takes %d; send the rest in another, or all", len(ids), maxNamed)
	case !all && len(ids) == 0:
		return fault.New(fault.Invalid, "there is nothing to do: name thread_ids, at most %d, or all", maxNamed)
	}
	return nil
}

func (h encryption) existing(ctx context.Context, c *httpx.Call, in api.EncryptExisting) (api.ThreadEncryptions, error) {
	id := ""
	if len(in.ThreadIDs) == 1 {
		id = in.ThreadIDs[0]
	}
	if err := h.asked(ctx, c, id); err != nil {
		return nil, err
	}
	if err := checkNamed(in.ThreadIDs, in.All); err != nil {
		return nil, err
	}
	threads, _, err := h.encrypt(ctx, c, in.ThreadIDs)
	out := api.ThreadEncryptions{}
	for _, t := range threads {
		if !in.All || t.concerned() {
			out[t.Thread] = t.wire()
		}
	}
	return out, err
}

func (h encryption) all(ctx context.Context, c *httpx.Call, _ api.EncryptThreads) (api.EncryptedThreads, error) {
	if err := h.asked(ctx, c, ""); err != nil {
		return api.EncryptedThreads{}, err
	}
	threads, j, err := h.encrypt(ctx, c, nil)
	out := api.EncryptedThreads{Results: []api.EncryptionResult{}, JobID: j.ID}
	out.Summary.Total = len(threads)
	for _, t := range threads {
		switch {
		case !t.concerned():
			out.Summary.Skipped++
			continue
		case t.Err != nil:
			out.Summary.Errors++
		default:
			out.Summary.Success++
		}
		out.Results = append(out.Results, api.EncryptionResult{ThreadID: t.Thread, ThreadEncryption: t.wire()})
	}
	return out, err
}

// asked decides and records whether the caller may.
func (h encryption) asked(ctx context.Context, c *httpx.Call, threadID string) error {
	return h.gate.Check(ctx, c.Principal, access.Operate, access.Resource{Type: "thread", ID: recorded(threadID), As: "thread.encrypt"})
}

// encrypting is a thread, and whether the job has ended well.
type encrypting struct {
	thread.Encrypting
	ended bool
}

// concerned reports whether the thread was not encrypted.
func (t encrypting) concerned() bool { return t.Begun || t.Err != nil }

func (t encrypting) wire() api.ThreadEncryption {
	out := api.ThreadEncryption{Status: "ok", KeyID: t.KeyID}
	switch {
	case t.Err != nil:
		out.Status, out.Error = "error", fault.Of(t.Err).Message
	case t.Begun && !t.ended:
		out.Status = "encrypting"
	}
	return out
}

// jobTime is how long a call waits for its job.
const jobTime = 10 * time.Second

// encrypt begins with the named threads, or all, and has a job do the rest. Where
// threads are named and none is left to do there is no job.
func (h encryption) encrypt(ctx context.Context, c *httpx.Call, ids []string) (out []encrypting, j job.Job, err error) {
	if err := idem.Repeatable(ctx); err != nil {
		return nil, j, err
	}
	threads, err := h.threads.BeginEncrypting(ctx, ids)
	if err != nil {
		return nil, j, err
	}
	var args thread.EncryptArgs
	for _, t := range threads {
		if t.Begun && len(ids) > 0 {
			args.Threads = append(args.Threads, t.Thread)
		}
	}
	if len(ids) == 0 || len(args.Threads) > 0 {
		var started api.Jobs
		if err := h.add(ctx, &started, thread.EncryptJob, args); err != nil {
			return nil, j, err
		}
		c.SetHeader("Location", "/admin/jobs/"+started.Jobs[0].ID)
		j = h.wait(ctx, started.Jobs[0].ID)
	}
	for _, t := range threads {
		out = append(out, encrypting{t, j.Status == job.Completed && j.Failed == 0})
	}
	return out, j, nil
}

// wait returns a job once it has ended, or as it is after a while.
func (h encryption) wait(ctx context.Context, id string) job.Job {
	ctx, cancel := context.WithTimeout(ctx, jobTime)
	defer cancel()
	j, _ := h.jobs.Wait(ctx, id)
	j.ID = id
	return j
}
