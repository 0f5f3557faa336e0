package kms

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// styles are the forms and versions of a value.
var styles = map[string]func(t testing.TB, k *cmek.Key, at cmek.Context, plaintext []byte) string{
	"base64": func(t testing.TB, k *cmek.Key, _ cmek.Context, plaintext []byte) string {
		return mustValue(cmek.EncryptValue(k, plaintext))(t)
	},
	"hex": func(t testing.TB, k *cmek.Key, _ cmek.Context, plaintext []byte) string {
		blob, err := cmek.Encrypt(k, plaintext)
		return mustValue(hex.EncodeToString(blob[1:]), err)(t)
	},
	"bound": func(t testing.TB, k *cmek.Key, at cmek.Context, plaintext []byte) string {
		return mustValue(cmek.EncryptBoundValue(k, at, plaintext))(t)
	},
}

func mustValue(value string, err error) func(testing.TB) string {
	return func(t testing.TB) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// styleOf names the form and version of a value, from outside.
func styleOf(t testing.TB, value string) string {
	t.Helper()
	info, err := cmek.Inspect(value)
	switch {
	case err != nil:
		t.Fatalf("it is no value: %v", err)
	case info.Form == cmek.FormHex:
		return "hex"
	case info.Version == 2:
		return "bound"
	}
	return "base64"
}

// sealedValues is items with plaintexts under a raw key in the documented form,
// the AAD and path of each its number.
func (r *rig) sealedValues(s *Service, vault string, key []byte, plaintexts ...string) []kmsapi.ReencryptItem {
	r.Helper()
	if _, err := s.primary(ctx, vault); errors.Is(err, fault.NotFound) {
		r.createKEK(s, vault)
	}
	items := make([]kmsapi.ReencryptItem, len(plaintexts))
	for i, plaintext := range plaintexts {
		items[i] = r.item(s, vault, mustValue(cmek.EncryptValue(customerKey(r, key), []byte(plaintext)))(r), fmt.Sprint(i))
	}
	return items
}

// item is value in an envelope of vault's KEK, at path.
func (r *rig) item(s *Service, vault, value, path string) kmsapi.ReencryptItem {
	r.Helper()
	return kmsapi.ReencryptItem{Envelope: r.seal(s, vault, value, "aad "+path), AAD: []byte("aad " + path), NewAAD: []byte("new aad " + path), Path: path}
}

func (r *rig) reencryptAll(s *Service, session string, items ...kmsapi.ReencryptItem) []kmsapi.ReencryptResult {
	r.Helper()
	out, err := s.Reencrypt(ctx, session, items)
	r.must(err)
	if len(out) != len(items) {
		r.Fatalf("%d results of %d items", len(out), len(items))
	}
	return out
}

// inside opens the envelope of a result.
func (r *rig) inside(s *Service, res kmsapi.ReencryptResult, item kmsapi.ReencryptItem) string {
	r.Helper()
	r.must(res.Err)
	value, err := openOne(s, res.Envelope, string(item.NewAAD))
	r.must(err)
	return value
}

func TestAValueComesBackUnderTheNewKeyInItsFormAndVersion(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	rawOld, rawNew := rawKeys()
	old, fresh := customerKey(t, rawOld), customerKey(t, rawNew)
	session := r.openRotation(s, askFor(t, "v", rawOld, rawNew))
	for style, encrypt := range styles {
		for _, plaintext := range []string{"", "x", "ключ🔑", strings.Repeat("long ", 10_000), "\x00\xff"} {
			at := cmek.Context{VaultID: "v", Path: "db/password"}
			before := encrypt(t, old, at, []byte(plaintext))
			item := r.item(s, "v", before, at.Path)
			seen := map[string]bool{before: true, string(item.Envelope.WrappedDEK): true, string(item.Envelope.Ciphertext): true}
			for range 2 { // an answer that was lost is asked for again
				res := r.reencryptAll(s, session, item)[0]
				after := r.inside(s, res, item)
				if res.Opened != kmsapi.OpenedOld || styleOf(t, after) != style || len(after) != len(before) {
					t.Errorf("%s of %d bytes: %s comes back as %s, %d bytes for %d", style, len(plaintext), res.Opened, styleOf(t, after), len(after), len(before))
				}
				if got, err := cmek.DecryptValueAt(fresh, at, after); err != nil || string(got) != plaintext {
					t.Errorf("%s of %d bytes: the new key gives %.20q, %v", style, len(plaintext), got, err)
				}
				if _, err := cmek.DecryptValueAt(old, at, after); !errors.Is(err, cmek.ErrDecrypt) {
					t.Errorf("%s: the old key still opens it: %v", style, err)
				}
				if seen[after] || seen[string(res.Envelope.WrappedDEK)] || seen[string(res.Envelope.Ciphertext)] {
					t.Errorf("%s: nonce or DEK came twice", style)
				}
				seen[after], seen[string(res.Envelope.WrappedDEK)], seen[string(res.Envelope.Ciphertext)] = true, true, true
			}
		}
	}
}

// Nonces are read where FORMAT.md and the envelope say that they lie.
func TestNoNonceSaltOrDEKComesTwice(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	rawOld, rawNew := rawKeys()
	session := r.openRotation(s, askFor(t, "v", rawOld, rawNew))
	seen := map[string]bool{}
	fresh := func(what string, b []byte) {
		if seen[what+string(b)] {
			t.Errorf("a %s came twice", what)
		}
		seen[what+string(b)] = true
	}
	for style, encrypt := range styles {
		value := encrypt(t, customerKey(t, rawOld), cmek.Context{VaultID: "v", Path: "p"}, []byte("x"))
		item := r.item(s, "v", value, "p")
		for _, res := range r.reencryptAll(s, session, slices.Repeat([]kmsapi.ReencryptItem{item}, 100)...) {
			fresh("wrapped DEK", res.Envelope.WrappedDEK)
			fresh("envelope's nonce", res.Envelope.Ciphertext[:12])
			after := r.inside(s, res, item)
			switch style {
			case "base64":
				blob, _ := base64.StdEncoding.DecodeString(after)
				fresh("nonce", blob[1:13])
			case "hex":
				blob, _ := hex.DecodeString(after)
				fresh("nonce", blob[:12])
			case "bound":
				blob, _ := base64.StdEncoding.DecodeString(after)
				fresh("salt", blob[1:33])
			}
		}
	}
}

func TestAValueUnderTheNewKeyStaysAsItIsInAFreshEnvelope(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	rawOld, rawNew := rawKeys()
	session := r.openRotation(s, askFor(t, "v", rawOld, rawNew))
	for style, encrypt := range styles {
		value := encrypt(t, customerKey(t, rawNew), cmek.Context{VaultID: "v", Path: "p"}, []byte("x"))
		item := r.item(s, "v", value, "p")
		res := r.reencryptAll(s, session, item)[0]
		if after := r.inside(s, res, item); res.Opened != kmsapi.OpenedNew || after != value {
			t.Errorf("%s: %q comes back as %q", style, value, after)
		}
		if bytes.Equal(res.Envelope.WrappedDEK, item.Envelope.WrappedDEK) {
			t.Errorf("%s: the DEK is not fresh", style)
		}
	}
}

func TestAValueThatOpensWithNeitherKeyFailsAlone(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	rawOld, rawNew := rawKeys()
	old, other := customerKey(t, rawOld), customerKey(t, bytes.Repeat([]byte{7}, 32))
	session := r.openRotation(s, askFor(t, "v", rawOld, rawNew))
	good := styles["base64"](t, old, cmek.Context{}, []byte("good"))
	at := cmek.Context{VaultID: "v", Path: "p"}
	bound := styles["bound"](t, old, at, []byte("bound"))
	neither := map[string]string{
		"plain text":           "my-secret-value",
		"nothing":              "",
		"base64 of no blob":    "AAAA",
		"an unknown version":   "Aw" + good[2:],
		"a cut value":          good[:len(good)-4],
		"a changed value":      good[:20] + "AAAA" + good[24:],
		"a changed bound one":  bound[:60] + "AAAA" + bound[64:],
		"of another path":      styles["bound"](t, old, cmek.Context{VaultID: "v", Path: "q"}, []byte("x")),
		"of another vault":     styles["bound"](t, old, cmek.Context{VaultID: "w", Path: "p"}, []byte("x")),
		"under a third, bound": styles["bound"](t, other, at, []byte("x")),
		"under a third":        styles["base64"](t, other, at, []byte("x")),
		"under a third, hex":   styles["hex"](t, other, at, []byte("x")),
	}
	for what, value := range neither {
		items := []kmsapi.ReencryptItem{r.item(s, "v", good, "p"), r.item(s, "v", value, "p"), r.item(s, "v", bound, "p")}
		out := r.reencryptAll(s, session, items...)
		if !isFault(out[1].Err, fault.Unopenable, kmsapi.TypeCMEKNeitherKey) || out[1].Opened != "" || out[1].Envelope.Ciphertext != nil {
			t.Errorf("%s: %+v", what, out[1])
		}
		if out[0].Err != nil || out[2].Err != nil {
			t.Errorf("%s: its neighbours fail: %v, %v", what, out[0].Err, out[2].Err)
		}
	}
}

func TestABoundValueIsReencryptedInASessionOfItsVaultAlone(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "kek")
	rawOld, rawNew := rawKeys()
	for _, vault := range []string{"v", "w"} {
		item := r.item(s, "kek", styles["bound"](t, customerKey(t, rawOld), cmek.Context{VaultID: vault, Path: "p"}, []byte("x")), "p")
		for _, of := range []string{"v", "w"} {
			res := r.reencryptAll(s, r.openRotation(s, askFor(t, of, rawOld, rawNew)), item)[0]
			if own := of == vault; own != (res.Err == nil) || !own && !isFault(res.Err, fault.Unopenable, kmsapi.TypeCMEKNeitherKey) {
				t.Errorf("a value of %s in a session of %s: %v", vault, of, res.Err)
			}
		}
	}
}

