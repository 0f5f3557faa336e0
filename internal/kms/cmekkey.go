package kms

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// A customer's key in a KMS that the customer runs: its callers seal and open
// with it by fingerprint, and never get it. Who may is a grant of the key, by
// the caller's name; without one nobody may, the admin neither. Every call reads
// the key's row, so that what changed binds the next call, on connections that
// are open too, and in every process on the same store.

// maxGrants is how many callers one key is granted to at most.
const maxGrants = 1000

// CreateCMEKKey makes a customer's key, granted to nobody. name is for people:
// empty, or 1 to 128 of A-Z a-z 0-9 _ . - (fault.Invalid).
func (s *Service) CreateCMEKKey(ctx context.Context, name string) (kmsapi.CMEKKey, error) {
	raw := aead.GenerateRaw()
	defer clear(raw)
	return s.addCMEK(ctx, "cmek_key.create", raw, cmekRecord{Name: name})
}

// ImportCMEKKey takes up a customer's key that was made elsewhere, 32 bytes that
// stay the caller's to wipe. It is granted to nobody. fault.Invalid: name or
// size. fault.Conflict: it is here already.
func (s *Service) ImportCMEKKey(ctx context.Context, name string, raw []byte) (kmsapi.CMEKKey, error) {
	if len(raw) != cmek.KeySize {
		return kmsapi.CMEKKey{}, fault.New(fault.Invalid, "a CMEK key is %d bytes; send the raw key", cmek.KeySize)
	}
	return s.addCMEK(ctx, "cmek_key.import", raw, cmekRecord{Name: name, Imported: true})
}

func (s *Service) addCMEK(ctx context.Context, action string, raw []byte, rec cmekRecord) (kmsapi.CMEKKey, error) {
	if rec.Name != "" && !validID(rec.Name) {
		return kmsapi.CMEKKey{}, fault.New(fault.Invalid, "a key's name is 1 to 128 letters, digits, '_', '.' and '-', or none")
	}
	key, err := cmek.NewKey(raw)
	if err != nil {
		return kmsapi.CMEKKey{}, asFault(err)
	}
	defer key.Wipe()
	rec.Created = s.now().UTC()
	if err := store.Retry(ctx, func() error { return s.tryAddCMEK(ctx, action, key, rec) }); err != nil {
		return kmsapi.CMEKKey{}, asFault(err)
	}
	return s.describeCMEK(ctx, key.Fingerprint())
}

func (s *Service) tryAddCMEK(ctx context.Context, action string, key *cmek.Key, rec cmekRecord) error {
	_, err := s.store.Get(ctx, layout.CMEKKey(key.Fingerprint()))
	if err == nil {
		return fault.New(fault.Conflict, "this key is here already; see keyfold-kms cmek list")
	} else if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if _, err := s.createKEKs(ctx, []string{cmekKEK}); err != nil {
		return err
	}
	return s.Audited(ctx, action, key.Fingerprint(), nil, func() error { return s.putCMEK(ctx, key, rec, 0) })
}

// GrantCMEKKey lets caller ("cert:NAME" or "uid:NUMBER", as the audit names
// callers) seal and open with a key. It may be repeated. fault.NotFound: no such
// key; fault.Invalid: no such form; fault.Conflict: 1000 have grants.
func (s *Service) GrantCMEKKey(ctx context.Context, fingerprint, caller string) error {
	kind, name, _ := strings.Cut(caller, ":")
	if kind != "cert" && kind != "uid" || name == "" || len(caller) > 512 {
		return fault.New(fault.Invalid, `name the caller as "cert:NAME" or "uid:NUMBER"`)
	}
	return s.changeGrants(ctx, fingerprint, "cmek_key.grant", caller, func(grants []kmsapi.CMEKGrant, at int) ([]kmsapi.CMEKGrant, error) {
		switch {
		case at >= 0:
			return grants, nil
		case len(grants) >= maxGrants:
			return nil, fault.New(fault.Conflict, "a key is granted to at most %d callers; revoke grants that are of no use", maxGrants)
		}
		return append(slices.Clip(grants), kmsapi.CMEKGrant{Caller: caller, Since: s.now().UTC(), By: actor(ctx)}), nil
	})
}

// RevokeCMEKKey takes a grant back: no call that begins after it uses the key
// for caller. It may be repeated. fault.NotFound: no such key.
func (s *Service) RevokeCMEKKey(ctx context.Context, fingerprint, caller string) error {
	return s.changeGrants(ctx, fingerprint, "cmek_key.revoke", caller, func(grants []kmsapi.CMEKGrant, at int) ([]kmsapi.CMEKGrant, error) {
		if at < 0 {
			return grants, nil
		}
		return slices.Delete(slices.Clone(grants), at, at+1), nil
	})
}

