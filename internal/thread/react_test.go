package thread

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

func (w *world) reactions(t testing.TB, thread, id string) []api.Reaction {
	t.Helper()
	got, err := w.ListReactions(t.Context(), owner, thread, id)
	if err != nil || got.ID != id || got.Reactions == nil {
		t.Fatalf("%+v, %v", got, err)
	}
	return got.Reactions
}

func TestThereIsOneReactionOfEachIdentity(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.share(t, th.ID, mate)
	posted, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: []byte(bodies[12])})
	if err != nil {
		t.Fatal(err)
	}
	id := decodeAs[api.Message](t, posted).ID
	if got := w.reactions(t, th.ID, id); len(got) != 0 {
		t.Errorf("at first: %v", got)
	}
	w.react(t, owner, th.ID, id, "no")
	w.react(t, mate, th.ID, id, "👍")
	raw, err := w.React(t.Context(), owner, th.ID, id, api.Reaction{ID: owner.ID, Reaction: `"y\es"`})
	want := string(posted[:len(posted)-1]) + `,"reactions":{"0198aaaa-0000-7000-8000-000000000001":"\"y\\es\"","a:b/ü %\"\\":"👍"}}`
	if err != nil || string(raw) != want {
		t.Errorf("%s, want %s, %v", raw, want, err)
	}
	list, err1 := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
	one, err2 := w.GetMessage(t.Context(), owner, th.ID, id)
	if err1 != nil || err2 != nil || string(one) != want || !bytes.Contains(list, []byte(want)) {
		t.Errorf("one %s, %v; list %s, %v", one, err2, list, err1)
	}
	if diff := cmp.Diff([]api.Reaction{{ID: owner.ID, Reaction: `"y\es"`}, {ID: mate.ID, Reaction: "👍"}}, w.reactions(t, th.ID, id)); diff != "" {
		t.Error(diff)
	}
	if m := w.edit(t, owner, th.ID, id, "edited"); len(m.Reactions) != 2 {
		t.Errorf("after an edit: %+v", m)
	}
	for _, v := range w.versionsOf(t, owner, th.ID, id).Versions {
		if v.Reactions != nil {
			t.Errorf("a version has reactions: %+v", v)
		}
	}
	for _, p := range []access.Principal{owner, mate} {
		if err := w.Unreact(t.Context(), p, th.ID, id, ""); err != nil {
			t.Error(err)
		}
		wantCode(t, w.Unreact(t.Context(), p, th.ID, id, p.ID), fault.NotFound)
	}
	for key := range w.dump(t) {
		if strings.Contains(key, ":react:") {
			t.Errorf("%s is left", key)
		}
	}
}

func TestAnIdentityIsOnesOwnUnlessABackendNamesIt(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	id := w.say(t, th.ID, "x")
	agent := access.Principal{Kind: access.Agent, ID: "agent", OrgID: owner.OrgID}
	signed := access.Principal{Kind: access.EndUser, Role: access.Frontend, ID: "signed", OrgID: owner.OrgID}
	named := access.Principal{Kind: access.EndUser, Role: access.Backend, ID: "named", OrgID: owner.OrgID}
	w.share(t, th.ID, mate, agent, signed, named)
	for _, p := range []access.Principal{owner, mate, agent, signed, named} {
		for _, who := range []string{"", p.ID} {
			if _, err := w.React(t.Context(), p, th.ID, id, api.Reaction{ID: who, Reaction: "+"}); err != nil {
				t.Errorf("%s as %q: %v", p.Ref(), who, err)
			}
		}
		_, err := w.React(t.Context(), p, th.ID, id, api.Reaction{ID: "another", Reaction: "+"})
		if ok := err == nil; ok != (p == named) || !ok && !errorIs(err, fault.Forbidden) {
			t.Errorf("%s as another: %v", p.Ref(), err)
		}
		err = w.Unreact(t.Context(), p, th.ID, id, owner.ID)
		if ok := err == nil; ok != (p == named || p == owner) || !ok && !errorIs(err, fault.Forbidden) {
			t.Errorf("%s takes back the owner's: %v", p.Ref(), err)
		}
		w.react(t, owner, th.ID, id, "+")
	}
	if err := w.Unreact(t.Context(), owner, th.ID, id, mate.ID); err != nil { // the owner of the thread may
		t.Error(err)
	}
}