func TestAnEnvelopeIsReencryptedWithItsOwnPartsAlone(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v", "w")
	rawOld, rawNew := rawKeys()
	session := r.openRotation(s, askFor(t, "v", rawOld, rawNew))
	value := styles["base64"](t, customerKey(t, rawOld), cmek.Context{}, []byte("x"))
	good, other := r.item(s, "v", value, "p"), r.item(s, "w", value, "q")
	for what, c := range map[string]struct {
		change func(*kmsapi.ReencryptItem)
		code   fault.Code
	}{
		"another AAD":           {func(i *kmsapi.ReencryptItem) { i.AAD = other.AAD }, fault.Unopenable},
		"the new AAD":           {func(i *kmsapi.ReencryptItem) { i.AAD = i.NewAAD }, fault.Unopenable},
		"no AAD":                {func(i *kmsapi.ReencryptItem) { i.AAD = nil }, fault.Unopenable},
		"another DEK":           {func(i *kmsapi.ReencryptItem) { i.Envelope.WrappedDEK = other.Envelope.WrappedDEK }, fault.Unopenable},
		"another ciphertext":    {func(i *kmsapi.ReencryptItem) { i.Envelope.Ciphertext = other.Envelope.Ciphertext }, fault.Unopenable},
		"another KEK":           {func(i *kmsapi.ReencryptItem) { i.Envelope.KEKID = "w" }, fault.Unopenable},
		"no such KEK":           {func(i *kmsapi.ReencryptItem) { i.Envelope.KEKID = "no" }, fault.NotFound},
		"no such version":       {func(i *kmsapi.ReencryptItem) { i.Envelope.KEKVersion = 2 }, fault.Unopenable},
		"a KEK of no envelopes": {func(i *kmsapi.ReencryptItem) { i.Envelope.KEKID = kmsapi.ThreadsKEK }, fault.Unopenable},
		"a long new AAD":        {func(i *kmsapi.ReencryptItem) { i.NewAAD = make([]byte, MaxAAD+1) }, fault.TooLarge},
		"nothing":               {func(i *kmsapi.ReencryptItem) { *i = kmsapi.ReencryptItem{} }, fault.NotFound},
	} {
		item := good
		c.change(&item)
		out := r.reencryptAll(s, session, good, item, good)
		if !isFault(out[1].Err, c.code, "") || out[1].Opened != "" || out[1].Envelope.Ciphertext != nil {
			t.Errorf("%s: %+v, want %s", what, out[1], c.code)
		}
		if out[0].Err != nil || out[2].Err != nil {
			t.Errorf("%s: its neighbours fail: %v, %v", what, out[0].Err, out[2].Err)
		}
	}
	res := r.reencryptAll(s, session, good)[0]
	for _, aad := range []string{string(good.AAD), "", "new aad q"} {
		r.mustNotOpen(s, res.Envelope, aad, fault.Unopenable)
	}
	if _, err := s.Reencrypt(ctx, session, make([]kmsapi.ReencryptItem, kmsapi.MaxBatch+1)); !errors.Is(err, fault.TooLarge) {
		t.Errorf("%d items: %v", kmsapi.MaxBatch+1, err)
	}
}

