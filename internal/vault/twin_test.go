package vault

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// twinKMS is a KMS in memory whose versions are in the test's hands.
type twinKMS struct {
	mu       sync.Mutex
	keks     map[string][]*aead.Key // version n at n-1
	released map[string]uint32
	lag      uint32 // Seal works with a primary that is so many versions old
	calls    []string
	rewraps  func([]kmsapi.RewrapResult) []kmsapi.RewrapResult // changes what Rewrap answers

	sessions   map[string]twinSession
	made       int
	hangs      atomic.Bool                                             // CMEKRotationAlive answers nothing
	reencrypts func([]kmsapi.ReencryptResult) []kmsapi.ReencryptResult // changes what Reencrypt answers
	before     func(call string) error                                 // runs first, without the lock; an error fails the call
	after      func(call string) error                                 // an error is answered though the call took effect
}

func newTwin() *twinKMS {
	return &twinKMS{keks: map[string][]*aead.Key{}, released: map[string]uint32{}, sessions: map[string]twinSession{}}
}

func newTwinKey() *aead.Key {
	k, err := aead.NewKey(aead.GenerateRaw())
	if err != nil {
		panic(err)
	}
	return k
}

// call runs f between before and after.
func call[T any](k *twinKMS, name string, f func() (T, error)) (out T, err error) {
	if k.before != nil {
		if err := k.before(name); err != nil {
			return out, err
		}
	}
	k.mu.Lock()
	k.calls = append(k.calls, name)
	out, err = f()
	k.mu.Unlock()
	if err == nil && k.after != nil {
		err = k.after(name)
	}
	return out, err
}

func (k *twinKMS) count(name string) (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.calls {
		if c == name {
			n++
		}
	}
	return n
}

func twinAAD(kekID string, version uint32, aad []byte) []byte {
	return aead.AAD("twin", kekID, strconv.Itoa(int(version)), string(aad))
}

var errNoKEK = fault.New(fault.NotFound, "there is no KEK of this ID")

func (k *twinKMS) wrap(kekID string, lag uint32, dek, aad []byte) ([]byte, uint32, error) {
	versions := k.keks[kekID]
	if len(versions) == 0 {
		return nil, 0, errNoKEK
	}
	n := max(1, uint32(len(versions))-lag)
	wrapped, err := versions[n-1].Seal(dek, twinAAD(kekID, n, aad))
	return wrapped, n, err
}

func (k *twinKMS) unwrap(kekID string, n uint32, wrapped, aad []byte) ([]byte, error) {
	versions := k.keks[kekID]
	if len(versions) == 0 {
		return nil, errNoKEK
	}
	if n < 1 || int(n) > len(versions) || versions[n-1] == nil {
		return nil, fault.New(fault.Unopenable, "does not open")
	}
	dek, err := versions[n-1].Open(wrapped, twinAAD(kekID, n, aad))
	if err != nil {
		return nil, fault.New(fault.Unopenable, "does not open")
	}
	return dek, nil
}

func (k *twinKMS) CreateKEK(_ context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	return call(k, "CreateKEK", func() (out []kmsapi.KEKInfo, err error) {
		for _, id := range ids {
			if len(k.keks[id]) == 0 {
				k.keks[id] = []*aead.Key{newTwinKey()}
			}
			out = append(out, kmsapi.KEKInfo{KEKID: id, Version: uint32(len(k.keks[id]))})
		}
		return out, nil
	})
}

func (k *twinKMS) Seal(_ context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	return call(k, "Seal", func() (out []kmsapi.SealResult, err error) {
		for _, it := range items {
			e, err := k.sealOne(it.KEKID, it.Plaintext, it.AAD)
			out = append(out, kmsapi.SealResult{Envelope: e, Err: err})
		}
		return out, nil
	})
}

func (k *twinKMS) sealOne(kekID string, plaintext, aad []byte) (e kmsapi.Envelope, err error) {
	dek := aead.GenerateRaw()
	e.KEKID = kekID
	if e.WrappedDEK, e.KEKVersion, err = k.wrap(kekID, k.lag, dek, aad); err == nil {
		key, _ := aead.NewKey(dek)
		e.Ciphertext, err = key.Seal(plaintext, aad)
	}
	return e, err
}

func (k *twinKMS) Open(_ context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	return call(k, "Open", func() (out []kmsapi.OpenResult, err error) {
		for _, it := range items {
			plaintext, err := k.openOne(it.Envelope, it.AAD)
			out = append(out, kmsapi.OpenResult{Plaintext: plaintext, Err: err})
		}
		return out, nil
	})
}

func (k *twinKMS) openOne(e kmsapi.Envelope, aad []byte) ([]byte, error) {
	dek, err := k.unwrap(e.KEKID, e.KEKVersion, e.WrappedDEK, aad)
	if err != nil {
		return nil, err
	}
	key, _ := aead.NewKey(dek)
	return key.Open(e.Ciphertext, aad)
}

func (k *twinKMS) Rewrap(_ context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error) {
	return call(k, "Rewrap", func() (out []kmsapi.RewrapResult, err error) {
		for _, it := range items {
			res := kmsapi.RewrapResult{KEKID: it.KEKID}
			dek, err := k.unwrap(it.KEKID, it.KEKVersion, it.WrappedDEK, it.AAD)
			if err == nil {
				res.WrappedDEK, res.KEKVersion, err = k.wrap(it.KEKID, 0, dek, it.AAD)
			}
			res.Err = err
			out = append(out, res)
		}
		if k.rewraps != nil {
			out = k.rewraps(out)
		}
		return out, nil
	})
}

func (k *twinKMS) RotateKEK(_ context.Context, r kmsapi.Rotate) (kmsapi.Rotated, error) {
	return call(k, "RotateKEK", func() (kmsapi.Rotated, error) {
		versions := k.keks[r.KEKID]
		switch {
		case len(versions) == 0:
			return kmsapi.Rotated{}, errNoKEK
		case r.IfVersion != 0 && int(r.IfVersion) < len(versions):
			return kmsapi.Rotated{KEKID: r.KEKID, KEKVersion: uint32(len(versions))}, nil
		case int(r.IfVersion) > len(versions):
			return kmsapi.Rotated{}, fault.New(fault.Conflict, "another version is primary")
		}
		k.keks[r.KEKID] = append(slices.Clip(versions), newTwinKey())
		return kmsapi.Rotated{KEKID: r.KEKID, KEKVersion: uint32(len(versions) + 1)}, nil
	})
}

func (k *twinKMS) ReleaseKEK(_ context.Context, kekID string, below uint32) error {
	_, err := call(k, "ReleaseKEK", func() (struct{}, error) {
		k.released[kekID] = max(k.released[kekID], below)
		return struct{}{}, nil
	})
	return err
}

// destroy makes every version but the primary unusable, where it was released.
func (k *twinKMS) destroy(t testing.TB) {
	t.Helper()
	for id, versions := range k.keks {
		for i := range len(versions) - 1 {
			if k.released[id] <= uint32(i+1) {
				t.Errorf("version %d of %s is not released", i+1, id)
			}
			versions[i] = nil
		}
	}
}
