package thread

import (
	"context"
	"errors"

	"github.com/google/uuid"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Create makes a thread of p's, with a DEK of its own that is there before
// the thread is. The title has 0 to MaxTitle characters, none of them control
// characters. Errors: Unauthenticated, Forbidden (the plan has no customers' keys),
// Invalid, Unavailable (nothing stored).
func (s *Service) Create(ctx context.Context, p access.Principal, req api.CreateThread) (api.Thread, error) {
	return s.make(ctx, p, req, func(m meta) { idem.Answer(ctx, m.seen(p)) })
}

// make is Create that calls say with the thread before each try to commit it.
func (s *Service) make(ctx context.Context, p access.Principal, req api.CreateThread, say func(meta)) (api.Thread, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return api.Thread{}, fault.Wrap(fault.Internal, err, "no ID could be made for the thread")
	}
	if err := s.authority.Check(ctx, p, access.ThreadCreate, access.Resource{OrgID: p.OrgID, Type: "thread", ID: id.String()}); err != nil {
		return api.Thread{}, err
	}
	if err := checkTitle(req.Title); err != nil {
		return api.Thread{}, err
	}
	fingerprint, err := checkFingerprint(p, req.CMEKFingerprint)
	if err != nil {
		return api.Thread{}, err
	}
	now := s.tick()
	m := meta{Plain: s.plain, ID: id.String(), Org: p.OrgID, Author: p.ID, EndUser: p.Kind == access.EndUser, Title: req.Title, CMEK: fingerprint, CreatedTS: now, UpdatedTS: now}
	if err := idem.Look(ctx); err != nil { // before there is a DEK for nothing
		return api.Thread{}, err
	}
	if err := retryKEK(ctx, func() error { return s.create(ctx, &m, say) }); err != nil {
		return api.Thread{}, store.Fault(err)
	}
	return m.seen(p), nil
}

// maxLags is how many DEKs under an older version of the KEK one call
// has made, and leaves behind. A KMS that missed a rotation learns of it; one
// that was restored from a backup of before it does not.
const maxLags = 8

// create makes a DEK for m, under a version of the KEK that a new thread may
// use, and commits m. store.ErrConflict: that version has changed; errLag, which
// is one too: the KMS has not heard of it.
func (s *Service) create(ctx context.Context, m *meta, say func(meta)) (err error) {
	var b store.Batch
	if m.Plain {
		_, err = s.askBelieve(ctx) // or a server that encrypts would not read it
	} else {
		m.KMS, err = s.freshDEK(ctx, &b, m.ID)
	}
	if err != nil {
		return err
	}
	if err := m.put(&b); err != nil {
		return err
	}
	b.Put(m.index(), nil)
	say(*m)
	_, err = s.store.Commit(ctx, &b)
	return err
}

// freshDEK makes a DEK for a thread, and adds to b the condition that it may
// still be used. A crash or a conflict leaves a DEK that no thread names and
// nothing else. errLag: the KMS made it under a version of the KEK that is gone.
func (s *Service) freshDEK(ctx context.Context, b *store.Batch, threadID string) (kmsMeta, error) {
	least, rev, err := s.leastKEK(ctx)
	if err != nil {
		return kmsMeta{}, err
	}
	b.RequireRevision(layout.ThreadKEK(), rev) // RewrapKind says why
	dek, err := s.provision(ctx, threadID)
	if err == nil && dek.KEKVersion < least {
		err = errLag
	}
	return dek, err
}

// provision has the KMS make the thread's DEK.
func (s *Service) provision(ctx context.Context, threadID string) (kmsMeta, error) {
	res, err := s.kms.CreateDEK(ctx, []kmsapi.CreateDEKItem{{ThreadID: threadID}})
	if err := kmsFault(err, len(res), 1); err != nil {
		return kmsMeta{}, err
	}
	if err := kmsFault(res[0].Err, 1, 1); err != nil {
		return kmsMeta{}, err
	}
	d := res[0].DEK
	if d.KeyID == "" {
		return kmsMeta{}, errNoKey
	}
	return kmsMeta{KeyID: d.KeyID, WrappedDEK: d.WrappedDEK, KEKID: d.KEKID, KEKVersion: d.KEKVersion, CreatedTS: s.now().UnixNano()}, nil
}

// Get returns a thread. Errors: Unauthenticated, NotFound, Forbidden.
func (s *Service) Get(ctx context.Context, p access.Principal, threadID string) (api.Thread, error) {
	m, err := s.gate(ctx, p, access.ThreadRead, threadID)
	if err != nil {
		return api.Thread{}, err
	}
	return m.seen(p), nil
}

// Delete makes a thread unreachable. Its record, key facts included, and its
// messages stay until they are purged. A post that meets the deletion either
// is stored before it or answers NotFound. Errors: Unauthenticated, NotFound
// (also when it was deleted before), Forbidden.
func (s *Service) Delete(ctx context.Context, p access.Principal, threadID string) error {
	m, err := s.gate(ctx, p, access.ThreadDelete, threadID)
	if err != nil {
		return err
	}
	_, err = s.editRecord(ctx, m, func(m *meta, b *store.Batch) error {
		b.Delete(m.index())
		for _, p := range m.Parts {
			b.Delete(layout.OrgThread(m.Org, p.ID, m.CreatedTS, m.ID))
		}
		m.Deleted, m.DeletedTS = true, s.tick()
		b.Put(layout.Gone(m.Org, m.DeletedTS, m.ID, ""), nil)
		return nil
	})
	return err
}

// editRecord commits what edit makes of m's record, with what edit adds to the
// batch, and returns m as it is then; who follows the thread hears of it. Where the
// record has changed meanwhile, edit is asked anew. NotFound: the thread was deleted.
func (s *Service) editRecord(ctx context.Context, m meta, edit func(*meta, *store.Batch) error) (meta, error) {
	err := store.Retry(ctx, func() error {
		now := m
		var b store.Batch
		err := edit(&now, &b)
		if err == nil {
			err = now.put(&b)
		}
		if err == nil {
			err = s.commit(ctx, &b, m.ID, changeThread, "")
		}
		if errors.Is(err, store.ErrConflict) {
			fresh, failed := s.load(ctx, m.ID)
			if failed != nil {
				return failed
			}
			m = fresh
		} else if err == nil {
			m = now
		}
		return err
	})
	if errors.Is(err, store.ErrNotFound) { // deleted since
		return m, access.NotThere
	}
	return m, store.Fault(err)
}
