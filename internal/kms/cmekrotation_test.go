package kms

import (
	"bytes"
	"context"
	"crypto/hpke"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// rawKeys is two customer keys.
func rawKeys() (old, fresh []byte) {
	return bytes.Repeat([]byte("old-cmek"), 4), bytes.Repeat([]byte("new-cmek"), 4)
}

func customerKey(t testing.TB, raw []byte) *cmek.Key {
	t.Helper()
	k, err := cmek.NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// askFor asks for a session of vault with raw keys, by their own fingerprints.
func askFor(t testing.TB, vault string, old, fresh []byte) kmsapi.OpenCMEKRotation {
	t.Helper()
	return kmsapi.OpenCMEKRotation{
		Vault: vault, OldFingerprint: customerKey(t, old).Fingerprint(), NewFingerprint: customerKey(t, fresh).Fingerprint(), Old: old, New: fresh,
	}
}

// sealedTo is o with its keys sealed to a one-time key of s.
func sealedTo(t testing.TB, s *Service, o kmsapi.OpenCMEKRotation) kmsapi.OpenCMEKRotation {
	t.Helper()
	k, err := s.CMEKRotationKey(ctx, o.Owner)
	if err != nil {
		t.Fatal(err)
	}
	o.Sealed = sealPair(t, k, o, append(bytes.Clone(o.Old), o.New...))
	o.Old, o.New = nil, nil
	return o
}

// sealPair seals pair as a client does, which knows only what is published.
func sealPair(t testing.TB, k kmsapi.CMEKRotationKey, o kmsapi.OpenCMEKRotation, pair []byte) kmsapi.SealedKeys {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	kem, err := hpke.NewKEM(0x0010)
	must(err)
	kdf, err := hpke.NewKDF(0x0001)
	must(err)
	suite, err := hpke.NewAEAD(0x0002)
	must(err)
	public, err := kem.NewPublicKey(k.PublicKey)
	must(err)
	info := strings.Join([]string{"keyfold/cmek-rotation/v1", o.Vault, o.OldFingerprint, o.NewFingerprint}, "\n")
	enc, sender, err := hpke.NewSender(public, kdf, suite, []byte(info))
	must(err)
	ciphertext, err := sender.Seal(nil, pair)
	must(err)
	return kmsapi.SealedKeys{KeyID: k.KeyID, Enc: enc, Ciphertext: ciphertext}
}

func (r *rig) openRotation(s *Service, o kmsapi.OpenCMEKRotation) string {
	r.Helper()
	session, err := s.OpenCMEKRotation(ctx, o)
	r.must(err)
	return session
}

func alive(t testing.TB, s *Service, session string) bool {
	t.Helper()
	is, err := s.CMEKRotationAlive(ctx, session)
	if err != nil {
		t.Fatal(err)
	}
	return is
}

// isFault reports whether err has this code and type.
func isFault(err error, code fault.Code, typ string) bool {
	return errors.Is(err, code) && fault.Of(err).Type == typ
}

func sessions(s *Service) int {
	s.rotations.mu.Lock()
	defer s.rotations.mu.Unlock()
	return len(s.rotations.open)
}

func TestASessionOpensWithTheKeysThatItNamesAlone(t *testing.T) {
	r := newRig(t)
	s := r.start()
	old, fresh := rawKeys()
	good := askFor(t, "v", old, fresh)
	for _, c := range []struct {
		what   string
		change func(*kmsapi.OpenCMEKRotation)
		typ    string
		pair   bool // the change is of the keys, and can be sealed
	}{
		{"another old key", func(o *kmsapi.OpenCMEKRotation) { o.Old = bytes.Repeat([]byte{1}, 32) }, kmsapi.TypeCMEKOldKey, true},
		{"another new key", func(o *kmsapi.OpenCMEKRotation) { o.New = bytes.Repeat([]byte{1}, 32) }, kmsapi.TypeCMEKNewKey, true},
		{"swapped keys", func(o *kmsapi.OpenCMEKRotation) { o.Old, o.New = o.New, o.Old }, kmsapi.TypeCMEKOldKey, true},
		{"the old key twice", func(o *kmsapi.OpenCMEKRotation) { o.New = o.Old }, kmsapi.TypeCMEKNewKey, true},
		{"one key as both", func(o *kmsapi.OpenCMEKRotation) { o.New, o.NewFingerprint = o.Old, o.OldFingerprint }, kmsapi.TypeCMEKNewKey, true},
		{"one bit of the old key", func(o *kmsapi.OpenCMEKRotation) { o.Old = bytes.Clone(o.Old); o.Old[31] ^= 1 }, kmsapi.TypeCMEKOldKey, true},
		{"the old key's check", func(o *kmsapi.OpenCMEKRotation) { o.NewKeyCheck = customerKey(t, old).Check("v") }, kmsapi.TypeCMEKKeyCheck, true},
		{"another vault's check", func(o *kmsapi.OpenCMEKRotation) { o.NewKeyCheck = customerKey(t, fresh).Check("w") }, kmsapi.TypeCMEKKeyCheck, true},
		{"a check that is none", func(o *kmsapi.OpenCMEKRotation) { o.NewKeyCheck = "x" }, kmsapi.TypeCMEKKeyCheck, true},
		{"a short old key", func(o *kmsapi.OpenCMEKRotation) { o.Old = o.Old[:31] }, kmsapi.TypeCMEKOldKey, false},
		{"a long new key", func(o *kmsapi.OpenCMEKRotation) { o.New = append(bytes.Clone(o.New), 0) }, kmsapi.TypeCMEKNewKey, false},
		{"an AES-128 key", func(o *kmsapi.OpenCMEKRotation) { o.New = o.New[:16] }, kmsapi.TypeCMEKNewKey, false},
		{"no old key", func(o *kmsapi.OpenCMEKRotation) { o.Old = nil }, kmsapi.TypeCMEKOldKey, false},
		{"no keys", func(o *kmsapi.OpenCMEKRotation) { o.Old, o.New = nil, nil }, kmsapi.TypeCMEKOldKey, false},
		{"no vault", func(o *kmsapi.OpenCMEKRotation) { o.Vault = "" }, "", true},
		{"a vault of two lines", func(o *kmsapi.OpenCMEKRotation) { o.Vault = "v\n" + o.OldFingerprint }, "", true},
		{"no old fingerprint", func(o *kmsapi.OpenCMEKRotation) { o.OldFingerprint = "" }, "", true},
		{"a fingerprint in capitals", func(o *kmsapi.OpenCMEKRotation) { o.NewFingerprint = strings.ToUpper(o.NewFingerprint) }, "", true},
		{"keys given twice", func(o *kmsapi.OpenCMEKRotation) { *o = sealedTo(t, s, *o); o.Old = old }, "", false},
		{"sealed keys to no key", func(o *kmsapi.OpenCMEKRotation) { *o = sealedTo(t, s, *o); o.Sealed.KeyID = "" }, "", false},
	} {
		o := good
		c.change(&o)
		if session, err := s.OpenCMEKRotation(ctx, o); session != "" || !isFault(err, fault.Invalid, c.typ) {
			t.Errorf("%s, raw: %q, %v", c.what, session, err)
		}
		if !c.pair {
			continue
		}
		if session, err := s.OpenCMEKRotation(ctx, sealedTo(t, s, o)); session != "" || !isFault(err, fault.Invalid, c.typ) {
			t.Errorf("%s, sealed: %q, %v", c.what, session, err)
		}
	}
	if n := sessions(s); n != 0 {
		t.Errorf("%d sessions are open", n)
	}
	checked := good
	checked.NewKeyCheck = customerKey(t, fresh).Check("v")
	for _, o := range []kmsapi.OpenCMEKRotation{good, sealedTo(t, s, good), checked, sealedTo(t, s, checked)} {
		if session := r.openRotation(s, o); !alive(t, s, session) {
			t.Error("a session does not live")
		}
	}
}

func TestSealedKeysOpenForTheirVaultAndFingerprintsAlone(t *testing.T) {
	r := newRig(t)
	s := r.start()
	old, fresh := rawKeys()
	good := askFor(t, "v", old, fresh)
	third := customerKey(t, bytes.Repeat([]byte{3}, 32)).Fingerprint()
	for what, change := range map[string]func(*kmsapi.OpenCMEKRotation){
		"another vault":           func(o *kmsapi.OpenCMEKRotation) { o.Vault = "w" },
		"another old fingerprint": func(o *kmsapi.OpenCMEKRotation) { o.OldFingerprint = third },
		"another new fingerprint": func(o *kmsapi.OpenCMEKRotation) { o.NewFingerprint = third },
		"swapped fingerprints": func(o *kmsapi.OpenCMEKRotation) {
			o.OldFingerprint, o.NewFingerprint = o.NewFingerprint, o.OldFingerprint
		},
		"another one-time key":        func(o *kmsapi.OpenCMEKRotation) { o.Sealed.KeyID = sealedTo(t, s, good).Sealed.KeyID },
		"another encapsulated key":    func(o *kmsapi.OpenCMEKRotation) { o.Sealed.Enc = sealedTo(t, s, good).Sealed.Enc },
		"no encapsulated key":         func(o *kmsapi.OpenCMEKRotation) { o.Sealed.Enc = nil },
		"no ciphertext":               func(o *kmsapi.OpenCMEKRotation) { o.Sealed.Ciphertext = nil },
		"a ciphertext and one byte":   func(o *kmsapi.OpenCMEKRotation) { o.Sealed.Ciphertext = append(o.Sealed.Ciphertext, 0) },
		"one key alone":               func(o *kmsapi.OpenCMEKRotation) { *o = reseal(t, s, *o, old) },
		"two keys and one byte":       func(o *kmsapi.OpenCMEKRotation) { *o = reseal(t, s, *o, append(append(bytes.Clone(old), fresh...), 0)) },
		"nothing, sealed":             func(o *kmsapi.OpenCMEKRotation) { *o = reseal(t, s, *o, nil) },
		"a flipped bit at the front":  func(o *kmsapi.OpenCMEKRotation) { o.Sealed.Ciphertext[0] ^= 1 },
		"a flipped bit of the tag":    func(o *kmsapi.OpenCMEKRotation) { o.Sealed.Ciphertext[79] ^= 1 },
		"a point that is not on P256": func(o *kmsapi.OpenCMEKRotation) { o.Sealed.Enc[64] ^= 1 },
	} {
		o := sealedTo(t, s, good)
		change(&o)
		session, err := s.OpenCMEKRotation(ctx, o)
		if session != "" || !isFault(err, fault.Invalid, kmsapi.TypeCMEKSealedKeys) {
			t.Errorf("%s: %q, %v", what, session, err)
		}
		if _, err := s.OpenCMEKRotation(ctx, o); !isFault(err, fault.Invalid, kmsapi.TypeCMEKKeyGone) {
			t.Errorf("%s: the one-time key is still there after it: %v", what, err)
		}
	}
}

// reseal is o with something else sealed as its keys.
func reseal(t testing.TB, s *Service, o kmsapi.OpenCMEKRotation, pair []byte) kmsapi.OpenCMEKRotation {
	t.Helper()
	k, err := s.CMEKRotationKey(ctx, o.Owner)
	if err != nil {
		t.Fatal(err)
	}
	o.Sealed = sealPair(t, k, o, pair)
	return o
}

func TestAOneTimeKeyServesOnceAndOnlyInItsProcess(t *testing.T) {
	r := newRig(t)
	s := r.start()
	old, fresh := rawKeys()
	o := sealedTo(t, s, askFor(t, "v", old, fresh))
	if _, err := r.start().OpenCMEKRotation(ctx, o); !isFault(err, fault.Invalid, kmsapi.TypeCMEKKeyGone) {
		t.Errorf("in another process: %v", err)
	}
	r.openRotation(s, o)
	if _, err := s.OpenCMEKRotation(ctx, o); !isFault(err, fault.Invalid, kmsapi.TypeCMEKKeyGone) {
		t.Errorf("used twice: %v", err)
	}
}

func TestTheSameOneTimeKeyUsedAtOnceServesOnce(t *testing.T) {
	r := newRig(t)
	s := r.start()
	old, fresh := rawKeys()
	o := sealedTo(t, s, askFor(t, "v", old, fresh))
	opened := make(chan bool, 8)
	r.together(cap(opened), func(int) error {
		_, err := s.OpenCMEKRotation(ctx, o)
		opened <- err == nil
		if err != nil && !isFault(err, fault.Invalid, kmsapi.TypeCMEKKeyGone) {
			return err
		}
		return nil
	})
	n := 0
	for range cap(opened) {
		if <-opened {
			n++
		}
	}
	if n != 1 || sessions(s) != 1 {
		t.Errorf("it served %d times; %d sessions", n, sessions(s))
	}
}

// inBubble runs f with a Service whose time is the bubble's.
func inBubble(t *testing.T, f func(r *rig, s *Service)) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.start(func(c *Config) { c.Now = time.Now })
		defer s.Close()
		f(r, s)
	})
}

