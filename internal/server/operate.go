package server

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/thread"
)

// operate answers an operator's calls on threads. What changes something, and what
// shows a row as it lies, is recorded.
type operate struct {
	admin
	threads *thread.Service
	dev     bool
}

func (h operate) rows() []httpx.Row {
	const users = "/admin/users/{owner}/threads"
	rows := []httpx.Row{
		{Method: "GET", Pattern: "/admin/health", Handler: httpx.NoBody(http.StatusOK, h.health)},
		{Method: "GET", Pattern: "/admin/stats", Timeout: time.Minute, Handler: httpx.NoBody(http.StatusOK, h.stats)},
		{Method: "GET", Pattern: "/admin/threads", Handler: httpx.NoBody(http.StatusOK, h.listThreads)},
		{Method: "GET", Pattern: "/admin/users", Handler: httpx.NoBody(http.StatusOK, h.users)},
		{Method: "GET", Pattern: users, Handler: httpx.NoBody(http.StatusOK, h.threadsOf)},
		{Method: "GET", Pattern: users + "/{thread}/messages", Handler: httpx.NoBody(http.StatusOK, h.messagesOf)},
		{Method: "GET", Pattern: users + "/{thread}/messages/{message}", Handler: h.row},
		{Method: "POST", Pattern: "/admin/encryption/rotate-thread-dek", MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, h.rotateDEK)},
		{Method: "POST", Pattern: "/admin/encryption/rewrap-deks", MaxBody: maxSmall, Timeout: 2 * time.Minute, Handler: httpx.Body(http.StatusOK, h.rewrapDEKs)},
		{Method: "POST", Pattern: "/admin/encryption/generate-kek", Handler: httpx.NoBody(http.StatusOK, h.generateKEK)},
	}
	for i := range rows {
		rows[i].Admin = true
	}
	return rows
}

func (h operate) health(_ context.Context, c *httpx.Call) (api.ServiceHealth, error) {
	return api.ServiceHealth{Status: "ok", Service: "keyfold"}, operates(c)
}

func (h operate) stats(ctx context.Context, c *httpx.Call) (api.Stats, error) {
	if err := operates(c); err != nil {
		return api.Stats{}, err
	}
	return h.threads.Stats(ctx)
}

// shows is the gate of lists, and reads which page is asked for.
func shows(c *httpx.Call) (limit int, cursor string, err error) {
	if err := operates(c); err != nil {
		return 0, "", err
	}
	q, limit, err := page(c)
	return limit, q.Get("cursor"), err
}

func (h operate) listThreads(ctx context.Context, c *httpx.Call) (api.Threads, error) {
	limit, cursor, err := shows(c)
	if err != nil {
		return api.Threads{}, err
	}
	return h.threads.AllThreads(ctx, limit, cursor)
}

func pagination(n thread.Names) api.Pagination {
	return api.Pagination{Count: len(n.IDs), HasMore: n.Next != "", NextCursor: n.Next}
}

func (h operate) users(ctx context.Context, c *httpx.Call) (api.ThreadOwners, error) {
	limit, cursor, err := shows(c)
	if err != nil {
		return api.ThreadOwners{}, err
	}
	n, err := h.threads.Owners(ctx, limit, cursor)
	return api.ThreadOwners{Users: n.IDs, Pagination: pagination(n)}, err
}

func (h operate) threadsOf(ctx context.Context, c *httpx.Call) (api.ThreadKeys, error) {
	limit, cursor, err := shows(c)
	if err != nil {
		return api.ThreadKeys{}, err
	}
	n, err := h.threads.ThreadsOf(ctx, c.Param("owner"), limit, cursor)
	return api.ThreadKeys{Threads: n.IDs, Pagination: pagination(n)}, err
}

func (h operate) messagesOf(ctx context.Context, c *httpx.Call) (api.MessageKeys, error) {
	limit, cursor, err := shows(c)
	if err != nil {
		return api.MessageKeys{}, err
	}
	n, err := h.threads.MessagesOf(ctx, c.Param("owner"), c.Param("thread"), limit, cursor)
	return api.MessageKeys{Messages: n.IDs, Pagination: pagination(n)}, err
}

// rawType is the media type of a row as it lies.
var rawType = httpx.ContentType{"application/octet-stream"}

