package vault

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestVersionsHaveNoGapsUnder32Writers(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	const writers, each = 32, 4
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := map[int]string{}
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				value := strings.Repeat("x", w*each+i+1)
				n := r.put(v, "busy", value)
				mu.Lock()
				got[n] = value
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for n := 1; n <= writers*each; n++ {
		read, err := r.ReadVersion(t.Context(), owner, v, "busy", n)
		if err != nil || got[n] == "" || read.Secret.Value != got[n] || read.Secret.Version != n {
			t.Fatalf("version %d: %v", n, err)
		}
	}
	t.Logf("%d writes took %d seals", writers*each, r.kms.seals.Load())
}

func TestAPutIsOneSealAndOneCommit(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	commits := 0
	r.hooks.beforeCommit = func(*store.Batch) error { commits++; return nil }
	r.put(v, "a", "x")
	r.put(v, "a", "y")
	if r.kms.seals.Load() != 2 || commits != 2 {
		t.Errorf("two puts: %d seals, %d commits", r.kms.seals.Load(), commits)
	}
}

func TestAPutAnswersWhatItStored(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	expires := time.Date(2031, 1, 1, 0, 0, 0, 5, time.FixedZone("", 3600))
	metadata := json.RawMessage("{\n \"b\": 1.0, \"a\":\"\\u00e9\\/\" }")
	made, err := r.Put(t.Context(), owner, v, "a/b", api.PutSecret{
		Type: "api_key", Value: ptr("s3cret"), Metadata: metadata, ExpiresAt: &expires,
		RotationPolicy: json.RawMessage(`{"days": 30}`), MaxAccessCount: ptr(3),
	}, PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	utc := expires.UTC()
	wanted := api.SecretMetadata{ID: made.ID, Path: "a/b", Type: "api_key", Version: 1, CreatedAt: r.time(), Metadata: metadata, ExpiresAt: &utc}
	if diff := cmp.Diff(wanted, made); diff != "" || !isID(made.ID) {
		t.Errorf("Put: %s", diff)
	}
	read, err := r.read(v, "a/b")
	if err != nil {
		t.Fatal(err)
	}
	whole := api.Secret{
		ID: made.ID, Path: "a/b", Type: "api_key", Value: "s3cret", Version: 1, CreatedAt: r.time(),
		Metadata: metadata, CreatedBy: owner.Ref(), ExpiresAt: &utc,
	}
	if diff := cmp.Diff(Read{Secret: whole}, read); diff != "" {
		t.Errorf("Read: %s", diff)
	}
	list, err := r.ListSecrets(t.Context(), owner, v, "", false)
	if diff := cmp.Diff(api.Secrets{Secrets: []api.ListedSecret{{SecretMetadata: made}}}, list); diff != "" || err != nil {
		t.Errorf("ListSecrets: %v %s", err, diff)
	}
	versions, err := r.Versions(t.Context(), owner, v, "a/b", false)
	if diff := cmp.Diff(api.Versions{Versions: []api.VersionMetadata{{ListedSecret: api.ListedSecret{SecretMetadata: made}}}}, versions); diff != "" || err != nil {
		t.Errorf("Versions: %v %s", err, diff)
	}
}

func TestAnyStringIsAValue(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	for _, value := range []string{"", "\x00", "a\x00b", "\u2028\"\\</script>", "ключ🔑", "\uFFFD", strings.Repeat("x", 1<<20), strings.Repeat("é", MaxValue/2)} {
		r.put(v, "a", value)
		r.wantValue(v, "a", value)
	}
}

func TestAPutOfWrongFieldsStoresNothing(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	before := r.rows()
	bad := func(name string, code fault.Code, change func(*api.PutSecret)) {
		req := api.PutSecret{Value: ptr("x")}
		change(&req)
		_, err := r.Put(t.Context(), owner, v, "a", req, PutOptions{})
		want(t, name, err, code)
	}
	bad("no value", fault.Invalid, func(q *api.PutSecret) { q.Value = nil })
	bad("value too large", fault.TooLarge, func(q *api.PutSecret) { q.Value = ptr(strings.Repeat("x", MaxValue+1)) })
	bad("value not UTF-8", fault.Invalid, func(q *api.PutSecret) { q.Value = ptr("a\xff") })
	bad("type", fault.Invalid, func(q *api.PutSecret) { q.Type = "pasword" })
	bad("no reads", fault.Invalid, func(q *api.PutSecret) { q.MaxAccessCount = ptr(0) })
	bad("negative reads", fault.Invalid, func(q *api.PutSecret) { q.MaxAccessCount = ptr(-1) })
	bad("reads over 31 bits", fault.Invalid, func(q *api.PutSecret) { q.MaxAccessCount = ptr(1 << 31) })
	bad("the zero time", fault.Invalid, func(q *api.PutSecret) { q.ExpiresAt = new(time.Time) })
	bad("year 10000", fault.Invalid, func(q *api.PutSecret) {
		q.ExpiresAt = ptr(time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600)))
	})
	for _, raw := range []string{
		"[]", `"a"`, "1", "true", "{", "}", "{}{}", "nul", `{"a":1,"a":2}`, "{\"a\":\"\xff\"}", `{"a":"\ud800"}`, "\x00", " ",
		`{"a":"` + strings.Repeat("x", MaxMetadata) + `"}`,
	} {
		bad("metadata "+raw[:min(len(raw), 20)], fault.Invalid, func(q *api.PutSecret) { q.Metadata = json.RawMessage(raw) })
		bad("rotation_policy "+raw[:min(len(raw), 20)], fault.Invalid, func(q *api.PutSecret) { q.RotationPolicy = json.RawMessage(raw) })
	}
	if diff := cmp.Diff(before, r.rows()); diff != "" || r.kms.seals.Load() != 0 {
		t.Errorf("something was stored or sealed: %s", diff)
	}
	_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: ptr("x"), Type: "pasword"}, PutOptions{})
	for _, known := range api.SecretTypes {
		if !strings.Contains(err.Error(), known) {
			t.Errorf("the message does not name the type %s: %v", known, err)
		}
	}
}

