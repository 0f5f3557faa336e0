package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Every event has a line that is read back, whatever its texts hold.
func TestEveryEventIsReadBack(t *testing.T) {
	l := &Log{opt: Options{Now: time.Now}}
	text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.SampledFrom([]string{`"}`, `","sig":"`, "\u2028<&>", "a\x00b", "\xff\xfe", "\uFFFD"}))
	rapid.Check(t, func(t *rapid.T) {
		e := Event{Actor: text.Draw(t, "actor"), Action: text.Draw(t, "action"), Target: text.Draw(t, "target"), Outcome: text.Draw(t, "outcome")}
		if rapid.Bool().Draw(t, "detailed") {
			e.Detail = map[string]any{text.Draw(t, "name"): text.Draw(t, "value"), "n": rapid.Uint64().Draw(t, "n"), "f": rapid.Float64().Draw(t, "f"), "none": nil}
		}
		b, err := l.encode(e)
		if err != nil {
			t.Fatal(err)
		}
		line := appendRow(nil, 7, hash{1}, b)
		for _, line := range [][]byte{line, sign(bytes.Clone(line), 0, keyOf(1), recordDomain)} {
			r, prev, err := parseRow(line)
			if err != nil || r.Seq != 7 || prev != (hash{1}) || r.Actor != strings.ToValidUTF8(e.Actor, "\uFFFD") {
				t.Fatalf("%s: %+v, %v", line, r, err)
			}
			if signedBy(pubOf(1), recordDomain, line) != (r.Sig != nil) {
				t.Fatalf("%s: its signature", line)
			}
		}
	})
}

