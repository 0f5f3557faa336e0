package thread

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/api"
)

// everyRead is what all ways to read answer of two messages, the second deleted.
func everyRead(t *testing.T, w *world, thread, id, gone string) (out []string) {
	t.Helper()
	add := func(raw []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(raw))
	}
	add(w.GetMessage(t.Context(), owner, thread, id))
	add(w.ListMessages(t.Context(), owner, thread, MessageQuery{}))
	add(w.ListMessages(t.Context(), owner, thread, MessageQuery{IncludeDeleted: true, Anchor: id}))
	add(w.ListVersions(t.Context(), owner, thread, id, 0, ""))
	add(w.ListVersions(t.Context(), owner, thread, gone, 0, ""))
	for _, r := range w.reactions(t, thread, id) {
		out = append(out, r.ID+" "+r.Reaction)
	}
	return out
}

func TestWhatBecameOfMessagesIsReadableAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := openSite(t, dir)
	w := newWorldOn(s.rows)
	w.Service = s.Service
	th := w.thread(t, owner, "t")
	id, gone := w.say(t, th.ID, canary), w.say(t, th.ID, canary)
	for _, body := range bodies {
		if _, err := w.EditMessage(t.Context(), owner, th.ID, id, api.EditMessage{Body: []byte(body)}); err != nil {
			t.Fatal(err)
		}
	}
	w.edit(t, owner, th.ID, gone, canary+canary)
	w.react(t, owner, th.ID, id, canary)
	w.react(t, owner, th.ID, gone, canary)
	w.unsay(t, th.ID, gone)
	before := everyRead(t, w, th.ID, id, gone)
	s.close()

	s = openSite(t, dir)
	w = newWorldOn(s.rows)
	w.Service = s.Service
	if diff := cmp.Diff(before, everyRead(t, w, th.ID, id, gone)); diff != "" {
		t.Error(diff)
	}
	s.close()
	if files := filesWith(t, dir, canary); len(files) > 0 {
		t.Errorf("%q hold the canary", files)
	}
}
