package allinone

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// A server's store is bound to the key store that holds the keys to it,
// whichever process has that open. The row that binds it (layout.KMSCheck):
//
//	{"key_id":"dek-...","ciphertext":"<base64 of 28 bytes>"}
//
// key_id names a DEK that was made for this alone; ciphertext is what it made
// of no plaintext. A KMS over another key store has no such DEK. Like every
// DEK of the KMS's own it survives the rotation of its KEK.
type binding struct {
	KeyID      string `json:"key_id"`
	Ciphertext []byte `json:"ciphertext"`
}

// bindingOwner stands where a thread's ID does.
const bindingOwner = "keyfold-server"

// bindingAAD is the AAD of a binding's ciphertext.
func bindingAAD(keyID string) []byte { return aead.AAD("keyfold/kms-check/v1", keyID) }

// What a server answers that met the wrong KMS. It is Unavailable: nothing is
// wrong with the data, and the right KMS may be there the next time.
var (
	errOtherKMS = fault.New(fault.Unavailable, "this key process has not the keys to this server's data; start the one that has, or name it with KEYFOLD_KMS")
	errKeyStore = fault.New(fault.Unavailable, "the server was given the store of a key process; name a store of its own with KEYFOLD_STORE")
	errUnbound  = fault.New(fault.Unavailable, "it is not noted yet which key process has the keys to this server's data; start the server once with the key process inside it, where the data was written")
)

// bound is the KMS as the domain gets it: no call passes before the KMS was
// found to be the one of this store, no key is made, rotated, imported, released or shredded
// without a fresh look, and none is believed to be missing without one.
type bound struct {
	KMS
	store   store.Store
	health  func(context.Context) error // whether it can do anything at all
	several func() (answering, of int)  // nil: there is one
	adopt   bool                        // a store with data and without the row may be bound: its key store lies beside it
	proven  atomic.Bool
	inside  *kms.Service // nil: it is in a process of its own
}

// prove returns nil when the KMS answers and is the one of this store. A store
// without data is bound to the KMS that it meets first. The errors are
// errOtherKMS, errUnbound, those of the KMS, or the store's.
func (b *bound) prove(ctx context.Context) error {
	rec, err := b.store.Get(ctx, layout.KMSCheck())
	if errors.Is(err, store.ErrNotFound) {
		if err = b.bind(ctx); err == nil || errors.Is(err, store.ErrConflict) { // another server was faster
			rec, err = b.store.Get(ctx, layout.KMSCheck())
		}
	}
	if err == nil {
		err = b.check(ctx, rec.Value)
	}
	b.proven.Store(err == nil)
	return store.Fault(err)
}

// look is what prove would find. It binds nothing.
func (b *bound) look(ctx context.Context) error {
	rec, err := b.store.Get(ctx, layout.KMSCheck())
	switch {
	case err == nil:
		err = b.check(ctx, rec.Value)
	case errors.Is(err, store.ErrNotFound):
		err = b.mayBind(ctx)
	}
	return store.Fault(err)
}

// away reports whether err, of prove or look, says that the KMS is not there now,
// which a start with an external one does not mind.
func away(err error) bool {
	return errors.Is(err, fault.Unavailable) && !errors.Is(err, errOtherKMS) && !errors.Is(err, errUnbound) && !errors.Is(err, errKeyStore)
}

// answers is nil while the KMS can do its work and is the one of this store.
func (b *bound) answers(ctx context.Context) error {
	if err := b.health(ctx); err != nil {
		return err
	}
	return b.prove(ctx)
}

// ready is nil once the KMS was found to be the one of this store.
func (b *bound) ready(ctx context.Context) error {
	if b.proven.Load() {
		return nil
	}
	return b.prove(ctx)
}

// check has the KMS open what the row holds.
func (b *bound) check(ctx context.Context, row []byte) error {
	var have binding
	if err := json.Unmarshal(row, &have, json.RejectUnknownMembers(true)); err != nil {
		return fault.Wrap(fault.Damaged, err, "the row that names the key process is damaged; restore the server's store from its backup")
	}
	res, err := b.KMS.Decrypt(ctx, []kmsapi.DecryptItem{{KeyID: have.KeyID, Ciphertext: have.Ciphertext, AAD: bindingAAD(have.KeyID)}})
	if err == nil {
		err = res[0].Err
	}
	if errors.Is(err, fault.NotFound) || errors.Is(err, fault.Unopenable) {
		return errOtherKMS
	}
	return err
}

// bind makes the DEK and writes the row. It fails with store.ErrConflict when
// there is a row by now.
func (b *bound) bind(ctx context.Context) error {
	if err := b.mayBind(ctx); err != nil {
		return err
	}
	row, err := b.makeBinding(ctx)
	if err != nil {
		return err
	}
	value, err := json.Marshal(row)
	if err != nil {
		return err
	}
	var batch store.Batch
	batch.RequireAbsent(layout.KMSCheck())
	batch.RequireAbsent(layout.KEK(kmsapi.ThreadsKEK)) // which is there before a KMS answers that has the same store
	batch.Put(layout.KMSCheck(), value)
	_, err = b.store.Commit(ctx, &batch)
	return err
}

