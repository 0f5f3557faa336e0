package token

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// gone fails unless there is no challenge of the kind under text.
func (w *world) gone(kind, text, why string) {
	w.t.Helper()
	ctx := context.Background()
	c, err := w.LookChallenge(ctx, kind, text)
	d, err2 := w.TakeChallenge(ctx, kind, text)
	err3 := w.ChangeChallenge(ctx, kind, text, func(*Challenge) error { w.t.Error(why, ": changed"); return nil })
	if err != errChallenge || err2 != errChallenge || err3 != errChallenge || c.Kind+d.Kind != "" {
		w.t.Errorf("%s: %v, %v, %v", why, err, err2, err3)
	}
}

func TestAChallengeIsTakenOnce(t *testing.T) {
	w := newWorld(t)
	c := Challenge{Kind: "mfa", Subject: ada, Data: []byte(`{"a":"ü\u0000"}`)}
	text, err := w.PutChallenge(t.Context(), c)
	if err != nil || len(text) != 47 || !strings.HasPrefix(text, "1ot_") {
		t.Fatal(text, err)
	}
	c.Expires = w.now().Add(ChallengeTTL).UTC()
	for range 2 {
		if got, err := w.another().LookChallenge(t.Context(), "mfa", text); err != nil || cmp.Diff(c, got) != "" {
			t.Error(got, err)
		}
	}
	if got, err := w.another().TakeChallenge(t.Context(), "mfa", text); err != nil || cmp.Diff(c, got) != "" {
		t.Error(got, err)
	}
	w.gone("mfa", text, "taken")
	if len(w.rows()) != 0 {
		t.Errorf("rows are left: %v", w.rows())
	}
}

