package server

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/vault"
)

// KeyLister is the key process as an operator's list of keys needs it.
// fault.Forbidden: it does not tell this server. fault.NotFound: it is of a version
// that knows no such call.
type KeyLister interface {
	ListKEKs(ctx context.Context, q kmsapi.ListQuery) (kmsapi.KEKList, error)
}

// MaxAge is the operator's policy: how old keys may become before they are due to
// be rotated. 0: as old as they like. It is shown, and rotates nothing.
type MaxAge struct{ KEK, DEK, CMEK time.Duration }

func seconds(d time.Duration) int64 { return int64(d / time.Second) }

// kekList shows operators the KEKs.
type kekList struct {
	kms    KeyLister // nil: there is none
	maxAge MaxAge
}

func (h kekList) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "GET", Pattern: "/admin/encryption/keys", Admin: true, Timeout: time.Minute, Handler: httpx.NoBody(http.StatusOK, h.list)},
	}
}

// What an operator is told who cannot be told of keys.
const (
	noKEKs       = "this server lists no keys"
	noListRole   = "the key process does not tell this server of its keys: add the role list to the server's entry in the callers of kms.yaml, as in crypto+shred+list, and restart keyfold-kms"
	oldKMS       = "the key process is of a version that does not tell of its keys to a server: install the keyfold-kms of this server's version"
	maxListedKEK = kmsapi.MaxBatch
)

func (h kekList) list(ctx context.Context, c *httpx.Call) (api.EncryptionKeys, error) {
	limit, cursor, err := shows(c)
	if err != nil {
		return api.EncryptionKeys{}, err
	}
	q, err := c.Query()
	if err != nil {
		return api.EncryptionKeys{}, err
	}
	count, err := flag(q, "count")
	if err != nil {
		return api.EncryptionKeys{}, err
	}
	if limit > maxListedKEK {
		return api.EncryptionKeys{}, fault.New(fault.Invalid, "limit must be 1 to %d", maxListedKEK)
	}
	out := api.EncryptionKeys{KEKs: []api.KEK{}, MaxAge: api.KeyAges{KEK: seconds(h.maxAge.KEK), DEK: seconds(h.maxAge.DEK), CMEK: seconds(h.maxAge.CMEK)}}
	if h.kms == nil {
		out.Message = noKEKs
		return out, nil
	}
	list, err := h.kms.ListKEKs(ctx, kmsapi.ListQuery{After: cursor, Limit: limit, Count: count})
	switch {
	case errors.Is(err, fault.Forbidden):
		out.Message = noListRole
		return out, nil
	case errors.Is(err, fault.NotFound):
		out.Message = oldKMS
		return out, nil
	case err != nil:
		return api.EncryptionKeys{}, err
	}
	fillKEKs(&out, list)
	return out, nil
}

func fillKEKs(out *api.EncryptionKeys, list kmsapi.KEKList) {
	out.Available, out.WrapLimit = true, list.WrapLimit
	out.Root = &api.RootKey{Kind: list.Root, State: "unlocked"}
	if list.Locked {
		out.Root.State = "locked"
	}
	for _, k := range list.KEKs {
		out.KEKs = append(out.KEKs, wireKEK(k))
	}
	out.Pagination = api.Pagination{Count: len(out.KEKs), HasMore: list.Next != "", NextCursor: list.Next}
}

func wireKEK(k kmsapi.ListedKEK) api.KEK {
	out := api.KEK{ID: k.ID, Of: "key-process", Damaged: k.Damaged, Versions: []api.KEKVersion{}}
	switch id, ofVault := strings.CutPrefix(k.ID, vault.KEKPrefix); {
	case ofVault:
		out.Of, out.VaultID = "vault", id
	case k.ID == kmsapi.ThreadsKEK:
		out.Of = "threads"
	case k.ID == sealed.KEK:
		out.Of = "server"
	}
	for _, v := range k.Versions {
		out.Versions = append(out.Versions, api.KEKVersion{
			Version: int(v.Version), State: v.State, CreatedAt: v.Created, Imported: v.Imported, Wraps: v.Wraps, Released: v.Released, ThreadDEKs: v.DEKs,
		})
	}
	return out
}
