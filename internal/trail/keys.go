package trail

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"hash"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
)

// ringName is where the keys lie, as JSON:
//
//	{"mac":"<32 bytes>","seed":"<32 bytes>","keys":[{"id":...,"algorithm":"Ed25519","public_key":...,"created_at":...}]}
//
// mac is the key of events' MACs and stays; seed is that of the signing key, the
// first of keys. Of those before it the public half alone is kept.
var ringName = sealed.Name{Kind: "trailkey", Owner: "server", ID: "ring"}

type ringRow struct {
	MAC  []byte         `json:"mac"`
	Seed []byte         `json:"seed"`
	Keys []api.AuditKey `json:"keys"`
}

// ring is the keys of a trail.
type ring struct {
	rev  store.Revision // of its row, or 0
	mac  []byte
	sign ed25519.PrivateKey
	pub  []api.AuditKey // newest first

	macs sync.Pool // of *mac
}

// mac is an HMAC, and room for what it is of.
type mac struct {
	hash.Hash
	of auditcheck.Hash
}

// String keeps keys out of what is printed.
func (r *ring) String() string       { return "[redacted]" }
func (r *ring) GoString() string     { return "[redacted]" }
func (r *ring) LogValue() slog.Value { return slog.StringValue("[redacted]") }

func (r *ring) wipe() {
	clear(r.mac)
	clear(r.sign)
}

// appendMAC appends the MAC of an event's hash.
func (r *ring) appendMAC(dst []byte, h auditcheck.Hash) []byte {
	m, _ := r.macs.Get().(*mac)
	if m == nil {
		m = &mac{Hash: hmac.New(sha256.New, r.mac)}
	}
	defer r.macs.Put(m)
	m.Reset()
	m.of = h
	m.Write(m.of[:])
	return m.Sum(dst)
}

// keys returns the keys, which are read once. Errors: Unavailable, Damaged.
func (t *Trail) keys(ctx context.Context) (*ring, error) {
	if r := t.ring.Load(); r != nil {
		return r, nil
	}
	return t.refresh(ctx)
}

// refresh reads the keys if their row has changed, and makes them for a trail
// that has not begun.
func (t *Trail) refresh(ctx context.Context) (r *ring, err error) {
	err = store.Retry(ctx, func() error {
		r, err = t.readKeys(ctx)
		return err
	})
	if err != nil {
		return nil, store.Fault(err)
	}
	t.ring.Store(r)
	return r, nil
}

func (t *Trail) readKeys(ctx context.Context) (*ring, error) {
	rec, err := t.store.Get(ctx, layout.Sealed(ringName.Kind, ringName.Owner, ringName.ID))
	if errors.Is(err, store.ErrNotFound) {
		return t.makeKeys(ctx)
	} else if err != nil {
		return nil, err
	}
	if r := t.ring.Load(); r != nil && r.rev == rec.Revision {
		return r, nil
	}
	text, err := t.box.Get(ctx, ringName)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	var row ringRow
	if err := json.Unmarshal(text, &row); err != nil || len(row.MAC) != 32 || len(row.Seed) != ed25519.SeedSize {
		return nil, fault.New(fault.Damaged, "the keys of the audit trail are damaged; restore the store from a backup")
	}
	return row.ring(rec.Revision), nil
}

// ring returns the keys of a row, which it wipes.
func (row *ringRow) ring(rev store.Revision) *ring {
	r := &ring{rev: rev, mac: slices.Clone(row.MAC), sign: ed25519.NewKeyFromSeed(row.Seed), pub: row.Keys}
	clear(row.MAC)
	clear(row.Seed)
	return r
}

// makeKeys makes the first keys. A trail without keys that has events has lost
// them, and new ones would hide that.
func (t *Trail) makeKeys(ctx context.Context) (*ring, error) {
	if found, err := t.store.Scan(ctx, store.Prefix(layout.Trails()), store.ScanOptions{Limit: 1}); err != nil || len(found) > 0 {
		return nil, errors.Join(err, fault.New(fault.Damaged, "the keys of the audit trail are missing; restore the store from a backup"))
	}
	row := ringRow{MAC: make([]byte, 32)}
	rand.Read(row.MAC)
	return t.putKeys(ctx, row, 0)
}

// putKeys puts row with a new signing key in the place of revision rev.
func (t *Trail) putKeys(ctx context.Context, row ringRow, rev store.Revision) (*ring, error) {
	row.Seed = make([]byte, ed25519.SeedSize)
	rand.Read(row.Seed)
	pub := ed25519.NewKeyFromSeed(row.Seed).Public().(ed25519.PublicKey)
	row.Keys = slices.Insert(slices.Clone(row.Keys), 0, api.AuditKey{ID: auditcheck.KeyID(pub), Algorithm: "Ed25519", PublicKey: pub, CreatedAt: t.now().UTC().Truncate(time.Microsecond)})
	text, err := json.Marshal(row)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "the keys of the audit trail do not encode")
	}
	defer clear(text)
	var b store.Batch
	b.RequireRevision(layout.Sealed(ringName.Kind, ringName.Owner, ringName.ID), rev)
	if err := t.box.Put(ctx, &b, ringName, text); err != nil {
		return nil, err
	}
	if rev, err = t.store.Commit(ctx, &b); err != nil {
		return nil, err
	}
	return row.ring(rev), nil
}

// RotateKey makes a new key that signs from now on: here at once, in other
// processes from their next checkpoints on. What older keys signed stays good.
func (t *Trail) RotateKey(ctx context.Context) error {
	return store.Fault(store.Retry(ctx, func() error {
		old, err := t.refresh(ctx)
		if err != nil {
			return err
		}
		next, err := t.putKeys(ctx, ringRow{MAC: slices.Clone(old.mac), Keys: old.pub}, old.rev)
		if err == nil {
			t.ring.Store(next)
		}
		return err
	}))
}

// PublicKeys returns the keys that sign checkpoints or did, newest first. Error:
// Unavailable, when they were not yet read and the KMS is away.
func (t *Trail) PublicKeys(ctx context.Context) (api.AuditKeys, error) {
	r, err := t.keys(ctx)
	if err != nil {
		return api.AuditKeys{}, err
	}
	return api.AuditKeys{Keys: r.pub}, nil
}