func TestAWrongReactionChangesNothing(t *testing.T) {
	w := newWorld(t)
	th, other := w.thread(t, owner, "t"), w.thread(t, owner, "other")
	id, gone, elsewhere := w.say(t, th.ID, "x"), w.say(t, th.ID, "gone"), w.say(t, other.ID, "y")
	w.react(t, owner, th.ID, gone, "+")
	w.unsay(t, th.ID, gone)
	named := access.Principal{Kind: access.EndUser, Role: access.Backend, ID: "named", OrgID: owner.OrgID}
	reader := access.Principal{Kind: access.User, ID: "reader", OrgID: owner.OrgID}
	w.editMeta(t, th.ID, func(m *meta) {
		m.Parts = []participant{{named.ID, true, access.Writer}, {reader.ID, false, access.Reader}}
	})
	before := w.dump(t)
	for name, c := range map[string]struct {
		p    access.Principal
		id   string
		r    api.Reaction
		want fault.Code
	}{
		"no reaction":       {owner, id, api.Reaction{}, fault.Invalid},
		"long":              {owner, id, api.Reaction{Reaction: strings.Repeat("ü", MaxReaction+1)}, fault.Invalid},
		"a control":         {owner, id, api.Reaction{Reaction: "a\nb"}, fault.Invalid},
		"not UTF-8":         {owner, id, api.Reaction{Reaction: "\xff"}, fault.Invalid},
		"a long identity":   {named, id, api.Reaction{ID: strings.Repeat("x", MaxIdentity+1), Reaction: "+"}, fault.Invalid},
		"a wrong identity":  {named, id, api.Reaction{ID: "a\x00", Reaction: "+"}, fault.Invalid},
		"identity no UTF-8": {named, id, api.Reaction{ID: "\xff", Reaction: "+"}, fault.Invalid},
		"to a deletion":     {owner, gone, api.Reaction{Reaction: "+"}, fault.NotFound},
		"of another thread": {owner, elsewhere, api.Reaction{Reaction: "+"}, fault.NotFound},
		"to none":           {owner, noID, api.Reaction{Reaction: "+"}, fault.NotFound},
		"to no ID":          {owner, "../meta", api.Reaction{Reaction: "+"}, fault.NotFound},
		"of a reader":       {reader, id, api.Reaction{Reaction: "+"}, fault.Forbidden},
	} {
		raw, err := w.React(t.Context(), c.p, th.ID, c.id, c.r)
		if !errorIs(err, c.want) || raw != nil {
			t.Errorf("%s: %s, %v", name, raw, err)
		}
	}
	for _, bad := range []string{gone, elsewhere, noID, "x"} {
		_, err := w.ListReactions(t.Context(), owner, th.ID, bad)
		wantCode(t, err, fault.NotFound)
		wantCode(t, w.Unreact(t.Context(), owner, th.ID, bad, ""), fault.NotFound)
	}
	w.unchanged(t, before)
}

func TestOfReactionsThatMeetNoneIsLost(t *testing.T) {
	for name, write := range map[string]func(*world, string, string) error{
		"React": func(w *world, thread, id string) error {
			return second(w.React(t.Context(), owner, thread, id, api.Reaction{Reaction: "new"}))
		},
		"Unreact": func(w *world, thread, id string) error { return w.Unreact(t.Context(), owner, thread, id, "") },
	} {
		for _, there := range []bool{true, false} {
			w := newWorld(t)
			th := w.thread(t, owner, "t")
			w.share(t, th.ID, mate)
			id := w.say(t, th.ID, "x")
			if there || name == "Unreact" {
				w.react(t, owner, th.ID, id, "old")
			}
			server := w.another()
			w.store.beforeCommit = func() error {
				w.store.beforeCommit = nil
				return second(server.React(t.Context(), mate, th.ID, id, api.Reaction{Reaction: "meanwhile"}))
			}
			err := write(w, th.ID, id)
			want := []api.Reaction{{ID: owner.ID, Reaction: "new"}, {ID: mate.ID, Reaction: "meanwhile"}}
			if name == "Unreact" {
				want = want[1:]
			}
			if diff := cmp.Diff(want, w.reactions(t, th.ID, id)); diff != "" || err != nil {
				t.Errorf("%s: %v, %s", name, err, diff)
			}
		}
	}
}

func TestAMessageTakesAsManyReactionsAsARowHolds(t *testing.T) {
	w := newWorld(t)
	named := access.Principal{Kind: access.EndUser, Role: access.Backend, ID: "named", OrgID: owner.OrgID}
	th := w.thread(t, named, "t")
	for name, c := range map[string]struct {
		sign string
		most int
	}{"many": {"+", maxReactions}, "large": {strings.Repeat("😀", MaxReaction), maxReacted / (MaxIdentity + 4*MaxReaction + 6)}} {
		l := look{Message: api.Message{ID: w.post(t, named, th.ID, api.PostMessage{Body: quoted("x")}).ID}}
		all, identity := map[string]string{}, func(i int) string { return fmt.Sprintf("%0*d", MaxIdentity, i) }
		for i := range c.most {
			all[identity(i)] = c.sign
		}
		var err error
		if l.reactions, err = (reactions{l.ID, all}).encode(); err != nil {
			t.Fatal(err)
		}
		if _, err := (reacting{identity: identity(c.most), reaction: c.sign}).apply(l); !errorIs(err, fault.Conflict) {
			t.Errorf("%s, one more: %v", name, err)
		}
		if _, err := (reacting{identity: identity(0), reaction: "-"}).apply(l); err != nil {
			t.Errorf("%s, another in the place of one: %v", name, err)
		}
		if _, err := (reacting{identity: identity(0), back: true}).apply(l); err != nil {
			t.Errorf("%s, one less: %v", name, err)
		}
	}
}
