package thread

import (
	"context"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
)

// BreakGlass opens messages while the KMS is away.
type BreakGlass interface {
	// OpenOffline first records the read on stable storage, and without that
	// opens nothing. It answers one result per item, in order.
	OpenOffline(context.Context, OfflineRead) ([]kmsapi.DecryptResult, error)
}

// OfflineRead is a page of messages of one thread, or one message.
type OfflineRead struct {
	Reader      string // Ref of the principal, who may read them
	ThreadID    string
	First, Last string         // message IDs of the first and the last item
	DEK         kmsapi.DEKInfo // the thread's, as its metadata has it
	Items       []kmsapi.DecryptItem
}

// open asks the KMS, or, when that answers fault.Unavailable and break-glass is
// set up, break-glass. No other answer of the KMS leads there, and neither does
// a caller who is gone or has run out of time.
func (s *Service) open(ctx context.Context, p access.Principal, m meta, recs []store.Record, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	res, err := s.kms.Decrypt(ctx, items)
	if s.breakGlass != nil && ctx.Err() == nil && unavailable(res, err) {
		return s.openOffline(ctx, p, m, recs, items)
	}
	return res, err
}

// unavailable reports whether the KMS was not able to answer all of a call, and
// said nothing else.
func unavailable(res []kmsapi.DecryptResult, err error) bool {
	if err != nil {
		return fault.Of(err).Code == fault.Unavailable
	}
	away := false
	for _, r := range res {
		if r.Err != nil && fault.Of(r.Err).Code != fault.Unavailable {
			return false
		}
		away = away || r.Err != nil
	}
	return away
}

var errUnopened = fault.New(fault.Unopenable, "of no DEK that the thread's record names")

// openOffline asks for each of the thread's DEKs what is under it. An item of
// another DEK does not open.
func (s *Service) openOffline(ctx context.Context, p access.Principal, m meta, recs []store.Record, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	out := make([]kmsapi.DecryptResult, len(items))
	for i := range out {
		out[i].Err = errUnopened
	}
	deks := []kmsMeta{m.KMS}
	if m.Moving != nil {
		deks = append(deks, m.Moving.Old)
	}
	for _, dek := range deks {
		var some []kmsapi.DecryptItem
		var at []int // of some in items
		for i, item := range items {
			if item.KeyID == dek.KeyID {
				some, at = append(some, item), append(at, i)
			}
		}
		if len(some) == 0 {
			continue
		}
		res, err := s.breakGlass.OpenOffline(ctx, OfflineRead{
			Reader:   p.Ref(),
			ThreadID: m.ID,
			First:    rowOf(m.ID, recs[at[0]].Key).message(),
			Last:     rowOf(m.ID, recs[at[len(at)-1]].Key).message(),
			DEK:      kmsapi.DEKInfo{KeyID: dek.KeyID, WrappedDEK: dek.WrappedDEK, KEKID: dek.KEKID, KEKVersion: dek.KEKVersion},
			Items:    some,
		})
		if err == nil && len(res) != len(some) {
			err = kmsFault(nil, len(res), len(some))
		}
		if err != nil {
			return nil, fault.Wrap(fault.Unavailable, err, "break-glass does not answer: %v", err) // a cause of what the caller is told
		}
		for j, i := range at {
			out[i] = res[j]
		}
	}
	return out, nil
}
