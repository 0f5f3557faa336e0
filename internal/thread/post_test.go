package thread

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// bodies are JSON values whose spelling a careless reader would change.
var bodies = []string{
	`"text"`, `""`, `0`, `-0`, `1e999`, `1.0`, `12345678901234567890.123456789`, `true`, `false`, `[]`, `{}`,
	`[ 1 ,	2,` + "\r\n" + ` 3 ]`, ` {"a" : 1 } `, `{"a":1,"a":2}`, `{"b":1,"a":2}`, `"\u0041\/\ud83d\ude00"`, `"\ud800"`,
	`"<script>&"`, `"ü 日本 😀` + "\u2028" + `"`, `{"id":"x","thread":"y","body":null}`, `[null]`, `"null"`,
	`{"":{"":[[[[]]]]}}`, `"` + strings.Repeat("x", 70_000) + `"`,
}

func TestABodyComesBackToTheByte(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	for _, body := range bodies {
		posted, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: json.RawMessage(body)})
		if err != nil {
			t.Errorf("%.40s: %v", body, err)
			continue
		}
		id := decodeAs[api.Message](t, posted).ID
		got, err := w.GetMessage(t.Context(), owner, th.ID, id)
		if err != nil || !bytes.Equal(got, posted) || !bytes.Contains(got, []byte(`"body":`+body+`}`)) {
			t.Errorf("%.40s: posted %.200s, got %.200s, %v", body, posted, got, err)
		}
	}
	raw, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
	if err != nil || !json.Valid(raw) {
		t.Fatalf("the list is not JSON, or %v", err)
	}
	for _, body := range bodies {
		if !bytes.Contains(raw, []byte(`"body":`+body+`}`)) {
			t.Errorf("the list lacks %.40s", body)
		}
	}
}

func TestWhatIsNoBodyIsRefused(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	before, calls := w.dump(t), w.kms.calls.Load()
	for _, body := range []string{
		``, ` `, `null`, " null\n", `nul`, `{`, `"`, `"` + "\xff" + `"`, `{"a"}`, `[1,]`, `1 2`, `'a'`, `01`, `NaN`, "\x00",
		`"a` + "\n" + `"`, "\uFEFF1", `},"x":{`, `1},{"a":1`,
	} {
		_, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: json.RawMessage(body)})
		wantCode(t, err, fault.Invalid)
		if !strings.HasPrefix(fault.Of(err).Message, "body is required") {
			t.Errorf("%.20q: %q", body, err)
		}
	}
	_, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted(strings.Repeat("x", MaxBody-1))})
	wantCode(t, err, fault.TooLarge)
	_, err = w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: nested(MaxDepth + 1)})
	wantCode(t, err, fault.Invalid)
	w.unchanged(t, before)
	if w.kms.calls.Load() != calls {
		t.Error("the KMS was called for what is not stored")
	}
	for _, body := range []json.RawMessage{quoted(strings.Repeat("x", MaxBody-2)), nested(MaxDepth)} {
		if _, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: body}); err != nil {
			t.Error("a body at the limit:", err)
		}
	}
	raw, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
	if err != nil || !json.Valid(raw) {
		t.Error("bodies at their limits make a page that is no JSON:", err)
	}
}

func nested(levels int) json.RawMessage {
	return json.RawMessage(strings.Repeat(`{"a":[`, levels/2) + strings.Repeat("[", levels%2) + strings.Repeat("]", levels%2) + strings.Repeat("]}", levels/2))
}

func TestTheDepthOfABodyIsThatOfItsBrackets(t *testing.T) {
	for text, want := range map[string]int{`1`: 0, `"[[["`: 0, `"\\"`: 0, `["\"[["]`: 1, `["\\",[]]`: 2, `[[],[[]]]`: 3, `{"[":{"a":1}}`: 2, string(nested(7)): 7} {
		if got := depth([]byte(text)); got != want {
			t.Errorf("depth(%s) = %d, want %d", text, got, want)
		}
	}
}

func TestTheMessageIsAsTheContractSays(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, mate, "t")
	first := w.post(t, mate, th.ID, api.PostMessage{Body: quoted("a")})
	want := api.Message{
		ID: layout.MessageID(first.TS, 0), Thread: th.ID, Author: mate.ID, Role: "user", TS: w.clock.Load() + 1, Body: quoted("a"),
	}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Error(diff)
	}
	second := w.post(t, mate, th.ID, api.PostMessage{Body: quoted("b"), Role: `as"sist\ant 😀`, ReplyTo: first.ID, TS: 7})
	want = api.Message{
		ID: "00000000000000000007-000000", Thread: th.ID, Author: mate.ID, Role: `as"sist\ant 😀`, TS: 7, Body: quoted("b"), ReplyTo: first.ID,
	}
	if diff := cmp.Diff(want, second); diff != "" {
		t.Error(diff)
	}
	if got := w.list(t, mate, th.ID, MessageQuery{}); cmp.Diff(api.Messages{Thread: th.ID, Messages: []api.Message{second, first}}, got) != "" {
		t.Errorf("list: %v", got)
	}
}

