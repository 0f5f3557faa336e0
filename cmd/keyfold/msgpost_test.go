package main

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/keyfold/keyfold/api"
)

func TestALineWaitsForWhatItMustFollow(t *testing.T) {
	body := json.RawMessage(`1`)
	p := &poster{plan: &msgPlan{base: 100, repliedTo: map[string]bool{"b": true}}, targets: map[string]*posting{}}
	next := func(id, replyTo string, ts int64, seq int) *posting {
		return p.prepare(msgLine{seq: seq, id: id, PostMessage: api.PostMessage{Body: body, TS: ts, ReplyTo: replyTo}})
	}
	a := next("a", "", 7, 0)
	b := next("b", "", 7, 1)
	c := next("c", "b", 8, 2)
	d := next("d", "elsewhere", 0, 3)
	e := next("", "", 0, 4)
	if !slices.Equal(b.before, []*posting{a}) || !slices.Equal(c.before, []*posting{b}) || c.answer != b {
		t.Error("lines of one time, or an answer, do not wait")
	}
	if len(a.before) != 0 || len(d.before) != 0 || d.answer != nil || len(e.before) != 0 {
		t.Error("a line waits for nothing that it must follow")
	}
	if d.TS != 103 || e.TS != 104 {
		t.Errorf("times %d and %d", d.TS, e.TS)
	}
}

func TestEqualLinesAreAsManyMessages(t *testing.T) {
	k := mark(1, "", json.RawMessage(`{"a": 1}`))
	if k != mark(1, "user", json.RawMessage(`{"a":1}`)) {
		t.Error("a role that is left out, or spaces in JSON, make another message")
	}
	for _, other := range [][32]byte{mark(2, "", json.RawMessage(`{"a":1}`)), mark(1, "u", json.RawMessage(`{"a":1}`)), mark(1, "", json.RawMessage(`{"a":"1"}`))} {
		if other == k {
			t.Error("another message has the same mark")
		}
	}
	p := presence{k: {"x", "y"}}
	if got := []string{p.take(k), p.take(k), p.take(k)}; !slices.Equal(got, []string{"x", "y", ""}) {
		t.Errorf("took %q", got)
	}
}