func (h operate) row(ctx context.Context, c *httpx.Call) error {
	what := access.Resource{Type: "thread", ID: recorded(c.Param("thread")), As: "message.raw"}
	if err := h.gate.Check(ctx, c.Principal, access.Operate, what); err != nil {
		return err
	}
	value, err := h.threads.RowOf(ctx, c.Param("owner"), c.Param("thread"), c.Param("message"))
	if err != nil {
		return err
	}
	c.Send(http.StatusOK, rawType, value)
	return nil
}

func (h operate) rotateDEK(ctx context.Context, c *httpx.Call, in api.RotateThreadDEK) (out api.ThreadDEKRotated, err error) {
	what := access.Resource{Type: "thread", ID: recorded(in.ThreadID), As: "thread.rotate_dek"}
	if err := h.gate.Check(ctx, c.Principal, access.Operate, what); err != nil {
		return out, err
	}
	switch {
	case in.All == (in.ThreadID != ""):
		return out, fault.New(fault.Invalid, "name one: thread_id or all")
	case in.Rate < 0 || in.Rate > 0 && !in.All:
		return out, fault.New(fault.Invalid, "rate goes with all, and is a number from 0")
	}
	out.Status = "ok"
	if in.All {
		var jobs api.Jobs
		if err := h.add(ctx, &jobs, thread.RotateAllJob, thread.RotateAllArgs{Rate: in.Rate}); err != nil {
			return api.ThreadDEKRotated{}, err
		}
		out.JobID = jobs.Jobs[0].ID
	} else {
		key, j, err := h.threads.RotateDEK(ctx, h.jobs, in.ThreadID)
		if err != nil {
			return api.ThreadDEKRotated{}, err
		}
		out.NewKey, out.JobID = key, j.ID
	}
	c.SetHeader("Location", "/admin/jobs/"+out.JobID)
	return out, nil
}

func (h operate) rewrapDEKs(ctx context.Context, c *httpx.Call, in api.RewrapDEKs) (api.DEKRewraps, error) {
	what := access.Resource{Type: "kek", As: "kek.rewrap"}
	if in.NewKEKHex != "" {
		what.As = "kek.import"
	}
	if len(in.ThreadIDs) == 1 {
		what.Type, what.ID = "thread", recorded(in.ThreadIDs[0])
	}
	if err := h.gate.Check(ctx, c.Principal, access.Operate, what); err != nil {
		return nil, err
	}
	if err := checkNamed(in.ThreadIDs, in.All); err != nil {
		return nil, err
	}
	newKEK, err := importedKEK(c, in.NewKEKHex)
	if err != nil {
		return nil, err
	}
	defer clear(newKEK)
	if err := idem.Repeatable(ctx); err != nil {
		return nil, err
	}
	done, err := h.threads.RewrapDEKs(ctx, in.ThreadIDs, newKEK)
	if err != nil {
		return nil, err
	}
	out := api.DEKRewraps{}
	for _, d := range done {
		if d.Err != nil {
			out[d.Of] = api.DEKRewrap{Error: fault.Of(d.Err).Message}
			continue
		}
		out[d.Of] = api.DEKRewrap{Status: "ok", KEKID: d.KEKID, KEKVersion: int(d.KEKVersion)}
	}
	if len(out) == 0 && newKEK == nil {
		return nil, fault.New(fault.Invalid, "there is nothing to do: no thread has a DEK")
	}
	return out, nil
}

// importedKEK reads key material, nil: there is none. Like every text that came, it is
// in memory until that is used again.
func importedKEK(c *httpx.Call, text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	if !c.Private() {
		return nil, fault.New(fault.Invalid, "a key is taken over TLS, from this machine, or from a trusted proxy alone, and this one came over plain HTTP: take it for known to others; make another, and use https")
	}
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != 32 {
		clear(raw)
		return nil, fault.New(fault.Invalid, "new_kek_hex is 64 hex digits: 32 bytes of a random generator, as openssl rand -hex 32 prints them")
	}
	return raw, nil
}

// generateKEK is for the old clients' tests, and installs nothing.
func (h operate) generateKEK(ctx context.Context, c *httpx.Call) (api.GeneratedKEK, error) {
	if err := operates(c); err != nil {
		return api.GeneratedKEK{}, err
	}
	if !h.dev {
		return api.GeneratedKEK{}, fault.New(fault.NotFound, "this is for keyfold dev alone; keys are made in the key process: POST /admin/encryption/rotate-kek")
	}
	key := make([]byte, 32)
	rand.Read(key)
	return api.GeneratedKEK{KEKHex: hex.EncodeToString(key)}, nil
}