func TestAOneTimeKeyLivesTenMinutes(t *testing.T) {
	inBubble(t, func(r *rig, s *Service) {
		old, fresh := rawKeys()
		o := askFor(r, "v", old, fresh)
		first, second := sealedTo(r, s, o), sealedTo(r, s, o)
		k, err := s.CMEKRotationKey(ctx, "")
		r.must(err)
		if left := time.Until(k.Expires); left != 10*time.Minute || k.Suite != "DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM" || len(k.PublicKey) != 65 {
			r.Errorf("%+v: %v left", k, left)
		}
		time.Sleep(10*time.Minute - time.Nanosecond)
		synctest.Wait()
		r.openRotation(s, first)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if _, err := s.OpenCMEKRotation(ctx, second); !isFault(err, fault.Invalid, kmsapi.TypeCMEKKeyGone) {
			r.Errorf("after ten minutes: %v", err)
		}
		if n := len(s.rotations.keys); n != 0 {
			r.Errorf("%d keys are kept", n)
		}
	})
}

func TestOfAThousandOneTimeKeysTheOldestMakesRoom(t *testing.T) {
	inBubble(t, func(r *rig, s *Service) {
		old, fresh := rawKeys()
		o := askFor(r, "v", old, fresh)
		first := sealedTo(r, s, o)
		time.Sleep(time.Nanosecond)
		second := sealedTo(r, s, o)
		for range maxRotationKeys - 1 {
			time.Sleep(time.Nanosecond)
			_, err := s.CMEKRotationKey(ctx, "")
			r.must(err)
		}
		if n := len(s.rotations.keys); n != 1000 {
			r.Errorf("%d keys are kept", n)
		}
		if _, err := s.OpenCMEKRotation(ctx, first); !isFault(err, fault.Invalid, kmsapi.TypeCMEKKeyGone) {
			r.Errorf("the oldest: %v", err)
		}
		r.openRotation(s, second)
	})
}