// One record has one text: what says the same otherwise is refused.
func TestARecordHasOneText(t *testing.T) {
	const good = `{"seq":7,"prev":"` + zeros + `","time":"2026-11-22T10:00:00.5Z","actor":"uid:0","action":"a","detail":{"n":1}}`
	if _, _, err := parseRow([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"a space":                {`,"actor"`, `, "actor"`},
		"an unknown member":      {`,"actor"`, `,"x":1,"actor"`},
		"a member twice":         {`"actor":"uid:0"`, `"actor":"uid:1","actor":"uid:0"`},
		"another case":           {`"actor"`, `"Actor"`},
		"another order":          {`"actor":"uid:0","action":"a"`, `"action":"a","actor":"uid:0"`},
		"an escape":              {`"uid:0"`, `"\u0075id:0"`},
		"another number":         {`"seq":7`, `"seq":7.0`},
		"no number":              {`"seq":7`, `"seq":0`},
		"another time":           {`00.5Z`, `00.50Z`},
		"upper case in the hash": {zeros, strings.Repeat("A", 64)},
		"a short hash":           {zeros, zeros[2:]},
		"a short signature":      {`"detail":{"n":1}`, `"detail":{"n":1},"sig":"AAAA"`},
		"text after it":          {`{"n":1}}`, `{"n":1}} `},
	} {
		bad := strings.Replace(good, change[0], change[1], 1)
		if _, _, err := parseRow([]byte(bad)); bad == good || err == nil {
			t.Errorf("%s is taken: %s", name, bad)
		}
	}
}

// What a caller puts into an event lies in the file in clear.
func TestEventsAreWrittenAsTheyAreGiven(t *testing.T) {
	s := &sample{t: t, dir: newDir(t)}
	l := open(t, s.dir, Options{})
	if err := l.Record(t.Context(), Event{Actor: "canary-1", Action: "canary-2", Target: "canary-3", Outcome: "canary-4", Detail: map[string]any{"canary-5": "canary-6"}}); err != nil {
		t.Fatal(err)
	}
	for i := range 6 {
		if canary := fmt.Sprint("canary-", i+1); !bytes.Contains(s.read(fileName(1)), []byte(canary)) {
			t.Errorf("%s is not in the file", canary)
		}
	}
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func TestASlotHasOneText(t *testing.T) {
	b := encodeSlot(Anchor{Seq: 7}, keyOf(1))
	if _, ok := parseSlot(b, pubOf(1)); !ok {
		t.Fatal("it does not parse")
	}
	b[slotSize-2] = '\n'
	if _, ok := parseSlot(b, pubOf(1)); ok {
		t.Error("it parses with another newline")
	}
}

// The example of the format, with the key of the 32 bytes 1, 0, 0, ...
func TestTheFormatIsWhatItWas(t *testing.T) {
	at := time.Date(2026, 11, 22, 10, 0, 0, 5e8, time.UTC)
	b, err := new(Log).encode(Event{Time: at, Actor: "uid:0", Action: "kek.rotate", Target: "threads", Outcome: "failed", Detail: map[string]any{"kek_version": 2}})
	if err != nil {
		t.Fatal(err)
	}
	line := sign(appendRow(nil, 7, hash{}, b), 0, keyOf(1), recordDomain)
	const want = `{"seq":7,"prev":"` + zeros + `","time":"2026-11-22T10:00:00.5Z","actor":"uid:0","action":"kek.rotate",` +
		`"target":"threads","outcome":"failed","detail":{"kek_version":2},"sig":"koTxWgVvOtFnF6lpJM3FuGXn/4IfvX4rkWquU5cPfVsuaMjYbtzRd11Ryo2V3XJUpq8PMHPhIZmbRJdKDsl0BA=="}`
	if string(line) != want {
		t.Errorf("a line is\n%s", line)
	}
	head := string(bytes.TrimRight(encodeSlot(Anchor{Seq: 7}, keyOf(1)), " \n"))
	if head != `{"seq":7,"hash":"`+zeros+`","sig":"Vr2ZmjbeghZ3YdLwSyTzgZmrdqgbEagw87jKOFp699Z1n4A7vDraPZPh3R1ONm+SQ1mgxOpEJCdG74lgAvtcDA=="}` {
		t.Errorf("a head is\n%s", head)
	}
	if FormatPublicKey(pubOf(1)) != "zswVB9wd3XKVlRwpCIjwla25BE0bc9aW5t8GXWg71Pw=" {
		t.Error(FormatPublicKey(pubOf(1)))
	}
}

func TestVerifyReadsALineOfAnyLengthInLittleMemory(t *testing.T) {
	s := newSample(t)
	s.write(fileName(5), bytes.Repeat([]byte("x"), 32<<20))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r := verify(t, s.dir)
	runtime.ReadMemStats(&after)
	if r.OK() {
		t.Errorf("%+v", r)
	}
	if took := after.TotalAlloc - before.TotalAlloc; took > 1<<20 {
		t.Errorf("it took %d bytes", took)
	}
}

func FuzzParseRow(f *testing.F) {
	f.Add([]byte(`{"seq":7,"prev":"` + zeros + `","time":"2026-11-22T10:00:00.5Z","actor":"uid:0","action":"a","detail":{"n":1}}`))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, prev, err := parseRow(line)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil || !bytes.Equal(again, line) || r.Prev != prev.String() || bytes.ContainsAny(line, "\r\n") {
			t.Errorf("%q is not what it says", line)
		}
	})
}

// FuzzWalk reads any bytes as the file of a log. Without the key, nothing but
// the file itself leads to its head.
func FuzzWalk(f *testing.F) {
	s := newSample(f)
	good, head := s.read(fileName(1)), s.tops[2]
	f.Add(good)
	f.Add(append(bytes.Clone(good), s.read(fileName(5))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		w := walker{pub: pubOf(1), anchors: []Anchor{head}, unknown: true, wrong: func(Problem) bool { return false }}
		if _, err := w.file(fileName(1), bytes.NewReader(b)); err != nil {
			t.Fatal(err)
		}
		if w.settled.Seq >= head.Seq && !bytes.HasPrefix(b, good) {
			t.Errorf("%q leads to record %s", b, w.settled)
		}
	})
}

func FuzzParseSlot(f *testing.F) {
	text := bytes.TrimRight(encodeSlot(Anchor{Seq: 7}, keyOf(1)), " \n")
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) >= slotSize {
			t.Skip()
		}
		if a, ok := parseSlot(pad(text), pubOf(1)); ok && !bytes.Equal(pad(text), encodeSlot(a, keyOf(1))) {
			t.Errorf("%q is taken for %s", text, a)
		}
	})
}