// mayBind is errUnbound when the store holds what some KMS has the keys to, and
// errKeyStore when it holds the keys.
func (b *bound) mayBind(ctx context.Context) error {
	switch _, err := b.store.Get(ctx, layout.KEK(kmsapi.ThreadsKEK)); {
	case err == nil:
		return errKeyStore
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	if b.adopt {
		return nil
	}
	for _, rows := range layout.Keyed() {
		recs, err := b.store.Scan(ctx, store.Prefix(rows), store.ScanOptions{Limit: 1})
		if err != nil {
			return err
		}
		if len(recs) > 0 {
			return errUnbound
		}
	}
	return nil
}

func (b *bound) makeBinding(ctx context.Context) (row binding, err error) {
	made, err := b.KMS.CreateDEK(ctx, []kmsapi.CreateDEKItem{{ThreadID: bindingOwner}})
	if err == nil {
		err = made[0].Err
	}
	if err != nil {
		return row, err
	}
	row.KeyID = made[0].DEK.KeyID
	res, err := b.KMS.Encrypt(ctx, []kmsapi.EncryptItem{{KeyID: row.KeyID, AAD: bindingAAD(row.KeyID)}})
	if err == nil {
		row.Ciphertext, err = res[0].Ciphertext, res[0].Err
	}
	return row, err
}

// use is a call that uses keys. When the KMS says that it has not one of them,
// another may have taken its place, which is no damage of the data.
func use[In, Out any](ctx context.Context, b *bound, call kmsapi.Call[In, Out], do func(context.Context, []In) ([]Out, error), items []In) ([]Out, error) {
	if err := b.ready(ctx); err != nil {
		return nil, err
	}
	res, err := do(ctx, items)
	for i := range res {
		if errors.Is(call.Failed(&res[i]), fault.NotFound) {
			if err := b.prove(ctx); err != nil {
				return nil, err
			}
			break
		}
	}
	return res, err
}

// The calls of the domain.

func (b *bound) CreateKEK(ctx context.Context, items []string) ([]kmsapi.KEKInfo, error) {
	if err := b.prove(ctx); err != nil {
		return nil, err
	}
	return b.KMS.CreateKEK(ctx, items)
}

func (b *bound) CreateDEK(ctx context.Context, items []kmsapi.CreateDEKItem) ([]kmsapi.CreateDEKResult, error) {
	if err := b.prove(ctx); err != nil {
		return nil, err
	}
	return b.KMS.CreateDEK(ctx, items)
}

func (b *bound) Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	return use(ctx, b, kmsapi.Seal, b.KMS.Seal, items)
}

func (b *bound) Open(ctx context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	return use(ctx, b, kmsapi.Open, b.KMS.Open, items)
}

func (b *bound) Encrypt(ctx context.Context, items []kmsapi.EncryptItem) ([]kmsapi.EncryptResult, error) {
	return use(ctx, b, kmsapi.Encrypt, b.KMS.Encrypt, items)
}

func (b *bound) Decrypt(ctx context.Context, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	return use(ctx, b, kmsapi.Decrypt, b.KMS.Decrypt, items)
}

func (b *bound) Rewrap(ctx context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error) {
	return use(ctx, b, kmsapi.Rewrap, b.KMS.Rewrap, items)
}

func (b *bound) RotateKEK(ctx context.Context, r kmsapi.Rotate) (kmsapi.Rotated, error) {
	if err := b.prove(ctx); err != nil {
		return kmsapi.Rotated{}, err
	}
	done, err := b.KMS.RotateKEK(ctx, r)
	if errors.Is(err, fault.Forbidden) {
		err = fault.Wrap(fault.Forbidden, err, "this server's entry in the list of callers of its key process has not the role admin: rotate there, with keyfold-kms rotate-kek --all, and then here, with keyfold admin rewrap --all")
	}
	return done, err
}

func (b *bound) ImportKEK(ctx context.Context, raw []byte) (kmsapi.Rotated, error) {
	if err := b.prove(ctx); err != nil {
		return kmsapi.Rotated{}, err
	}
	return b.KMS.ImportKEK(ctx, raw)
}

func (b *bound) ReleaseKEK(ctx context.Context, kekID string, below uint32) error {
	if err := b.prove(ctx); err != nil {
		return err
	}
	return b.KMS.ReleaseKEK(ctx, kekID, below)
}

func (b *bound) ListKEKs(ctx context.Context, q kmsapi.ListQuery) (kmsapi.KEKList, error) {
	if err := b.ready(ctx); err != nil {
		return kmsapi.KEKList{}, err
	}
	return b.KMS.ListKEKs(ctx, q)
}

func (b *bound) ListDEKs(ctx context.Context, keyIDs []string) (kmsapi.DEKList, error) {
	if err := b.ready(ctx); err != nil {
		return kmsapi.DEKList{}, err
	}
	return b.KMS.ListDEKs(ctx, keyIDs)
}

func (b *bound) ShredDEK(ctx context.Context, keyID string) error {
	if err := b.prove(ctx); err != nil {
		return err
	}
	return b.KMS.ShredDEK(ctx, keyID)
}

func (b *bound) CMEKRotationKey(ctx context.Context, owner string) (kmsapi.CMEKRotationKey, error) {
	if err := b.ready(ctx); err != nil {
		return kmsapi.CMEKRotationKey{}, err
	}
	return b.KMS.CMEKRotationKey(ctx, owner)
}

func (b *bound) OpenCMEKRotation(ctx context.Context, o kmsapi.OpenCMEKRotation) (string, error) {
	if err := b.prove(ctx); err != nil {
		return "", err
	}
	return b.KMS.OpenCMEKRotation(ctx, o)
}

func (b *bound) CMEKRotationAlive(ctx context.Context, session string) (bool, error) {
	alive, err := b.KMS.CMEKRotationAlive(ctx, session)
	if err == nil && !alive {
		err = b.prove(ctx)
	}
	return alive, err
}

func (b *bound) Reencrypt(ctx context.Context, session string, items []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error) {
	res, err := use(ctx, b, kmsapi.Reencrypt, func(ctx context.Context, items []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error) {
		return b.KMS.Reencrypt(ctx, session, items)
	}, items)
	if errors.Is(err, fault.NotFound) { // the session
		if err := b.prove(ctx); err != nil {
			return nil, err
		}
	}
	return res, err
}
