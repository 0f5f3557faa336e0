package generationc

import (
	"strconv"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/thread"
)

// defaultLimit is how many threads or messages a page has that names no limit.
const defaultLimit = 50

// query is what a call on a list asks for.
type query struct {
	limit                 int
	before, after, anchor string // keys
	byUpdated             bool
}

// readQuery reads the query of c. The domain knows that one key is the most.
func readQuery(c *httpx.Call) (query, error) {
	q, err := c.Query()
	if err != nil {
		return query{}, err
	}
	out := query{defaultLimit, q.Get("before"), q.Get("after"), q.Get("anchor"), q.Get("sort_by") == "updated_ts"}
	if q.Has("limit") {
		out.limit, err = strconv.Atoi(q.Get("limit"))
	}
	switch by := q.Get("sort_by"); {
	case err != nil || out.limit < 1: // the domain knows the most
		return query{}, fault.New(fault.Invalid, "limit must be 1 to %d", thread.MaxPage)
	case by != "" && by != "created_ts" && by != "updated_ts":
		return query{}, fault.New(fault.Invalid, "sort_by must be created_ts or updated_ts")
	}
	return out, nil
}

// add notes the next key of a page.
func (p *pagination) add(key string) {
	if p.Count == 0 {
		p.BeforeAnchor = key
	}
	p.AfterAnchor = key
	p.Count++
}