func TestWrongMembersAreRefused(t *testing.T) {
	w := newWorld(t)
	th, other := w.thread(t, owner, "t"), w.thread(t, owner, "other")
	elsewhere := w.say(t, other.ID, "x")
	before := w.dump(t)
	for name, req := range map[string]api.PostMessage{
		"long role":          {Role: strings.Repeat("r", MaxRole+1)},
		"role with newline":  {Role: "a\nb"},
		"role not UTF-8":     {Role: "\xff"},
		"negative ts":        {TS: -1},
		"reply to no ID":     {ReplyTo: "yesterday"},
		"reply to nothing":   {ReplyTo: layout.MessageID(5, 0)},
		"reply to elsewhere": {ReplyTo: elsewhere},
		"reply to metadata":  {ReplyTo: "../meta"},
	} {
		req.Body = quoted("x")
		_, err := w.Post(t.Context(), owner, th.ID, req)
		if !errorIs(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.unchanged(t, before)
}

func TestTheRowIsNonceCiphertextTagAndNothingElse(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	wire, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("hello")})
	if err != nil {
		t.Fatal(err)
	}
	id := decodeAs[api.Message](t, wire).ID
	row := w.get(t, layout.Message(th.ID, id))
	if len(row) != len(wire)+aead.Overhead {
		t.Errorf("the row has %d bytes, want %d", len(row), len(wire)+aead.Overhead)
	}
	key := w.kms.keys["key-1"]
	opened, err := key.Open(row, aead.AAD("keyfold/message/v1", th.ID, id, "1"))
	if err != nil || !bytes.Equal(opened, wire) {
		t.Errorf("the row opens to %q, %v", opened, err)
	}
	for _, aad := range [][]byte{
		nil, aead.AAD("keyfold/message/v2", th.ID, id, "1"), aead.AAD("keyfold/message/v1", th.ID+"0", id, "1"),
		aead.AAD("keyfold/message/v1", th.ID, layout.MessageID(1, 0), "1"), aead.AAD("keyfold/message/v1", th.ID, id, "2"),
		aead.AAD("keyfold/message/v1", th.ID, id),
	} {
		if _, err := key.Open(row, aad); err == nil {
			t.Errorf("the row opens under AAD %q", aad)
		}
	}
}

func TestAPostWithoutCiphertextStoresNothing(t *testing.T) {
	result := func(f func(kmsapi.EncryptItem, *kmsapi.EncryptResult)) func(*world) {
		return func(w *world) { w.kms.encrypting = f }
	}
	for name, c := range map[string]struct {
		arrange func(*world)
		want    fault.Code
	}{
		"the KMS is away":       {func(w *world) { w.kms.fail = fault.New(fault.Unavailable, "away") }, fault.Unavailable},
		"the KMS fails":         {func(w *world) { w.kms.fail = errors.New("broken pipe") }, fault.Unavailable},
		"the call is cancelled": {func(w *world) { w.kms.fail = context.Canceled }, fault.Unavailable},
		"it answers too little": {func(w *world) { w.kms.shorten = true }, fault.Unavailable},
		"the item fails": {result(func(_ kmsapi.EncryptItem, r *kmsapi.EncryptResult) {
			*r = kmsapi.EncryptResult{Err: fault.New(fault.Internal, "no")}
		}), fault.Unavailable},
		"the key is worn out": {result(func(_ kmsapi.EncryptItem, r *kmsapi.EncryptResult) {
			*r = kmsapi.EncryptResult{Err: fault.New(fault.Conflict, "rotate it")}
		}), fault.Conflict},
		"the key is gone": {func(w *world) { clear(w.kms.keys) }, fault.Damaged},
		"the metadata names no key": {func(w *world) {
			w.kms.keys[""] = w.kms.keys["key-1"] // not even when the KMS would
			for key := range w.dump(t) {
				if id, ok := strings.CutSuffix(strings.TrimPrefix(key, "thread:"), ":meta"); ok {
					w.editMeta(t, id, func(m *meta) { m.KMS.KeyID = "" })
				}
			}
		}, fault.Damaged},
		"it answers the plaintext": {result(func(i kmsapi.EncryptItem, r *kmsapi.EncryptResult) { r.Ciphertext = i.Plaintext }), fault.Internal},
		"it answers nothing":       {result(func(_ kmsapi.EncryptItem, r *kmsapi.EncryptResult) { r.Ciphertext = nil }), fault.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			th := w.thread(t, owner, "t")
			c.arrange(w)
			before := w.dump(t)
			wire, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("canary")})
			wantCode(t, err, c.want)
			if wire != nil {
				t.Error("a refused post answered a message")
			}
			w.unchanged(t, before)
		})
	}
}

func TestAStoreThatFailsIsNotAnsweredAsStored(t *testing.T) {
	for cause, want := range map[error]fault.Code{
		errors.New("disk full"): fault.Internal,
		store.ErrDamaged:        fault.Damaged,
		store.ErrLimit:          fault.TooLarge,
		store.ErrClosed:         fault.Unavailable,
		context.Canceled:        fault.Unavailable,
	} {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		w.store.beforeCommit = func() error { return cause }
		wire, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")})
		wantCode(t, err, want)
		if wire != nil || !errors.Is(err, cause) {
			t.Errorf("%v: answered %q, %v", cause, wire, err)
		}
	}
}

