package identity

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// world is a Service with an org, a user and a key, its store in the test's hands.
type world struct {
	*Service
	store *countingStore
	org   Org
	user  User
	key   string
}

// countingStore counts reads and fails when told to.
type countingStore struct {
	store.Store
	gets         atomic.Int64
	fail         error
	beforeCommit func() // runs once
}

func (s *countingStore) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	if f := s.beforeCommit; f != nil {
		s.beforeCommit = nil
		f()
	}
	return s.Store.Commit(ctx, b)
}

func (s *countingStore) Get(ctx context.Context, key string) (store.Record, error) {
	s.gets.Add(1)
	if s.fail != nil {
		return store.Record{}, s.fail
	}
	return s.Store.Get(ctx, key)
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{store: &countingStore{Store: memstore.New()}}
	w.Service = New(Config{Store: w.store, Now: func() time.Time { return time.Unix(1_790_000_000, 0) }})
	var err error
	if w.org, err = w.CreateOrg(t.Context(), "Org", access.Free); err != nil {
		t.Fatal(err)
	}
	if w.user, err = w.CreateUser(t.Context(), w.org.ID, "owner@example.com"); err != nil {
		t.Fatal(err)
	}
	if w.key, err = w.CreateAPIKey(t.Context(), w.user.ID); err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) put(t testing.TB, key string, value any) {
	t.Helper()
	b := new(store.Batch)
	if value == nil {
		b.Delete(key)
	} else if raw, err := json.Marshal(value); err != nil {
		t.Fatal(err)
	} else {
		b.Put(key, raw)
	}
	if _, err := w.store.Commit(context.Background(), b); err != nil {
		t.Fatal(err)
	}
}

func (w *world) dump(t testing.TB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for rec, err := range store.All(context.Background(), w.store, store.Range{Start: "\x00"}) {
		if err != nil {
			t.Fatal(err)
		}
		all[rec.Key] = string(rec.Value)
	}
	return all
}

func wantCode(t testing.TB, err error, want fault.Code) {
	t.Helper()
	if err == nil || fault.Of(err).Code != want {
		t.Errorf("error %v, want %v", err, want)
	}
}

func TestAKeyIsItsUserUnderTheOrgsPlan(t *testing.T) {
	w := newWorld(t)
	got, err := w.Authenticate(t.Context(), w.key)
	want := access.Principal{Kind: access.User, ID: w.user.ID, OrgID: w.org.ID, Plan: access.Free, Role: access.Owner, Credential: got.Credential}
	if uuid.Validate(got.Credential) != nil {
		t.Error("the key has no ID")
	}
	if got != want || err != nil {
		t.Error(got, err)
	}
	w.org.Plan = access.Enterprise // bought at this moment
	w.put(t, layout.Org(w.org.ID), w.org)
	want.Plan = access.Enterprise
	if got, err = w.Authenticate(t.Context(), w.key); got != want || err != nil {
		t.Error("after a change of plan:", got, err)
	}
}

func TestAKeyHasItsDocumentedForm(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	for range 50 {
		key, err := w.CreateAPIKey(t.Context(), w.user.ID)
		if err != nil || !regexp.MustCompile(`^1ck_[A-Za-z0-9_-]{43}$`).MatchString(key) || seen[key] {
			t.Fatalf("a key is malformed or not new, %v", err)
		}
		seen[key] = true
	}
}

func TestTheStoreHoldsHashesOfKeysOnly(t *testing.T) {
	w := newWorld(t)
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(w.key, "1ck_"))
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range w.dump(t) {
		for _, bad := range []string{w.key, w.key[4:], string(raw), fmt.Sprintf("%x", raw)} {
			if strings.Contains(key+value, bad) {
				t.Errorf("the key lies under %s", key)
			}
		}
	}
	var rec map[string]string
	if err := json.Unmarshal([]byte(w.dump(t)[layout.APIKey(hash(w.key))]), &rec); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"id": rec["id"], "user": w.user.ID, "created": "2026-09-21T14:13:20Z", "prefix": w.key[:12]}
	if diff := cmp.Diff(want, rec); diff != "" || uuid.Validate(rec["id"]) != nil {
		t.Error(diff)
	}
}

