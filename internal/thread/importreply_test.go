package thread

import (
	"testing"

	"github.com/keyfold/keyfold/api"
)

// A message may answer one that was purged, and get the ID of that when it is imported.
func TestAnImportedMessageDoesNotAnswerItself(t *testing.T) {
	w := newWorld(t)
	th, to := w.thread(t, owner, "").ID, w.thread(t, owner, "").ID
	gone := w.post(t, owner, th, api.PostMessage{Body: quoted("gone"), TS: 7})
	reply := w.post(t, owner, th, api.PostMessage{Body: quoted("reply"), TS: 7, ReplyTo: gone.ID})
	if _, err := w.EditMessage(t.Context(), owner, th, reply.ID, api.EditMessage{Body: quoted("edited")}); err != nil {
		t.Fatal(err)
	}
	w.drop(t, th, gone.ID)
	w.keep(t, boss, 1, 0)
	w.pass(2 * day)
	w.purge(t)
	got, err := w.Import(t.Context(), owner, to, []byte(w.export(t, owner, th)))
	if want := (api.ImportedMessages{Imported: 1, LeftOut: 2}); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	msgs := w.list(t, owner, to, MessageQuery{}).Messages
	if len(msgs) != 1 || msgs[0].ID != gone.ID || msgs[0].Version != 2 || msgs[0].ReplyTo != "" {
		t.Errorf("%+v", msgs)
	}
}
