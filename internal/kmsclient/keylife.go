package kmsclient

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// call makes a call in JSON. in may be nil.
func call[Out any](ctx context.Context, c *Client, r request, in any) (Out, error) {
	var out Out
	answer, err := c.plain(ctx, r, in)
	if err != nil {
		return out, err
	}
	defer putBuffer(answer)
	if err := json.Unmarshal(answer.b, &out); err != nil {
		return out, errShape
	}
	return out, nil
}

// tell makes a call whose answer, an object, says no more than that it went well.
func (c *Client) tell(ctx context.Context, r request, in any) error {
	_, err := call[struct{}](ctx, c, r, in)
	return err
}

// plain makes a call and returns what was answered, as it is.
func (c *Client) plain(ctx context.Context, r request, in any) (*buffer, error) {
	if ctx.Err() != nil {
		return nil, gaveUp(ctx)
	}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return nil, fault.New(fault.Invalid, "the IDs of a KMS call must be UTF-8")
		}
		defer clear(body) // it may hold a key
		r.kind, r.body, r.size = "application/json", [][]byte{body}, len(body)
	}
	ctx, end := c.untilClose(context.WithCancel(ctx))
	defer end()
	return c.do(ctx, r)
}

func get(path string, query url.Values) request {
	return request{method: http.MethodGet, path: path, query: query.Encode(), repeat: again}
}

func post(path string, r repeat) request {
	return request{method: http.MethodPost, path: path, repeat: r}
}

// RotateKEK is kms.Service.RotateKEK. It is not sent again once a byte may have left.
func (c *Client) RotateKEK(ctx context.Context, r kmsapi.Rotate) (kmsapi.Rotated, error) {
	return call[kmsapi.Rotated](ctx, c, post("/rotate_kek", once), r)
}

// ImportKEK is kms.Service.ImportKEK.
func (c *Client) ImportKEK(ctx context.Context, raw []byte) (kmsapi.Rotated, error) {
	return call[kmsapi.Rotated](ctx, c, post("/import_kek", again), struct {
		Key []byte `json:"key"`
	}{raw})
}

// ReleaseKEK is kms.Service.ReleaseKEK.
func (c *Client) ReleaseKEK(ctx context.Context, kekID string, below uint32) error {
	return c.tell(ctx, post("/release_kek", again), struct {
		KEKID string `json:"kek_id"`
		Below uint32 `json:"below"`
	}{kekID, below})
}

// DestroyKEKVersion is kms.Service.DestroyKEKVersion. It is not sent again once
// a byte may have left.
func (c *Client) DestroyKEKVersion(ctx context.Context, kekID string, version uint32) error {
	return c.tell(ctx, post("/destroy_kek_version", once), kmsapi.KEKInfo{KEKID: kekID, Version: version})
}

// ShredDEK is kms.Service.ShredDEK. It is not sent again once a byte may have left.
func (c *Client) ShredDEK(ctx context.Context, keyID string) error {
	return c.tell(ctx, post("/shred_dek", once), struct {
		KeyID string `json:"key_id"`
	}{keyID})
}

// GetWrapped is kms.Service.GetWrapped.
func (c *Client) GetWrapped(ctx context.Context, keyID string) ([]byte, error) {
	out, err := call[struct {
		Wrapped []byte `json:"wrapped"`
	}](ctx, c, get("/get_wrapped", url.Values{"key_id": {keyID}}), nil)
	if err == nil && len(out.Wrapped) != wrappedSize {
		return nil, errShape
	}
	return out.Wrapped, err
}

// Keys is kms.Service.Keys.
func (c *Client) Keys(ctx context.Context, q kmsapi.KeysQuery) (kmsapi.Keys, error) {
	return call[kmsapi.Keys](ctx, c, get("/keys", pageQuery(q.After, q.Limit, map[string]bool{"deks": q.DEKs, "count": q.Count})), nil)
}

// ListKEKs is kms.Service.ListKEKs.
func (c *Client) ListKEKs(ctx context.Context, q kmsapi.ListQuery) (kmsapi.KEKList, error) {
	return call[kmsapi.KEKList](ctx, c, get("/list_keks", pageQuery(q.After, q.Limit, map[string]bool{"count": q.Count})), nil)
}

// ListDEKs is kms.Service.ListDEKs.
func (c *Client) ListDEKs(ctx context.Context, keyIDs []string) (kmsapi.DEKList, error) {
	return call[kmsapi.DEKList](ctx, c, post("/list_deks", again), struct {
		KeyIDs []string `json:"key_ids"`
	}{keyIDs})
}

// MayListKEKs is ListKEKs without its answer: fault.Forbidden where the KMS does not
// tell this caller.
func (c *Client) MayListKEKs(ctx context.Context) error {
	_, err := c.ListKEKs(ctx, kmsapi.ListQuery{Limit: 1})
	return err
}

// pageQuery asks for a page with what is on.
func pageQuery(after string, limit int, flags map[string]bool) url.Values {
	v := url.Values{}
	for name, on := range flags {
		if on {
			v.Set(name, "true")
		}
	}
	if after != "" {
		v.Set("after", after)
	}
	if limit != 0 {
		v.Set("limit", strconv.Itoa(limit))
	}
	return v
}

// Jobs is kms.Service.Jobs.
func (c *Client) Jobs(ctx context.Context) ([]kmsapi.Job, error) {
	return call[[]kmsapi.Job](ctx, c, get("/jobs", nil), nil)
}

// Job is kms.Service.Job.
func (c *Client) Job(ctx context.Context, id string) (kmsapi.Job, error) {
	if !isID(id) {
		return kmsapi.Job{}, errNoJob
	}
	return call[kmsapi.Job](ctx, c, get("/jobs/"+id, nil), nil)
}

// CancelJob is kms.Service.CancelJob.
func (c *Client) CancelJob(ctx context.Context, id string) error {
	if !isID(id) {
		return errNoJob
	}
	return c.tell(ctx, request{method: http.MethodDelete, path: "/jobs/" + id, repeat: again}, nil)
}

var errNoJob = fault.New(fault.NotFound, "there is no job of this ID")

// isID reports whether id can stand in a path.
func isID(id string) bool {
	return id != "" && strings.Trim(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

// Status describes the KMS.
func (c *Client) Status(ctx context.Context) (kmsapi.Status, error) {
	return call[kmsapi.Status](ctx, c, get("/status", nil), nil)
}

// Health fails with fault.Unavailable when the KMS does not answer or is locked.
func (c *Client) Health(ctx context.Context) error { return c.ok(ctx, "/healthz") }

// Ready is Health, and fails also while the KMS is about to close.
func (c *Client) Ready(ctx context.Context) error { return c.ok(ctx, "/readyz") }

func (c *Client) ok(ctx context.Context, path string) error {
	answer, err := c.plain(ctx, get(path, nil), nil)
	if err != nil {
		return err
	}
	defer putBuffer(answer)
	if string(bytes.TrimSpace(answer.b)) != "ok" {
		return errShape
	}
	return nil
}

// Check is Health, under the name that kms.Service has for it.
func (c *Client) Check(ctx context.Context) error { return c.Health(ctx) }

// ExportBreakGlass is kms.Service.ExportBreakGlass.
func (c *Client) ExportBreakGlass(ctx context.Context) ([]byte, error) {
	answer, err := c.plain(ctx, get("/export_breakglass", nil), nil)
	if err != nil {
		return nil, err
	}
	defer putBuffer(answer)
	return append([]byte(nil), answer.b...), nil
}