// badKeys are credentials that are not the key of w.
func badKeys(w *world) map[string]string {
	other := keyPrefix + base64.RawURLEncoding.EncodeToString(make([]byte, keyBytes))
	last := w.key[len(w.key)-1]
	loose := w.key[:len(w.key)-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", last)|1])
	return map[string]string{
		"unknown":            other,
		"empty":              "",
		"prefix only":        "1ck_",
		"no prefix":          w.key[4:],
		"another prefix":     "2ck_" + w.key[4:],
		"prefix in capitals": "1CK_" + w.key[4:],
		"cut off":            w.key[:len(w.key)-1],
		"one too many":       w.key + "A",
		"padded":             w.key + "=",
		"with Bearer":        "Bearer " + w.key,
		"with a space":       w.key + " ",
		"with a line end":    w.key + "\n",
		"with a line in it":  w.key[:20] + "\r\n" + w.key[20:],
		"loose last bits":    loose,
		"standard base64":    "1ck_" + strings.Repeat("+/", 21) + "A",
		"not UTF-8":          "1ck_" + strings.Repeat("\xff", 43),
		"NUL":                "1ck_" + strings.Repeat("\x00", 43),
		"its own hash":       hash(w.key),
		"very long":          "1ck_" + strings.Repeat("A", 10<<20),
	}
}

func TestEveryBadCredentialIsOneError(t *testing.T) {
	w := newWorld(t)
	before := w.dump(t)
	for name, bearer := range badKeys(w) {
		w.store.gets.Store(0)
		p, err := w.Authenticate(t.Context(), bearer)
		if err != errCredential || p != (access.Principal{}) {
			t.Errorf("%s: %v, %v", name, p, err)
		}
		want := int64(0)
		if name == "unknown" {
			want = 1
		}
		if n := w.store.gets.Load(); n != want {
			t.Errorf("%s: %d reads, want %d", name, n, want)
		}
	}
	if diff := cmp.Diff(before, w.dump(t)); diff != "" {
		t.Error("Authenticate changed the store:", diff)
	}
}

func TestAKeyDiesWithItsUserAndItsOrg(t *testing.T) {
	for name, row := range map[string]func(*world) string{
		"key":  func(w *world) string { return layout.APIKey(hash(w.key)) },
		"user": func(w *world) string { return layout.User(w.user.ID) },
		"org":  func(w *world) string { return layout.Org(w.org.ID) },
	} {
		w := newWorld(t)
		w.put(t, row(w), nil)
		if p, err := w.Authenticate(t.Context(), w.key); err != errCredential || p != (access.Principal{}) {
			t.Errorf("without its %s record: %v, %v", name, p, err)
		}
		w = newWorld(t)
		w.put(t, row(w), 7)
		if p, err := w.Authenticate(t.Context(), w.key); !errors.Is(err, fault.Damaged) || p != (access.Principal{}) {
			t.Errorf("with a damaged %s record: %v, %v", name, p, err)
		}
	}
}

func TestAStoreThatFailsIsNotABadCredential(t *testing.T) {
	for cause, want := range map[error]fault.Code{
		errors.New("disk"): fault.Internal, store.ErrDamaged: fault.Damaged, store.ErrClosed: fault.Unavailable, context.Canceled: fault.Unavailable,
	} {
		w := newWorld(t)
		w.store.fail = cause
		p, err := w.Authenticate(t.Context(), w.key)
		wantCode(t, err, want)
		if p != (access.Principal{}) || strings.Contains(fmt.Sprintf("%+v %#v", err, err), w.key[4:]) {
			t.Errorf("%v, %v", p, err)
		}
	}
}

func TestEnsureAPIKeyIsIdempotent(t *testing.T) {
	w := newWorld(t)
	key := keyPrefix + strings.Repeat("A", 43)
	if err := w.EnsureAPIKey(t.Context(), w.user.ID, key); err != nil {
		t.Fatal(err)
	}
	if p, err := w.Authenticate(t.Context(), key); err != nil || p.ID != w.user.ID {
		t.Error(p, err)
	}
	mate, err := w.CreateUser(t.Context(), w.org.ID, "mate@example.com")
	if err != nil {
		t.Fatal(err)
	}
	before := w.dump(t)
	if err := w.EnsureAPIKey(t.Context(), w.user.ID, key); err != nil {
		t.Error(err)
	}
	wantCode(t, w.EnsureAPIKey(t.Context(), mate.ID, key), fault.Conflict)
	wantCode(t, w.EnsureAPIKey(t.Context(), uuid.NewString(), key), fault.NotFound)
	for name, bad := range badKeys(w) {
		if name == "unknown" {
			continue
		}
		err := w.EnsureAPIKey(t.Context(), w.user.ID, bad)
		if fault.Of(err).Code != fault.Invalid || len(bad) > 10 && strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %.100v", name, err)
		}
	}
	if diff := cmp.Diff(before, w.dump(t)); diff != "" {
		t.Error(diff)
	}
}

