package httpx

import (
	"cmp"
	"context"
	stdjson "encoding/json"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// EndUsers finds the end user for whom a call is made with key, an
// access.OrgKey: the header X-User-ID, the header X-User-Signature, and the
// query parameter or body's member author say who it is, each "" when absent.
type EndUsers func(ctx context.Context, key access.Principal, userID, signature, author string) (access.Principal, error)

var (
	errKeyHere = fault.New(fault.Forbidden, "frontend and backend keys are for threads and messages alone; use a user's API key here")
	errAdmin   = fault.New(fault.Forbidden, "an admin key is for /admin alone; use a user's API key here")
	errAuthors = fault.New(fault.Invalid, "the query and the body name two authors; name one")
)

// keyHere holds the caller to what the row says of admin keys, and of an org's
// own: of these once the body is there, since it may name the end user.
func (c *Call) keyHere(ctx context.Context) error {
	switch {
	case c.Principal.Kind == access.Operator && !c.row.Admin:
		return c.astray(ctx, errAdmin)
	case c.Principal.Kind != access.OrgKey || c.row.AsKey:
		return nil
	case !c.row.Keys || c.mux.endUsers == nil:
		return c.astray(ctx, errKeyHere)
	}
	p, err := c.endUser(ctx, c.Principal)
	if err != nil {
		return err
	}
	if c.Principal = p; visitor(p) {
		return c.mux.limits.principal(p)
	}
	return nil
}

// endUser is the end user for whom the call is made with key.
func (c *Call) endUser(ctx context.Context, key access.Principal) (access.Principal, error) {
	userID, err := c.once("X-User-Id")
	if err != nil {
		return access.Principal{}, err
	}
	signature, err := c.once("X-User-Signature")
	if err != nil {
		return access.Principal{}, err
	}
	author, err := c.author()
	if err != nil {
		return access.Principal{}, err
	}
	p, err := c.mux.endUsers(ctx, key, userID, signature, author)
	p.Addr, p.RequestID = c.Addr, c.requestID[0]
	return p, err
}

// astray answers a key on a row that is not for it, after it was told of.
func (c *Call) astray(ctx context.Context, err error) error {
	if c.mux.forbidden != nil {
		return cmp.Or(c.mux.forbidden(ctx, c), err)
	}
	return err
}

// once returns the request's header of that name, "" when absent or empty.
// Sent more than once it is Invalid: it would be anybody's guess which counts.
func (c *Call) once(name string) (string, error) {
	values := c.r.Header[name]
	if len(values) > 1 {
		return "", fault.New(fault.Invalid, "send the header %s once", name)
	}
	return c.r.Header.Get(name), nil
}

// author is whom the query or the body names as the author of the call.
func (c *Call) author() (string, error) {
	q, err := c.Query()
	if err != nil {
		return "", err
	}
	if len(q["author"]) > 1 {
		return "", errAuthors
	}
	byQuery := q.Get("author")
	if c.body == nil || c.body.Len() == 0 || c.row.Lines {
		return byQuery, nil
	}
	var in struct {
		Author string             `json:"author"`
		Body   stdjson.RawMessage `json:"body"` // free-form on the rows that say so
	}
	options := plainOptions
	if c.row.FreeForm {
		options = freeOptions
	}
	if err := json.Unmarshal(c.body.Bytes(), &in, options...); err != nil {
		return "", jsonFault(err)
	}
	if byQuery != "" && in.Author != "" && byQuery != in.Author {
		return "", errAuthors
	}
	if in.Author != "" {
		return in.Author, nil
	}
	return byQuery, nil
}
