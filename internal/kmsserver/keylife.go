package kmsserver

import (
	"context"
	"net/url"
	"strconv"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// keylife answers the calls on keys one by one, in JSON.
type keylife struct{ kms KMS }

// Bodies of requests and answers. done answers what has nothing to say.
type (
	releaseKEK struct {
		KEKID string `json:"kek_id"`
		Below uint32 `json:"below"`
	}
	importKEK struct {
		Key []byte `json:"key"` // raw
	}
	destroyVersion struct {
		KEKID   string `json:"kek_id"`
		Version uint32 `json:"kek_version"`
	}
	shredDEK struct {
		KeyID string `json:"key_id"`
	}
	listDEKs struct {
		KeyIDs []string `json:"key_ids"`
	}
	wrappedDEK struct {
		Wrapped []byte `json:"wrapped"`
	}
	done struct{}
)

// jsonBody is httpx.Body for a call that takes JSON alone.
func jsonBody[In, Out any](status int, call func(context.Context, *httpx.Call, In) (Out, error)) httpx.Handler {
	return httpx.Body(status, func(ctx context.Context, c *httpx.Call, in In) (out Out, err error) {
		if isProtobuf(c) {
			return out, fault.New(fault.Invalid, "this call takes application/json alone")
		}
		return call(actor(ctx, c), c, in)
	})
}

func (l keylife) wrapped(ctx context.Context, c *httpx.Call) (wrappedDEK, error) {
	q, err := c.Query()
	if err != nil {
		return wrappedDEK{}, err
	}
	if q.Get("key_id") == "" {
		return wrappedDEK{}, missing("key_id")
	}
	wrapped, err := l.kms.GetWrapped(actor(ctx, c), q.Get("key_id"))
	return wrappedDEK{wrapped}, err
}

func (l keylife) release(ctx context.Context, _ *httpx.Call, in releaseKEK) (done, error) {
	switch {
	case in.KEKID == "":
		return done{}, missing("kek_id")
	case in.Below == 0:
		return done{}, missing("below")
	}
	return done{}, l.kms.ReleaseKEK(ctx, in.KEKID, in.Below)
}

func (l keylife) rotate(ctx context.Context, _ *httpx.Call, in kmsapi.Rotate) (kmsapi.Rotated, error) {
	if in.KEKID == "" == !in.All {
		return kmsapi.Rotated{}, fault.New(fault.Invalid, "send either kek_id or all")
	}
	return l.kms.RotateKEK(ctx, in)
}

func (l keylife) importKEK(ctx context.Context, _ *httpx.Call, in importKEK) (kmsapi.Rotated, error) {
	if in.Key == nil {
		return kmsapi.Rotated{}, missing("key")
	}
	defer clear(in.Key)
	return l.kms.ImportKEK(ctx, in.Key)
}

func (l keylife) destroy(ctx context.Context, _ *httpx.Call, in destroyVersion) (done, error) {
	switch {
	case in.KEKID == "":
		return done{}, missing("kek_id")
	case in.Version == 0:
		return done{}, missing("kek_version")
	}
	return done{}, l.kms.DestroyKEKVersion(ctx, in.KEKID, in.Version)
}

func (l keylife) shred(ctx context.Context, _ *httpx.Call, in shredDEK) (done, error) {
	if in.KeyID == "" {
		return done{}, missing("key_id")
	}
	return done{}, l.kms.ShredDEK(ctx, in.KeyID)
}

func (l keylife) keys(ctx context.Context, c *httpx.Call) (kmsapi.Keys, error) {
	q, err := c.Query()
	if err != nil {
		return kmsapi.Keys{}, err
	}
	query := kmsapi.KeysQuery{After: q.Get("after")}
	if query.DEKs, err = flag(q, "deks"); err != nil {
		return kmsapi.Keys{}, err
	}
	if query.Count, err = flag(q, "count"); err != nil {
		return kmsapi.Keys{}, err
	}
	if query.Limit, err = pageLimit(q); err != nil {
		return kmsapi.Keys{}, err
	}
	return l.kms.Keys(actor(ctx, c), query)
}

func (l keylife) list(ctx context.Context, c *httpx.Call) (kmsapi.KEKList, error) {
	q, err := c.Query()
	if err != nil {
		return kmsapi.KEKList{}, err
	}
	query := kmsapi.ListQuery{After: q.Get("after")}
	if query.Count, err = flag(q, "count"); err != nil {
		return kmsapi.KEKList{}, err
	}
	if query.Limit, err = pageLimit(q); err != nil {
		return kmsapi.KEKList{}, err
	}
	return l.kms.ListKEKs(actor(ctx, c), query)
}

func (l keylife) listDEKs(ctx context.Context, _ *httpx.Call, in listDEKs) (kmsapi.DEKList, error) {
	if in.KeyIDs == nil {
		return kmsapi.DEKList{}, missing("key_ids")
	}
	return l.kms.ListDEKs(ctx, in.KeyIDs)
}

// pageLimit reads how much a page holds at most; absent it is 0.
func pageLimit(q url.Values) (int, error) {
	if !q.Has("limit") {
		return 0, nil
	}
	n, err := strconv.Atoi(q.Get("limit"))
	if err != nil || n < 1 || n > kmsapi.MaxBatch {
		return 0, fault.New(fault.Invalid, "limit must be a number from 1 to %d", kmsapi.MaxBatch)
	}
	return n, nil
}

func (l keylife) jobs(ctx context.Context, c *httpx.Call) ([]kmsapi.Job, error) {
	return l.kms.Jobs(actor(ctx, c))
}

func (l keylife) job(ctx context.Context, c *httpx.Call) (kmsapi.Job, error) {
	return l.kms.Job(actor(ctx, c), c.Param("job"))
}

func (l keylife) cancel(ctx context.Context, c *httpx.Call) (done, error) {
	return done{}, l.kms.CancelJob(actor(ctx, c), c.Param("job"))
}

// flag reads a query parameter that is true or false; absent it is false.
func flag(q url.Values, name string) (bool, error) {
	switch q.Get(name) {
	case "", "false", "0":
		return false, nil
	case "true", "1":
		return true, nil
	}
	return false, fault.New(fault.Invalid, "%s must be true or false", name)
}

func missing(name string) error {
	return fault.New(fault.Invalid, "%s is missing; send it", name)
}
