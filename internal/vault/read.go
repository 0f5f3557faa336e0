package vault

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Read is a version of a secret with its value.
type Read struct {
	Secret          api.Secret
	CMEKFingerprint string // of the key that the client sealed the value with; empty when it did not
}

// Read returns the newest version of a secret. fault.NotFound: there never was
// one. fault.Forbidden: also for an agent that signs through intents, see
// access.Ceiling. fault.Gone: the secret is deleted, or its newest version is disabled,
// expired or read out; older ones are not tried. fault.Damaged: the row does
// not open.
func (s *Service) Read(ctx context.Context, p access.Principal, vaultID, path string) (Read, error) {
	return s.read(ctx, p, vaultID, path, 0, func(h secretHead) (int, error) {
		switch {
		case h.Version == 0:
			return 0, errNoSecret
		case !h.live():
			return 0, errDeleted
		}
		return h.Version, nil
	})
}

// ReadVersion returns version n of a secret. Errors as for Read.
func (s *Service) ReadVersion(ctx context.Context, p access.Principal, vaultID, path string, n int) (Read, error) {
	return s.read(ctx, p, vaultID, path, n, func(h secretHead) (int, error) { return n, h.has(n) })
}

// has returns nil when there is a version n, which was not deleted.
func (h secretHead) has(n int) error {
	switch {
	case h.Version == 0:
		return errNoSecret
	case n < 1 || n > h.Version:
		return errNoVersion
	case n <= h.DeletedThrough:
		return errDeleted
	}
	return nil
}

// read answers the version that choose takes from the head: asked, or the newest
// with 0. The value is opened first and the read counted after, so that a value
// that does not open uses up no read; an answer with the value is given only
// after its count is on stable storage.
func (s *Service) read(ctx context.Context, p access.Principal, vaultID, path string, asked int, choose func(secretHead) (int, error)) (Read, error) {
	v, err := s.gate(ctx, target{p: p, action: access.SecretRead, vault: vaultID, path: path})
	if err != nil {
		return Read{}, err
	}
	head := layout.SecretHead(v.id, path)
	name := layout.SecretVersion(v.id, path, asked) // each question has its own rows
	ctx, known := s.known.Ahead(ctx, name)
	h, _, err := load[secretHead](ctx, s, head)
	if err != nil {
		return Read{}, err
	}
	n, err := choose(h)
	if err != nil {
		return Read{}, err
	}
	rows := []string{head, layout.SecretVersion(v.id, path, n), layout.SecretState(v.id, path, n)}
	others := !slices.Equal(rows, known)
	if others {
		ctx = store.Ahead(ctx, s.store, rows[1:]...)
	}
	r, err := s.loadVersion(ctx, v.id, path, n)
	if err != nil {
		return Read{}, err
	}
	if p.Ceiling != nil && p.Ceiling.Intents && isKeyType(r.Type) {
		return Read{}, errIntents
	}
	if err := s.checkReadable(ctx, v.id, path, n, r.attributes); err != nil {
		return Read{}, err
	}
	if others {
		s.known.Remember(name, rows...)
	}
	value, err := s.open(ctx, v.id, path, n, r)
	if errors.Is(err, fault.Damaged) {
		r, value, err = s.reopen(ctx, v.id, path, n, r, err)
	}
	if err != nil {
		return Read{}, err
	}
	if r.MaxAccessCount > 0 {
		if err := s.countRead(ctx, v.id, path, n, r.MaxAccessCount); err != nil {
			return Read{}, err
		}
	}
	return Read{Secret: r.secret(path, n, value), CMEKFingerprint: r.Fingerprint}, nil
}

// loadVersion returns the row of a version that the head says is there.
func (s *Service) loadVersion(ctx context.Context, vaultID, path string, n int) (versionRow, error) {
	rec, err := s.versionRecord(ctx, vaultID, path, n)
	if err != nil {
		return versionRow{}, err
	}
	return decodeVersion(rec.Value)
}

func (s *Service) versionRecord(ctx context.Context, vaultID, path string, n int) (store.Record, error) {
	rec, err := s.store.Get(ctx, layout.SecretVersion(vaultID, path, n))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return rec, s.torn(ctx, vaultID)
	case err != nil:
		return rec, readFault(err)
	}
	return rec, nil
}

// reopen opens a version whose row was rewrapped or re-encrypted after it was
// read as r and failed to open: the version of the KEK that r names may have been
// destroyed. It returns the row as it is now.
func (s *Service) reopen(ctx context.Context, vaultID, path string, n int, r versionRow, failed error) (versionRow, string, error) {
	now, err := s.loadVersion(ctx, vaultID, path, n)
	if err != nil || !now.replaces(r) {
		return r, "", failed
	}
	value, err := s.open(ctx, vaultID, path, n, now)
	return now, value, err
}

// replaces reports whether r is was after a rewrap or a re-encryption: all but
// the envelope, and the key that the value is under, stays.
func (r versionRow) replaces(was versionRow) bool {
	a, b := r.attributes, was.attributes
	a.Fingerprint, b.Fingerprint = "", ""
	return r.envelope.KEKVersion != was.envelope.KEKVersion && reflect.DeepEqual(a, b)
}

// isKeyType reports whether values of the type are used, not read, by agents
// that sign through intents.
func isKeyType(t string) bool { return t == "private_key" || t == "ssh_key" }

// checkReadable refuses a version that is expired, disabled or read out.
func (s *Service) checkReadable(ctx context.Context, vaultID, path string, n int, a attributes) error {
	if a.ExpiresAt != nil && !s.now().Before(*a.ExpiresAt) {
		return fault.New(fault.Gone, "this version expired at %s; write a new value", a.ExpiresAt.Format(time.RFC3339))
	}
	state, _, err := load[versionState](ctx, s, layout.SecretState(vaultID, path, n))
	if err != nil {
		return err
	}
	return state.check(a.MaxAccessCount)
}

func (t versionState) check(maxReads int) error {
	switch {
	case t.Disabled:
		return errDisabled
	case maxReads > 0 && t.Reads >= maxReads:
		return errReadOut
	}
	return nil
}

// countRead counts one read on stable storage, or refuses it.
func (s *Service) countRead(ctx context.Context, vaultID, path string, n, maxReads int) error {
	return s.retry(ctx, func() error {
		v, err := s.reload(ctx, vaultID)
		if err != nil {
			return err
		}
		return s.changeState(ctx, v, path, n, func(t *versionState) error {
			if err := t.check(maxReads); err != nil {
				return err
			}
			t.Reads++
			return nil
		})
	})
}

// changeState applies change to the state row of a version in one commit, of
// which store.ErrConflict may come.
func (s *Service) changeState(ctx context.Context, v vault, path string, n int, change func(*versionState) error) error {
	key := layout.SecretState(v.id, path, n)
	state, rev, err := load[versionState](ctx, s, key)
	if err != nil {
		return err
	}
	if err := change(&state); err != nil {
		return err
	}
	b := new(store.Batch)
	b.RequireRevision(layout.VaultMeta(v.id), v.rev)
	b.RequireRevision(key, rev)
	if err := put(b, key, state); err != nil {
		return err
	}
	return s.commit(ctx, b)
}
