package token

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"slices"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// read returns the keys as they stand in the store. Only keys that are new to
// this server are opened by the KMS. One that does not open is logged and left
// out: its tokens are dead, and the next key is made when it is missed. Where
// the KMS does not answer it returns its error beside the keys that are open:
// what the row no longer holds is known no more.
func (s *Service) read(ctx context.Context) (*keys, error) {
	have := s.keys.Load() // before the row, so that what is stored below is never older
	rec, err := s.store.Get(ctx, layout.TokenKeys())
	absent := isAbsent(err)
	if err != nil && !absent {
		return nil, store.Fault(err)
	}
	if have != nil && have.rev == rec.Revision && have.failure == nil {
		return have, nil
	}
	var rows []keyRow
	if !absent && json.Unmarshal(rec.Value, &rows, json.RejectUnknownMembers(true)) != nil {
		return nil, damaged(layout.TokenKeys())
	}
	k := &keys{rev: rec.Revision}
	for _, row := range rows {
		one, err := s.open(ctx, have, row)
		if err != nil {
			k.failure = err
		}
		k.list = append(k.list, one)
	}
	// Of failures with one and the same row, one is enough.
	again := k.failure != nil && have != nil && have.rev == k.rev
	if !s.keys.CompareAndSwap(have, k) && !again {
		return s.read(ctx)
	}
	return k, k.failure
}

// open returns the key of row, sound if it opens. An error is that of a KMS, or
// a store, that does not answer.
func (s *Service) open(ctx context.Context, have *keys, row keyRow) (key, error) {
	if have != nil {
		for _, k := range have.list {
			if k.keyRow == row && k.sound() {
				return k, nil
			}
		}
	}
	seed, err := s.box.Get(ctx, row.secret())
	defer clear(seed)
	if err == nil && len(seed) == ed25519.SeedSize {
		if k := newKey(row, seed); thumbprint(k.public) == row.ID {
			return k, nil
		}
	}
	if err != nil && !errors.Is(err, fault.Damaged) && !errors.Is(err, fault.NotFound) {
		return key{keyRow: row}, err
	}
	s.log.ErrorContext(ctx, "a signing key of tokens does not open; its tokens are refused, and another key takes its place", "kid", row.ID)
	return key{keyRow: row}, nil
}

// known looks for a key that verifies among those that were read. Errors:
// errToken, or why it is not known whether the key opens.
func (s *Service) known(id string) (ed25519.PublicKey, error) {
	k := s.keys.Load()
	if k == nil {
		return nil, errToken
	}
	if one := k.find(id, s.now()); one != nil {
		return one.public, nil
	}
	if k.failure != nil && slices.ContainsFunc(k.list, func(one key) bool { return one.ID == id && !one.sound() }) {
		return nil, k.failure
	}
	return nil, errToken
}

// readEvery is how often tokens have the keys read again: those whose key is
// known, since it may be gone (Replace), and those whose key is not, which
// anybody can send. A key is published long before it signs.
const readEvery = time.Second

// reading is when the row of the keys was read again, and why it could not be.
type reading struct {
	at      time.Time
	failure error
}

// recent reports whether the row as it was then does at now.
func (r *reading) recent(now time.Time) bool {
	return r != nil && r.failure == nil && now.Sub(r.at) >= 0 && now.Sub(r.at) < readEvery
}

// reread reads the keys again, unless that was done just now. It fails if their
// row cannot be read: then no key is to be believed. Keys that the KMS does not
// open are told by known.
func (s *Service) reread(ctx context.Context) error {
	asked, before := s.now(), s.last.Load()
	if before.recent(asked) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.last.Load(); r != before && (r.failure != nil || asked.Sub(r.at) < readEvery) {
		return r.failure // somebody read while this one waited
	}
	r := &reading{at: s.now()}
	// What comes of it is everybody's: a caller who leaves must not end it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if k, err := s.read(ctx); k == nil {
		r.failure = err
	}
	s.last.Store(r)
	return r.failure
}

// current returns the keys, of which one signs. It makes the first one, and the
// next one when it is time. While that cannot be, the one that is there signs on.
func (s *Service) current(ctx context.Context) (*keys, error) {
	k, err := s.read(ctx)
	if err != nil || !k.stale(s.now()) {
		return k, err
	}
	renewed, err := s.renew(ctx, false)
	if err == nil && renewed.newest() == nil {
		err = errKeys
	}
	if err != nil && k.newest() != nil {
		s.log.WarnContext(ctx, "no new signing key of tokens could be made; the old one signs on", "error", err)
		return k, nil
	}
	return renewed, err
}

// errKeys stops the making of keys that do not open either.
var errKeys = fault.New(fault.Damaged, "the signing keys of tokens do not open; see to it that the KMS has the keys of this store")

