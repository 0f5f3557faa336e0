package kmsclient_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// importer is what an import needs of a KMS, near or far.
type importer interface {
	CreateDEK(ctx context.Context, items []kmsapi.CreateDEKItem) ([]kmsapi.CreateDEKResult, error)
	Rewrap(ctx context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error)
	ImportKEK(ctx context.Context, raw []byte) (kmsapi.Rotated, error)
}

func TestAnImportIsTheSameInProcessOverASocketAndOverMutualTLS(t *testing.T) {
	root, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	must(t, err)
	dir := t.TempDir()
	must(t, kmsserver.MakeTLS(dir))
	in := func(name string) string { return filepath.Join(dir, name) }
	overTLS := func(who string) func(*testing.T, *kms.Service) (importer, func()) {
		return func(t *testing.T, s *kms.Service) (importer, func()) {
			files, err := kmsclient.LoadTLS(in(who+".crt"), in(who+".key"), in("ca.crt"))
			must(t, err)
			return served(t, s, "127.0.0.1:0", &kmsserver.TLSFiles{Cert: in("server.crt"), Key: in("server.key"), CA: in("ca.crt")}, files)
		}
	}
	for name, connect := range map[string]func(*testing.T, *kms.Service) (importer, func()){
		"in process": func(_ *testing.T, s *kms.Service) (importer, func()) { return s, func() {} },
		"socket": func(t *testing.T, s *kms.Service) (importer, func()) {
			return served(t, s, filepath.Join(t.TempDir(), "kms.sock"), nil, nil)
		},
		"mutual TLS":                       overTLS("keyfold-admin"),
		"mutual TLS, of role crypto alone": overTLS("keyfold-server"),
	} {
		t.Run(name, func(t *testing.T) {
			store := memstore.New()
			with := func(imports bool, do func(importer)) {
				s, err := kms.New(t.Context(), kms.Config{Store: store, Root: root, ImportKEK: imports})
				must(t, err)
				defer s.Close()
				k, stop := connect(t, s)
				defer stop()
				do(k)
			}
			if strings.HasSuffix(name, "alone") {
				with(true, func(k importer) { refuses(t, k, aead.GenerateRaw(), fault.Forbidden, "has not the role") })
				return
			}
			with(false, func(k importer) { refuses(t, k, aead.GenerateRaw(), fault.Invalid, "allow_kek_import") })
			with(true, func(k importer) { importEverything(t, k) })
		})
	}
}

func refuses(t *testing.T, k importer, raw []byte, code fault.Code, want string) {
	t.Helper()
	got, err := k.ImportKEK(t.Context(), raw)
	if !errors.Is(err, code) || !strings.Contains(err.Error(), want) || got.KEKVersion != 0 {
		t.Errorf("%+v, %v; want %s, %q", got, err, code, want)
	}
}

func importEverything(t *testing.T, k importer) {
	dek, err := k.CreateDEK(t.Context(), []kmsapi.CreateDEKItem{{ThreadID: "t"}})
	must(t, err)
	must(t, dek[0].Err)
	raw, later := aead.GenerateRaw(), aead.GenerateRaw()
	kept := bytes.Clone(raw)
	for i, material := range [][]byte{raw, later} {
		version := i + 2
		for range 2 { // the second time it is the primary already
			got, err := k.ImportKEK(t.Context(), material)
			if err != nil || got.KEKID != kmsapi.ThreadsKEK || got.KEKVersion != uint32(version) || got.Job.ID == "" {
				t.Errorf("%+v, %v", got, err)
			}
			res, err := k.Rewrap(t.Context(), []kmsapi.RewrapItem{{KeyID: dek[0].DEK.KeyID}})
			if err != nil || res[0].Err != nil || res[0].KEKVersion != uint32(version) {
				t.Errorf("%+v, %v", res, err)
			}
		}
	}
	if !bytes.Equal(raw, kept) {
		t.Error("the caller's own copy was changed")
	}
	refuses(t, k, raw, fault.Invalid, "is version 2 of the KEK already")
	refuses(t, k, raw[1:], fault.Invalid, "32 bytes")
	refuses(t, k, make([]byte, 32), fault.Invalid, "random generator")
}
