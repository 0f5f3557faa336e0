package kmsserver

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// actors is an audit.Recorder that keeps who did what.
type actors struct {
	mu   sync.Mutex
	seen map[string]string // action to actor
}

func (a *actors) Record(_ context.Context, events ...audit.Event) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range events {
		a.seen[e.Action] = e.Actor
	}
	return nil
}

// newReal is a rig over a KMS with real keys.
func newReal(t testing.TB, change ...func(*Config)) (*rig, *actors) {
	t.Helper()
	root, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	heard := &actors{seen: map[string]string{}}
	service, err := kms.New(context.Background(), kms.Config{Store: memstore.New(), Root: root, Audit: heard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(service.Close)
	return newRig(t, append(change, func(c *Config) { c.KMS = service })...), heard
}

func TestTheAuditHearsWhoCalled(t *testing.T) {
	r, heard := newReal(t)
	overProtobuf(r, kmsapi.CreateKEK, kmsapi.CreateKEKItem{KEKID: "v1"})
	if a := r.do(r.client(adminUID), "POST /rotate_kek", "", `{"kek_id":"v1"}`); a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	heard.mu.Lock()
	defer heard.mu.Unlock()
	if heard.seen["kek.create"] != "uid:1003" || heard.seen["kek.rotate"] != "uid:1002" {
		t.Errorf("the audit has %v", heard.seen)
	}
}

// Over all pairs of two threads' DEKs and two AADs, in both forms of the wire.
func TestACiphertextOpensUnderItsOwnKeyIDAndAADAlone(t *testing.T) {
	r, _ := newReal(t)
	client := r.client(cryptoUID)
	deks := overProtobuf(r, kmsapi.CreateDEK, kmsapi.CreateDEKItem{ThreadID: "a"}, kmsapi.CreateDEKItem{ThreadID: "b"}, kmsapi.CreateDEKItem{ThreadID: "b"})
	aads := []string{"", "x", "y"}
	answers := map[string]bool{}
	for i, from := range deks {
		for _, aad := range aads {
			sealed := overProtobuf(r, kmsapi.Encrypt, kmsapi.EncryptItem{KeyID: from.DEK.KeyID, Plaintext: []byte(canary), AAD: []byte(aad)})[0]
			if sealed.Err != nil {
				t.Fatal(sealed.Err)
			}
			for j, under := range deks {
				for _, with := range aads {
					own := i == j && aad == with
					opened := overProtobuf(r, kmsapi.Decrypt, kmsapi.DecryptItem{KeyID: under.DEK.KeyID, Ciphertext: sealed.Ciphertext, AAD: []byte(with)})[0]
					if own != (opened.Err == nil) || own != (string(opened.Plaintext) == canary) || !own && !errors.Is(opened.Err, fault.Unopenable) {
						t.Errorf("protobuf: of %d %q under %d %q: %q, %v", i, aad, j, with, opened.Plaintext, opened.Err)
					}
					body, _ := json.Marshal(map[string]any{"key_id": under.DEK.KeyID, "ciphertext": sealed.Ciphertext, "aad": []byte(with)})
					a := r.do(client, "POST /decrypt", "", string(body))
					if status := map[bool]int{true: 200, false: 422}[own]; a.status != status {
						t.Errorf("JSON: of %d %q under %d %q: %d %s", i, aad, j, with, a.status, a.body)
					}
					if !own {
						answers[a.body] = true
					}
				}
			}
			for at := range sealed.Ciphertext {
				damaged := append([]byte(nil), sealed.Ciphertext...)
				damaged[at] ^= 1
				body, _ := json.Marshal(map[string]any{"key_id": from.DEK.KeyID, "ciphertext": damaged, "aad": []byte(aad)})
				a := r.do(client, "POST /decrypt", "", string(body))
				answers[a.body] = true
				if a.status != 422 {
					t.Errorf("byte %d flipped: %d", at, a.status)
				}
			}
		}
	}
	a := r.do(client, "POST /decrypt", "", `{"key_id":"`+deks[0].DEK.KeyID+`","ciphertext":"AA=="}`)
	if answers[a.body] = true; a.status != 422 || len(answers) != 1 {
		t.Errorf("%d answers tell causes apart: %v", len(answers), answers)
	}
}

func TestAnEnvelopeOpensWithItsOwnPartsAlone(t *testing.T) {
	r, _ := newReal(t)
	overProtobuf(r, kmsapi.CreateKEK, kmsapi.CreateKEKItem{KEKID: "v1"}, kmsapi.CreateKEKItem{KEKID: "v2"})
	var sealed []kmsapi.OpenItem
	for _, item := range []kmsapi.SealItem{
		{KEKID: "v1", Plaintext: []byte(canary), AAD: []byte("a")}, {KEKID: "v1", Plaintext: []byte(canary), AAD: []byte("a")},
		{KEKID: "v1", Plaintext: []byte(canary), AAD: []byte("b")}, {KEKID: "v2", Plaintext: []byte(canary), AAD: []byte("a")},
	} {
		out := overProtobuf(r, kmsapi.Seal, item)[0]
		if out.Err != nil {
			t.Fatal(out.Err)
		}
		sealed = append(sealed, kmsapi.OpenItem{Envelope: out.Envelope, AAD: item.AAD})
	}
	opens := func(item kmsapi.OpenItem) bool {
		out := overProtobuf(r, kmsapi.Open, item)[0]
		if out.Err != nil && !errors.Is(out.Err, fault.Unopenable) {
			t.Errorf("fails with %v", out.Err)
		}
		return out.Err == nil && string(out.Plaintext) == canary
	}
	for i, own := range sealed {
		if !opens(own) {
			t.Errorf("%d does not open", i)
		}
		for j, other := range sealed {
			mixed := []kmsapi.OpenItem{own, own, own, own}
			mixed[0].Envelope.KEKID = other.Envelope.KEKID
			mixed[1].Envelope.WrappedDEK = other.Envelope.WrappedDEK
			mixed[2].Envelope.Ciphertext = other.Envelope.Ciphertext
			mixed[3].AAD = other.AAD
			same := []bool{own.Envelope.KEKID == other.Envelope.KEKID, i == j, i == j, string(own.AAD) == string(other.AAD)}
			for k, item := range mixed {
				if opens(item) != same[k] {
					t.Errorf("%d with part %d of %d: opens is %v", i, k, j, !same[k])
				}
			}
		}
	}
}

func TestAnUnknownKeyIsNotFoundEverywhere(t *testing.T) {
	r, _ := newReal(t)
	client := r.client(bothUID)
	for call, body := range map[string]string{
		"POST /encrypt":              `{"key_id":"no","plaintext":"AA=="}`,
		"POST /decrypt":              `{"key_id":"no","ciphertext":"AA=="}`,
		"GET /get_wrapped?key_id=no": ``,
		"POST /seal":                 `{"kek_id":"no","plaintext":"AA=="}`,
		"POST /open":                 `{"kek_id":"no","kek_version":1,"wrapped_dek":"AA==","ciphertext":"AA=="}`,
		"POST /rewrap":               `{"key_id":"no"}`,
		"POST /rotate_kek":           `{"kek_id":"no"}`,
		"POST /shred_dek":            `{"key_id":"no"}`,
		"POST /destroy_kek_version":  `{"kek_id":"no","kek_version":1}`,
		"GET /jobs/no":               ``,
	} {
		if a := r.do(client, call, "", body); a.status != 404 || !strings.Contains(a.body, `"code":"not_found"`) {
			t.Errorf("%s: %d %s", call, a.status, a.body)
		}
	}
	if a := r.do(client, "GET /healthz", "", ""); a.status != 200 {
		t.Errorf("healthz: %d", a.status)
	}
}
