package token

import (
	"context"
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
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

const ada, ben = "0198eeee-0000-7000-8000-00000000000a", "0198eeee-0000-7000-8000-00000000000b"

// begin signs a user in.
func (w *world) begin(user string) string {
	w.t.Helper()
	text, err := w.IssueRefresh(context.Background(), user, w.now().Add(-time.Second))
	if err != nil {
		w.t.Fatal(err)
	}
	return text
}

// next redeems a token that must work.
func (w *world) next(text string) string {
	w.t.Helper()
	session, next, err := w.another().Redeem(context.Background(), text)
	if err != nil || session.UserID == "" || next == text {
		w.t.Fatalf("%+v, %v", session, err)
	}
	return next
}

// spent redeems a token that must not work; it returns whose it says it was.
func (w *world) spent(text, why string) string {
	w.t.Helper()
	session, next, err := w.another().Redeem(context.Background(), text)
	if err != errRefresh || next != "" {
		w.t.Errorf("%s: %+v, %v", why, session, err)
	}
	return session.UserID
}

func TestARefreshTokenIsTakenForTheNextOne(t *testing.T) {
	w := newWorld(t)
	text, since := w.begin(ada), w.now().Add(-time.Second)
	for range 5 {
		session, next, err := w.Redeem(t.Context(), text)
		if err != nil || session.UserID != ada || !session.Since.Equal(since) || len(next) != 47 || !strings.HasPrefix(next, "1rt_") {
			t.Fatal(session, next, err)
		}
		text = next
		w.pass(RefreshTTL - time.Second) // each lives for a while of its own
	}
	if w.begins(layout.Refresh("")) != 1 || w.begins(layout.RefreshOf(ada, "")) != 1 || w.begins("tokenend:") != 1 {
		t.Errorf("rows are left: %v", w.rows())
	}
	w.pass(2 * time.Second)
	w.spent(text, "after its end")
}

func TestAUsedRefreshTokenEndsItsSession(t *testing.T) {
	w := newWorld(t)
	first, other := w.begin(ada), w.begin(ada)
	second := w.next(first)
	third := w.next(second)
	w.pass(reuse + 1)
	if who := w.spent(first, "used long ago"); who != ada {
		t.Errorf("it was %q", who)
	}
	for _, text := range []string{third, second, first} {
		if who := w.spent(text, "of an ended session"); who != "" {
			t.Errorf("it was %q", who)
		}
	}
	w.next(other)
}

func TestAUsedRefreshTokenIsTakenAgainForAMoment(t *testing.T) {
	w := newWorld(t)
	first := w.begin(ada)
	a, b := w.next(first), w.next(first)
	w.pass(reuse)
	c := w.next(first)
	if a == b || b == c || a == c {
		t.Fatal("two got the same")
	}
	w.pass(time.Hour)
	d := w.next(b) // whichever the client kept
	w.pass(reuse + 1)
	if who := w.spent(a, "another got ahead long ago"); who != ada {
		t.Errorf("it was %q", who)
	}
	w.spent(d, "of an ended session")
}

func TestTheThiefOfATokenEndsTheSessionOrIsShutOut(t *testing.T) {
	for _, thief := range []string{"first", "second"} {
		w := newWorld(t)
		stolen := w.begin(ada)
		his, hers := w.next(stolen), w.next(stolen) // within the moment
		w.pass(time.Hour)
		order := []string{his, hers}
		if thief == "second" {
			order = []string{hers, his}
		}
		last := w.next(order[0])
		w.pass(time.Hour)
		w.spent(order[1], "the other's")
		w.spent(last, "of an ended session")
	}
}

func TestOneMomentGivesNoEndOfTokens(t *testing.T) {
	w := newWorld(t)
	first := w.begin(ada)
	for range 10 * maxLive {
		w.next(first)
	}
	for key, row := range w.rows() {
		if strings.HasPrefix(key, layout.Refresh("")) && len(row) > 3000 {
			t.Errorf("the row has %d bytes", len(row))
		}
	}
	w.pass(reuse + 1)
	w.spent(first, "used")
}

func TestRedeemingOnAndOnGrowsNoRow(t *testing.T) {
	w := newWorld(t)
	first := w.begin(ada)
	text := first
	for range 5 * maxUsed {
		text = w.next(text)
	}
	for key, row := range w.rows() {
		if strings.HasPrefix(key, layout.Refresh("")) && len(row) > 10_000 {
			t.Errorf("the row has %d bytes", len(row))
		}
	}
	w.next(text)
	if who := w.spent(first, "used, and forgotten"); who != ada {
		t.Errorf("it was %q", who)
	}
}

func TestOfManyWhoRedeemAtOnceEachGetsAToken(t *testing.T) {
	w := newWorld(t)
	first := w.begin(ada)
	texts := make([]string, 8)
	var wg sync.WaitGroup
	for i := range texts {
		wg.Go(func() {
			var err error
			if _, texts[i], err = w.Redeem(context.Background(), first); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	w.pass(time.Hour)
	w.next(texts[3])
}

func TestSessionsEnd(t *testing.T) {
	w := newWorld(t)
	var adas, bens []string
	for range 3 {
		adas, bens = append(adas, w.begin(ada)), append(bens, w.begin(ben))
	}
	adas[1] = w.next(adas[1])
	if err := w.RevokeRefresh(t.Context(), adas[0]); err != nil {
		t.Fatal(err)
	}
	w.spent(adas[0], "revoked")
	adas[2] = w.next(adas[2])
	if err := w.another().RevokeAll(t.Context(), ada); err != nil {
		t.Fatal(err)
	}
	for _, text := range adas {
		w.spent(text, "revoked with all")
	}
	for _, text := range bens {
		w.next(text)
	}
	w.next(w.begin(ada)) // a new sign-in
	for _, user := range []string{ada, "nobody", ""} {
		if err := w.RevokeAll(t.Context(), user); err != nil {
			t.Error(err)
		}
	}
	if w.begins(layout.RefreshOf(ada, "")) != 0 || w.begins(layout.Refresh("")) != 3 {
		t.Error("sessions are left")
	}
	for _, text := range []string{adas[0], "1rt_", "", "1rt_" + strings.Repeat("A", 43)} {
		if err := w.RevokeRefresh(t.Context(), text); err != nil {
			t.Errorf("a token of no session: %v", err)
		}
	}
}

func TestMoreSessionsThanAPageEnd(t *testing.T) {
	w := newWorld(t)
	var last string
	for range 1100 {
		last = w.begin(ada)
	}
	if err := w.RevokeAll(t.Context(), ada); err != nil {
		t.Fatal(err)
	}
	w.spent(last, "revoked with all")
	if n := w.begins(layout.Refresh("")); n != 0 {
		t.Errorf("%d are left", n)
	}
}

// TestARedemptionThatMeetsTheEndGivesNothing lets RevokeAll come between the
// reading of a session and its commit.
func TestARedemptionThatMeetsTheEndGivesNothing(t *testing.T) {
	w := newWorld(t)
	text := w.begin(ada)
	once := true
	w.store.fail = func(call string) error {
		if call == "commit" && once {
			once = false
			return w.RevokeAll(context.Background(), ada)
		}
		return nil
	}
	w.spent(text, "revoked meanwhile")
	if n := w.begins(layout.Refresh("")); n != 0 {
		t.Error("the session came back")
	}
}

func TestABadRefreshTokenIsOneErrorAndChangesNothing(t *testing.T) {
	w := newWorld(t)
	text := w.begin(ada)
	before := w.rows()
	bad := map[string]string{
		"empty": "", "prefix": "1rt_", "another prefix": "1ck_" + text[4:], "no prefix": text[4:], "cut off": text[:46], "one more": text + "A", "padded": text + "=",
		"a line end": text + "\n", "a line end within": text[:46] + "\n", "unknown": "1rt_" + strings.Repeat("A", 43), "its hash": hash(text), "very long": "1rt_" + strings.Repeat("A", 10<<20),
		"standard base64": "1rt_" + strings.Repeat("+/", 21) + "A", "not UTF-8": "1rt_" + strings.Repeat("\xff", 43), "another session": "1rt_" + "AAAA" + text[8:],
	}
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	bad["loose last bits"] = text[:46] + string(alphabet[strings.IndexByte(alphabet, text[46])|1])
	for name, b := range bad {
		if who := w.spent(b, name); who != "" {
			t.Errorf("%s: it was %q", name, who)
		}
	}
	if after := w.rows(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Error("the store changed")
	}
	w.next(text)
}

func TestTheStoreHoldsHashesOfRefreshTokensOnly(t *testing.T) {
	w := newWorld(t)
	texts := []string{w.begin(ada)}
	texts = append(texts, w.next(texts[0]))
	for key, row := range w.rows() {
		for _, text := range texts {
			raw, _ := parseText(refreshPrefix, text)
			for _, bad := range []string{text, text[4:], text[26:], string(raw), string(raw[:16]), fmt.Sprintf("%x", raw[:16]), fmt.Sprintf("%x", raw[16:])} {
				if strings.Contains(key+row, bad) {
					t.Errorf("%s holds a part of a token", key)
				}
			}
		}
	}
}

// TestATokenMadeOfASessionsIDEndsIt: whoever knows the ID of a session, which is
// half of a token, has had one of its tokens.
func TestATokenMadeOfASessionsIDEndsIt(t *testing.T) {
	w := newWorld(t)
	text := w.begin(ada)
	raw, _ := parseText(refreshPrefix, text)
	if who := w.spent(newText(refreshPrefix, raw[:sessionBytes]), "made up"); who != ada {
		t.Errorf("it was %q", who)
	}
	w.spent(text, "of an ended session")
}

func TestARefreshSurvivesEveryCommit(t *testing.T) {
	for at := 1; at <= 3; at++ {
		for _, takes := range []bool{false, true} {
			w := newWorld(t)
			first := w.begin(ada)
			dead := &storetest.DyingStore{Store: w.store, At: at, Takes: takes}
			s := New(Config{Store: dead, Now: w.now, Log: w.log})
			text := first
			for range 3 {
				_, next, err := s.Redeem(t.Context(), text)
				if err != nil {
					break
				}
				text = next
			}
			text = w.next(text) // the client asks again within the moment
			w.pass(time.Hour)
			w.next(text)
		}
	}
}

func TestADamagedSessionIsDamage(t *testing.T) {
	w := newWorld(t)
	text := w.begin(ada)
	for key, row := range w.rows() {
		if strings.HasPrefix(key, layout.Refresh("")) {
			var b store.Batch
			b.Put(key, []byte(row[:len(row)-1]))
			w.write(b)
		}
	}
	if _, _, err := w.Redeem(t.Context(), text); !errors.Is(err, fault.Damaged) || strings.Contains(every(err), ada) {
		t.Error(err)
	}
	if err := w.RevokeAll(t.Context(), ada); err != nil {
		t.Error("a damaged session cannot be ended:", err)
	}
	w.spent(text, "revoked with all")
}

// TestASessionIsItsModel redeems tokens old and new at any time against a model.
func TestASessionIsItsModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		texts := []string{w.begin(ada)}
		live, used, ended := map[string]bool{texts[0]: true}, map[string]time.Time{}, false
		rt.Repeat(map[string]func(*rapid.T){
			"pass": func(rt *rapid.T) {
				w.pass(rapid.SampledFrom([]time.Duration{1, time.Second, reuse / 2, reuse, time.Hour}).Draw(rt, "time"))
			},
			"redeem": func(rt *rapid.T) {
				text := texts[max(0, len(texts)-1-rapid.IntRange(0, 4).Draw(rt, "age"))]
				at, was := used[text]
				again := was && w.now().Sub(at) <= reuse
				_, next, err := w.Redeem(context.Background(), text)
				if works := !ended && (live[text] || again); works != (err == nil) {
					rt.Fatalf("it works: %v, want %v", err, works)
				}
				if err != nil {
					ended = true
					return
				}
				if live[text] {
					for l := range live {
						used[l] = w.now()
					}
					clear(live)
				}
				texts = append(texts, next)
				if live[next] = true; len(live) > maxLive {
					rt.SkipNow()
				}
			},
		})
	})
}

func TestTheRowsAreWhatTheyAreDocumentedToBe(t *testing.T) {
	w := newWorld(t)
	w.next(w.begin(ada))
	for key, row := range w.rows() {
		if strings.HasPrefix(key, layout.Refresh("")) {
			var got map[string]any
			if err := json.Unmarshal([]byte(row), &got); err != nil || got["user"] != ada || got["expires"] != "2026-10-21T14:13:20.123456789Z" || len(got) != 5 {
				t.Error(row)
			}
		}
	}
}
