package token

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

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

func TestKeysWhoseRowsWereSwappedAreDeadAndReplaced(t *testing.T) {
	w := newWorld(t)
	old := w.issue(w.Service, MaxTTL)
	w.rotate(w.Service)
	w.pass(publish)
	young := w.issue(w.Service, MaxTTL)
	row := func(id string) string { return layout.Sealed("tokenkey", "server", id) }
	rows := w.rows()
	var b store.Batch
	b.Put(row(kid(old)), []byte(rows[row(kid(young))]))
	b.Put(row(kid(young)), []byte(rows[row(kid(old))]))
	w.write(b)
	s := w.another()
	w.dead(s, old, "a key whose row is the other's")
	w.dead(s, young, "a key whose row is the other's")
	next := w.issue(s, time.Hour)
	if k := kid(next); k == kid(old) || k == kid(young) {
		t.Error("a key signs that does not open")
	}
	w.lives(s, next)
	w.lives(w.Service, next)
	w.lives(w.Service, old) // which had opened the keys before
	if got := w.shown(s); len(got) != 1 || got[0] != kid(next) {
		t.Errorf("%v are shown", got)
	}
	if log := w.logs.String(); !strings.Contains(log, kid(old)) || !strings.Contains(log, kid(young)) {
		t.Errorf("the log does not name them: %s", log)
	}
}

func TestAKeyThatDoesNotOpenCutsNoOtherShort(t *testing.T) {
	w := newWorld(t)
	w.issue(w.Service, time.Hour)
	w.rotate(w.Service)
	broken := w.keys.Load().list[1].ID
	var b store.Batch
	b.Put(layout.Sealed("tokenkey", "server", broken), []byte("{}"))
	w.write(b)
	s := w.another()
	w.pass(signFor - time.Minute) // long after the broken one was to sign
	text := w.issue(s, MaxTTL)
	last := s.keys.Load().list[2]
	if last.ID == broken || !last.sound() || kid(text) != w.keys.Load().list[0].ID {
		t.Fatal("another key was not made at once")
	}
	w.pass(publish - 1)
	text = w.issue(s, MaxTTL)
	w.pass(MaxTTL)
	w.issue(s, time.Hour) // which would take away what is over
	w.lives(w.another(), text)
}

func TestAKeyIsWhatItsNameSays(t *testing.T) {
	w := newWorld(t)
	text := w.issue(w.Service, time.Hour)
	var b store.Batch
	if err := w.box.Put(t.Context(), &b, w.keys.Load().list[0].secret(), make([]byte, ed25519.SeedSize)); err != nil {
		t.Fatal(err)
	}
	w.write(b)
	s := w.another()
	w.dead(s, text, "whose key is another's")
	if next := w.issue(s, time.Hour); kid(next) == kid(text) {
		t.Error("a key signs under another's name")
	}
}

// TestASlowReadDoesNotBringOldKeysBack lets a rotation and another read come
// between the reading of the list and the opening of its keys.
func TestASlowReadDoesNotBringOldKeysBack(t *testing.T) {
	w := newWorld(t)
	w.issue(w.Service, time.Hour)
	s := w.another()
	w.kms.once = func() {
		w.rotate(w.Service)
		w.shown(s)
	}
	w.shown(s)
	if n := len(s.keys.Load().list); n != 2 {
		t.Errorf("%d keys", n)
	}
}

func TestAKeyThatIsOverIsOfNoUseToAThief(t *testing.T) {
	f := newForger(t)
	f.rotate(f.Service)
	f.pass(publish + verify - time.Second)
	now := with(with(with(f.claims, "iat", f.now().Unix()), "exp", f.now().Add(time.Hour).Unix()), "jti", newJTI(f.now()))
	f.lives(f.Service, f.ours(f.header, now))
	f.pass(time.Second)
	stolen := f.ours(f.header, with(now, "jti", newJTI(f.now().Add(-time.Second))))
	f.dead(f.Service, stolen, "by a key that is over") // though this server read nothing since
	f.dead(f.another(), stolen, "by a key that is over")
}

