package keylist

import (
	"context"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// MaxThreads is how many threads may be named to DEKs.
const MaxThreads = 100

// DEKs returns the DEKs of threads, in the order of their naming; a thread that is not
// there, or is in clear, has none. That the key process does not tell is no error: then
// Seals are missing. fault.Invalid: not 1 to MaxThreads IDs of threads.
func (s *Service) DEKs(ctx context.Context, threadIDs []string) (api.EncryptionDEKs, error) {
	if len(threadIDs) == 0 || len(threadIDs) > MaxThreads {
		return api.EncryptionDEKs{}, fault.New(fault.Invalid, "name 1 to %d threads, each as a thread_id of the query", MaxThreads)
	}
	deks, err := s.threads.DEKs(ctx, threadIDs)
	if err != nil {
		return api.EncryptionDEKs{}, err
	}
	out := api.EncryptionDEKs{DEKs: deks}
	ids := make([]string, len(deks))
	for i, d := range deks {
		ids[i] = d.KeyID
	}
	list, err := s.kms.ListDEKs(ctx, ids)
	if err != nil {
		if out.Message = untold(err); out.Message != "" {
			return out, nil
		}
		return api.EncryptionDEKs{}, err
	}
	out.Available, out.SealLimit = true, list.SealLimit
	tell(out.DEKs, list.DEKs)
	return out, nil
}

// tell adds what the key process says. What it does not have, though a thread's record
// names it, is missing.
func tell(deks []api.DEK, listed []kmsapi.ListedDEK) {
	known := make(map[string]kmsapi.ListedDEK, len(listed))
	for _, l := range listed {
		known[l.KeyID] = l
	}
	for i := range deks {
		d := &deks[i]
		switch l, ok := known[d.KeyID]; {
		case !ok:
			d.State = "missing"
		case l.Damaged:
			d.State = "damaged"
		default:
			d.KEKVersion, d.CreatedAt, d.Seals = int(l.KEKVersion), l.Created, l.Seals
		}
	}
}
