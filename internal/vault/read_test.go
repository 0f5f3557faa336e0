package vault

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// limited writes a version that may be read n times.
func (r *rig) limited(vaultID, path string, n int) {
	r.t.Helper()
	if _, err := r.Put(r.t.Context(), owner, vaultID, path, api.PutSecret{Value: ptr("limited"), MaxAccessCount: &n}, PutOptions{}); err != nil {
		r.t.Fatal(err)
	}
}

func TestWhatNeverWasIsNotFoundAndWhatWasIsGone(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "one")
	r.put(v, "a", "two")
	version := func(n int) error { _, err := r.ReadVersion(t.Context(), owner, v, "a", n); return err }
	newest := func(path string) error { _, err := r.read(v, path); return err }

	want(t, "no such path", newest("b"), fault.NotFound)
	want(t, "a path under it", newest("a/b"), fault.NotFound)
	for _, n := range []int{3, 0, -1, 1 << 40} {
		want(t, "no such version", version(n), fault.NotFound)
	}
	if err := r.DisableVersion(t.Context(), owner, v, "a", 2); err != nil {
		t.Fatal(err)
	}
	want(t, "disabled", version(2), fault.Gone)
	want(t, "newest is disabled", newest("a"), fault.Gone)
	if err := version(1); err != nil {
		t.Errorf("an older version: %v", err)
	}
	if err := r.DeleteSecret(t.Context(), owner, v, "a"); err != nil {
		t.Fatal(err)
	}
	want(t, "deleted", newest("a"), fault.Gone)
	want(t, "deleted version", version(1), fault.Gone)
	want(t, "no such version of a deleted secret", version(3), fault.NotFound)

	r.put(v, "a", "three")
	r.wantValue(v, "a", "three")
	want(t, "still deleted", version(2), fault.Gone)
	if err := version(3); err != nil {
		t.Errorf("the new version: %v", err)
	}
}

func TestAnExpiredVersionIsGoneAndANewOneIsNot(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	at := r.present().Add(time.Minute)
	if _, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: ptr("x"), ExpiresAt: &at}, PutOptions{}); err != nil {
		t.Fatal(err)
	}
	r.advance(time.Minute - 1)
	r.wantValue(v, "a", "x")
	r.advance(1)
	_, err := r.read(v, "a")
	want(t, "at its end", err, fault.Gone)
	_, err = r.ReadVersion(t.Context(), owner, v, "a", 1)
	want(t, "by version", err, fault.Gone)
	if list, err := r.ListSecrets(t.Context(), owner, v, "", false); err != nil || len(list.Secrets) != 1 {
		t.Errorf("an expired secret is listed: %v, %v", list, err)
	}
	r.put(v, "a", "y")
	r.wantValue(v, "a", "y")

	if _, err := r.Put(t.Context(), owner, v, "b", api.PutSecret{Value: ptr("x"), ExpiresAt: &at}, PutOptions{}); err != nil {
		t.Errorf("a version that is expired from the start: %v", err)
	}
	_, err = r.read(v, "b")
	want(t, "expired from the start", err, fault.Gone)
}

