//go:build cgo && !windows

package pkcs11root

import (
	"bytes"
	"crypto/rand"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/miekg/pkcs11"
)

var kekA = keyring.Name{KEKID: "a", Version: 1}

// spy hands on every call and lets a test look at, or change, what matters.
type spy struct {
	cryptoki
	encrypted  func(iv, out []byte, ivLen int, n int, err error) (int, int, error)
	decrypted  func(out []byte, n int, err error) (int, error)
	attributes func([]*pkcs11.Attribute, error) ([]*pkcs11.Attribute, error)

	mu    sync.Mutex
	ivs   [][]byte
	calls map[string]int
}

func (s *spy) over(lib cryptoki) cryptoki {
	s.cryptoki, s.calls = lib, map[string]int{}
	return s
}

func (s *spy) count(call string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[call]++
}

func (s *spy) login(h session, pin []byte) error {
	s.count("login")
	return s.cryptoki.login(h, pin)
}

func (s *spy) GetSlotList(present bool) ([]uint, error) {
	s.count("slots")
	return s.cryptoki.GetSlotList(present)
}

func (s *spy) FindObjectsInit(h session, a []*pkcs11.Attribute) error {
	s.count("search")
	return s.cryptoki.FindObjectsInit(h, a)
}

func (s *spy) GetAttributeValue(h session, o object, a []*pkcs11.Attribute) ([]*pkcs11.Attribute, error) {
	got, err := s.cryptoki.GetAttributeValue(h, o, a)
	if s.attributes != nil {
		return s.attributes(got, err)
	}
	return got, err
}

func (s *spy) encrypt(h session, key object, iv, aad, in, out []byte) (int, int, error) {
	s.count("encrypt")
	s.mu.Lock()
	s.ivs = append(s.ivs, bytes.Clone(iv))
	s.mu.Unlock()
	ivLen, n, err := s.cryptoki.encrypt(h, key, iv, aad, in, out)
	if s.encrypted != nil {
		return s.encrypted(iv, out, ivLen, n, err)
	}
	return ivLen, n, err
}

func (s *spy) decrypt(h session, key object, iv, aad, in, out []byte) (int, error) {
	s.count("decrypt")
	n, err := s.cryptoki.decrypt(h, key, iv, aad, in, out)
	if s.decrypted != nil {
		return s.decrypted(out, n, err)
	}
	return n, err
}