func TestEveryTypeIsTakenAndGenericStandsForNone(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	for _, typ := range append([]string{""}, api.SecretTypes...) {
		got, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: ptr("x"), Type: typ, Metadata: json.RawMessage("null")}, PutOptions{})
		if typ == "" {
			typ = "generic"
		}
		if err != nil || got.Type != typ || got.Metadata != nil {
			t.Errorf("type %s: %v, %v", typ, got, err)
		}
	}
}

func TestAFailedSealStoresNothing(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		want fault.Code
	}{
		"refused":     {fault.New(fault.NotFound, "no such KEK"), fault.Internal},
		"broken":      {errors.New("boom"), fault.Internal},
		"unavailable": {fault.New(fault.Unavailable, "socket"), fault.Unavailable},
		"given up":    {t.Context().Err(), fault.Internal},
	} {
		if c.err == nil {
			continue
		}
		for _, whole := range []bool{true, false} {
			r := newRig(t)
			v := r.vault()
			r.put(v, "old", "x")
			before := r.rows()
			if whole {
				r.kms.beforeSeal = func() error { return c.err }
			} else {
				r.kms.itemErr = c.err
			}
			for _, path := range []string{"new", "old"} {
				_, err := r.Put(t.Context(), owner, v, path, api.PutSecret{Value: ptr("canary")}, PutOptions{})
				want(t, name, err, c.want)
				_, err = r.Generate(t.Context(), owner, v, "old", api.GenerateSecret{})
				want(t, name, err, c.want)
			}
			if diff := cmp.Diff(before, r.rows()); diff != "" {
				t.Errorf("%s: the store changed: %s", name, diff)
			}
		}
	}
}

func TestAFailedCommitAnswersAnError(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "x")
	r.hooks.beforeCommit = failing(errors.New("disk full: canary"))
	_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: ptr("y")}, PutOptions{})
	want(t, "Put", err, fault.Internal)
	if strings.Contains(answer(err), "canary") {
		t.Errorf("the answer shows the cause: %s", answer(err))
	}
	r.hooks.beforeCommit = nil
	r.wantValue(v, "a", "x")
}

func TestIfMatchIsACompareAndSwap(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	put := func(ifMatch int) error {
		_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: ptr("mine")}, PutOptions{IfMatch: ifMatch})
		return err
	}
	want(t, "no secret yet", put(1), fault.PreconditionFailed)
	r.put(v, "a", "one")
	want(t, "a version to come", put(2), fault.PreconditionFailed)
	want(t, "a negative version", put(-1), fault.PreconditionFailed)
	if err := put(1); err != nil {
		t.Errorf("the newest version: %v", err)
	}
	want(t, "an old version", put(1), fault.PreconditionFailed)
	if err := r.DeleteSecret(t.Context(), owner, v, "a"); err != nil {
		t.Fatal(err)
	}
	want(t, "a deleted version", put(2), fault.PreconditionFailed)
	if rows := r.rows(); rows[layout.SecretVersion(v, "a", 2)] == "" || rows[layout.SecretVersion(v, "a", 3)] != "" {
		t.Error("not two versions")
	}
}

func TestOfManyWhoMatchTheSameVersionOneWins(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "one")
	errs := make([]error, 32)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			_, errs[i] = r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: ptr("two")}, PutOptions{IfMatch: 1})
		})
	}
	wg.Wait()
	won := 0
	for _, err := range errs {
		if err == nil {
			won++
		} else {
			want(t, "a loser", err, fault.PreconditionFailed)
		}
	}
	if versions, err := r.Versions(t.Context(), owner, v, "a", false); won != 1 || err != nil || len(versions.Versions) != 2 {
		t.Errorf("%d won; versions %v, %v", won, versions, err)
	}
}

