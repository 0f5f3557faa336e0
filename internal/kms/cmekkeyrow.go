package kms

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// cmekKEK is the ID of the KEK over customers' keys, which it wraps alone.
const cmekKEK = "cmek"

// cmekRecord is what is known of a customer's key. Its row is an envelopeRow of
// its own kind, bound to the fingerprint: sealed are the raw key (32 bytes) and
// then a cmekRecord in JSON; so nobody who can write to the store adds a grant.
// Who puts an older row back, whole, puts back the grants that it had.
type cmekRecord struct {
	Name     string             `json:"name,omitzero"`
	Imported bool               `json:"imported,omitzero"`
	Created  time.Time          `json:"created"`
	Seals    int64              `json:"seals"` // made or reserved
	Grants   []kmsapi.CMEKGrant `json:"grants,omitempty"`
}

// cmekRowAAD is what the envelope of a customer's key is bound to.
func cmekRowAAD(fingerprint string) []byte { return aead.AAD("keyfold/cmek-key/v1", fingerprint) }

// cmekKey is a customer's key, ready for use.
type cmekKey struct {
	*cmek.Key
	cmekRecord
	rev        store.Revision // of the row that it was read from
	kekVersion uint32
}

// may reports whether a caller has a grant.
func (k *cmekKey) may(caller string) bool {
	return slices.ContainsFunc(k.Grants, func(g kmsapi.CMEKGrant) bool { return g.Caller == caller })
}

var errNoCMEK = fault.New(fault.NotFound, "there is no customer's key of this fingerprint")

// cmekKey takes a customer's key as its row is now, whoever wrote it last. The
// caller releases it.
func (s *Service) cmekKey(ctx context.Context, fingerprint string) (*slot[*cmekKey], error) {
	if !cmek.ValidFingerprint(fingerprint) {
		return nil, errNoCMEK
	}
	for {
		epoch := s.cmeks.epoch()
		rec, err := s.store.Get(ctx, layout.CMEKKey(fingerprint))
		if errors.Is(err, store.ErrNotFound) {
			s.cmeks.drop(fingerprint)
			return nil, errNoCMEK
		} else if err != nil {
			return nil, asFault(err)
		}
		k := s.cmeks.take(fingerprint)
		if k == nil {
			key, err := s.openCMEKRow(ctx, fingerprint, rec)
			if errors.Is(err, store.ErrConflict) {
				continue
			} else if err != nil {
				return nil, err
			}
			if k, err = s.cmeks.add(fingerprint, key, epoch); err != nil {
				return nil, asFault(err)
			}
		}
		if k.key.rev == rec.Revision {
			return k, nil
		}
		s.cmeks.release(k)
		s.cmeks.drop(fingerprint)
	}
}

// openCMEKRow returns the key of a row. store.ErrConflict: the row is another by
// now. The row is read before the KEK: a KEK read after it has the version that
// it is under, unless the row was rewrapped, and that version destroyed, since.
func (s *Service) openCMEKRow(ctx context.Context, fingerprint string, rec store.Record) (*cmekKey, error) {
	key, err := s.tryCMEKRow(ctx, fingerprint, rec)
	if err == nil || errors.Is(asFault(err), fault.Unavailable) {
		return key, asFault(err)
	}
	if now, again := s.store.Get(ctx, rec.Key); again == nil && now.Revision != rec.Revision {
		return nil, store.ErrConflict
	}
	return nil, fault.Wrap(fault.Damaged, err, "the stored customer's key of this fingerprint does not open; restore the key store from its backup")
}

func (s *Service) tryCMEKRow(ctx context.Context, fingerprint string, rec store.Record) (*cmekKey, error) {
	row, err := parseEnvelope(cmekKEK, rec.Value)
	if err != nil {
		return nil, err
	}
	k, err := s.cmekKEKOf(ctx, row.KEKVersion)
	if err != nil {
		return nil, err
	}
	defer s.keks.release(k)
	plain, err := openEnvelope(k.key.Keyring, row, cmekRowAAD(fingerprint))
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	if len(plain) < cmek.KeySize {
		return nil, aead.ErrOpen
	}
	out := &cmekKey{rev: rec.Revision, kekVersion: row.KEKVersion}
	if json.Unmarshal(plain[cmek.KeySize:], &out.cmekRecord, json.RejectUnknownMembers(true)) != nil {
		return nil, aead.ErrOpen
	}
	if out.Key, err = cmek.NewKey(plain[:cmek.KeySize]); err != nil {
		return nil, err
	}
	if out.Fingerprint() != fingerprint {
		out.Wipe()
		return nil, aead.ErrOpen
	}
	return out, nil
}

