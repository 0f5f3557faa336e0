package vault

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// newKMS is a real KMS with a store and a root key of its own.
func newKMS(t testing.TB) KMS {
	root, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := kms.New(context.Background(), kms.Config{Store: memstore.New(), Root: root})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// deadKMS fails every call.
type deadKMS struct{ err error }

func (d deadKMS) CreateKEK(context.Context, []string) ([]kmsapi.KEKInfo, error) { return nil, d.err }
func (d deadKMS) Seal(context.Context, []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	return nil, d.err
}
func (d deadKMS) Rewrap(context.Context, []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error) {
	return nil, d.err
}
func (d deadKMS) RotateKEK(context.Context, kmsapi.Rotate) (kmsapi.Rotated, error) {
	return kmsapi.Rotated{}, d.err
}
func (d deadKMS) ReleaseKEK(context.Context, string, uint32) error { return d.err }
func (d deadKMS) Open(context.Context, []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	return nil, d.err
}
func (d deadKMS) CMEKRotationKey(context.Context, string) (kmsapi.CMEKRotationKey, error) {
	return kmsapi.CMEKRotationKey{}, d.err
}
func (d deadKMS) OpenCMEKRotation(context.Context, kmsapi.OpenCMEKRotation) (string, error) {
	return "", d.err
}
func (d deadKMS) CMEKRotationAlive(context.Context, string) (bool, error) { return false, d.err }
func (d deadKMS) CloseCMEKRotation(context.Context, string) error         { return d.err }
func (d deadKMS) Reencrypt(context.Context, string, []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error) {
	return nil, d.err
}