func TestTimesOfTheServerAreStrictlyIncreasing(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	last := th.CreatedTS
	for i := range 100 {
		if i == 50 {
			w.clock.Add(-1e9) // the clock is set back
		}
		m := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x")})
		if m.TS <= last {
			t.Fatalf("message %d has time %d after %d", i, m.TS, last)
		}
		last = m.TS
	}
}

func TestAnImportWithOneTimeCostsTheSamePerMessage(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	const n = 2000
	ahead := w.clock.Load() + int64(maxAhead)
	w.store.reset()
	for i := range n {
		if m := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 5}); m.ID != layout.MessageID(5, i) {
			t.Fatalf("message %d has ID %s", i, m.ID)
		}
	}
	if scans, scanned, commits := w.store.scans.Load(), w.store.scanned.Load(), w.store.commits.Load(); scans >= n || scanned >= n || commits >= 2*n || w.kms.items >= 2*n {
		t.Errorf("%d posts took %d scans of %d records, %d commits and %d encryptions", n, scans, scanned, commits, w.kms.items)
	}
	w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 6}) // a neighbour
	w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: ahead})
	w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: ahead})
	if m := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 5}); m.ID != layout.MessageID(5, n) {
		t.Errorf("after a neighbour: %s", m.ID)
	}
}

func TestATimeFarAheadIsRefused(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	last := w.clock.Load() + int64(maxAhead)
	line := func(ts int64) string { return fmt.Sprintf(`{"ts":%d,"body":"x"}`+"\n", ts) }
	before := w.dump(t)
	for _, ts := range []int64{last + 1, 4e18, 1<<63 - 1} {
		_, post := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x"), TS: ts})
		_, first := w.PostFirst(t.Context(), owner, api.PostMessage{Body: quoted("x"), TS: ts}, PostOptions{})
		_, lines := w.Import(t.Context(), owner, th.ID, []byte(line(1)+line(ts)))
		for _, err := range []error{post, first, lines} {
			if wantCode(t, err, fault.Invalid); !strings.Contains(fmt.Sprint(err), "24 hours ahead") {
				t.Errorf("ts %d: %v", ts, err)
			}
		}
		if !strings.HasPrefix(fmt.Sprint(lines), "line 2: ") {
			t.Errorf("the import's line is not named: %v", lines)
		}
	}
	if diff := cmp.Diff(before, w.dump(t)); diff != "" {
		t.Errorf("something was stored: %s", diff)
	}
	w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: last})
	if in, err := w.Import(t.Context(), owner, th.ID, []byte(line(1)+line(last))); err != nil || in.Imported != 1 || in.Present != 1 {
		t.Errorf("a day ahead: %+v, %v", in, err)
	}
}

func TestAFullTimeIsAClearError(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 5})
	w.overwrite(t, layout.Message(th.ID, layout.MessageID(5, maxSeq-1)), []byte("x"))
	if m := w.post(t, owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 5}); m.ID != layout.MessageID(5, maxSeq) {
		t.Errorf("the last place: %s", m.ID)
	}
	before := w.dump(t)
	_, err := w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x"), TS: 5})
	wantCode(t, err, fault.Conflict)
	w.unchanged(t, before)
}

func TestManyWritersOnOneThreadLoseNothing(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	servers := []*Service{w.Service, w.another()} // with one clock that stands still
	const writers, each = 32, 20
	var mu sync.Mutex
	acked := map[string]string{} // message ID to body
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for j := range each {
				req := api.PostMessage{Body: quoted(fmt.Sprint(i, ".", j))}
				if i%4 == 0 {
					req.TS = 99 // all of these meet
				}
				raw, err := servers[i%2].Post(context.Background(), owner, th.ID, req)
				if err != nil {
					t.Error(err)
					return
				}
				m := decodeAs[api.Message](t, raw)
				mu.Lock()
				if _, twice := acked[m.ID]; twice {
					t.Errorf("two messages have ID %s", m.ID)
				}
				acked[m.ID] = string(m.Body)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	got := w.list(t, owner, th.ID, MessageQuery{}).Messages
	if !slices.IsSorted(ids(got)) || len(got) != writers*each {
		t.Errorf("%d messages, want %d, in order", len(got), writers*each)
	}
	for _, m := range got {
		if acked[m.ID] != string(m.Body) {
			t.Errorf("message %s is %s, acknowledged as %s", m.ID, m.Body, acked[m.ID])
		}
	}
	seqs := 0
	for id := range acked {
		if ts, _, _ := parseMessageID(id); ts == 99 {
			seqs++
		}
	}
	if last := layout.MessageID(99, seqs-1); acked[last] == "" {
		t.Errorf("the seqs of one time have gaps: %s is missing", last)
	}
}