func TestOneKeyEnsuredByManyIsOneRecord(t *testing.T) {
	w := newWorld(t)
	key := keyPrefix + strings.Repeat("A", 43)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := w.EnsureAPIKey(context.Background(), w.user.ID, key); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	rows := strings.Join(slices.Collect(maps.Keys(w.dump(t))), " ")
	if n := strings.Count(rows, "apikey:"+hash(key)) + strings.Count(rows, "apikeyof:"+w.user.ID); n != 3 { // and the index entry of the first key
		t.Errorf("%d rows, want 3", n)
	}
}

func TestAKeyThatAnotherUserRegistersMeanwhileStaysHis(t *testing.T) {
	w := newWorld(t)
	key := keyPrefix + strings.Repeat("A", 43)
	mate, err := w.CreateUser(t.Context(), w.org.ID, "mate@example.com")
	if err != nil {
		t.Fatal(err)
	}
	w.store.beforeCommit = func() {
		if err := w.EnsureAPIKey(t.Context(), mate.ID, key); err != nil {
			t.Error(err)
		}
	}
	wantCode(t, w.EnsureAPIKey(t.Context(), w.user.ID, key), fault.Conflict)
	if p, err := w.Authenticate(t.Context(), key); err != nil || p.ID != mate.ID {
		t.Error(p, err)
	}
}

func TestWhatIsNoOrgOrUserIsRefused(t *testing.T) {
	w := newWorld(t)
	before := w.dump(t)
	for _, name := range []string{"", strings.Repeat("é", 201), "a\nb", "\xff"} {
		_, err := w.CreateOrg(t.Context(), name, access.Free)
		wantCode(t, err, fault.Invalid)
	}
	for _, plan := range []access.Plan{"", "gold", "Free"} {
		_, err := w.CreateOrg(t.Context(), "Org", plan)
		wantCode(t, err, fault.Invalid)
	}
	for _, email := range []string{"", "owner", "a@", "@b", "Owner <a@b.c>", "a@b.c, d@e.f", "a b@c.d", "a@b.c\n", strings.Repeat("a", 250) + "@b.cd"} {
		_, err := w.CreateUser(t.Context(), w.org.ID, email)
		if fault.Of(err).Code != fault.Invalid {
			t.Errorf("email %q: %v", email, err)
		}
	}
	for _, id := range []string{"", uuid.NewString(), w.user.ID, strings.Repeat("a", 1<<20)} {
		_, err := w.CreateUser(t.Context(), id, "a@example.com")
		wantCode(t, err, fault.NotFound)
	}
	for _, id := range []string{"", uuid.NewString(), w.org.ID, strings.Repeat("a", 1<<20)} {
		_, err := w.CreateAPIKey(t.Context(), id)
		wantCode(t, err, fault.NotFound)
	}
	if diff := cmp.Diff(before, w.dump(t)); diff != "" {
		t.Error(diff)
	}
}

func TestAKeyIsNotMadeForAUserWhoLeavesMeanwhile(t *testing.T) {
	w := newWorld(t)
	w.store.beforeCommit = func() { w.put(t, layout.User(w.user.ID), nil) }
	key, err := w.CreateAPIKey(t.Context(), w.user.ID)
	wantCode(t, err, fault.NotFound)
	if key != "" {
		t.Error("a key was answered")
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	w := newWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Authenticate(b.Context(), w.key); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAuthenticateUnknown(b *testing.B) {
	w := newWorld(b)
	key := keyPrefix + strings.Repeat("A", 43)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Authenticate(b.Context(), key); err == nil {
			b.Fatal("let in")
		}
	}
}
