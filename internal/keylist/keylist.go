// Package keylist tells operators which KEKs and threads' DEKs there are and how they
// stand, with the policy of how old keys may become.
//
// It owns nothing and keeps nothing. It trusts the key process with what it tells,
// which is what rows say there and no proof; who may ask is the caller's to decide.
package keylist

import (
	"context"
	"errors"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/vault"
)

// KMS is what this package uses of the key process. fault.Forbidden: it does not
// tell this server. fault.NotFound: it is of a version that knows no such call.
type KMS interface {
	ListKEKs(ctx context.Context, q kmsapi.ListQuery) (kmsapi.KEKList, error)
	ListDEKs(ctx context.Context, keyIDs []string) (kmsapi.DEKList, error)
}

// Threads tells the DEKs of threads as their records name them, without Seals. One
// that is not there is left out.
type Threads interface {
	DEKs(ctx context.Context, threadIDs []string) ([]api.DEK, error)
}

// Service lists the keys of one key process.
type Service struct {
	kms     KMS
	threads Threads
	maxAge  api.KeyAges
}

// New returns a Service. maxAge is the operator's policy, which is shown.
func New(kms KMS, threads Threads, maxAge api.KeyAges) *Service {
	return &Service{kms, threads, maxAge}
}

// Query chooses a page.
type Query struct {
	Limit  int    // at most so many; 0: 100, at most MaxPage
	Cursor string // NextCursor of the page before; "" for the first
	Count  bool   // threads' DEKs, too
}

// MaxPage is the greatest Query.Limit.
const MaxPage = kmsapi.MaxBatch

// What an operator is told whom the key process does not tell.
const (
	noRole = "the key process does not tell this server of its keys: add the role list to the server's entry in the callers of kms.yaml, as in crypto+shred+list, and restart keyfold-kms"
	oldKMS = "the key process is of a version that does not tell of its keys to a server: install the keyfold-kms of this server's version"
)

// untold is what an operator is told for such an error of the key process; "": it is
// a failure.
func untold(err error) string {
	switch {
	case errors.Is(err, fault.Forbidden):
		return noRole
	case errors.Is(err, fault.NotFound):
		return oldKMS
	}
	return ""
}

// KEKs returns a page of KEKs. That the key process does not tell is no error; that
// it is away is fault.Unavailable. fault.Invalid: the query.
func (s *Service) KEKs(ctx context.Context, q Query) (api.EncryptionKeys, error) {
	if q.Limit < 0 || q.Limit > MaxPage {
		return api.EncryptionKeys{}, fault.New(fault.Invalid, "limit must be 1 to %d", MaxPage)
	}
	out := api.EncryptionKeys{KEKs: []api.KEK{}, MaxAge: s.maxAge}
	list, err := s.kms.ListKEKs(ctx, kmsapi.ListQuery{After: q.Cursor, Limit: q.Limit, Count: q.Count})
	if err != nil {
		if out.Message = untold(err); out.Message != "" {
			return out, nil
		}
		return api.EncryptionKeys{}, err
	}
	fill(&out, list)
	return out, nil
}

func fill(out *api.EncryptionKeys, list kmsapi.KEKList) {
	out.Available, out.WrapLimit = true, list.WrapLimit
	out.Root = &api.RootKey{Kind: list.Root, State: "unlocked"}
	if list.Locked {
		out.Root.State = "locked"
	}
	for _, k := range list.KEKs {
		out.KEKs = append(out.KEKs, wire(k))
	}
	out.Pagination = api.Pagination{Count: len(out.KEKs), HasMore: list.Next != "", NextCursor: list.Next}
}

func wire(k kmsapi.ListedKEK) api.KEK {
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
