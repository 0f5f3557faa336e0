package thread

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestCreateStoresTheKeyFactsInTheMetadata(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, mate, "Plans for 2027")
	want := api.Thread{
		ID: th.ID, Title: "Plans for 2027", Author: mate.ID, Slug: "plans-for-2027-" + th.ID,
		CreatedTS: w.clock.Load(), UpdatedTS: w.clock.Load(),
	}
	if diff := cmp.Diff(want, th); diff != "" {
		t.Error(diff)
	}
	if id, err := uuid.Parse(th.ID); err != nil || id.Version() != 7 {
		t.Errorf("thread ID %q is no UUIDv7", th.ID)
	}
	var stored struct {
		Org string         `json:"org"`
		KMS map[string]any `json:"kms"`
	}
	if err := json.Unmarshal(w.get(t, layout.ThreadMeta(th.ID)), &stored); err != nil {
		t.Fatal(err)
	}
	kms := map[string]any{"key_id": "key-1", "wrapped_dek": "d3JhcHBlZA==", "kek_id": "threads", "kek_version": 1.0, "created_ts": float64(w.clock.Load())}
	if diff := cmp.Diff(kms, stored.KMS); diff != "" || stored.Org != mate.OrgID {
		t.Error(diff, stored.Org)
	}
	w.get(t, layout.OrgThread(mate.OrgID, mate.ID, th.CreatedTS, th.ID))
	if n := w.store.commits.Load(); n != 1 {
		t.Errorf("Create made %d commits, want 1", n)
	}
}

func TestTheDEKIsThereBeforeTheThreadIs(t *testing.T) {
	w := newWorld(t)
	w.kms.before = func() {
		if len(w.dump(t)) != 0 {
			t.Error("the store has a record before the DEK was made")
		}
	}
	w.thread(t, owner, "")
	w.kms.before = nil

	// A crash between DEK and commit: the DEK is all that is left.
	before := w.dump(t)
	w.store.beforeCommit = func() error { return errors.New("power failed") }
	_, err := w.Create(t.Context(), owner, api.CreateThread{})
	wantCode(t, err, fault.Internal)
	w.unchanged(t, before)
	if len(w.kms.keys) != 2 {
		t.Errorf("%d DEKs, want 2", len(w.kms.keys))
	}
}

func TestCreateWithoutADEKStoresNothing(t *testing.T) {
	for name, c := range map[string]struct {
		arrange func(*twinKMS)
		want    fault.Code
	}{
		"the KMS is away":       {func(k *twinKMS) { k.fail = fault.New(fault.Unavailable, "away") }, fault.Unavailable},
		"the KMS fails":         {func(k *twinKMS) { k.fail = errors.New("broken pipe") }, fault.Unavailable},
		"it answers too little": {func(k *twinKMS) { k.shorten = true }, fault.Unavailable},
		"it answers no key ID":  {func(k *twinKMS) { k.creating = func(r *kmsapi.CreateDEKResult) { r.DEK.KeyID = "" } }, fault.Damaged},
		"the item fails":        {func(k *twinKMS) { k.creating = func(r *kmsapi.CreateDEKResult) { r.Err = errors.New("no") } }, fault.Unavailable},
		"the threads KEK is bad": {func(k *twinKMS) {
			k.creating = func(r *kmsapi.CreateDEKResult) { r.Err = fault.New(fault.Damaged, "x") }
		}, fault.Damaged},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c.arrange(w.kms)
			_, err := w.Create(t.Context(), owner, api.CreateThread{Title: "t"})
			wantCode(t, err, c.want)
			w.unchanged(t, map[string]string{})
		})
	}
}

func TestTitlesAndSlugs(t *testing.T) {
	w := newWorld(t)
	for title, want := range map[string]string{
		"":                         "thread",
		"!?":                       "thread",
		"Hello, World!":            "hello-world",
		"  a -- b  ":               "a-b",
		"Übung 3 日本語":              "übung-3-日本語",
		"\u0928\u092e\u0938\u094d": "\u0928\u092e\u0938\u094d",
		strings.Repeat("é", 500):   strings.Repeat("é", 80),
		strings.Repeat("a ", 250):  strings.TrimRight(strings.Repeat("a-", 40), "-"),
	} {
		th := w.thread(t, owner, title)
		if th.Title != title || th.Slug != want+"-"+th.ID {
			t.Errorf("title %q: stored as %q with slug %q, want %q", title, th.Title, th.Slug, want)
		}
	}
	before := w.dump(t)
	for _, title := range []string{strings.Repeat("é", 501), "a\nb", "a\x00", "\x1b[31m", "\xff"} {
		_, err := w.Create(t.Context(), owner, api.CreateThread{Title: title})
		wantCode(t, err, fault.Invalid)
	}
	w.unchanged(t, before)
}