// TestWhoeverWritesToTheStoreBringsInNoKey puts a key of the attacker's into the
// list, with a sealed row of every form that he can make.
func TestWhoeverWritesToTheStoreBringsInNoKey(t *testing.T) {
	f := newForger(t)
	_, his, _ := ed25519.GenerateKey(nil)
	id := thumbprint(his.Public().(ed25519.PublicKey))
	token := sign(method, his, object(with(f.header, "kid", id)), object(f.claims))
	ours := layout.Sealed("tokenkey", "server", f.header["kid"].(string))
	for name, row := range map[string]string{
		"none": "", "the seed": string(his.Seed()), "ours": f.rows()[ours],
		"an envelope of his": fmt.Sprintf(`{"kek_id":"server","kek_version":1,"wrapped_dek":%q,"ciphertext":%q}`,
			base64.StdEncoding.EncodeToString(make([]byte, 60)), base64.StdEncoding.EncodeToString(make([]byte, 60))),
	} {
		var b store.Batch
		list := fmt.Sprintf(`[{"kid":%q,"created_at":"2026-09-21T00:00:00Z","signs_from":"2026-09-21T00:00:00Z"}]`, id)
		b.Put(layout.TokenKeys(), []byte(strings.TrimSuffix(f.rows()[layout.TokenKeys()], "]")+","+list[1:]))
		if row != "" {
			b.Put(layout.Sealed("tokenkey", "server", id), []byte(row))
		}
		f.write(b)
		s := f.another()
		f.dead(s, token, name)
		f.lives(s, f.good)
	}
	// His name for our key is no better.
	var b store.Batch
	b.Put(layout.TokenKeys(), []byte(`[{"kid":"mine","created_at":"2026-09-21T00:00:00Z","signs_from":"2026-09-21T00:00:00Z"}]`))
	b.Put(layout.Sealed("tokenkey", "server", "mine"), []byte(f.rows()[ours]))
	f.write(b)
	f.dead(f.another(), f.ours(with(f.header, "kid", "mine"), f.claims), "our key under his name")
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

// TestOfAllThatHappensATokenDiesOfItsEndAndItsRevocationAlone: servers issue,
// rotate, revoke and start anew while time passes; every token works on every
// server until its end, or its revocation.
func TestOfAllThatHappensATokenDiesOfItsEndAndItsRevocationAlone(t *testing.T) {
	type issued struct {
		text    string
		claims  Claims
		revoked bool
	}
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		servers := []*Service{w.Service, w.another(), w.another()}
		var all []*issued
		pick := func(rt *rapid.T) *Service { return servers[rapid.IntRange(0, 2).Draw(rt, "server")] }
		rt.Repeat(map[string]func(*rapid.T){
			"issue": func(rt *rapid.T) {
				text := w.issue(pick(rt), time.Duration(rapid.Int64Range(1, int64(MaxTTL/time.Second)).Draw(rt, "ttl"))*time.Second)
				all = append(all, &issued{text: text, claims: w.lives(pick(rt), text)})
			},
			"rotate":  func(rt *rapid.T) { w.rotate(pick(rt)) },
			"restart": func(rt *rapid.T) { servers[rapid.IntRange(0, 2).Draw(rt, "server")] = w.another() },
			"revoke": func(rt *rapid.T) {
				if len(all) > 0 {
					one := all[rapid.IntRange(0, len(all)-1).Draw(rt, "token")]
					if err := pick(rt).Revoke(context.Background(), one.claims); err != nil {
						rt.Fatal(err)
					}
					one.revoked = true
				}
			},
			"pass": func(rt *rapid.T) {
				w.pass(time.Duration(rapid.SampledFrom([]int64{1, int64(time.Second), int64(time.Minute), int64(publish), int64(MaxTTL / 2), int64(verify), int64(signFor)}).Draw(rt, "time")))
			},
			"": func(rt *rapid.T) {
				for i, one := range all {
					want := !one.revoked && w.now().Before(one.claims.Expires.Add(Leeway))
					for j, s := range servers {
						if _, err := s.Verify(context.Background(), one.text); (err == nil) != want {
							rt.Fatalf("token %d on server %d: %v, want alive %v", i, j, err, want)
						}
					}
				}
			},
		})
	})
}