func TestASessionEndsAfterTenIdleMinutesAndIsKeptByUseAlone(t *testing.T) {
	inBubble(t, func(r *rig, s *Service) {
		old, fresh := rawKeys()
		session := r.openRotation(s, askFor(r, "v", old, fresh))
		keys := s.rotations.open[session]
		for range 5 {
			time.Sleep(9 * time.Minute)
			_, err := s.Reencrypt(ctx, session, nil)
			r.must(err)
		}
		time.Sleep(10*time.Minute - time.Nanosecond)
		synctest.Wait()
		if !alive(r, s, session) { // to ask does not keep it
			r.Error("it ended before its time")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		mustBeWiped(r, keys)
		if _, err := s.Reencrypt(ctx, session, nil); alive(r, s, session) || !isFault(err, fault.NotFound, kmsapi.TypeCMEKSessionGone) {
			r.Errorf("after ten minutes: %v", err)
		}
	})
}

func mustBeWiped(t testing.TB, keys *cmekRotation) {
	t.Helper()
	keys.mu.RLock()
	defer keys.mu.RUnlock()
	if keys.old.Bytes() != nil || keys.fresh.Bytes() != nil {
		t.Error("the raw keys are still in memory")
	}
	if _, err := cmek.Encrypt(keys.old, nil); err == nil {
		t.Error("the old key still works")
	}
	if _, err := cmek.Encrypt(keys.fresh, nil); err == nil {
		t.Error("the new key still works")
	}
}

func TestASessionIsGoneOnceClosedAndAfterARestart(t *testing.T) {
	r := newRig(t)
	s := r.start()
	old, fresh := rawKeys()
	o := askFor(t, "v", old, fresh)
	closed, left := r.openRotation(s, o), r.openRotation(s, o)
	keys, others := s.rotations.open[closed], s.rotations.open[left]
	for range 2 {
		r.must(s.CloseCMEKRotation(ctx, closed))
	}
	r.must(s.CloseCMEKRotation(ctx, "no such session"))
	mustBeWiped(t, keys)
	again := r.start()
	for _, c := range []struct {
		s       *Service
		session string
	}{{s, closed}, {again, left}, {s, ""}, {s, "no such session"}} {
		if _, err := c.s.Reencrypt(ctx, c.session, []kmsapi.ReencryptItem{{}}); !isFault(err, fault.NotFound, kmsapi.TypeCMEKSessionGone) || alive(t, c.s, c.session) {
			t.Errorf("%q: %v", c.session, err)
		}
	}
	if !alive(t, s, left) {
		t.Error("the other session does not live")
	}
	s.Close()
	mustBeWiped(t, others)
	if _, err := s.Reencrypt(ctx, left, nil); !errors.Is(err, fault.Unavailable) {
		t.Errorf("Reencrypt after Close: %v", err)
	}
	if _, err := s.OpenCMEKRotation(ctx, o); !errors.Is(err, fault.Unavailable) {
		t.Errorf("OpenCMEKRotation after Close: %v", err)
	}
	if _, err := s.CMEKRotationKey(ctx, ""); !errors.Is(err, fault.Unavailable) {
		t.Errorf("CMEKRotationKey after Close: %v", err)
	}
}

func TestASessionIsWipedOnlyOnceNoCallUsesIt(t *testing.T) {
	r := newRig(t)
	s := r.start()
	old, fresh := rawKeys()
	session := r.openRotation(s, askFor(t, "v", old, fresh))
	inUse, err := s.useCMEKRotation(session)
	r.must(err)
	closed := make(chan error, 1)
	go func() { closed <- s.CloseCMEKRotation(ctx, session) }()
	for alive(t, s, session) {
		runtime.Gosched()
	}
	if _, err := s.useCMEKRotation(session); !isFault(err, fault.NotFound, kmsapi.TypeCMEKSessionGone) {
		t.Errorf("a call that begins after it: %v", err)
	}
	for range 1000 {
		runtime.Gosched()
		if len(closed) != 0 || inUse.old.Bytes() == nil {
			t.Fatal("it was wiped under a call")
		}
	}
	inUse.release()
	r.must(<-closed)
	mustBeWiped(t, inUse)
}

func TestACallThatFoundItsSessionJustBeforeItWasWipedHasNoKeys(t *testing.T) {
	r := newRig(t)
	s := r.start()
	old, fresh := rawKeys()
	session := r.openRotation(s, askFor(t, "v", old, fresh))
	s.rotations.open[session].wipe() // and found there all the same
	if _, err := s.Reencrypt(ctx, session, nil); !isFault(err, fault.NotFound, kmsapi.TypeCMEKSessionGone) {
		t.Error(err)
	}
}

func TestTheHundredAndFirstSessionWaits(t *testing.T) {
	r := newRig(t)
	s := r.start()
	old, fresh := rawKeys()
	o := askFor(t, "v", old, fresh)
	var first string
	for i := range 100 {
		if session := r.openRotation(s, o); i == 0 {
			first = session
		}
	}
	if _, err := s.OpenCMEKRotation(ctx, o); !isFault(err, fault.Unavailable, kmsapi.TypeCMEKFull) {
		t.Errorf("the 101st: %v", err)
	}
	r.must(s.CloseCMEKRotation(ctx, first))
	r.openRotation(s, o)
}

func TestOneOwnerHasAShareOfTheSessions(t *testing.T) {
	r := newRig(t)
	s := r.start()
	old, fresh := rawKeys()
	mine := askFor(t, "v", old, fresh)
	others := mine
	mine.Owner, others.Owner = "org-1", "org-2"
	first := r.openRotation(s, mine)
	for range 9 {
		r.openRotation(s, mine)
	}
	for _, o := range []kmsapi.OpenCMEKRotation{mine, sealedTo(t, s, mine)} {
		if _, err := s.OpenCMEKRotation(ctx, o); !isFault(err, fault.TooMany, kmsapi.TypeCMEKShare) {
			t.Errorf("the 11th: %v", err)
		}
	}
	r.openRotation(s, others)
	r.must(s.CloseCMEKRotation(ctx, first))
	r.openRotation(s, mine)
	mine.Owner = "no\nID"
	if _, err := s.OpenCMEKRotation(ctx, mine); !isFault(err, fault.Invalid, "") {
		t.Errorf("an owner that is no ID: %v", err)
	}
}

func TestOneOwnerHasAShareOfTheOneTimeKeys(t *testing.T) {
	inBubble(t, func(r *rig, s *Service) {
		old, fresh := rawKeys()
		o := askFor(r, "v", old, fresh)
		o.Owner = "org-1"
		used := sealedTo(r, s, o)
		for range 99 {
			_, err := s.CMEKRotationKey(ctx, "org-1")
			r.must(err)
		}
		full := func(what string) {
			r.Helper()
			if _, err := s.CMEKRotationKey(ctx, "org-1"); !isFault(err, fault.TooMany, kmsapi.TypeCMEKShare) {
				r.Errorf("%s: %v", what, err)
			}
		}
		full("the 101st")
		for _, other := range []string{"org-2", ""} {
			_, err := s.CMEKRotationKey(ctx, other)
			r.must(err)
		}
		r.openRotation(s, used)
		_, err := s.CMEKRotationKey(ctx, "org-1")
		r.must(err)
		full("the one after that which was used")
		time.Sleep(rotationKeyLife)
		synctest.Wait()
		_, err = s.CMEKRotationKey(ctx, "org-1")
		r.must(err)
		if _, err := s.CMEKRotationKey(ctx, "no\nID"); !isFault(err, fault.Invalid, "") {
			r.Errorf("an owner that is no ID: %v", err)
		}
	})
}

func TestTheAuditHearsOfSessionsByNamesAlone(t *testing.T) {
	a := &recorder{}
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		s := r.start(audited(a))
		old, fresh := rawKeys()
		o := askFor(t, "v", old, fresh)
		by := WithActor(context.Background(), "cert:server")
		first, err := s.OpenCMEKRotation(by, o)
		r.must(err)
		_, err = s.Reencrypt(by, first, r.sealedValues(s, "v", old, "one", "two"))
		r.must(err)
		r.must(s.CloseCMEKRotation(by, first))
		second := r.openRotation(s, sealedTo(t, s, o))
		time.Sleep(11 * time.Minute)
		third := r.openRotation(s, o)
		s.Close()
		detail := func(session string, more string) string {
			return fmt.Sprintf("map[new_fingerprint:%s old_fingerprint:%s%s]", o.NewFingerprint, o.OldFingerprint, fmt.Sprintf(more, session))
		}
		want := []string{
			"cmek_rotation.open v cert:server " + detail(first, " sealed:false session:%s"),
			"cmek_rotation.close v cert:server " + detail(first, " reencrypted:2 session:%s why:closed"),
			"cmek_rotation.open v process " + detail(second, " sealed:true session:%s"),
			"cmek_rotation.close v process " + detail(second, " reencrypted:0 session:%s why:idle"),
			"cmek_rotation.open v process " + detail(third, " sealed:false session:%s"),
			"cmek_rotation.close v process " + detail(third, " reencrypted:0 session:%s why:exit"),
		}
		var got []string
		for _, e := range a.events {
			if strings.HasPrefix(e.Action, "cmek_rotation.") {
				got = append(got, fmt.Sprintf("%s %s %s %v", e.Action, e.Target, e.Actor, e.Detail))
			}
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("the audit has\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
}

func TestASessionThatCannotBeAuditedDoesNotOpen(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(audited(a))
	old, fresh := rawKeys()
	o := askFor(t, "v", old, fresh)
	session := r.openRotation(s, o)
	keys := s.rotations.open[session]
	a.set(true)
	for _, o := range []kmsapi.OpenCMEKRotation{o, sealedTo(t, s, o)} {
		if _, err := s.OpenCMEKRotation(ctx, o); !errors.Is(err, fault.Unavailable) || sessions(s) != 1 {
			t.Errorf("%v; %d sessions", err, sessions(s))
		}
	}
	r.must(s.CloseCMEKRotation(ctx, session)) // but keys end in any case
	mustBeWiped(t, keys)
}
