package keyfoldtest

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
)

// SetKMSDown takes the key process away, or gives it back. Without it the
// server answers 503 to whatever needs a key. One that is beside the server
// (see KMS) stops listening, and its connections end, unless other servers use it.
func (s *Server) SetKMSDown(down bool) {
	s.t.Helper()
	if s.options.kms == Embedded || s.site != nil {
		s.faults.down.Store(down)
		return
	}
	if down == s.down {
		return
	}
	s.down = down
	if down {
		s.hangUp()
	} else if err := s.keys.listen(); err != nil {
		s.t.Fatalf("keyfoldtest: the key process: %v", err)
	}
}

// HoldRotations keeps rotations of customers' keys from their next batch, or lets
// them go on: the key process re-encrypts nothing, and does all else.
func (s *Server) HoldRotations(hold bool) { s.faults.held.Store(hold) }

// KeyStore is what the key process keeps. It is for Keyfold's own tests; its
// type is internal and changes without notice.
func (s *Server) KeyStore() store.Store {
	if s.keys != nil {
		return s.keys.store
	}
	return s.node.KeyStore
}

// MustNotHold fails the test when any text is in the server's log or in what
// it stored, as a key or as a value.
func (s *Server) MustNotHold(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if strings.Contains(s.Log(), text) {
			t.Errorf("the server's log holds %q", text)
		}
		for name, st := range map[string]store.Store{"server": s.node.Store, "kms": s.KeyStore()} {
			for rec, err := range store.All(context.Background(), st, store.Range{}) {
				if err != nil {
					t.Fatal(err)
				}
				if strings.Contains(rec.Key, text) || strings.Contains(string(rec.Value), text) {
					t.Errorf("the %s store holds %q in row %q", name, text, rec.Key)
				}
			}
		}
	}
}

// faults is the KMS with a switch in front.
type faults struct {
	allinone.KMS
	down atomic.Bool
	held atomic.Bool // no Reencrypt
}

func (f *faults) wrap(keys allinone.KMS) allinone.KMS {
	f.KMS = keys
	return f
}

// pass makes one call, unless the KMS is down.
func pass[In, Out any](ctx context.Context, f *faults, call func(context.Context, In) (Out, error), in In) (out Out, err error) {
	if f.down.Load() {
		return out, errDown
	}
	return call(ctx, in)
}

var errDown = fault.New(fault.Unavailable, "the key process does not answer; try again")

func (f *faults) CreateKEK(ctx context.Context, items []string) ([]kmsapi.KEKInfo, error) {
	return pass(ctx, f, f.KMS.CreateKEK, items)
}

func (f *faults) Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	return pass(ctx, f, f.KMS.Seal, items)
}

func (f *faults) Open(ctx context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	return pass(ctx, f, f.KMS.Open, items)
}

func (f *faults) CreateDEK(ctx context.Context, items []kmsapi.CreateDEKItem) ([]kmsapi.CreateDEKResult, error) {
	return pass(ctx, f, f.KMS.CreateDEK, items)
}

func (f *faults) Encrypt(ctx context.Context, items []kmsapi.EncryptItem) ([]kmsapi.EncryptResult, error) {
	return pass(ctx, f, f.KMS.Encrypt, items)
}

func (f *faults) Decrypt(ctx context.Context, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	return pass(ctx, f, f.KMS.Decrypt, items)
}

func (f *faults) Rewrap(ctx context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error) {
	return pass(ctx, f, f.KMS.Rewrap, items)
}

func (f *faults) RotateKEK(ctx context.Context, r kmsapi.Rotate) (kmsapi.Rotated, error) {
	return pass(ctx, f, f.KMS.RotateKEK, r)
}

func (f *faults) ListKEKs(ctx context.Context, q kmsapi.ListQuery) (kmsapi.KEKList, error) {
	return pass(ctx, f, f.KMS.ListKEKs, q)
}

func (f *faults) ListDEKs(ctx context.Context, keyIDs []string) (kmsapi.DEKList, error) {
	return pass(ctx, f, f.KMS.ListDEKs, keyIDs)
}

func (f *faults) ImportKEK(ctx context.Context, raw []byte) (kmsapi.Rotated, error) {
	return pass(ctx, f, f.KMS.ImportKEK, raw)
}

func (f *faults) ShredDEK(ctx context.Context, keyID string) error {
	if f.down.Load() {
		return errDown
	}
	return f.KMS.ShredDEK(ctx, keyID)
}

func (f *faults) ReleaseKEK(ctx context.Context, kekID string, below uint32) error {
	if f.down.Load() {
		return errDown
	}
	return f.KMS.ReleaseKEK(ctx, kekID, below)
}

func (f *faults) CMEKRotationKey(ctx context.Context, owner string) (kmsapi.CMEKRotationKey, error) {
	if f.down.Load() {
		return kmsapi.CMEKRotationKey{}, errDown
	}
	return f.KMS.CMEKRotationKey(ctx, owner)
}

func (f *faults) OpenCMEKRotation(ctx context.Context, o kmsapi.OpenCMEKRotation) (string, error) {
	return pass(ctx, f, f.KMS.OpenCMEKRotation, o)
}

func (f *faults) CMEKRotationAlive(ctx context.Context, session string) (bool, error) {
	return pass(ctx, f, f.KMS.CMEKRotationAlive, session)
}

func (f *faults) CloseCMEKRotation(ctx context.Context, session string) error {
	if f.down.Load() {
		return errDown
	}
	return f.KMS.CloseCMEKRotation(ctx, session)
}

func (f *faults) Reencrypt(ctx context.Context, session string, items []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error) {
	if f.down.Load() || f.held.Load() {
		return nil, errDown
	}
	return f.KMS.Reencrypt(ctx, session, items)
}