// A writer meets another one between its last look and its commit.
func TestChangesThatMeetAPutLoseNothing(t *testing.T) {
	for verb, versions := range map[string][]int{
		"secret Put": {3, 2, 1}, "secret Generate": {3, 2, 1}, "secret DeleteSecret": nil, "secret Disable": {2, 1},
	} {
		r := newRig(t)
		v := r.vault()
		r.put(v, "a", "one")
		r.hooks.beforeCommit = func(*store.Batch) error {
			r.hooks.beforeCommit = nil
			r.put(v, "a", "two")
			return nil
		}
		if err := r.verbs()[verb](owner, v, "a"); err != nil {
			t.Fatalf("%s: %v", verb, err)
		}
		got, err := r.Versions(t.Context(), owner, v, "a", false)
		var numbers []int
		for _, e := range got.Versions {
			numbers = append(numbers, e.Version)
		}
		if !slices.Equal(numbers, versions) {
			t.Errorf("%s: versions %v, want %v (%v)", verb, numbers, versions, err)
		}
		if verb == "secret DeleteSecret" {
			if n := r.put(v, "a", "three"); n != 3 {
				t.Errorf("after the deletion comes version %d, want 3", n)
			}
			continue
		}
		if two, err := r.ReadVersion(t.Context(), owner, v, "a", 2); err != nil || two.Secret.Value != "two" {
			t.Errorf("%s: version 2 is %+v, %v", verb, two, err)
		}
	}
}

func TestAPutNeverOverwritesAVersionUnderAHeadThatWasPutBack(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "one")
	old := r.rows()[layout.SecretHead(v, "a")]
	r.put(v, "a", "two")
	r.set(layout.SecretHead(v, "a"), old)
	_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: ptr("three")}, PutOptions{})
	want(t, "Put", err, fault.Damaged)
	r.unset(layout.SecretHead(v, "a"))
	_, err = r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: ptr("three")}, PutOptions{})
	want(t, "Put without a head", err, fault.Damaged)
}

func TestAPutWritesTheRowsThatTheLegendNames(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "x")
	r.put(v, "a", "y")
	id := r.id(v, "a")
	wanted := []string{
		layout.OrgVault(owner.OrgID, v), layout.SecretHead(v, "a"), layout.SecretID(v, id), layout.VaultMeta(v),
		layout.SecretVersion(v, "a", 1), layout.SecretVersion(v, "a", 2),
	}
	if diff := cmp.Diff(wanted, slices.Sorted(maps.Keys(r.rows()))); diff != "" {
		t.Error(diff)
	}
}

// Whatever the KMS says, only an envelope of this value is stored and
// acknowledged.
func TestAnAnswerThatIsNoEnvelopeIsNotStored(t *testing.T) {
	r := newRig(t)
	v, value := r.vault(), "value"
	before := r.rows()
	type results = []kmsapi.SealResult
	with := func(change func(*kmsapi.Envelope)) func(results) results {
		return func(res results) results { change(&res[0].Envelope); return res }
	}
	for what, c := range map[string]struct {
		answer func(results) results
		code   fault.Code
	}{
		"nothing":           {func(results) results { return nil }, fault.Unavailable},
		"two results":       {func(res results) results { return append(res, res[0]) }, fault.Unavailable},
		"an empty envelope": {func(results) results { return make(results, 1) }, fault.Internal},
		"no ciphertext":     {with(func(e *kmsapi.Envelope) { e.Ciphertext = nil }), fault.Internal},
		"the plaintext":     {with(func(e *kmsapi.Envelope) { e.Ciphertext = []byte(value) }), fault.Internal},
		"a short tag":       {with(func(e *kmsapi.Envelope) { e.Ciphertext = e.Ciphertext[1:] }), fault.Internal},
		"a byte more":       {with(func(e *kmsapi.Envelope) { e.Ciphertext = append(e.Ciphertext, 0) }), fault.Internal},
		"no wrapped DEK":    {with(func(e *kmsapi.Envelope) { e.WrappedDEK = nil }), fault.Internal},
		"a raw DEK":         {with(func(e *kmsapi.Envelope) { e.WrappedDEK = e.WrappedDEK[:32] }), fault.Internal},
		"no KEK":            {with(func(e *kmsapi.Envelope) { e.KEKID = "" }), fault.Internal},
		"another KEK":       {with(func(e *kmsapi.Envelope) { e.KEKID = "threads" }), fault.Internal},
	} {
		r.kms.answer = c.answer
		_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: &value}, PutOptions{})
		want(t, what, err, c.code)
		if diff := cmp.Diff(before, r.rows()); diff != "" {
			t.Errorf("%s: something was stored:\n%s", what, diff)
		}
	}
	r.kms.answer = nil
	r.put(v, "a", value)
	r.kms.openAnswer = func([]kmsapi.OpenResult) []kmsapi.OpenResult { return nil }
	_, err := r.read(v, "a")
	want(t, "an Open without results", err, fault.Unavailable)
}