func TestALimitHoldsOverAllReadPathsAnd32Readers(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.limited(v, "a", 7)
	var answered atomic.Int64
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			read := func() (Read, error) { return r.Read(t.Context(), owner, v, "a") }
			if i%2 == 0 {
				read = func() (Read, error) { return r.ReadVersion(t.Context(), owner, v, "a", 1) }
			}
			switch got, err := read(); {
			case err == nil && got.Secret.Value == "limited":
				answered.Add(1)
			case !errors.Is(err, fault.Gone) || got.Secret.Value != "":
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
	wg.Wait()
	if n := answered.Load(); n != 7 {
		t.Errorf("%d answers, the limit is 7", n)
	}
	_, err := r.read(v, "a")
	want(t, "after all reads", err, fault.Gone)
	state, _, err := load[versionState](t.Context(), r.Service, layout.SecretState(v, "a", 1))
	if err != nil || state.Reads != 7 {
		t.Errorf("state %+v, %v", state, err)
	}
	r.put(v, "a", "free")
	r.wantValue(v, "a", "free")
}

func TestAListingIsNoRead(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.limited(v, "a", 1)
	if _, err := r.ListSecrets(t.Context(), owner, v, "", false); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Versions(t.Context(), owner, v, "a", false); err != nil {
		t.Fatal(err)
	}
	r.wantValue(v, "a", "limited")
}

func TestAReadThatDoesNotOpenUsesUpNothing(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.limited(v, "a", 1)
	r.kms.beforeOpen = func() error { return fault.New(fault.Unavailable, "socket") }
	_, err := r.read(v, "a")
	want(t, "KMS away", err, fault.Unavailable)
	r.kms.beforeOpen = nil
	r.kms.itemErr = fault.New(fault.Damaged, "does not open")
	_, err = r.read(v, "a")
	want(t, "does not open", err, fault.Damaged)
	r.kms.itemErr = nil
	r.wantValue(v, "a", "limited")
	_, err = r.read(v, "a")
	want(t, "read out", err, fault.Gone)
}

func TestAReadWhoseCountIsNotStoredIsNotAnswered(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.limited(v, "a", 2)
	r.hooks.beforeCommit = failing(errors.New("disk full"))
	got, err := r.read(v, "a")
	want(t, "Read", err, fault.Internal)
	if got.Secret.Value != "" {
		t.Error("the value was answered")
	}
}

func TestAVersionReadOutIsNotOpenedAgain(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.limited(v, "a", 1)
	r.wantValue(v, "a", "limited")
	opens := r.kms.opens.Load()
	_, err := r.read(v, "a")
	want(t, "read out", err, fault.Gone)
	if r.kms.opens.Load() != opens {
		t.Error("it went to the KMS")
	}
}

func TestAVersionDisabledDuringALimitedReadIsNotAnswered(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.limited(v, "a", 9)
	r.kms.beforeOpen = once(func() {
		if err := r.DisableVersion(t.Context(), owner, v, "a", 1); err != nil {
			t.Error(err)
		}
	})
	_, err := r.read(v, "a")
	want(t, "Read", err, fault.Gone)
}

// Two readers of a version that may be read once: the second comes between the
// first one's last look and its commit.
func TestOfTwoReadersWhoMeetOneIsAnswered(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.limited(v, "a", 1)
	r.hooks.beforeCommit = func(*store.Batch) error {
		r.hooks.beforeCommit = nil
		r.wantValue(v, "a", "limited")
		return nil
	}
	_, err := r.read(v, "a")
	want(t, "the first one", err, fault.Gone)
}

func TestADisableThatMeetsACountKeepsBoth(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.limited(v, "a", 5)
	r.hooks.beforeCommit = func(*store.Batch) error {
		r.hooks.beforeCommit = nil
		r.wantValue(v, "a", "limited")
		return nil
	}
	if err := r.DisableVersion(t.Context(), owner, v, "a", 1); err != nil {
		t.Fatal(err)
	}
	state, _, err := load[versionState](t.Context(), r.Service, layout.SecretState(v, "a", 1))
	if want := (versionState{Disabled: true, Reads: 1}); err != nil || state != want {
		t.Errorf("state %+v, %v, want %+v", state, err, want)
	}
}

func TestAReadWritesNothingUnlessItIsCounted(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "x")
	r.hooks.beforeCommit = func(*store.Batch) error { t.Error("a commit"); return nil }
	r.wantValue(v, "a", "x")
}

