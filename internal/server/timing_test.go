package server_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// apart is how well one can tell by its time which of two calls was made: the
// chance that a call of the second took longer than one of the first. 0.5 is
// not at all. The calls are made n times each, in an order that nobody can
// foresee, so that what else the machine does falls on both.
func apart(n int, first, second func()) float64 {
	var took [2][]time.Duration
	calls := [2]func(){first, second}
	for range n {
		order := rand.IntN(2)
		for _, i := range []int{order, 1 - order} {
			began := time.Now()
			calls[i]()
			took[i] = append(took[i], time.Since(began))
		}
	}
	slices.Sort(took[0])
	greater := 0.0
	for _, d := range took[1] {
		below, equal := slices.BinarySearch(took[0], d)
		greater += float64(below)
		for equal && below < n && took[0][below] == d {
			greater += 0.5
			below++
		}
	}
	return greater / float64(n*n)
}

// toldApart reports whether two calls are apart by more than margin from 0.5,
// and to the same side, three times in a row: a busy machine does that to calls
// that are alike once in a while, and a difference that is there stays there.
func toldApart(margin float64, n int, first, second func()) bool {
	sides := 0
	for range 3 {
		switch p := apart(n, first, second); {
		case p > 0.5+margin:
			sides++
		case p < 0.5-margin:
			sides--
		default:
			return false
		}
	}
	return sides == 3 || sides == -3
}

func TestApartTellsWhatIsApart(t *testing.T) {
	work := func(n int) func() { return func() { _ = fmt.Sprint(make([]int, n)) } }
	if toldApart(0.1, 1000, work(100), work(100)) {
		t.Error("the same work is told apart")
	}
	if !toldApart(0.2, 1000, work(100), work(400)) {
		t.Error("four times the work is not told apart")
	}
}

// same checks that two calls of who are answered alike, to the byte.
func (c *cast) same(who caller, a, b [2]string, status int) {
	c.t.Helper()
	x, y := c.call(who.tracked(), a[0], a[1]), c.call(who.tracked(), b[0], b[1])
	if x.status != status || y.status != status || x.body != y.body {
		c.t.Errorf("%s and %s are told apart: %d %s\n%d %s", a[0], b[0], x.status, x.body, y.status, y.body)
	}
	for name := range x.header {
		if x.header.Get(name) != y.header.Get(name) {
			c.t.Errorf("%s and %s: header %s is %q and %q", a[0], b[0], name, x.header.Get(name), y.header.Get(name))
		}
	}
}

func TestAPathThatIsThereIsNotToldFromOneThatIsNot(t *testing.T) {
	if testing.Short() {
		t.Skip("tens of thousands of calls, one after another: in the run without -short")
	}
	c := newCast(t)
	vault := "GET /v1/vaults/" + c.vault
	for _, at := range []struct {
		name, who, there, not string
		status                int
	}{
		{"a path", "mate", vault + "/secrets/db/1", vault + "/secrets/db/2", 403},
		{"a path beyond the policy", "reader", vault + "/secrets/api/1", vault + "/secrets/api/2", 403},
		{"a path out of scope", "scope", vault + "/secrets/db/1", vault + "/secrets/db/2", 403},
		{"a version", "mate", vault + "/secret-version/db/1", vault + "/secret-version/db/9", 403},
		{"another org's vault", "other", vault, "GET /v1/vaults/" + nobodys, 404},
		{"a path in another org's vault", "other", vault + "/secrets/db/1", "GET /v1/vaults/" + nobodys + "/secrets/db/1", 404},
	} {
		t.Run(at.name, func(t *testing.T) {
			c.t = t
			c.made(c.home.owner, "PUT /v1/vaults/"+c.vault+"/secrets/api/1", `{"value":"`+canary+`"}`, "")
			who := c.callers[at.who]
			c.same(who, [2]string{at.there}, [2]string{at.not}, at.status)
			if at.status == 404 { // the look-up decides: there is or is not a row to read
				return
			}
			if toldApart(0.1, 1000, func() { c.call(who, at.there, "") }, func() { c.call(who, at.not, "") }) {
				t.Error("told apart by the time")
			}
		})
	}
	c.t = t
}

func TestAnUnknownAccountIsNotToldFromAWrongPassword(t *testing.T) {
	c := newCast(t)
	email := c.newAccount()
	guess := func(email string) [2]string {
		return [2]string{"POST /v1/auth/token", fmt.Sprintf(`{"email":%q,"password":"Wrong-horse-7-battery!"}`, email)}
	}
	wrong, unknown := guess(email), guess("nobody-at-all@example.com")
	later := func(call [2]string) func() {
		return func() {
			c.Advance(time.Hour) // or the guesses would have to wait
			c.call(caller{}, call[0], call[1])
		}
	}
	c.same(caller{}, wrong, unknown, 401)
	if toldApart(0.2, 400, later(wrong), later(unknown)) {
		t.Error("told apart by the time")
	}
	for range 10 { // and both have to wait alike
		c.call(caller{}, wrong[0], wrong[1])
		c.call(caller{}, unknown[0], unknown[1])
	}
	if a := c.call(caller{}, unknown[0], unknown[1]); a.status != 429 || a.header.Get("Retry-After") == "" {
		t.Errorf("the guesses go on: %d", a.status)
	}
}
