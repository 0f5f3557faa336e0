// Package generationc speaks generation C of the thread API, for clients that
// were published before Keyfold: other paths, other names of the same members,
// pages with counts, and 202 with a key where the native API answers with the
// thing itself or with nothing.
//
// It owns no logic, and it trusts internal/thread and internal/identity with every
// decision: each handler is one call of theirs, or a page and its count, in other
// words. It keeps nothing, so a crash leaves nothing of it.
//
// A key is what the native API calls an ID. The API document leaves this package out. Generation C knows neither roles,
// replies nor reactions: a message that has them is shown without, and one that is
// edited keeps them.
package generationc

import (
	"net/http"
	"time"

	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/thread"
)

// Limits of request bodies, in bytes: a message's leaves room for the members
// around the body.
const (
	maxSmall   = 64 << 10
	maxMessage = thread.MaxBody + maxSmall
)

// Rows are the routes of generation C but for /healthz and /readyz, which are the
// native API's. Errors are problems, whose member error is what its clients read,
// of type application/json, which is all that they take for JSON.
func Rows(service *thread.Service, signer *identity.Service) []httpx.Row {
	t, m, s := threads{service}, messages{service}, signing{signer}
	const (
		all, one         = "/frontend/v1/threads", "/frontend/v1/threads/{thread}"
		messages, single = one + "/messages", one + "/messages/{message}"
	)
	rows := []httpx.Row{
		{Method: "POST", Pattern: all, MaxBody: maxSmall, Handler: httpx.Body(http.StatusAccepted, t.create)},
		{Method: "GET", Pattern: all, Handler: httpx.NoBody(http.StatusOK, t.list)},
		{Method: "GET", Pattern: one, Handler: httpx.NoBody(http.StatusOK, t.get)},
		{Method: "PUT", Pattern: one, MaxBody: maxSmall, Handler: httpx.Body(http.StatusAccepted, t.rename)},
		{Method: "DELETE", Pattern: one, Handler: httpx.NoBody(http.StatusAccepted, t.delete)},

		{Method: "POST", Pattern: messages, OwnOnce: true, MaxBody: maxMessage, FreeForm: true, Timeout: time.Minute, Handler: httpx.Body(http.StatusAccepted, m.post)},
		{Method: "GET", Pattern: messages, Handler: httpx.NoBody(http.StatusOK, m.list)},
		{Method: "GET", Pattern: single, Handler: httpx.NoBody(http.StatusOK, m.get)},
		{Method: "PUT", Pattern: single, OwnOnce: true, MaxBody: maxMessage, FreeForm: true, Timeout: time.Minute, Handler: httpx.Body(http.StatusAccepted, m.edit)},
		{Method: "DELETE", Pattern: single, Handler: httpx.NoBody(http.StatusAccepted, m.delete)},
	}
	for i := range rows {
		rows[i].Keys = true
	}
	rows = append(rows, httpx.Row{Method: "POST", Pattern: "/backend/v1/sign", AsKey: true, MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, s.sign)})
	for i := range rows {
		rows[i].PlainProblems = true
	}
	return rows
}