// What a server remembers changes no answer, whatever another server does in between.
func TestAnswersAreThoseOfAServerThatRemembersNothing(t *testing.T) {
	r := newRig(t)
	on := func(s store.Store) *Service {
		return New(Config{Store: s, KMS: r.kms, Gate: r.asked, Now: r.present})
	}
	remembers := on(&storetest.Reads{Store: r.mem})
	vaults := []string{r.vault()}
	paths := []string{"a", "a/b", "b"}
	may := map[string]bool{} // mate, by vault and path
	r.asked.Rules = func(p access.Principal, vault string) (rules []access.Rule) {
		for _, path := range paths {
			if p.ID == mate.ID && may[vault+path] {
				rules = append(rules, access.Rule{Pattern: path, Permissions: []access.Permission{access.Read}})
			}
		}
		return rules
	}
	say := func(x Read, err error) string {
		if err != nil {
			return fmt.Sprint(fault.Of(err).Code, err)
		}
		return fmt.Sprintf("%+v", x)
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	answered := map[bool]int{} // by whether with a value
	for step := range 2000 {
		v, path := vaults[rnd.IntN(len(vaults))], paths[rnd.IntN(3)]
		switch op := rnd.IntN(40); {
		case op < 6:
			value := fmt.Sprint("value ", step)
			r.Put(t.Context(), owner, v, path, api.PutSecret{Value: &value}, PutOptions{})
		case op == 6:
			r.DeleteSecret(t.Context(), owner, v, path)
		case op == 7:
			r.DisableVersion(t.Context(), owner, v, path, 1+rnd.IntN(4))
		case op == 8 && step%7 == 0:
			r.Delete(t.Context(), owner, v)
			vaults = append(vaults, r.vault())
		case op == 9:
			may[v+path] = !may[v+path]
		default:
			p := []access.Principal{owner, owner, owner, mate, mate, stranger}[rnd.IntN(6)]
			n := rnd.IntN(6)
			read := func(s *Service) string {
				if n == 5 {
					return say(s.Read(t.Context(), p, v, path))
				}
				return say(s.ReadVersion(t.Context(), p, v, path, n))
			}
			first, want, second := read(remembers), read(on(r.mem)), read(remembers)
			if first != want || second != want {
				t.Fatalf("step %d, version %d (5: the newest) of %s: %s, then %s; a server that remembers nothing says %s", step, n, path, first, second, want)
			}
			answered[strings.Contains(want, "value ")]++
		}
	}
	if answered[true] < 200 || answered[false] < 200 {
		t.Errorf("reads with and without a value: %v", answered)
	}
}

func TestTheRowsOfASecretAreReadTogetherFromItsSecondReadOn(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	s := &storetest.Reads{Store: r.mem}
	r.Service = New(Config{Store: s, KMS: r.kms, Gate: r.asked, Now: r.present})
	head := layout.SecretHead(v, "a")
	rows := func(versions ...int) (keys []string) {
		for _, n := range versions {
			keys = append(keys, layout.SecretVersion(v, "a", n), layout.SecretState(v, "a", n))
		}
		return keys
	}
	reads := func(what, value string, told []string, versions ...int) {
		t.Helper()
		s.Told, s.Got = nil, nil
		r.wantValue(v, "a", value)
		if !slices.Equal(s.Told, told) {
			t.Errorf("%s was told to read ahead %q, want %q", what, s.Told, told)
		}
		if got, want := s.Got, append([]string{layout.VaultMeta(v), head}, rows(versions...)...); !slices.Equal(got, want) {
			t.Errorf("%s read %q, want %q", what, got, want)
		}
	}
	r.put(v, "a", "one")
	reads("the first read", "one", rows(1), 1)
	reads("the second", "one", append([]string{head}, rows(1)...), 1)
	r.put(v, "a", "two")
	reads("the first of a new version", "two", append([]string{head}, rows(1, 2)...), 2)
	reads("the second of it", "two", append([]string{head}, rows(2)...), 2)

	old := func(told []string) {
		t.Helper()
		s.Told = nil
		if got, err := r.ReadVersion(t.Context(), owner, v, "a", 1); err != nil || got.Secret.Value != "one" || !slices.Equal(s.Told, told) {
			t.Errorf("version 1 = %q, %v, and %q was read ahead, want %q", got.Secret.Value, err, s.Told, told)
		}
	}
	old(rows(1))
	old(append([]string{head}, rows(1)...))
	reads("the third, after reads of another version", "two", append([]string{head}, rows(2)...), 2)
	old(append([]string{head}, rows(1)...))

	r.put(v, "a", "three")
	lost := layout.SecretVersion(v, "a", 3)
	row := r.rows()[lost]
	r.unset(lost)
	for range 2 { // what could not be read is not read ahead
		s.Told = nil
		if _, err := r.read(v, "a"); err == nil || !slices.Equal(s.Told, append([]string{head}, rows(2, 3)...)) {
			t.Errorf("without its row: %v, and %q was read ahead", err, s.Told)
		}
	}
	r.set(lost, row)
	reads("the first that can be read", "three", append([]string{head}, rows(2, 3)...), 3)

	s.Told, s.Got = nil, nil
	_, err := r.Read(t.Context(), stranger, v, "a")
	want(t, "a stranger", err, fault.NotFound)
	if s.Told != nil || !slices.Equal(s.Got, []string{layout.VaultMeta(v)}) {
		t.Errorf("for a stranger %q was read, and %q ahead", s.Got, s.Told)
	}
}
