package thread

import (
	"bytes"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestAMovedRowDoesNotOpen(t *testing.T) {
	w := newWorld(t)
	a, b := w.thread(t, owner, "a"), w.thread(t, owner, "b")
	a1, a2, b1 := w.say(t, a.ID, "a1"), w.say(t, a.ID, "a2"), w.say(t, b.ID, "b1")
	rowA1, rowA2, rowB1 := layout.Message(a.ID, a1), layout.Message(a.ID, a2), layout.Message(b.ID, b1)
	A1, A2, B1 := w.get(t, rowA1), w.get(t, rowA2), w.get(t, rowB1)

	for _, c := range []struct {
		what  string
		store map[string][]byte // what somebody puts where
	}{
		{"swapped within a thread", map[string][]byte{rowA1: A2, rowA2: A1}},
		{"swapped between threads", map[string][]byte{rowA1: B1, rowB1: A1}},
		{"copied to another thread under its ID", map[string][]byte{layout.Message(b.ID, a1): A1}},
		{"copied to another ID", map[string][]byte{layout.Message(a.ID, layout.MessageID(1, 0)): A1}},
	} {
		for key, row := range c.store {
			w.overwrite(t, key, row)
		}
		for key := range c.store {
			w.closed(t, c.what, key)
		}
		w.overwrite(t, rowA1, A1)
		w.overwrite(t, rowA2, A2)
		w.overwrite(t, rowB1, B1)
	}
}

func TestSwappedKeyIDsOpenNothing(t *testing.T) {
	w := newWorld(t)
	a, b := w.thread(t, owner, "a"), w.thread(t, owner, "b")
	a1, b1 := w.say(t, a.ID, "a1"), w.say(t, b.ID, "b1")
	w.editMeta(t, a.ID, func(m *meta) { m.KMS.KeyID = "key-2" })
	w.editMeta(t, b.ID, func(m *meta) { m.KMS.KeyID = "key-1" })
	w.closed(t, "swapped key IDs", layout.Message(a.ID, a1))
	w.closed(t, "swapped key IDs", layout.Message(b.ID, b1))
	w.editMeta(t, a.ID, func(m *meta) { m.KMS.KeyID = "key-9" })
	w.closed(t, "unknown key ID", layout.Message(a.ID, a1))
	w.kms.keys[""] = w.kms.keys["key-1"]
	w.editMeta(t, a.ID, func(m *meta) { m.KMS.KeyID = "" })
	if _, err := w.ListMessages(t.Context(), owner, a.ID, MessageQuery{}); !errorIs(err, fault.Damaged) {
		t.Errorf("no key ID: %v", err)
	}
}

func TestAReadWithoutTheKMSIsUnavailable(t *testing.T) {
	for name, arrange := range map[string]func(*twinKMS){
		"away":       func(k *twinKMS) { k.fail = fault.New(fault.Unavailable, "away") },
		"broken":     func(k *twinKMS) { k.fail = errors.New("broken pipe") },
		"too little": func(k *twinKMS) { k.shorten = true },
	} {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		id := w.say(t, th.ID, "x")
		arrange(w.kms)
		for _, err := range []error{
			second(w.ListMessages(t.Context(), owner, th.ID, MessageQuery{})),
			second(w.GetMessage(t.Context(), owner, th.ID, id)),
		} {
			if !errorIs(err, fault.Unavailable) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

const canary = "canary-7c0ffee7-tweet"

// chain is everything that a log line of err could hold.
func chain(err error) string {
	var b strings.Builder
	for ; err != nil; err = errors.Unwrap(err) {
		fmt.Fprintf(&b, "%v\n%+v\n%#v\n", err, err, err)
	}
	return b.String()
}

func TestABodyIsInNoStoreByteNoErrorAndNoLog(t *testing.T) {
	var logged bytes.Buffer
	old, out := slog.Default(), log.Writer()
	t.Cleanup(func() {
		slog.SetDefault(old)
		log.SetOutput(out)
	})
	slog.SetDefault(slog.New(slog.NewTextHandler(&logged, &slog.HandlerOptions{Level: slog.LevelDebug})))
	log.SetOutput(&logged)

	w := newWorld(t)
	th := w.thread(t, owner, "a title lies in clear")
	id := w.post(t, owner, th.ID, api.PostMessage{Body: quoted(canary), Role: canary}).ID
	post := func(p access.Principal, req api.PostMessage) error { return second(w.Post(t.Context(), p, th.ID, req)) }
	errs := []error{
		post(stranger, api.PostMessage{Body: quoted(canary)}),
		post(mate, api.PostMessage{Body: quoted(canary)}),
		post(owner, api.PostMessage{Body: []byte(canary)}),
		post(owner, api.PostMessage{Body: []byte(`{"` + canary)}),
		post(owner, api.PostMessage{Body: quoted(canary), Role: canary + "\n"}),
		post(owner, api.PostMessage{Body: quoted(canary), ReplyTo: canary}),
		post(owner, api.PostMessage{Body: quoted(canary), TS: -1}),
	}
	w.store.beforeCommit = func() error { return errors.New("disk full") }
	errs = append(errs, post(owner, api.PostMessage{Body: quoted(canary)}))
	w.store.beforeCommit = nil
	w.kms.fail = errors.New("away")
	errs = append(errs, post(owner, api.PostMessage{Body: quoted(canary)}), second(w.GetMessage(t.Context(), owner, th.ID, id)))
	w.kms.fail = nil
	w.overwrite(t, layout.Message(th.ID, id), []byte("gone"))
	errs = append(errs, second(w.GetMessage(t.Context(), owner, th.ID, id)), second(w.ListMessages(t.Context(), owner, th.ID, MessageQuery{})))

	for i, err := range errs {
		if err == nil || strings.Contains(chain(err), canary) {
			t.Errorf("error %d is %v, or holds the canary", i, err)
		}
	}
	for rec, err := range store.All(t.Context(), w.store, store.Range{Start: "\x00"}) {
		if err != nil || strings.Contains(rec.Key+string(rec.Value), canary) {
			t.Errorf("the canary lies under %q, %v", rec.Key, err)
		}
	}
	if logged.Len() != 0 {
		t.Errorf("logged: %s", &logged)
	}
}

// The record is no row that is sealed: what it says of who may is believed. Whoever
// can write to the store needs no more than a key of any org.
func TestWhoeverWritesToTheStoreNamesWhoMayReadAThread(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "")
	w.say(t, th.ID, canary)
	for who, edit := range map[access.Principal]func(*meta){
		mate:     func(m *meta) { m.Parts = []participant{{ID: mate.ID, Part: access.Reader}} },
		stranger: func(m *meta) { m.Org, m.Author = stranger.OrgID, stranger.ID },
	} {
		if _, err := w.ListMessages(t.Context(), who, th.ID, MessageQuery{}); err == nil {
			t.Errorf("%s reads it as it is", who.ID)
		}
		before := w.get(t, layout.ThreadMeta(th.ID))
		w.editMeta(t, th.ID, edit)
		if got := w.list(t, who, th.ID, MessageQuery{}).Messages; len(got) != 1 || !bytes.Contains(got[0].Body, []byte(canary)) {
			t.Errorf("%s reads %+v", who.ID, got)
		}
		w.overwrite(t, layout.ThreadMeta(th.ID), before)
	}
}