func TestReencryptWrapsUnderThePrimaryAndCountsIt(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(ticking(), audited(a), func(c *Config) { c.SealBlock, c.MaxSeals = 2, 12 })
	rawOld, rawNew := rawKeys()
	items := r.sealedValues(s, "v", rawOld, "a", "b", "c") // 3 wraps by version 1
	r.rotate(s, "v")
	session := r.openRotation(s, askFor(t, "v", rawOld, rawNew))
	n := 0
	for ; n < 12; n += len(items) {
		out := r.reencryptAll(s, session, items...)
		if isFault(out[0].Err, fault.Conflict, "kek_worn_out") {
			break
		}
		for i, res := range out {
			if res.Err == nil && res.Envelope.KEKVersion != 2 {
				t.Errorf("item %d came back under version %d", i, res.Envelope.KEKVersion)
			}
		}
	}
	if n == 0 || n >= 12 {
		t.Errorf("%d wraps before the KEK was worn out", n)
	}
	if res := r.reencryptAll(s, session, items[0])[0]; !isFault(res.Err, fault.Conflict, "kek_worn_out") {
		t.Errorf("past the limit: %v", res.Err)
	}
	keys, err := s.Keys(ctx, kmsapi.KeysQuery{After: "threads"})
	r.must(err)
	if v := keys.KEKs[0].Versions; v[1].Wraps < int64(n) {
		t.Errorf("%d wraps are counted, at least %d were made", v[1].Wraps, n)
	}
}

