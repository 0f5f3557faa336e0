package thread

import (
	"bytes"
	"encoding/json"
	"testing"
	"unicode/utf8"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"pgregory.net/rapid"
)

// FuzzBody posts what the fuzzer makes: JSON comes back to the byte, by post,
// by list and by get; all else is Invalid.
func FuzzBody(f *testing.F) {
	for _, body := range bodies[:len(bodies)-1] {
		f.Add([]byte(body))
	}
	f.Add([]byte(` null`))
	f.Add([]byte(`1},{"body":1`))
	w := newWorld(f)
	thread := w.thread(f, owner, "t").ID
	f.Fuzz(func(t *testing.T, body []byte) {
		valid := json.Valid(body) && utf8.Valid(body) && string(bytes.TrimSpace(body)) != "null"
		posted, err := w.Post(t.Context(), owner, thread, api.PostMessage{Body: body})
		if !valid {
			wantCode(t, err, fault.Invalid)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		m := decodeAs[api.Message](t, posted)
		if want := bytes.Trim(body, " \t\r\n"); !bytes.Equal(m.Body, want) || !bytes.Contains(posted, body) {
			t.Errorf("posted %q, answered %q", body, posted)
		}
		got, err := w.GetMessage(t.Context(), owner, thread, m.ID)
		if err != nil || !bytes.Equal(got, posted) {
			t.Errorf("get: %q, %v, want %q", got, err, posted)
		}
		list, err := w.ListMessages(t.Context(), owner, thread, MessageQuery{Limit: 1})
		if want := `{"thread":"` + thread + `","messages":[` + string(posted) + `]}`; err != nil || string(list) != want {
			t.Errorf("list: %q, %v, want %q", list, err, want)
		}
		var b store.Batch
		b.Delete(layout.Message(thread, m.ID)) // a long campaign takes no more memory than a short one
		if _, err := w.store.Commit(t.Context(), &b); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzMessageID(f *testing.F) {
	f.Add(layout.MessageID(1, 0))
	f.Add(layout.MessageID(1<<63-1, maxSeq))
	for _, bad := range badMessageIDs {
		f.Add(bad)
	}
	f.Fuzz(func(t *testing.T, id string) {
		ts, seq, ok := parseMessageID(id)
		if ok && (layout.MessageID(ts, seq) != id || ts < 1 || seq < 0 || seq > maxSeq) {
			t.Errorf("%q parses to %d, %d", id, ts, seq)
		}
	})
}

func TestEveryMessageIDParsesToItsParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ts, seq := rapid.Int64Min(1).Draw(t, "ts"), rapid.IntRange(0, maxSeq).Draw(t, "seq")
		if gotTS, gotSeq, ok := parseMessageID(layout.MessageID(ts, seq)); !ok || gotTS != ts || gotSeq != seq {
			t.Errorf("%d, %d parses to %d, %d, %v", ts, seq, gotTS, gotSeq, ok)
		}
	})
}

func FuzzCursor(f *testing.F) {
	f.Add(formatCursor("01790000000000000000-0198aaaa-0000-7000-8000-000000000001"))
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, cursor string) {
		pos, ok := parseCursor(cursor)
		if !ok {
			return
		}
		if id, ok := parsePosition(pos); formatCursor(pos) != cursor || !ok || !isThreadID(id) {
			t.Errorf("%q parses to %q", cursor, pos)
		}
	})
}
