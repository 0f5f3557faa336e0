package kms

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// exported is the text that s exports.
func (r *rig) exported(s *Service) []byte {
	r.Helper()
	text, err := s.ExportBreakGlass(ctx)
	r.must(err)
	return text
}

func (r *rig) offline(text []byte) *Offline {
	r.Helper()
	o, err := OpenOffline(ctx, r.root, text)
	r.must(err)
	r.Cleanup(o.Wipe)
	return o
}

// rotateThreads makes a new primary of the threads' KEK.
func (r *rig) rotateThreads(s *Service) {
	r.Helper()
	r.Cleanup(s.Close)
	_, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: kmsapi.ThreadsKEK})
	r.must(err)
}

// openOffline opens one item, as one whole answer.
func openOffline(o *Offline, info kmsapi.DEKInfo, thread string, item kmsapi.DecryptItem) (string, error) {
	out, err := o.Decrypt(ctx, info, thread, []kmsapi.DecryptItem{item})
	if err != nil {
		return "", err
	}
	return string(out[0].Plaintext), out[0].Err
}

func TestAnExportedKeyringOpensWhatTheKMSEncrypted(t *testing.T) {
	r := newRig(t)
	s := r.start()
	info := r.createDEK(s, "t1")
	ciphertext := r.encrypt(s, info.KeyID, "hello", "aad")
	text := r.exported(s)
	s.Close()
	o := r.offline(text)
	if o.KEKVersion() != 1 {
		t.Errorf("version %d", o.KEKVersion())
	}
	got, err := openOffline(o, info, "t1", kmsapi.DecryptItem{KeyID: info.KeyID, Ciphertext: ciphertext, AAD: []byte("aad")})
	if got != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestOfflineNothingOpensThatIsNotItsOwn(t *testing.T) {
	r := newRig(t)
	s := r.start()
	info, other := r.createDEK(s, "t1"), r.createDEK(s, "t2")
	item := kmsapi.DecryptItem{KeyID: info.KeyID, Ciphertext: r.encrypt(s, info.KeyID, "hello", "aad"), AAD: []byte("aad")}
	r.rotateThreads(s)
	o := r.offline(r.exported(s))
	elsewhere := newRig(t)
	elsewhere.root = r.root
	stranger := r.offline(elsewhere.exported(elsewhere.start()))

	for name, change := range map[string]func(o **Offline, info *kmsapi.DEKInfo, thread *string, item *kmsapi.DecryptItem){
		"the keyring of another KMS of this root": func(o **Offline, _ *kmsapi.DEKInfo, _ *string, _ *kmsapi.DecryptItem) { *o = stranger },
		"another thread":             func(_ **Offline, _ *kmsapi.DEKInfo, thread *string, _ *kmsapi.DecryptItem) { *thread = "t2" },
		"another key ID for the DEK": func(_ **Offline, info *kmsapi.DEKInfo, _ *string, _ *kmsapi.DecryptItem) { info.KeyID = other.KeyID },
		"another key ID throughout": func(_ **Offline, info *kmsapi.DEKInfo, _ *string, item *kmsapi.DecryptItem) {
			info.KeyID, item.KeyID = other.KeyID, other.KeyID
		},
		"another key ID for the item": func(_ **Offline, _ *kmsapi.DEKInfo, _ *string, item *kmsapi.DecryptItem) { item.KeyID = other.KeyID },
		"another thread's DEK": func(_ **Offline, info *kmsapi.DEKInfo, _ *string, _ *kmsapi.DecryptItem) {
			info.WrappedDEK = other.WrappedDEK
		},
		"another thread's DEK, whole": func(_ **Offline, info *kmsapi.DEKInfo, thread *string, _ *kmsapi.DecryptItem) {
			*info, *thread = other, "t2"
		},
		"another thread and its DEK's names": func(_ **Offline, info *kmsapi.DEKInfo, thread *string, item *kmsapi.DecryptItem) {
			*info, *thread, item.KeyID = other, "t2", other.KeyID
		},
		"another KEK":         func(_ **Offline, info *kmsapi.DEKInfo, _ *string, _ *kmsapi.DecryptItem) { info.KEKID = "v" },
		"another KEK version": func(_ **Offline, info *kmsapi.DEKInfo, _ *string, _ *kmsapi.DecryptItem) { info.KEKVersion = 2 },
		"no KEK version":      func(_ **Offline, info *kmsapi.DEKInfo, _ *string, _ *kmsapi.DecryptItem) { info.KEKVersion = 0 },
		"another AAD":         func(_ **Offline, _ *kmsapi.DEKInfo, _ *string, item *kmsapi.DecryptItem) { item.AAD = nil },
	} {
		o, info, thread, item := o, info, "t1", item
		change(&o, &info, &thread, &item)
		if got, err := openOffline(o, info, thread, item); got != "" || !errors.Is(err, fault.Unopenable) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	eachFlip(info.WrappedDEK, func(bad []byte) {
		info := info
		info.WrappedDEK = bad
		if got, err := openOffline(o, info, "t1", item); got != "" || !errors.Is(err, fault.Unopenable) {
			t.Errorf("a flipped wrapped DEK: %q, %v", got, err)
		}
	})
	if got, err := openOffline(o, info, "t1", item); got != "hello" || err != nil {
		t.Errorf("unchanged: %q, %v", got, err)
	}
}

func TestAnExportKnowsTheVersionsThatThereWere(t *testing.T) {
	r := newRig(t)
	s := r.start()
	old := r.createDEK(s, "t1")
	item := kmsapi.DecryptItem{KeyID: old.KeyID, Ciphertext: r.encrypt(s, old.KeyID, "hello", "")}
	before := r.offline(r.exported(s))
	r.rotateThreads(s)
	now, err := s.Rewrap(ctx, []kmsapi.RewrapItem{{KeyID: old.KeyID}})
	r.must(err)
	fresh := kmsapi.DEKInfo{KeyID: old.KeyID, WrappedDEK: now[0].WrappedDEK, KEKID: now[0].KEKID, KEKVersion: now[0].KEKVersion}
	after := r.offline(r.exported(s))
	for name, c := range map[string]struct {
		o    *Offline
		info kmsapi.DEKInfo
	}{
		"the export before, the old metadata": {before, old},
		"the export after, the old metadata":  {after, old},
		"the export after, the new metadata":  {after, fresh},
	} {
		if got, err := openOffline(c.o, c.info, "t1", item); got != "hello" || err != nil {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	got, err := openOffline(before, fresh, "t1", item)
	if got != "" || !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "keyfold-kms export-breakglass") {
		t.Errorf("the export before, the new metadata: %q, %v", got, err)
	}
}

func TestOnlyTheRootOfItsKMSOpensAnExport(t *testing.T) {
	r := newRig(t)
	text := r.exported(r.start())
	if _, err := OpenOffline(ctx, newRig(t).root, text); !errors.Is(err, fault.Damaged) {
		t.Errorf("another root: %v", err)
	}
	block, _ := pem.Decode(text)
	eachFlip(block.Bytes, func(bad []byte) {
		text := pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: bad})
		if _, err := OpenOffline(ctx, r.root, text); !errors.Is(err, fault.Damaged) {
			t.Errorf("a flipped bit: %v", err)
		}
	})
	for name, bad := range map[string][]byte{
		"nothing":      nil,
		"no block":     []byte(breakGlassHead),
		"half a block": text[:len(text)-10],
		"two blocks":   append(bytes.Clone(text), text...),
		"another kind": bytes.ReplaceAll(text, []byte("BREAK-GLASS"), []byte("OTHER")),
		"a header":     pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes, Headers: map[string]string{"a": "b"}}),
	} {
		if _, err := OpenOffline(ctx, r.root, bad); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// tokenRoot is a root that is a token by its name.
type tokenRoot struct{ keyring.Root }

func (tokenRoot) Kind() string { return "pkcs11" }

// exportRecorder keeps events, or fails.
type exportRecorder struct {
	events []audit.Event
	err    error
}

func (r *exportRecorder) Record(_ context.Context, events ...audit.Event) error {
	r.events = append(r.events, events...)
	return r.err
}

func TestAnExportIsRecordedOrNotMade(t *testing.T) {
	r := newRig(t)
	var rec exportRecorder
	s := r.start(func(c *Config) { c.Audit = &rec })
	defer s.Close()
	rec.events = nil
	if _, err := s.ExportBreakGlass(WithActor(ctx, "uid:7")); err != nil {
		t.Error(err)
	}
	want := []audit.Event{{Time: day, Actor: "uid:7", Action: "breakglass.export", Target: kmsapi.ThreadsKEK, Detail: map[string]any{"kek_version": uint32(1)}}}
	if diff := cmp.Diff(want, rec.events); diff != "" {
		t.Error(diff)
	}
	rec.err = errors.New("the disk is full")
	if text, err := s.ExportBreakGlass(ctx); text != nil || !errors.Is(err, fault.Unavailable) {
		t.Errorf("with an audit that fails: %d bytes, %v", len(text), err)
	}
}

func TestATokenExportsNothing(t *testing.T) {
	r := newRig(t)
	r.start().Close()
	r.root = tokenRoot{r.root}
	if text, err := r.start().ExportBreakGlass(ctx); text != nil || !errors.Is(err, fault.Conflict) {
		t.Errorf("%d bytes, %v", len(text), err)
	}
}