func TestReencryptAndCloseAndOpenMayMeet(t *testing.T) {
	r := newRig(t)
	s := r.start()
	rawOld, rawNew := rawKeys()
	items := r.sealedValues(s, "v", rawOld, slices.Repeat([]string{"x"}, 20)...)
	o := askFor(t, "v", rawOld, rawNew)
	r.together(8, func(int) error {
		for range 10 {
			session, err := s.OpenCMEKRotation(ctx, o)
			if err != nil {
				return err
			}
			done := make(chan error, 1)
			go func() {
				for {
					out, err := s.Reencrypt(ctx, session, items)
					for _, res := range out {
						err = errors.Join(err, res.Err)
					}
					if err != nil {
						done <- err
						return
					}
				}
			}()
			if err := s.CloseCMEKRotation(ctx, session); err != nil {
				return err
			}
			if err := <-done; !isFault(err, fault.NotFound, kmsapi.TypeCMEKSessionGone) { // and no item failed before
				return err
			}
		}
		return nil
	})
}

func TestWhateverIsSealedIsReencryptedToItself(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	rapid.Check(t, func(rt *rapid.T) {
		rawOld := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "old")
		rawNew := rapid.SliceOfN(rapid.Byte(), 32, 32).Filter(func(b []byte) bool { return !bytes.Equal(b, rawOld) }).Draw(rt, "new")
		session := r.openRotation(s, askFor(t, "v", rawOld, rawNew))
		defer s.CloseCMEKRotation(ctx, session)
		at := cmek.Context{VaultID: "v", Path: rapid.StringN(1, 20, 40).Draw(rt, "path")}
		plaintext := rapid.SliceOfN(rapid.Byte(), 0, 100).Draw(rt, "plaintext")
		style := rapid.SampledFrom([]string{"base64", "hex", "bound"}).Draw(rt, "style")
		item := r.item(s, "v", styles[style](t, customerKey(t, rawOld), at, plaintext), at.Path)
		after := r.inside(s, r.reencryptAll(s, session, item)[0], item)
		if got, err := cmek.DecryptValueAt(customerKey(t, rawNew), at, after); err != nil || !bytes.Equal(got, plaintext) || styleOf(t, after) != style {
			rt.Fatalf("%s: %x, %v", style, got, err)
		}
	})
}