// changeGrants writes what change makes of a key's grants, of which at is
// caller's, or -1.
func (s *Service) changeGrants(ctx context.Context, fingerprint, action, caller string, change func(grants []kmsapi.CMEKGrant, at int) ([]kmsapi.CMEKGrant, error)) error {
	return asFault(store.Retry(ctx, func() error {
		k, err := s.cmekKey(ctx, fingerprint)
		if err != nil {
			return err
		}
		defer s.cmeks.release(k)
		rec := k.key.cmekRecord
		at := slices.IndexFunc(rec.Grants, func(g kmsapi.CMEKGrant) bool { return g.Caller == caller })
		if rec.Grants, err = change(rec.Grants, at); err != nil || len(rec.Grants) == len(k.key.Grants) {
			return err
		}
		return s.Audited(ctx, action, fingerprint, map[string]any{"caller": caller}, func() error {
			return s.putCMEK(ctx, k.key.Key, rec, k.key.rev)
		})
	}))
}

// DeleteCMEKKey takes a key away for ever: what it sealed opens no more, here.
// It is refused while there are grants (fault.Conflict of type
// "cmek_key_granted"). A key whose row does not open goes, too. fault.NotFound:
// no such key.
func (s *Service) DeleteCMEKKey(ctx context.Context, fingerprint string) error {
	return asFault(store.Retry(ctx, func() error {
		if !cmek.ValidFingerprint(fingerprint) {
			return errNoCMEK
		}
		row, err := s.store.Get(ctx, layout.CMEKKey(fingerprint)) // before the grants: they are of this row or a later one
		if errors.Is(err, store.ErrNotFound) {
			return errNoCMEK
		} else if err != nil {
			return err
		}
		if err := s.checkNotGranted(ctx, fingerprint); err != nil {
			return err
		}
		return s.Audited(ctx, "cmek_key.delete", fingerprint, nil, func() error {
			defer s.cmeks.drop(fingerprint) // whatever the error: the row may be gone
			var b store.Batch
			b.RequireRevision(row.Key, row.Revision)
			b.Delete(row.Key)
			_, err := s.store.Commit(ctx, &b)
			return err
		})
	}))
}

func (s *Service) checkNotGranted(ctx context.Context, fingerprint string) error {
	k, err := s.cmekKey(ctx, fingerprint)
	if errors.Is(err, fault.Damaged) {
		return nil
	} else if err != nil {
		return err
	}
	defer s.cmeks.release(k)
	if n := len(k.key.Grants); n > 0 {
		return fault.New(fault.Conflict, "%d callers have grants for this key, %s among them; revoke them first", n, k.key.Grants[0].Caller).WithType(kmsapi.TypeCMEKGranted)
	}
	return nil
}

// CMEKKeys returns a page of customers' keys, those after a fingerprint, and
// proves on the way that they open.
func (s *Service) CMEKKeys(ctx context.Context, after string) (keys kmsapi.CMEKKeys, err error) {
	const page = 100
	fingerprints, err := s.cmekRows(ctx, after, page)
	if err != nil {
		return keys, asFault(err)
	}
	if len(fingerprints) == page {
		keys.Next = fingerprints[page-1]
	}
	for _, fingerprint := range fingerprints {
		described, err := s.describeCMEK(ctx, fingerprint)
		if errors.Is(err, fault.NotFound) {
			continue
		} else if err != nil {
			return kmsapi.CMEKKeys{}, err
		}
		keys.Keys = append(keys.Keys, described)
	}
	return keys, nil
}

func (s *Service) describeCMEK(ctx context.Context, fingerprint string) (kmsapi.CMEKKey, error) {
	k, err := s.cmekKey(ctx, fingerprint)
	if errors.Is(err, fault.Damaged) {
		return kmsapi.CMEKKey{Fingerprint: fingerprint, Damaged: true}, nil
	} else if err != nil {
		return kmsapi.CMEKKey{}, err
	}
	defer s.cmeks.release(k)
	rec := k.key.cmekRecord
	return kmsapi.CMEKKey{
		Fingerprint: fingerprint, Name: rec.Name, Imported: rec.Imported, Created: rec.Created,
		KEKVersion: k.key.kekVersion, Seals: rec.Seals, Grants: rec.Grants,
	}, nil
}