func TestEveryNonceIsTwelveFreshBytesOfOurs(t *testing.T) {
	h, s := newHSM(t), &spy{}
	k, _ := h.kek(h.openOver(s.over), kekA)
	k.Unwrap(make([]byte, wrappedSize), aad) // which has the proof made
	var mu sync.Mutex
	var all [][]byte
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 250 {
				w, err := k.Wrap(dek, aad)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				all = append(all, w)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	given := map[string]bool{}
	for _, iv := range s.ivs {
		if len(iv) != 12 || given[string(iv)] || bytes.Equal(iv, make([]byte, 12)) {
			t.Fatalf("the token was given the nonce %x", iv)
		}
		given[string(iv)] = true
	}
	if len(given) < 2000 {
		t.Fatalf("%d nonces for 2000 wraps", len(given))
	}
	parts := map[string]bool{}
	for _, w := range all {
		if !given[string(w[:12])] {
			t.Fatal("what is stored does not begin with the nonce that was used")
		}
		for _, part := range [][]byte{w[:12], w[12:28], w[28:44], w[44:]} {
			if parts[string(part)] {
				t.Fatal("two wraps of one DEK have a part in common")
			}
			parts[string(part)] = true
		}
	}
}

func TestATokensOwnNonceIsReadBackAndStored(t *testing.T) {
	h, s := newHSM(t), &spy{}
	r := h.openOver(s.over)
	k, _ := h.kek(r, kekA)
	lib := s.cryptoki
	s.cryptoki = ownNonce{lib}
	w := h.wrap(k)
	if bytes.Equal(w[:12], s.ivs[len(s.ivs)-1]) {
		t.Fatal("the nonce that we gave is stored, not the one that was used")
	}
	h.mustUnwrap(k, w)
}

// oneNonce is a token that uses the same nonce always.
type oneNonce struct {
	cryptoki
	writes bool // it into the one it was given
}

func (o oneNonce) encrypt(h session, key object, iv, aad, in, out []byte) (int, int, error) {
	one := []byte("twelve bytes")
	if o.writes {
		copy(iv, one)
	}
	return o.cryptoki.encrypt(h, key, one, aad, in, out)
}

func (o oneNonce) decrypt(h session, key object, iv, aad, in, out []byte) (int, error) {
	if !o.writes {
		iv = []byte("twelve bytes")
	}
	return o.cryptoki.decrypt(h, key, iv, aad, in, out)
}

// noAAD is a token that passes over the AAD.
type noAAD struct{ cryptoki }

func (n noAAD) encrypt(h session, key object, iv, _, in, out []byte) (int, int, error) {
	return n.cryptoki.encrypt(h, key, iv, nil, in, out)
}

func (n noAAD) decrypt(h session, key object, iv, _, in, out []byte) (int, error) {
	return n.cryptoki.decrypt(h, key, iv, nil, in, out)
}

// shortTag is a token that takes any last byte of a tag.
type shortTag struct {
	cryptoki
	made [][]byte
}

func (s *shortTag) encrypt(h session, key object, iv, aad, in, out []byte) (int, int, error) {
	ivLen, n, err := s.cryptoki.encrypt(h, key, iv, aad, in, out)
	s.made = append(s.made, bytes.Clone(out[:n]))
	return ivLen, n, err
}

func (s *shortTag) decrypt(h session, key object, iv, aad, in, out []byte) (int, error) {
	for _, m := range s.made {
		if bytes.Equal(m[:len(m)-1], in[:len(m)-1]) {
			in = m
		}
	}
	return s.cryptoki.decrypt(h, key, iv, aad, in, out)
}

// ownNonce is a token that does not use the nonce it is given.
type ownNonce struct{ cryptoki }

func (o ownNonce) encrypt(h session, key object, iv, aad, in, out []byte) (int, int, error) {
	rand.Read(iv)
	return o.cryptoki.encrypt(h, key, iv, aad, in, out)
}

func TestAnUnfitTokenIsRefusedAtStart(t *testing.T) {
	h := newHSM(t)
	liars := map[string]*spy{
		"writes a nonce of zeros": {encrypted: func(iv, _ []byte, l, n int, err error) (int, int, error) { clear(iv); return l, n, err }},
		"writes one nonce always": {encrypted: func(iv, _ []byte, l, n int, err error) (int, int, error) { copy(iv, "constant12345"); return l, n, err }},
		"uses an empty nonce":     {encrypted: func(_, _ []byte, l, n int, err error) (int, int, error) { return 0, n, err }},
		"makes a short tag":       {encrypted: func(_, _ []byte, l, n int, err error) (int, int, error) { return l, n - 4, err }},
		"gives back other bytes":  {decrypted: func(out []byte, n int, err error) (int, error) { out[3] ^= 1; return n, err }},
		"does not check":          {decrypted: func([]byte, int, error) (int, error) { return 32, nil }},
		"leaves out an attribute": {attributes: func(a []*pkcs11.Attribute, err error) ([]*pkcs11.Attribute, error) { a[0].Value = nil; return a, err }},
	}
	for i, w := range wanted {
		liars["key with another "+w.name] = &spy{attributes: func(a []*pkcs11.Attribute, err error) ([]*pkcs11.Attribute, error) {
			if len(a) == len(wanted) {
				a[i].Value = []byte{1 - a[i].Value[0]}
			}
			return a, err
		}}
	}
	tokens := map[string]func(cryptoki) cryptoki{
		"does not bind the AAD":           func(lib cryptoki) cryptoki { return noAAD{lib} },
		"looks at a part of the tag":      func(lib cryptoki) cryptoki { return &shortTag{lib, nil} },
		"uses one nonce and says so":      func(lib cryptoki) cryptoki { return oneNonce{lib, true} },
		"uses one nonce and says nothing": func(lib cryptoki) cryptoki { return oneNonce{lib, false} },
	}
	for name, s := range liars {
		tokens[name] = s.over
	}
	for name, over := range tokens {
		if r, err := open(h.config, over); err == nil {
			r.Wipe()
			t.Errorf("%s: it is taken as a root", name)
		} else if !strings.Contains(err.Error(), "not fit to be a root") {
			t.Errorf("%s: %v", name, err)
		}
	}
	h.open() // and an honest one is not
}

func TestAKEKIsMadeInsideTheTokenAndCannotLeaveIt(t *testing.T) {
	h := newHSM(t)
	r := h.open()
	k, _ := h.kek(r, kekA)
	lib, s := r.mod.lib.(*library), r.conn.all[0]
	handle, err := r.find(r.conn, s, k.(*kek).id)
	h.must(err)
	for attr, want := range map[uint]byte{
		pkcs11.CKA_SENSITIVE: 1, pkcs11.CKA_EXTRACTABLE: 0, pkcs11.CKA_ALWAYS_SENSITIVE: 1, pkcs11.CKA_NEVER_EXTRACTABLE: 1, pkcs11.CKA_LOCAL: 1,
		pkcs11.CKA_TOKEN: 1, pkcs11.CKA_PRIVATE: 1, pkcs11.CKA_WRAP: 0, pkcs11.CKA_UNWRAP: 0, pkcs11.CKA_MODIFIABLE: 0, pkcs11.CKA_COPYABLE: 0,
		pkcs11.CKA_ENCRYPT: 1, pkcs11.CKA_DECRYPT: 1, pkcs11.CKA_VALUE_LEN: 32,
	} {
		got, err := lib.GetAttributeValue(s, handle, []*pkcs11.Attribute{pkcs11.NewAttribute(attr, nil)})
		if err != nil || got[0].Value[0] != want {
			t.Errorf("attribute %#x: %v, %v; want %d", attr, got, err, want)
		}
	}
	value := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)}
	if _, err := lib.GetAttributeValue(s, handle, value); !errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_SENSITIVE)) {
		t.Errorf("its value can be asked for: %v", err)
	}
	weaker := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, true)}
	if err := lib.SetAttributeValue(s, handle, weaker); err == nil {
		t.Error("it can be made extractable")
	}
	if _, err := lib.CopyObject(s, handle, weaker); err == nil {
		t.Error("it can be copied")
	}
}

