package token

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

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