// cmekKEKOf takes the KEK over customers' keys, for what a row of ours says to
// be under version: one that this process does not know was made by another.
func (s *Service) cmekKEKOf(ctx context.Context, version uint32) (*slot[*kek], error) {
	k, err := s.kek(ctx, cmekKEK)
	if err != nil || version <= k.key.Primary() {
		return k, err
	}
	s.keks.release(k)
	return s.freshKEK(ctx, cmekKEK)
}

// putCMEK writes the row of a customer's key, under the primary, in the place
// of revision rev; 0: there is none. store.ErrConflict: row or KEK changed.
func (s *Service) putCMEK(ctx context.Context, key *cmek.Key, rec cmekRecord, rev store.Revision) error {
	k, err := s.wrapping(ctx, cmekKEK, 1)
	if err != nil {
		return err
	}
	defer s.keks.release(k)
	row, err := marshalCMEK(k.key, key, rec)
	if err != nil {
		return err
	}
	var b store.Batch
	b.RequireRevision(layout.KEK(cmekKEK), k.key.rev) // so that no row comes under a version that is primary no more: see destroy
	b.RequireRevision(layout.CMEKKey(key.Fingerprint()), rev)
	b.Put(layout.CMEKKey(key.Fingerprint()), row)
	_, err = s.store.Commit(ctx, &b)
	if errors.Is(err, store.ErrConflict) {
		s.forgetIfStale(ctx, cmekKEK, k.key.rev)
	}
	s.cmeks.drop(key.Fingerprint()) // whatever the error: the row may have been written
	return err
}

func marshalCMEK(k *kek, key *cmek.Key, rec cmekRecord) ([]byte, error) {
	body, err := json.Marshal(rec)
	if err != nil {
		return nil, err
	}
	raw := key.Bytes()
	defer clear(raw)
	plain := append(make([]byte, 0, len(raw)+len(body)), raw...)
	plain = append(plain, body...)
	defer clear(plain)
	e, err := sealEnvelope(k.Keyring, plain, cmekRowAAD(key.Fingerprint()))
	if err != nil {
		return nil, err
	}
	return marshalEnvelope(e)
}

// cmekRows returns the fingerprints of a page of customers' keys after one.
func (s *Service) cmekRows(ctx context.Context, after string, n int) (fingerprints []string, err error) {
	prefix := layout.CMEKKey("")
	recs, err := s.after(ctx, prefix, prefix+after, n)
	for _, rec := range recs {
		fingerprints = append(fingerprints, strings.TrimPrefix(rec.Key, prefix))
	}
	return fingerprints, err
}

// eachCMEK calls do with the fingerprint of every customer's key, until it fails.
func (s *Service) eachCMEK(ctx context.Context, do func(fingerprint string) error) error {
	const page = 100
	for after := ""; ; {
		fingerprints, err := s.cmekRows(ctx, after, page)
		if err != nil {
			return err
		}
		for _, after = range fingerprints {
			if err := do(after); err != nil {
				return err
			}
		}
		if len(fingerprints) < page {
			return nil
		}
	}
}

// rewrapCMEK brings every customer's key under the primary of its KEK. Those
// made meanwhile are there: see putCMEK. It may be repeated; where it was cut
// off, the old version stays and opens.
func (s *Service) rewrapCMEK(ctx context.Context) error {
	return s.eachCMEK(ctx, func(fingerprint string) error {
		err := store.Retry(ctx, func() error { return s.rewrapOneCMEK(ctx, fingerprint) })
		if errors.Is(err, fault.NotFound) || errors.Is(err, fault.Damaged) { // it is gone, or stays as it is
			return nil
		}
		return err
	})
}

func (s *Service) rewrapOneCMEK(ctx context.Context, fingerprint string) error {
	k, err := s.cmekKey(ctx, fingerprint)
	if err != nil {
		return err
	}
	defer s.cmeks.release(k)
	primary, err := s.primary(ctx, cmekKEK)
	if err != nil || k.key.kekVersion == primary {
		return err
	}
	return s.putCMEK(ctx, k.key.Key, k.key.cmekRecord, k.key.rev)
}

// checkNoCMEK fails while a customer's key lies under a version of their KEK, or
// one that does not open might.
func (s *Service) checkNoCMEK(ctx context.Context, version uint32) error {
	return s.eachCMEK(ctx, func(fingerprint string) error {
		k, err := s.cmekKey(ctx, fingerprint)
		switch {
		case errors.Is(err, fault.NotFound):
			return nil
		case errors.Is(err, fault.Damaged):
			return inUse("the customer's key %s does not open, and may lie under it: restore it from a backup or delete it", fingerprint)
		case err != nil:
			return err
		}
		defer s.cmeks.release(k)
		if k.key.kekVersion == version {
			return inUse("the customer's key %s lies under it; rotate the KEK again", fingerprint)
		}
		return nil
	})
}
