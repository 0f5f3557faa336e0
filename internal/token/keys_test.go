package token

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// kid is the key that signed a token.
func kid(text string) string {
	var h struct{ Kid string }
	if err := json.Unmarshal(decoded(strings.Split(text, ".")[0]), &h); err != nil {
		panic(err)
	}
	return h.Kid
}

func (w *world) rotate(s *Service) {
	w.t.Helper()
	if err := s.Rotate(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// shown is the IDs of the keys of the JWKS, oldest first.
func (w *world) shown(s *Service) (ids []string) {
	w.t.Helper()
	set, err := s.JWKS(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, k := range set.Keys {
		raw := decoded(k.X)
		if k.KeyType != "OKP" || k.Curve != "Ed25519" || k.Use != "sig" || k.Algorithm != "EdDSA" || len(raw) != 32 || k.KeyID != thumbprint(raw) {
			w.t.Errorf("%+v", k)
		}
		ids = append(ids, k.KeyID)
	}
	return ids
}

func TestAThumbprintIsThatOfTheRFC(t *testing.T) { // RFC 8037, appendix A.3
	if got := thumbprint(decoded("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")); got != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Error(got)
	}
}

func TestThePublicKeyVerifiesWhatIsSignedNow(t *testing.T) {
	w := newWorld(t)
	shown, err := w.PublicKey(t.Context()) // which makes the first key
	if err != nil || shown.Algorithm != "EdDSA" {
		t.Fatal(shown, err)
	}
	raw, err := base64.StdEncoding.DecodeString(shown.PublicKey)
	if err != nil || len(raw) != ed25519.PublicKeySize {
		t.Fatal(raw, err)
	}
	text := w.issue(w.another(), time.Hour)
	at := strings.LastIndexByte(text, '.')
	if !ed25519.Verify(raw, []byte(text[:at]), decoded(text[at+1:])) {
		t.Error("it does not verify")
	}
	w.rotate(w.Service)
	if again, _ := w.PublicKey(t.Context()); again != shown {
		t.Error("a key that does not sign yet is shown as the one that does")
	}
	w.pass(publish)
	if again, _ := w.PublicKey(t.Context()); again == shown {
		t.Error("the new key is not shown")
	}
}

func TestARotationIsPublishedBeforeItSignsAndOutlivesNoToken(t *testing.T) {
	w := newWorld(t)
	other := w.another()
	old := w.issue(w.Service, MaxTTL)
	w.rotate(w.Service)
	w.rotate(other) // one that waits is enough
	if n := len(w.shown(other)); n != 2 {
		t.Fatalf("%d keys are shown", n)
	}
	w.pass(publish - time.Second)
	last := w.issue(other, MaxTTL)
	if kid(last) != kid(old) {
		t.Error("a key signs before others can know it")
	}
	w.pass(time.Second)
	young := w.issue(other, MaxTTL)
	if kid(young) == kid(old) {
		t.Error("the old key signs on")
	}
	for _, s := range []*Service{w.Service, other, w.another()} {
		w.lives(s, old)
		w.lives(s, last)
		w.lives(s, young)
	}
	w.pass(w.lives(w.Service, last).Expires.Add(Leeway).Sub(w.now()) - 1) // the last that it can have signed
	w.lives(w.another(), last)
	w.pass(verify - MaxTTL)
	w.dead(w.another(), last, "after its end")
	if got := w.shown(other); len(got) != 1 || got[0] != kid(young) {
		t.Errorf("%v are shown", got)
	}
	if n := w.begins(layout.AllSealed()); n != 1 {
		t.Errorf("%d secrets of keys are left", n)
	}
}

func TestAKeyIsFollowedByAnotherAfterThirtyDays(t *testing.T) {
	w := newWorld(t)
	var ids []string
	for range 5 {
		text := w.issue(w.Service, time.Hour)
		ids = append(ids, kid(text))
		w.pass(signFor)
		if k := kid(w.issue(w.another(), time.Hour)); k != ids[len(ids)-1] {
			t.Error("the next key signs at once")
		}
		w.pass(publish)
		if n := len(w.shown(w.another())); n > 2 {
			t.Errorf("%d keys", n)
		}
	}
	for i := range ids[1:] {
		if ids[i] == ids[i+1] {
			t.Errorf("key %d signs on", i)
		}
	}
	if n := w.begins(layout.AllSealed()); n > 2 {
		t.Errorf("%d secrets of keys", n)
	}
}

func TestServersThatMakeTheFirstKeyAtOnceAgree(t *testing.T) {
	w := newWorld(t)
	const servers = 6
	var all []*Service
	for range servers {
		all = append(all, w.another())
	}
	texts := make([]string, servers)
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() {
			c := agent
			c.Expires = s.now().Add(time.Hour)
			var err error
			if texts[i], _, err = s.Issue(context.Background(), c); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, s := range all {
		for _, text := range texts {
			w.lives(s, text)
			if kid(text) != kid(texts[0]) {
				t.Error("two first keys")
			}
		}
	}
	if n := w.begins(layout.AllSealed()); n != 1 {
		t.Errorf("%d secrets of keys", n)
	}
}

func TestAKeyIsMadeWholeOrNotAtAll(t *testing.T) {
	for at := 1; at <= 3; at++ {
		for _, takes := range []bool{false, true} {
			w := newWorld(t)
			dead := &storetest.DyingStore{Store: w.store, At: at, Takes: takes}
			s := New(Config{Store: dead, Box: sealed.New(dead, w.kms), Now: w.now, Log: w.log})
			for range 2 { // two rotations, each a commit
				s.Rotate(t.Context())
				w.pass(publish)
			}
			text := w.issue(w.Service, time.Hour)
			w.lives(w.another(), text)
			if keys, secrets := len(w.shown(w.Service)), w.begins(layout.AllSealed()); keys != secrets || keys < 1 || keys > 2 {
				t.Errorf("commit %d, took effect %v: %d keys, %d secrets", at, takes, keys, secrets)
			}
		}
	}
}

func TestADamagedListOfKeysIsDamage(t *testing.T) {
	w := newWorld(t)
	text := w.issue(w.Service, time.Hour)
	for _, row := range []string{"", "{}", "[{}", `[{"kid":"x","more":1}]`, `[{"kid":1}]`} {
		var b store.Batch
		b.Put(layout.TokenKeys(), []byte(row))
		w.write(b)
		s := w.another()
		_, err := s.Verify(t.Context(), text)
		c := agent
		c.Expires = w.now().Add(time.Hour)
		_, _, err2 := s.Issue(t.Context(), c)
		if !errors.Is(err, fault.Damaged) || !errors.Is(err2, fault.Damaged) {
			t.Errorf("%q: %v, %v", row, err, err2)
		}
	}
}

func TestWhileTheKMSIsAwayWhatIsOpenGoesOn(t *testing.T) {
	w := newWorld(t)
	text := w.issue(w.Service, MaxTTL)
	w.kms.set(fault.New(fault.Unavailable, "locked"))
	cold := w.another()
	for range 2 { // the second within the second
		if _, err := cold.Verify(t.Context(), text); !errors.Is(err, fault.Unavailable) {
			t.Errorf("a server without keys: %v", err)
		}
	}
	w.lives(w.Service, w.issue(w.Service, time.Hour))
	w.pass(signFor)
	kept := w.issue(w.Service, time.Hour)
	if kid(kept) != kid(text) || !strings.Contains(w.logs.String(), "signs on") {
		t.Error("no new key can be made, and the old one does not sign on, or nobody is told")
	}
	if err := w.Rotate(t.Context()); !errors.Is(err, fault.Unavailable) {
		t.Errorf("Rotate: %v", err)
	}
	w.kms.set(nil)
	w.pass(readEvery)
	w.lives(cold, kept)
	w.issue(cold, time.Hour)
	if n := len(w.shown(cold)); n != 2 {
		t.Errorf("%d keys", n)
	}
}

func TestAKMSThatOpensNothingGetsNoEndOfKeys(t *testing.T) {
	w := newWorld(t)
	w.issue(w.Service, time.Hour)
	s := w.another()
	w.kms.deaf = true
	for range 3 * maxUnsound {
		c := agent
		c.Expires = w.now().Add(time.Hour)
		if _, _, err := s.Issue(t.Context(), c); !errors.Is(err, fault.Damaged) {
			t.Fatal(err)
		}
	}
	if n := w.begins(layout.AllSealed()); n > maxUnsound {
		t.Errorf("%d keys were made", n)
	}
	w.kms.deaf = false
	w.issue(w.another(), time.Hour)
}

func TestUnknownKeysReadTheStoreOnceASecond(t *testing.T) {
	f := newForger(t)
	s := f.another()
	f.lives(s, f.good)
	f.store.gets = nil
	for i := range 100 {
		f.dead(s, f.ours(with(f.header, "kid", fmt.Sprint("k", i)), f.claims), "an unknown kid")
	}
	if n := len(f.store.gets); n != 0 { // it read just now, for the good one
		t.Errorf("%d reads", n)
	}
	f.pass(readEvery)
	opens := f.kms.opens
	for i := range 100 {
		f.dead(s, f.ours(with(f.header, "kid", fmt.Sprint("k", i)), f.claims), "an unknown kid")
	}
	if n := len(f.store.gets); n != 1 || f.kms.opens != opens {
		t.Errorf("%d reads, %d keys opened", n, f.kms.opens-opens)
	}
	f.clock.Add(-int64(MaxTTL)) // a clock that was put back does not stop it
	f.dead(s, f.ours(with(f.header, "kid", "k"), f.claims), "an unknown kid")
	if n := len(f.store.gets); n != 2 {
		t.Errorf("%d reads after the clock was put back", n)
	}
}

func TestACallerWhoLeavesDoesNotSpoilTheKeysForOthers(t *testing.T) {
	w := newWorld(t)
	text := w.issue(w.Service, time.Hour)
	s := w.another()
	ctx, leave := context.WithCancel(t.Context())
	w.store.fail = func(key string) error {
		if key == layout.TokenKeys() {
			leave()
		}
		return nil
	}
	s.Verify(ctx, text)
	w.lives(s, text)
}

func TestAReplacedKeyVerifiesNothingAnyMore(t *testing.T) {
	w := newWorld(t)
	other := w.another()
	old, elsewhere := w.issue(w.Service, time.Hour), w.issue(other, time.Hour)
	for _, text := range []string{old, elsewhere} { // both know both, and have them in their caches
		w.lives(w.Service, text)
		w.lives(other, text)
	}
	before := w.shown(w.Service)
	if err := w.Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := w.shown(w.Service); len(now) != 1 || slices.Contains(before, now[0]) {
		t.Errorf("shown are %v, and were %v", now, before)
	}
	w.pass(readEvery)
	for _, text := range []string{old, elsewhere} {
		for _, s := range []*Service{w.Service, other} {
			w.dead(s, text, "of a replaced key")
		}
	}
	fresh := w.issue(other, time.Hour)
	w.lives(w.Service, fresh)
	for key := range w.rows() {
		if strings.Contains(key, before[0]) {
			t.Errorf("%s is left", key)
		}
	}
}

// TestAReplacedKeyVerifiesNothingWhereTheKMSDoesNotAnswer: a server that cannot
// open the new key gives up the old one all the same.
func TestAReplacedKeyVerifiesNothingWhereTheKMSDoesNotAnswer(t *testing.T) {
	w := newWorld(t)
	other := w.another()
	old, unseen := w.issue(w.Service, time.Hour), w.issue(w.Service, time.Hour)
	w.lives(other, old)
	w.rotate(w.Service)
	w.kms.set(fault.New(fault.Unavailable, "locked"))
	w.pass(readEvery)
	w.lives(other, old) // its key is there, beside one that does not open
	w.kms.set(nil)
	if err := w.Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh := w.issue(w.Service, time.Hour)
	w.kms.set(fault.New(fault.Unavailable, "locked"))
	w.pass(readEvery)
	for range 2 { // the second within the second
		w.dead(other, old, "of a replaced key, known")
		w.dead(other, unseen, "of a replaced key")
		if _, err := other.Verify(t.Context(), fresh); !errors.Is(err, fault.Unavailable) {
			t.Errorf("of a key that does not open yet: %v", err)
		}
	}
	w.kms.set(nil)
	w.pass(readEvery) // and nothing was written since
	w.lives(other, fresh)
	w.dead(other, old, "of a replaced key, when the KMS is back")
}

// TestNoTokenIsBelievedWhereTheKeysCannotBeRead: nobody knows then whether its
// key was replaced.
func TestNoTokenIsBelievedWhereTheKeysCannotBeRead(t *testing.T) {
	w := newWorld(t)
	other := w.another()
	old := w.issue(w.Service, time.Hour)
	w.lives(other, old)
	if err := w.Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
	fresh := w.issue(w.Service, time.Hour)
	for _, c := range []struct {
		what string
		is   func(key string) bool
	}{
		{"the store", func(string) bool { return true }},
		{"the keys", func(key string) bool { return key == layout.TokenKeys() }},
		{"revocations", func(key string) bool { return key != layout.TokenKeys() && !strings.HasPrefix(key, layout.AllSealed()) }},
	} {
		w.lives(w.Service, fresh)
		w.pass(readEvery)
		w.store.fail = func(key string) error {
			if c.is(key) {
				return store.ErrClosed
			}
			return nil
		}
		for range 2 {
			if _, err := other.Verify(t.Context(), old); err == nil {
				t.Errorf("%s cannot be read, and a token of a replaced key is taken", c.what)
			}
			if _, err := w.Verify(t.Context(), fresh); !errors.Is(err, fault.Unavailable) {
				t.Errorf("%s cannot be read: %v", c.what, err)
			}
		}
		w.store.fail = nil
		w.lives(w.Service, fresh) // at once
	}
}

func TestKeysWhoseRowIsGoneOrDamagedVerifyNothing(t *testing.T) {
	for _, row := range []string{"", "{}"} {
		w := newWorld(t)
		text := w.issue(w.Service, time.Hour)
		w.lives(w.Service, text)
		var b store.Batch
		if b.Put(layout.TokenKeys(), []byte(row)); row == "" {
			b = store.Batch{}
			b.Delete(layout.TokenKeys())
		}
		w.write(b)
		w.pass(readEvery)
		if _, err := w.Verify(t.Context(), text); err == nil {
			t.Errorf("the row is %q, and its key verifies", row)
		}
	}
}

// TestWhoWaitsForAKeyThatDoesNotOpenWaitsForNoOther: a KMS that takes 5 s to fail
// is asked once or twice for all who came meanwhile, not once for each.
func TestWhoWaitsForAKeyThatDoesNotOpenWaitsForNoOther(t *testing.T) {
	w := newWorld(t)
	other := w.another()
	text := w.issue(w.Service, time.Hour)
	w.lives(other, text)
	w.rotate(w.Service)
	w.pass(readEvery)
	w.kms.set(fault.New(fault.Unavailable, "locked"))
	const callers = 40
	var came, done sync.WaitGroup
	came.Add(callers)
	var slow func()
	slow = func() {
		came.Wait()
		time.Sleep(50 * time.Millisecond) // until they wait
		w.pass(5 * time.Second)
		w.kms.mu.Lock()
		defer w.kms.mu.Unlock()
		w.kms.once = slow
	}
	w.kms.once = slow
	opens := w.kms.opens
	for range callers {
		done.Go(func() {
			came.Done()
			if _, err := other.Verify(context.Background(), text); err != nil {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if n := w.kms.opens - opens; n < 1 || n > 4 {
		t.Errorf("%d callers had the KMS asked %d times", callers, n)
	}
}

// TestReadersWhoMeetAtAKeyThatDoesNotOpenDoNotDriveEachOther: who fails with the
// row that another failed with does not begin anew.
func TestReadersWhoMeetAtAKeyThatDoesNotOpenDoNotDriveEachOther(t *testing.T) {
	w := newWorld(t)
	w.issue(w.Service, time.Hour)
	other := w.another()
	w.kms.set(fault.New(fault.Unavailable, "locked"))
	w.store.fail = func(key string) error {
		if strings.HasPrefix(key, layout.AllSealed()) {
			time.Sleep(5 * time.Millisecond) // they meet
		}
		return nil
	}
	const readers = 40
	opens := w.kms.opens
	var done sync.WaitGroup
	for range readers {
		done.Go(func() {
			if _, err := other.JWKS(context.Background()); !errors.Is(err, fault.Unavailable) {
				t.Error(err)
			}
		})
	}
	done.Wait()
	if n := w.kms.opens - opens; n > 2*readers {
		t.Errorf("%d readers asked the KMS %d times", readers, n)
	}
}