func TestAnImportedKeyIsNoKEK(t *testing.T) {
	h := newHSM(t)
	r := h.open()
	stored := bytes.Repeat([]byte{1}, nameSize)
	_, err := r.mod.lib.(*library).CreateObject(r.conn.all[0], []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true), pkcs11.NewAttribute(pkcs11.CKA_VALUE, dek),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
		pkcs11.NewAttribute(pkcs11.CKA_ID, objectID(kekA, stored)),
	})
	h.must(err)
	if k, err := r.LoadKEK(ctx, kekA, stored); k != nil || !errors.Is(err, aead.ErrOpen) {
		t.Errorf("a key that somebody knows is loaded as a KEK: %v", err)
	}
}

func TestAWrongTagIsNotTakenForAnOutageNorTheReverse(t *testing.T) {
	h, s := newHSM(t), &spy{}
	r := h.openOver(s.over)
	k, _ := h.kek(r, kekA)
	w := h.wrap(k)
	logins := s.calls["login"]
	bad := bytes.Clone(w)
	bad[20] ^= 1
	for range 50 {
		if got, err := k.Unwrap(bad, aad); got != nil || !errors.Is(err, aead.ErrOpen) || errors.Is(err, fault.Unavailable) {
			t.Fatalf("a changed byte: %v", err)
		}
	}
	if s.calls["login"] != logins {
		t.Error("what does not open makes the KMS log in again")
	}
	if n := s.calls["encrypt"]; n > 5 {
		t.Errorf("failures use up nonces of the KEK: %d wraps", n)
	}
	s.decrypted = func([]byte, int, error) (int, error) { return 0, pkcs11.Error(pkcs11.CKR_GENERAL_ERROR) }
	_, err := k.Unwrap(w, aad)
	h.mustBeAway("a token that unwraps nothing at all", err)
	s.decrypted = nil
	s.encrypted = func(iv, out []byte, ivLen, n int, err error) (int, int, error) {
		return 0, 0, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)
	}
	_, err = k.Wrap(dek, aad)
	h.mustBeAway("a token that wraps nothing", err)
	s.encrypted = nil
	h.mustUnwrap(k, w)
}

func TestAWrapIsOneCallOfTheTokenHoweverManyKEKsThereAre(t *testing.T) {
	h, s := newHSM(t), &spy{}
	r := h.openOver(s.over)
	n := 50
	if os.Getenv("KEYFOLD_LONG") != "" {
		n = 500
	}
	stored := make([][]byte, n)
	for i := range stored {
		var err error
		stored[i], err = r.MakeKEK(ctx, keyring.Name{KEKID: "v", Version: uint32(i + 1)})
		h.must(err)
	}
	r.Wipe()
	s = &spy{}
	r = h.openOver(s.over)
	searches := s.calls["search"]
	for i, st := range stored {
		k, err := r.LoadKEK(ctx, keyring.Name{KEKID: "v", Version: uint32(i + 1)}, st)
		h.must(err)
		before := s.calls["encrypt"]
		w := h.wrap(k)
		if s.calls["encrypt"] != before+1 {
			t.Fatalf("a wrap is %d calls", s.calls["encrypt"]-before)
		}
		h.mustUnwrap(k, w)
	}
	if s.calls["search"] != searches || searches != 1 {
		t.Errorf("%d searches for %d KEKs, %d of them at start; want one in all", s.calls["search"], n, searches)
	}
}
