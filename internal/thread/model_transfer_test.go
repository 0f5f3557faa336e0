package thread

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/layout"
	"pgregory.net/rapid"
)

func (m *model) export(t *rapid.T) {
	th := m.some(t)
	m.exported(t, m.somebody(t, th), th)
}

// exported exports a thread and returns the text; nil: p may not.
func (m *model) exported(t *rapid.T, p access.Principal, th *modelThread) []byte {
	t.Helper()
	var out bytes.Buffer
	if !m.answered(t, m.at(t).Export(context.Background(), p, nil, th.ID, &out), th.mayRead(p)) {
		return nil
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	got, want := []api.Message{}, []api.Message{}
	for _, line := range lines[:len(lines)-1] {
		got = append(got, decode[api.Message](t, []byte(line)))
	}
	for _, msg := range th.messages {
		for _, v := range msg.versions {
			want = append(want, oneLine(v))
		}
		want[len(want)-1].Reactions = msg.Reactions
	}
	m.equal(t, want, got)
	if end := fmt.Sprintf(`{"end":true,"messages":%d}`, len(th.messages)); lines[len(lines)-1] != end {
		t.Fatalf("the export ends with %s, want %s", lines[len(lines)-1], end)
	}
	return out.Bytes()
}

// oneLine is a message as an export has it.
func oneLine(msg api.Message) api.Message {
	if msg.Body != nil {
		msg.Body = json.RawMessage(strings.NewReplacer("\r", " ", "\n", " ").Replace(string(msg.Body)))
	}
	return msg
}

// maxModelImport is the most lines that importThread brings, so that threads stay small.
const maxModelImport = 100

// importThread brings an export into a new thread of p's, twice.
func (m *model) importThread(t *rapid.T) {
	from := m.some(t)
	p := m.somebody(t, from)
	text := m.exported(t, p, from)
	if text == nil || bytes.Count(text, []byte("\n")) > maxModelImport {
		return
	}
	to := m.makeThread(t, p)
	want, left := broughtBack(from, to)
	s := m.at(t)
	got, err := s.Import(context.Background(), p, to.ID, text)
	m.answered(t, err, "")
	m.equal(t, api.ImportedMessages{Imported: len(from.messages), LeftOut: left}, got)
	for _, msg := range want {
		m.takeOver(t, s, to, msg)
	}
	to.messages = want
	m.newChanges(t, to)
	m.exported(t, p, to)

	got, err = s.Import(context.Background(), p, to.ID, text)
	m.answered(t, err, "")
	if got.Imported != 0 || got.Present != len(from.messages) || len(m.newChanges(t, to)) != 0 {
		t.Fatalf("imported again: %+v", got)
	}
}

// broughtBack are the messages that an import of from into to, which is empty, makes,
// without the times of their changes, and how much is left out.
func broughtBack(from, to *modelThread) (out []*modelMessage, left int) {
	ids := map[string]string{}
	reply := func(id string) string {
		id = cmp.Or(ids[id], id)
		if _, there := placeOf(out, id); there || id == "" {
			return id
		}
		left++
		return ""
	}
	for _, msg := range from.messages {
		first := oneLine(msg.versions[0])
		first.Thread, first.Author, first.EndUser = to.ID, to.by.ID, to.by.Kind == access.EndUser
		first.ReplyTo = reply(first.ReplyTo)
		seq := 0
		for _, one := range out {
			if one.TS == first.TS {
				seq++
			}
		}
		first.ID = layout.MessageID(first.TS, seq)
		ids[msg.ID] = first.ID
		brought := &modelMessage{Message: first, versions: []api.Message{first}}
		out = append(out, brought)
		for _, v := range msg.versions[1:] {
			if v.Deleted {
				continue
			}
			next := brought.Message
			next.Body, next.Role, next.Version = oneLine(v).Body, v.Role, len(brought.versions)+1
			switch to := reply(v.ReplyTo); to {
			case "":
			case first.ID:
				left++
			default:
				next.ReplyTo = to
			}
			brought.next(next)
		}
		left += brought.takeReactions(to.by, msg.Reactions)
	}
	for i, msg := range from.messages {
		if msg.Deleted {
			gone := out[i].Message
			gone.Body, gone.Deleted, gone.Version = nil, true, len(out[i].versions)+1
			out[i].next(gone)
		}
	}
	return out, left
}

// takeReactions has a message get those reactions that p may bring, and counts the others.
func (msg *modelMessage) takeReactions(p access.Principal, reactions map[string]string) (left int) {
	for _, who := range slices.Sorted(maps.Keys(reactions)) {
		if who != p.ID && !speaksForOthers(p) {
			left++
			continue
		}
		if msg.Reactions == nil {
			msg.Reactions = map[string]string{}
		}
		msg.Reactions[who] = reactions[who]
	}
	return left
}

// takeOver gives the versions of a message the times that they have in the thread,
// each of which is later than the one before.
func (m *model) takeOver(t *rapid.T, s *Service, th *modelThread, msg *modelMessage) {
	t.Helper()
	raw, err := s.ListVersions(context.Background(), th.by, th.ID, msg.ID, 0, "")
	m.answered(t, err, "")
	got := decode[api.MessageVersions](t, raw).Versions
	if len(got) != len(msg.versions) {
		t.Fatalf("%s has %d versions, want %d", msg.ID, len(got), len(msg.versions))
	}
	for i := range got[1:] {
		if got[i+1].UpdatedTS <= got[i].UpdatedTS {
			t.Fatalf("version %d of %s is not later than the one before", i+2, msg.ID)
		}
		msg.versions[i+1].UpdatedTS = got[i+1].UpdatedTS
	}
	msg.UpdatedTS = got[len(got)-1].UpdatedTS
	for i, v := range msg.versions {
		if v.Deleted {
			msg.versions[i].Reactions = msg.Reactions
		}
	}
	m.equal(t, msg.versions, got)
}
