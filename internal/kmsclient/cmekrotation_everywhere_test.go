package kmsclient_test

import (
	"bytes"
	"context"
	"crypto/hpke"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// aKMS is what a rotation of a customer's key needs of a KMS, near or far.
type aKMS interface {
	CreateKEK(ctx context.Context, ids []string) ([]kmsapi.KEKInfo, error)
	Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error)
	Open(ctx context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error)
	CMEKRotationKey(ctx context.Context, owner string) (kmsapi.CMEKRotationKey, error)
	OpenCMEKRotation(ctx context.Context, o kmsapi.OpenCMEKRotation) (session string, err error)
	CMEKRotationAlive(ctx context.Context, session string) (bool, error)
	CloseCMEKRotation(ctx context.Context, session string) error
	Reencrypt(ctx context.Context, session string, items []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error)
}

// TestARotationRunsTheSameInProcessOverASocketAndOverMutualTLS starts each KMS
// anew in the middle.
func TestARotationRunsTheSameInProcessOverASocketAndOverMutualTLS(t *testing.T) {
	root, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	must(t, err)
	dir := t.TempDir()
	must(t, kmsserver.MakeTLS(dir))
	in := func(name string) string { return filepath.Join(dir, name) }
	for name, connect := range map[string]func(*testing.T, *kms.Service) (aKMS, func()){
		"in process": func(_ *testing.T, s *kms.Service) (aKMS, func()) { return s, func() {} },
		"socket": func(t *testing.T, s *kms.Service) (aKMS, func()) {
			return served(t, s, filepath.Join(t.TempDir(), "kms.sock"), nil, nil)
		},
		"mutual TLS": func(t *testing.T, s *kms.Service) (aKMS, func()) {
			files, err := kmsclient.LoadTLS(in("keyfold-server.crt"), in("keyfold-server.key"), in("ca.crt"))
			must(t, err)
			return served(t, s, "127.0.0.1:0", &kmsserver.TLSFiles{Cert: in("server.crt"), Key: in("server.key"), CA: in("ca.crt")}, files)
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := memstore.New()
			start := func() (aKMS, func()) {
				s, err := kms.New(t.Context(), kms.Config{Store: store, Root: root})
				must(t, err)
				k, stop := connect(t, s)
				return k, func() { stop(); s.Close() }
			}
			rotateEverything(t, start)
		})
	}
}

