// Package sealed keeps the small secrets of the server's own, such as the keys
// that sign tokens: each in one row, sealed by the KMS under the KEK "server",
// so that whoever has the store alone has none of them.
//
// A row is a kmsapi.Envelope as JSON under layout.Sealed, bound by AAD to its
// kind, owner and name: a row moved to another place does not open. It trusts
// the store not to bring an older row of the same place back. Everything that
// was put is as safe as the commit that it was put with. RewrapKind brings all
// rows under the primary of the KEK.
package sealed

import (
	"context"
	"errors"
	"time"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// KEK is the ID of the KEK over all rows.
const KEK = "server"

// MaxSize is the most bytes that a secret may have.
const MaxSize = 64 << 10

// KMS is what sealed needs of the key process. A method with items answers one
// result per item, in order; errors are *fault.Error.
type KMS interface {
	CreateKEK(context.Context, []string) ([]kmsapi.KEKInfo, error) // makes what is not there
	Seal(context.Context, []kmsapi.SealItem) ([]kmsapi.SealResult, error)
	Open(context.Context, []kmsapi.OpenItem) ([]kmsapi.OpenResult, error)
}

// Name is the place of a secret. Kind is one lower-case word of ours, such as
// "tokenkey"; Owner is the ID of an org or user, or "server".
type Name struct{ Kind, Owner, ID string }

func (n Name) key() string { return layout.Sealed(n.Kind, n.Owner, n.ID) }
func (n Name) aad() []byte { return aead.AAD("keyfold/sealed/v1", n.Kind, n.Owner, n.ID) }

// Box seals and opens. It may be used by many goroutines.
type Box struct {
	store store.Store
	kms   KMS
}

// New returns a Box. It reads nothing yet.
func New(s store.Store, kms KMS) *Box { return &Box{store: s, kms: kms} }

// Put adds the row of value to b, which the caller commits. Where the commit
// answers store.ErrConflict, he begins again with an empty batch: b also
// requires that nobody began a rewrap meanwhile. Errors: TooLarge, Unavailable
// (of the KMS), Damaged. The caller wipes value.
func (x *Box) Put(ctx context.Context, b *store.Batch, n Name, value []byte) error {
	if len(value) > MaxSize {
		return fault.New(fault.TooLarge, "a secret of the server's may have %d bytes", MaxSize)
	}
	least, rev, err := x.least(ctx)
	if err != nil {
		return err
	}
	e, err := x.seal(ctx, n, value)
	if errors.Is(err, fault.NotFound) { // the first secret of this store
		if _, err = x.kms.CreateKEK(ctx, []string{KEK}); err == nil {
			e, err = x.seal(ctx, n, value)
		}
	}
	// A key process that missed a rotation by another learns of it within 1.5 seconds;
	// RewrapKind says why this matters.
	for lags := 1; err == nil && e.KEKVersion < least && lags < maxLags; lags++ {
		select {
		case <-time.After(time.Duration(lags) * lagPause):
		case <-ctx.Done():
		}
		e, err = x.seal(ctx, n, value)
	}
	switch {
	case err != nil:
		return kmsFault(err)
	case e.KEKVersion < least:
		return errOldKEK
	case len(e.Ciphertext) != len(value)+aead.Overhead || len(e.WrappedDEK) != wrappedSize || e.KEKID != KEK || e.KEKVersion == 0:
		return fault.New(fault.Internal, "the KMS answered with something that is no envelope; nothing was stored")
	}
	b.RequireRevision(layout.SealedKEK(), rev)
	return put(b, n.key(), e)
}

const (
	wrappedSize = aead.KeySize + aead.Overhead
	lagPause    = 75 * time.Millisecond
	maxLags     = 8 // how many envelopes under an older version one Put takes, the last one for an answer: 2.1 seconds
)

func put(b *store.Batch, key string, e kmsapi.Envelope) error {
	row, err := json.Marshal(e)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "an envelope does not encode")
	}
	b.Put(key, row)
	return nil
}

// parse returns the envelope of a row.
func parse(row []byte) (e kmsapi.Envelope, err error) {
	if err := json.Unmarshal(row, &e, json.RejectUnknownMembers(true)); err != nil || e.KEKID != KEK {
		return e, errDamaged
	}
	return e, nil
}

func (x *Box) seal(ctx context.Context, n Name, value []byte) (kmsapi.Envelope, error) {
	res, err := x.kms.Seal(ctx, []kmsapi.SealItem{{KEKID: KEK, Plaintext: value, AAD: n.aad()}})
	if err == nil && len(res) != 1 {
		err = errAnswers
	}
	if err != nil {
		return kmsapi.Envelope{}, err
	}
	return res[0].Envelope, res[0].Err
}

// Get returns the secret at n, which the caller wipes. Errors: NotFound (there
// is none), Unavailable (of the KMS), Damaged.
func (x *Box) Get(ctx context.Context, n Name) (value []byte, err error) {
	for tried := store.Revision(0); ; {
		rec, getErr := x.store.Get(ctx, n.key())
		if errors.Is(getErr, store.ErrNotFound) {
			return nil, fault.New(fault.NotFound, "there is no such secret of the server's")
		}
		if getErr != nil {
			return nil, store.Fault(getErr)
		}
		if rec.Revision == tried {
			return nil, err
		}
		// A row that does not open may have been rewrapped since it was read, and
		// its version of the KEK destroyed: it is read again.
		if value, err = x.open(ctx, n, rec.Value); !errors.Is(err, fault.Damaged) {
			return value, err
		}
		tried = rec.Revision
	}
}

func (x *Box) open(ctx context.Context, n Name, row []byte) ([]byte, error) {
	e, err := parse(row)
	if err != nil {
		return nil, err
	}
	res, err := x.kms.Open(ctx, []kmsapi.OpenItem{{Envelope: e, AAD: n.aad()}})
	if err == nil && len(res) != 1 {
		err = errAnswers
	}
	if err == nil {
		err = res[0].Err
	}
	if err != nil {
		return nil, kmsFault(err)
	}
	return res[0].Plaintext, nil
}

// Delete adds the removal of the row at n to b.
func (x *Box) Delete(b *store.Batch, n Name) { b.Delete(n.key()) }

var (
	errAnswers = fault.New(fault.Unavailable, "the KMS left questions unanswered; try again")
	errDamaged = fault.New(fault.Damaged, "a secret of the server's does not open; restore the store from a backup")
	errOldKEK  = fault.New(fault.Unavailable, "the KMS answers with an older version of a key than the server has used; restore it from its newest backup")
)

// kmsFault names an error of the KMS: what may pass is Unavailable, a row or a
// key that is not what it was is Damaged.
func kmsFault(err error) error {
	switch fault.Of(err).Code {
	case fault.Unavailable, fault.Timeout, fault.Conflict:
		return err
	case fault.NotFound, fault.Unopenable, fault.Damaged:
		return errDamaged
	}
	return fault.Wrap(fault.Unavailable, err, "the KMS is away; nothing was stored or read, try again")
}