func TestDeleteKeepsTheRecordAndHidesTheThread(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	id := w.say(t, th.ID, "hello")
	row := w.get(t, layout.Message(th.ID, id))
	var before, after meta
	if err := json.Unmarshal(w.get(t, layout.ThreadMeta(th.ID)), &before); err != nil {
		t.Fatal(err)
	}
	if err := w.Delete(t.Context(), owner, th.ID); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(w.get(t, layout.ThreadMeta(th.ID)), &after); err != nil {
		t.Fatal(err)
	}
	before.Deleted, before.DeletedTS = true, after.DeletedTS
	if diff := cmp.Diff(before, after, cmpopts.IgnoreUnexported(meta{})); diff != "" || after.DeletedTS <= th.CreatedTS {
		t.Errorf("the record after Delete (%d): %s", after.DeletedTS, diff)
	}
	if diff := cmp.Diff(row, w.get(t, layout.Message(th.ID, id))); diff != "" {
		t.Error("a message changed with the deletion")
	}
	if _, err := w.store.Get(t.Context(), layout.OrgThread(owner.OrgID, owner.ID, th.CreatedTS, th.ID)); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the index entry after Delete: %v", err)
	}
	for name, call := range onThread {
		if err := call(w.Service, t.Context(), owner, th.ID); !errorIs(err, fault.NotFound) {
			t.Errorf("%s of a deleted thread: %v", name, err)
		}
	}
}

// between runs f once, in the middle of the next call: while the KMS works.
func (w *world) between(f func()) {
	w.kms.before = func() {
		w.kms.before = nil
		f()
	}
}

func TestAPostThatMeetsADeletionIsNotStored(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.between(func() {
		if err := w.Delete(t.Context(), owner, th.ID); err != nil {
			t.Error(err)
		}
	})
	_, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("late")})
	wantCode(t, err, fault.NotFound)
	for key := range w.dump(t) {
		if strings.HasPrefix(key, layout.Messages(th.ID)) {
			t.Error("the message was stored after the deletion:", key)
		}
	}
}

func TestAPostThatMeetsANewDEKIsSealedUnderTheNewOne(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	next := w.kms.make()
	w.between(func() { w.editMeta(t, th.ID, func(m *meta) { m.KMS.KeyID = next }) })
	w.say(t, th.ID, "hello")
	if got := w.list(t, owner, th.ID, MessageQuery{}).Messages; len(got) != 1 || string(got[0].Body) != `"hello"` {
		t.Errorf("after the change of the DEK: %v", got)
	}
}

func TestADeletionMeetsAnotherOne(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	first := true
	w.store.beforeCommit = func() error {
		if first {
			first = false
			return w.another().Delete(t.Context(), owner, th.ID)
		}
		return nil
	}
	wantCode(t, w.Delete(t.Context(), owner, th.ID), fault.NotFound)
}

func TestADamagedRecordIsOneClearError(t *testing.T) {
	w := newWorld(t)
	a, b := w.thread(t, owner, "a"), w.thread(t, owner, "b")
	good := w.get(t, layout.ThreadMeta(a.ID))
	for name, value := range map[string][]byte{
		"empty":               nil,
		"cut off":             good[:len(good)/2],
		"null":                []byte("null"),
		"not JSON":            []byte("\x00\xff"),
		"of another thread":   w.get(t, layout.ThreadMeta(b.ID)),
		"with a name twice":   []byte(strings.Replace(string(good), `"org"`, `"id"`, 1)),
		"with a wrong member": []byte(strings.Replace(string(good), `"org1"`, `1`, 1)),
	} {
		w.overwrite(t, layout.ThreadMeta(a.ID), value)
		for method, call := range onThread {
			if err := call(w.Service, t.Context(), owner, a.ID); !errorIs(err, fault.Damaged) {
				t.Errorf("%s with a record %s: %v", method, name, err)
			}
		}
	}
}