// served is s behind a server, and a client of it.
func served(t *testing.T, s *kms.Service, endpoint string, server *kmsserver.TLSFiles, client *kmsclient.TLS) (*kmsclient.Client, func()) {
	t.Helper()
	cfg := kmsserver.Config{KMS: s}
	if server != nil {
		cfg.Callers = []kmsserver.Caller{{Name: "keyfold-server", Roles: kmsserver.Crypto}, {Name: "keyfold-admin", Roles: kmsserver.Crypto | kmsserver.Admin}}
	}
	face, err := kmsserver.New(cfg)
	must(t, err)
	ln, err := face.Listen(endpoint, server)
	must(t, err)
	done := make(chan error, 1)
	go func() { done <- face.Serve(ln) }()
	url := "unix://" + endpoint
	if server != nil {
		url = "https://" + ln.Addr().String()
	}
	c, err := kmsclient.New(kmsclient.Config{Endpoint: url, TLS: client, Retry: time.Minute})
	must(t, err)
	return c, func() {
		c.Close()
		must(t, face.Close(context.Background()))
		must(t, <-done)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// rotateEverything rotates values of every form through start's KMS.
func rotateEverything(t *testing.T, start func() (aKMS, func())) {
	k, stop := start()
	ctx := t.Context()
	_, err := k.CreateKEK(ctx, []string{"v"})
	must(t, err)
	rawOld, rawNew := bytes.Repeat([]byte("old"), 11)[:32], bytes.Repeat([]byte("new"), 11)[:32]
	old, fresh := key(t, rawOld), key(t, rawNew)
	ask := kmsapi.OpenCMEKRotation{Vault: "v", OldFingerprint: old.Fingerprint(), NewFingerprint: fresh.Fingerprint(), Old: rawOld, New: rawNew}

	swapped := ask
	swapped.Old, swapped.New = ask.New, ask.Old
	_, err = k.OpenCMEKRotation(ctx, swapped)
	failsWith(t, "swapped keys", err, fault.Invalid, kmsapi.TypeCMEKOldKey)
	sealed := seal(t, k, ask)
	session, err := k.OpenCMEKRotation(ctx, sealed)
	must(t, err)
	_, err = k.OpenCMEKRotation(ctx, sealed)
	failsWith(t, "a one-time key used twice", err, fault.Invalid, kmsapi.TypeCMEKKeyGone)
	moved := seal(t, k, ask)
	moved.Vault = "w"
	_, err = k.OpenCMEKRotation(ctx, moved)
	failsWith(t, "keys sealed for another vault", err, fault.Invalid, kmsapi.TypeCMEKSealedKeys)

	stored := make([]kmsapi.Envelope, 0, 300) // as a server keeps them, path and AAD by place
	for i := range 300 {
		out, err := k.Seal(ctx, []kmsapi.SealItem{{KEKID: "v", Plaintext: []byte(value(t, old, i)), AAD: aad(i, old)}})
		must(t, err)
		must(t, out[0].Err)
		stored = append(stored, out[0].Envelope)
	}
	rotate := func(from, to int, opened string) {
		t.Helper()
		items := make([]kmsapi.ReencryptItem, 0, to-from)
		for i := from; i < to; i++ {
			under := old
			if opened == kmsapi.OpenedNew {
				under = fresh
			}
			items = append(items, kmsapi.ReencryptItem{Envelope: stored[i], AAD: aad(i, under), NewAAD: aad(i, fresh), Path: path(i)})
		}
		strange := items[0]
		strange.AAD = aad(from+1, old)
		out, err := k.Reencrypt(ctx, session, append(items, strange))
		must(t, err)
		failsWith(t, "an envelope moved to another place", out[len(items)].Err, fault.Unopenable, "")
		for i, r := range out[:len(items)] {
			must(t, r.Err)
			if r.Opened != opened {
				t.Fatalf("value %d was under the %s key, not the %s", from+i, r.Opened, opened)
			}
			stored[from+i] = r.Envelope
		}
	}
	rotate(0, 100, kmsapi.OpenedOld)
	stop()
	k, stop = start()
	defer func() { stop() }()
	_, err = k.Reencrypt(ctx, session, []kmsapi.ReencryptItem{{Envelope: stored[100], AAD: aad(100, old)}})
	failsWith(t, "a session of another process", err, fault.NotFound, kmsapi.TypeCMEKSessionGone)
	session, err = k.OpenCMEKRotation(ctx, ask)
	must(t, err)
	rotate(0, 100, kmsapi.OpenedNew) // what was done before
	rotate(100, 300, kmsapi.OpenedOld)
	lives(t, k, session, true)
	for range 2 {
		must(t, k.CloseCMEKRotation(ctx, session))
	}
	lives(t, k, session, false)
	_, err = k.Reencrypt(ctx, session, nil)
	failsWith(t, "a closed session", err, fault.NotFound, kmsapi.TypeCMEKSessionGone)
	ask.Owner = "org-1"
	for range 10 {
		_, err = k.OpenCMEKRotation(ctx, ask)
		must(t, err)
	}
	_, err = k.OpenCMEKRotation(ctx, ask)
	failsWith(t, "more than an owner's share", err, fault.TooMany, kmsapi.TypeCMEKShare)
	for range 100 {
		_, err = k.CMEKRotationKey(ctx, "org-1")
		must(t, err)
	}
	_, err = k.CMEKRotationKey(ctx, "org-1")
	failsWith(t, "more one-time keys than an owner's share", err, fault.TooMany, kmsapi.TypeCMEKShare)
	for i, e := range stored {
		out, err := k.Open(ctx, []kmsapi.OpenItem{{Envelope: e, AAD: aad(i, fresh)}})
		must(t, err)
		must(t, out[0].Err)
		got, err := cmek.DecryptValueAt(fresh, cmek.Context{VaultID: "v", Path: path(i)}, string(out[0].Plaintext))
		if err != nil || string(got) != fmt.Sprint("value ", i) {
			t.Errorf("value %d: %q, %v", i, got, err)
		}
	}
}

func lives(t *testing.T, k aKMS, session string, want bool) {
	t.Helper()
	alive, err := k.CMEKRotationAlive(t.Context(), session)
	if err != nil || alive != want {
		t.Errorf("the session lives: %v, %v", alive, err)
	}
}

func failsWith(t *testing.T, what string, err error, code fault.Code, typ string) {
	t.Helper()
	if !errors.Is(err, code) || fault.Of(err).Type != typ {
		t.Errorf("%s: %v", what, err)
	}
}

func key(t *testing.T, raw []byte) *cmek.Key {
	t.Helper()
	k, err := cmek.NewKey(raw)
	must(t, err)
	return k
}

func path(i int) string { return fmt.Sprint("db/", i) }

func aad(i int, k *cmek.Key) []byte { return []byte(path(i) + " " + k.Fingerprint()) }

// value is the value of place i, in one of the three forms.
func value(t *testing.T, k *cmek.Key, i int) string {
	t.Helper()
	plaintext := []byte(fmt.Sprint("value ", i))
	switch i % 3 {
	case 0:
		v, err := cmek.EncryptValue(k, plaintext)
		must(t, err)
		return v
	case 1:
		v, err := cmek.EncryptBoundValue(k, cmek.Context{VaultID: "v", Path: path(i)}, plaintext)
		must(t, err)
		return v
	}
	blob, err := cmek.Encrypt(k, plaintext)
	must(t, err)
	return hex.EncodeToString(blob[1:])
}

// seal is o with its keys sealed to a one-time key of k.
func seal(t *testing.T, k aKMS, o kmsapi.OpenCMEKRotation) kmsapi.OpenCMEKRotation {
	t.Helper()
	one, err := k.CMEKRotationKey(t.Context(), o.Owner)
	must(t, err)
	kem, err := hpke.NewKEM(0x0010)
	must(t, err)
	public, err := kem.NewPublicKey(one.PublicKey)
	must(t, err)
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), kmsapi.CMEKRotationInfo(o.Vault, o.OldFingerprint, o.NewFingerprint))
	must(t, err)
	ciphertext, err := sender.Seal(nil, append(bytes.Clone(o.Old), o.New...))
	must(t, err)
	o.Old, o.New, o.Sealed = nil, nil, kmsapi.SealedKeys{KeyID: one.KeyID, Enc: enc, Ciphertext: ciphertext}
	return o
}