const maxUnsound = 8

// Rotate makes a new signing key, which signs from publish later on. One that
// waits already to sign is the new one: nothing is made then.
func (s *Service) Rotate(ctx context.Context) error {
	_, err := s.renew(ctx, true)
	return err
}

// Replace makes a signing key that signs at once, in the place of all others:
// for when one of them may be in wrong hands. Tokens that were signed before are
// dead, here when it returns and elsewhere within readEvery, whether the KMS
// answers there or not; sessions are renewed by their refresh tokens.
func (s *Service) Replace(ctx context.Context) error {
	_, err := s.change(ctx, func(b *store.Batch, k *keys) ([]keyRow, error) {
		for _, one := range k.list {
			s.box.Delete(b, one.secret())
		}
		row, err := s.generate(ctx, b, s.now())
		return []keyRow{row}, err
	})
	return err
}

// renew takes keys away that are over, and makes one if it is time or if must
// says so. Of servers that meet, one makes it and all return it.
func (s *Service) renew(ctx context.Context, must bool) (*keys, error) {
	return s.change(ctx, func(b *store.Batch, k *keys) ([]keyRow, error) { return s.next(ctx, b, k, must) })
}

// change commits the keys that to puts in the place of k, with b; nothing when b
// is left empty.
func (s *Service) change(ctx context.Context, to func(b *store.Batch, k *keys) ([]keyRow, error)) (k *keys, err error) {
	err = retry(ctx, func() error {
		if k, err = s.read(ctx); err != nil {
			return err
		}
		var b store.Batch
		rows, err := to(&b, k)
		if err != nil || len(b.Writes) == 0 {
			return err
		}
		row, err := json.Marshal(rows)
		if err != nil {
			return err
		}
		b.RequireRevision(layout.TokenKeys(), k.rev)
		b.Put(layout.TokenKeys(), row)
		if _, err := s.store.Commit(ctx, &b); err != nil {
			return err
		}
		k, err = s.read(ctx)
		return err
	})
	return k, err
}

// next returns the rows that come after k, with the secrets that they need or
// no longer need in b.
func (s *Service) next(ctx context.Context, b *store.Batch, k *keys, must bool) (rows []keyRow, err error) {
	now, unsound := s.now(), 0
	for i, one := range k.list {
		if k.over(i, now) {
			s.box.Delete(b, one.secret())
			continue
		}
		rows = append(rows, one.keyRow)
		if !one.sound() {
			unsound++
		}
	}
	newest := k.newest()
	if !k.due(now) && (!must || now.Before(newest.SignsFrom)) {
		return rows, nil
	}
	if unsound >= maxUnsound {
		return nil, errKeys
	}
	signsFrom := now
	if newest != nil {
		signsFrom = now.Add(publish)
	}
	row, err := s.generate(ctx, b, signsFrom)
	return append(rows, row), err
}

// generate makes a key, with its secret in b.
func (s *Service) generate(ctx context.Context, b *store.Batch, signsFrom time.Time) (keyRow, error) {
	row := keyRow{Created: s.now().UTC(), SignsFrom: signsFrom.UTC()}
	seed := make([]byte, ed25519.SeedSize)
	defer clear(seed)
	rand.Read(seed)
	made := newKey(row, seed)
	defer clear(made.private())
	row.ID = thumbprint(made.public)
	return row, s.box.Put(ctx, b, row.secret(), seed)
}

// JWKS returns the keys that verify tokens, now or soon.
func (s *Service) JWKS(ctx context.Context) (api.JWKS, error) {
	k, err := s.current(ctx)
	if err != nil {
		return api.JWKS{}, err
	}
	var out api.JWKS
	for _, one := range k.list {
		if one.sound() {
			out.Keys = append(out.Keys, api.JWK{
				KeyType: "OKP", Curve: "Ed25519", Use: "sig", Algorithm: method.Alg(), KeyID: one.ID,
				X: base64.RawURLEncoding.EncodeToString(one.public),
			})
		}
	}
	return out, nil
}

// PublicKey returns the key that signs now.
func (s *Service) PublicKey(ctx context.Context) (api.PublicKey, error) {
	k, err := s.current(ctx)
	if err != nil {
		return api.PublicKey{}, err
	}
	one := k.signer(s.now()).public
	return api.PublicKey{Algorithm: method.Alg(), PublicKey: base64.StdEncoding.EncodeToString(one)}, nil
}

// SigningSince is since when the key signs that does, as this process last read
// them; zero: it has read none.
func (s *Service) SigningSince() time.Time {
	if k := s.keys.Load(); k != nil {
		if one := k.signer(s.now()); one != nil {
			return one.SignsFrom
		}
	}
	return time.Time{}
}