func TestOfManyWhoTakeAChallengeOneGetsIt(t *testing.T) {
	w := newWorld(t)
	text := w.challenge("x")
	var got atomic.Int32
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			switch _, err := w.TakeChallenge(context.Background(), "mfa", text); {
			case err == nil:
				got.Add(1)
			case err != errChallenge:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got.Load() != 1 {
		t.Errorf("%d got it", got.Load())
	}
}

func TestAChallengeIsOfItsKindTextAndTime(t *testing.T) {
	w := newWorld(t)
	text := w.challenge("x")
	for _, kind := range []string{"", "passkey", "mfa:", "MFA"} {
		w.gone(kind, text, "of kind "+kind)
	}
	for _, other := range []string{"", text[4:], text + "=", text[:46], strings.ToUpper(text), hash(text)} {
		w.gone("mfa", other, "by another text")
	}
	w.pass(ChallengeTTL - 1)
	if _, err := w.LookChallenge(t.Context(), "mfa", text); err != nil {
		t.Error(err)
	}
	w.pass(1)
	w.gone("mfa", text, "after its end")
}

func TestAChallengeLivesAsLongAsItSays(t *testing.T) {
	w := newWorld(t)
	text, err := w.PutChallenge(t.Context(), Challenge{Kind: "device", Expires: w.now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	w.pass(time.Hour - 1)
	if _, err := w.LookChallenge(t.Context(), "device", text); err != nil {
		t.Error(err)
	}
	w.pass(1)
	w.gone("device", text, "after its end")
}

func TestChangesOfAChallengeMeetAndNoneIsLost(t *testing.T) {
	w := newWorld(t)
	text := w.challenge("x")
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			err := w.ChangeChallenge(context.Background(), "mfa", text, func(c *Challenge) error {
				c.Data = append(c.Data, 'x')
				c.Kind, c.Expires = "passkey", time.Time{} // not to be had this way
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	no := fault.New(fault.Forbidden, "no")
	if err := w.ChangeChallenge(t.Context(), "mfa", text, func(c *Challenge) error { c.Data = nil; return no }); err != no {
		t.Error(err)
	}
	c, err := w.TakeChallenge(t.Context(), "mfa", text)
	if err != nil || len(c.Data) != 16 || c.Kind != "mfa" || !c.Expires.Equal(w.now().Add(ChallengeTTL)) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestATextOfTheCallersIsHisUntilItEnds(t *testing.T) {
	w := newWorld(t)
	put := func(kind, subject string) error {
		return w.PutChallengeAs(t.Context(), "WDJB-MJHT", Challenge{Kind: kind, Subject: subject})
	}
	if err := put("usercode", "1"); err != nil {
		t.Fatal(err)
	}
	if err := put("usercode", "2"); !errors.Is(err, fault.Conflict) || strings.Contains(err.Error(), "WDJB") {
		t.Error(err)
	}
	if err := put("other", "3"); err != nil {
		t.Error(err)
	}
	// It is put again after it was taken, after its end and long after, and the
	// end of the one before does not sweep it away.
	for i, wait := range []time.Duration{0, ChallengeTTL, ChallengeTTL + keep - 3*time.Second, 30 * keep} {
		w.pass(wait)
		if i == 0 {
			if _, err := w.TakeChallenge(t.Context(), "usercode", "WDJB-MJHT"); err != nil {
				t.Fatal(err)
			}
		}
		if err := put("usercode", fmt.Sprint(i)); err != nil {
			t.Fatal(i, err)
		}
		w.pass(2 * time.Second)
		w.challenge("sweeps")
		if c, err := w.LookChallenge(t.Context(), "usercode", "WDJB-MJHT"); err != nil || c.Subject != fmt.Sprint(i) {
			t.Errorf("%d: %+v, %v", i, c, err)
		}
	}
}

func TestAChallengeIsBounded(t *testing.T) {
	w := newWorld(t)
	for n, want := range map[int]bool{MaxData: true, MaxData + 1: false} {
		text, err := w.PutChallenge(t.Context(), Challenge{Kind: "passkey", Data: make([]byte, n)})
		if (err == nil) != want || err != nil && !errors.Is(err, fault.TooLarge) {
			t.Errorf("%d bytes: %v", n, err)
		}
		if _, err := w.TakeChallenge(t.Context(), "passkey", text); (err == nil) != want {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

func TestAStoreThatFailsIsNoBadChallenge(t *testing.T) {
	w := newWorld(t)
	text := w.challenge("x")
	for cause, want := range map[error]fault.Code{store.ErrClosed: fault.Unavailable, store.ErrDamaged: fault.Damaged, errors.New("disk"): fault.Internal} {
		w.store.fail = func(string) error { return cause }
		_, err1 := w.LookChallenge(t.Context(), "mfa", text)
		_, err2 := w.TakeChallenge(t.Context(), "mfa", text)
		_, err3 := w.PutChallenge(t.Context(), Challenge{Kind: "mfa"})
		_, _, err4 := w.Redeem(t.Context(), newText(refreshPrefix, nil))
		_, err5 := w.IssueRefresh(t.Context(), ada, w.now())
		err6 := w.RevokeAll(t.Context(), ada)
		for i, err := range []error{err1, err2, err3, err4, err5, err6} {
			if !errors.Is(err, want) {
				t.Errorf("call %d, %v: %v", i+1, cause, err)
			}
		}
	}
	w.store.fail = nil
	if _, err := w.TakeChallenge(t.Context(), "mfa", text); err != nil {
		t.Error(err)
	}
}

// TestRowsThatArePastGoInBoundedWork: no commit removes more than sweep entries,
// and as many go as come.
func TestRowsThatArePastGoInBoundedWork(t *testing.T) {
	w := newWorld(t)
	const n = 200
	for range n {
		w.challenge("x")
		w.begin(ada)
	}
	w.pass(RefreshTTL + keep + 1)
	rows := len(w.rows())
	for i := 0; w.begins(layout.Refresh("")) > 0; i++ {
		if i > n {
			t.Fatal("they do not go")
		}
		w.challenge("sweeps")
		now := len(w.rows())
		if gone := rows + 2 - now; gone > 3*sweep {
			t.Fatalf("one commit removed %d rows", gone)
		}
		rows = now
	}
	if w.begins(layout.RefreshOf(ada, "")) != 0 {
		t.Error("the index is left")
	}
	w.pass(ChallengeTTL + keep + 1)
	w.challenge("last")
	if n := len(w.rows()); n != 2 {
		t.Errorf("%d rows are left: %v", n, w.rows())
	}
}
