package auditcheck

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
)

var (
	t0       = time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	key      = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32))
	otherKey = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32))
)

func keysOf(keys ...ed25519.PrivateKey) (out []api.AuditKey) {
	for _, k := range keys {
		pub := k.Public().(ed25519.PublicKey)
		out = append(out, api.AuditKey{ID: KeyID(pub), Algorithm: "Ed25519", PublicKey: pub, CreatedAt: t0})
	}
	return out
}

// sample is an export, line by line.
type sample struct {
	head   api.AuditExport
	points []api.AuditCheckpoint
	events []Event
	hashes []Hash
	end    *api.AuditExportEnd // nil: what is right
}

var chainA, chainB = Chain{0x8a}, Chain{0x8b}

// newSample is two chains of 6 events each, a second apart, with a checkpoint
// after every second event of each, but the last.
func newSample() *sample {
	s := &sample{head: api.AuditExport{Format: 1, OrgID: "o", To: t0.Add(time.Hour), CreatedAt: t0.Add(time.Hour), Keys: keysOf(key)}}
	for i := range 12 {
		s.add(Event{Chain: []Chain{chainA, chainB}[i%2], Action: fmt.Sprint("action ", i)})
		if i%4 == 3 && i < 11 {
			s.point(key, i-1, i)
		}
	}
	return s
}

// add appends e to its chain.
func (s *sample) add(e Event) {
	e.Org, e.Seq, e.Time = "o", 1, t0.Add(time.Duration(len(s.events))*time.Second).UnixNano()
	for i, before := range s.events {
		if before.Chain == e.Chain {
			e.Seq, e.Prev = before.Seq+1, s.hashes[i]
		}
	}
	s.events, s.hashes = append(s.events, e), append(s.hashes, e.Hash())
}

// sign edits checkpoint i as who has the key does.
func (s *sample) sign(i int, edit func(*api.AuditCheckpoint)) {
	edit(&s.points[i])
	if err := Sign(&s.points[i], key); err != nil {
		panic(err)
	}
}

// again makes the second checkpoint name what the first does, as it should be.
func (s *sample) again() {
	good := newSample().points[0].Heads
	hash, _ := CheckpointHash(s.points[0])
	s.sign(1, func(p *api.AuditCheckpoint) { p.PrevHash, p.Heads = hash.String(), good })
}

// point signs a checkpoint of some events.
func (s *sample) point(k ed25519.PrivateKey, events ...int) {
	p := api.AuditCheckpoint{OrgID: "o", Number: uint64(len(s.points)) + 1, PrevHash: Hash{}.String()}
	for _, i := range events {
		w := s.events[i].Wire(s.hashes[i])
		p.CreatedAt = w.CreatedAt.Add(time.Millisecond)
		p.Heads = append(p.Heads, api.AuditHead{EventID: w.ID, CreatedAt: w.CreatedAt, IntegrityHash: w.IntegrityHash})
	}
	if n := len(s.points); n > 0 {
		hash, _ := CheckpointHash(s.points[n-1])
		p.PrevHash = hash.String()
	}
	if err := Sign(&p, k); err != nil {
		panic(err)
	}
	s.points = append(s.points, p)
}

// change edits event i. A careful attacker makes its hash fit, and goes on along
// its chain.
func (s *sample) change(i int, careful bool, edit func(*Event)) {
	edit(&s.events[i])
	for j := i; careful && j < len(s.events); j++ {
		if s.events[j].Chain == s.events[i].Chain {
			if j > i {
				s.events[j].Prev = s.hashes[j-2]
			}
			s.hashes[j] = s.events[j].Hash()
		}
	}
}

func (s *sample) cut(i, n int) {
	s.events, s.hashes = slices.Delete(s.events, i, i+n), slices.Delete(s.hashes, i, i+n)
}

func (s *sample) text(t testing.TB) string {
	t.Helper()
	var b bytes.Buffer
	enc := func(l api.AuditExportLine) {
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(text, '\n'))
	}
	enc(api.AuditExportLine{Export: &s.head})
	for _, p := range s.points {
		enc(api.AuditExportLine{Checkpoint: &p})
	}
	for i, e := range s.events {
		w := e.Wire(s.hashes[i])
		enc(api.AuditExportLine{Event: &w})
	}
	end := s.end
	if end == nil {
		end = &api.AuditExportEnd{Checkpoints: len(s.points), Events: len(s.events)}
	}
	enc(api.AuditExportLine{End: end})
	return b.String()
}

func (s *sample) verify(t testing.TB, opt Options) Report {
	t.Helper()
	r, err := VerifyExport(strings.NewReader(s.text(t)), opt)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestATrailAsItWasWrittenIsGood(t *testing.T) {
	s := newSample()
	r := s.verify(t, Options{Keys: keysOf(key)})
	if !r.OK() || r.Events != 12 || r.Verified != 12 || r.Signed != 8 || r.Checkpoints != 2 || r.Last.Number != 2 || r.OwnKeys || r.OrgID != "o" || !r.To.Equal(s.head.To) {
		t.Errorf("%+v", r)
	}
	if r := s.verify(t, Options{}); !r.OK() || !r.OwnKeys {
		t.Errorf("with its own keys: %+v", r)
	}
	if r := s.verify(t, Options{Keys: keysOf(key), Saved: s.points}); !r.OK() {
		t.Errorf("with its checkpoints saved: %+v", r)
	}
	s.point(otherKey, 10, 11)
	if r := s.verify(t, Options{Keys: keysOf(key, otherKey)}); !r.OK() || r.Signed != 12 {
		t.Errorf("after a rotation of the key: %+v", r)
	}
}

func TestAWindowOfATrailIsGood(t *testing.T) {
	s := newSample()
	from := t0.Add(5 * time.Second)
	s.head.From, s.head.To = &from, t0.Add(10*time.Second)
	s.events, s.hashes, s.points = s.events[5:10], s.hashes[5:10], s.points[1:]
	if r := s.verify(t, Options{}); !r.OK() || r.Verified != 5 || r.Signed != 3 {
		t.Errorf("%+v", r)
	}
	early := newSample()
	saved := early.points
	early.head.To = t0.Add(4 * time.Second)
	early.events, early.hashes, early.points = early.events[:4], early.hashes[:4], saved[:1]
	if r := early.verify(t, Options{Saved: saved}); !r.OK() || r.Signed != 4 {
		t.Errorf("with a saved checkpoint of later: %+v", r)
	}
	s.events[0].Time, s.events[1].Time = s.events[1].Time, s.events[0].Time
	s.head.To = t0.Add(9 * time.Second)
	if r := s.verify(t, Options{}); r.OK() {
		t.Error("an event of another time is taken")
	}
}

// Every field of every event, by an attacker who leaves the hashes, and by one
// who makes them fit as far as he can.
func TestAChangedFieldShows(t *testing.T) {
	edits := map[string]func(*Event){
		"org": func(e *Event) { e.Org = "p" }, "chain": func(e *Event) { e.Chain[7]++ }, "seq": func(e *Event) { e.Seq++ },
		"time": func(e *Event) { e.Time++ }, "prev": func(e *Event) { e.Prev[0]++ }, "actor type": func(e *Event) { e.ActorType += "x" },
		"actor": func(e *Event) { e.ActorID += "x" }, "action": func(e *Event) { e.Action += "x" }, "resource type": func(e *Event) { e.ResourceType += "x" },
		"resource": func(e *Event) { e.ResourceID += "x" }, "outcome": func(e *Event) { e.Outcome += "x" }, "address": func(e *Event) { e.Addr += "x" },
		"request": func(e *Event) { e.RequestID += "x" }, "details": func(e *Event) { e.Details = map[string]string{"path": "x"} },
		"one text to the next": func(e *Event) { e.ActorType, e.ActorID = e.Action[:1], e.Action[1:] },
	}
	if n := len((&Event{}).texts()); len(edits) != 5+n+2 {
		t.Errorf("%d edits for %d texts", len(edits), n)
	}
	for name, edit := range edits {
		for i := range 12 {
			s := newSample()
			was := s.events[i].ID()
			s.change(i, false, edit)
			r := s.verify(t, Options{})
			if r.OK() || r.Problems[0].EventID != was && name != "chain" && name != "seq" {
				t.Errorf("%s of event %d: %+v", name, i, r.Problems)
			}
			s = newSample()
			s.change(i, true, edit)
			if r := s.verify(t, Options{}); i < 8 && r.OK() {
				t.Errorf("%s of event %d, hashes made to fit", name, i)
			}
		}
	}
}

func TestATamperedTrailShows(t *testing.T) {
	at := func(c Chain, seq uint64) string { return EventID(c, seq) }
	for name, c := range map[string]struct {
		tamper func(*sample)
		saved  bool   // it shows only by the saved checkpoints
		event  string // the first event that is named; "": a checkpoint is
	}{
		"an event is deleted in the middle":  {func(s *sample) { s.cut(2, 1) }, false, at(chainA, 2)},
		"the first events are deleted":       {func(s *sample) { s.cut(0, 2) }, false, at(chainA, 1)},
		"a chain is deleted":                 {func(s *sample) { cutChain(s, chainB) }, false, at(chainB, 1)},
		"all events are deleted":             {func(s *sample) { s.cut(0, 12) }, false, at(chainA, 1)},
		"the end is cut off under its point": {func(s *sample) { s.cut(6, 6) }, false, at(chainA, 4)},
		"one event is cut off":               {func(s *sample) { s.cut(7, 5) }, false, at(chainB, 4)},
		"the end is cut off with its points": {func(s *sample) { s.cut(6, 6); s.points = s.points[:1] }, true, at(chainA, 4)},
		"two events are swapped":             {func(s *sample) { swap(s, 2, 4) }, false, at(chainA, 2)},
		"an event is there twice":            {func(s *sample) { repeat(s, 4) }, false, at(chainA, 3)},
		"an event is of another org":         {func(s *sample) { s.change(3, false, func(e *Event) { e.Org = "p" }); s.hashes[3] = s.events[3].Hash() }, false, at(chainB, 2)},
		"the trail is of another org":        {func(s *sample) { s.head.OrgID = "p" }, false, at(chainA, 1)},
		"a chain of another org is put in": {func(s *sample) {
			s.add(Event{Chain: Chain{0x8c}})
			s.change(12, true, func(e *Event) { e.Org = "p" })
		}, false, at(Chain{0x8c}, 1)},
		"an event is later than the window": {func(s *sample) { s.head.To = t0.Add(11 * time.Second) }, false, at(chainB, 6)},
		"an event is older than its chain":  {func(s *sample) { s.change(11, true, func(e *Event) { e.Time = t0.UnixNano() }) }, false, at(chainB, 6)},
		"an event is of the time before": {func(s *sample) {
			s.cut(10, 1)
			s.change(10, true, func(e *Event) { e.Time = s.events[9].Time })
		}, false, at(chainB, 6)},
		"a checkpoint of another org":       {func(s *sample) { s.sign(1, func(p *api.AuditCheckpoint) { p.OrgID = "p" }) }, false, ""},
		"a signed one is older than before": {func(s *sample) { s.sign(1, func(p *api.AuditCheckpoint) { p.CreatedAt = t0; p.Heads = nil }) }, false, ""},
		"a signed one is before its head":   {func(s *sample) { s.points = s.points[:1]; s.sign(0, func(p *api.AuditCheckpoint) { p.CreatedAt = t0 }) }, false, ""},
		"two signed ones say two things": {func(s *sample) {
			s.sign(0, func(p *api.AuditCheckpoint) {
				p.Heads = slices.Clone(p.Heads)
				p.Heads[0].IntegrityHash = Hash{}.String()
			})
			s.again()
		}, false, ""},
		"a chain is put in":                   {func(s *sample) { putIn(s) }, false, at(Chain{0x8c}, 1)},
		"an event of another chain is in one": {splice, false, at(chainA, 3)},
		"an event is what it was in a copy":   {func(s *sample) { s.change(6, true, func(e *Event) { e.Action = "other" }) }, false, at(chainA, 4)},
		"a checkpoint's head is edited":       {func(s *sample) { s.points[0].Heads[0].IntegrityHash = Hash{}.String() }, false, ""},
		"a checkpoint's time is edited":       {func(s *sample) { s.points[1].CreatedAt = t0.Add(time.Hour) }, false, ""},
		"a checkpoint's number is edited":     {func(s *sample) { s.points[1].Number++ }, false, ""},
		"a checkpoint's org is edited":        {func(s *sample) { s.points[1].OrgID = "p" }, false, ""},
		"a checkpoint loses a head":           {func(s *sample) { s.points[1].Heads = s.points[1].Heads[:1] }, false, ""},
		"a checkpoint's signature is edited":  {func(s *sample) { s.points[1].Signature[9]++ }, false, ""},
		"a checkpoint is signed by another":   {func(s *sample) { s.points = s.points[:1]; s.point(otherKey, 6, 7) }, false, ""},
		"its key's name is that of a good one": {func(s *sample) {
			s.points = s.points[:1]
			s.point(otherKey, 6, 7)
			s.points[1].KeyID = s.points[0].KeyID
		}, false, ""},
		"the first checkpoint is removed":     {func(s *sample) { s.points = s.points[1:] }, false, ""},
		"a checkpoint in the middle is":       {func(s *sample) { s.point(key, 10, 11); s.points = slices.Delete(s.points, 1, 2) }, false, ""},
		"the last checkpoint is removed":      {func(s *sample) { s.points = s.points[:1] }, true, ""},
		"checkpoints are swapped":             {func(s *sample) { s.points[0], s.points[1] = s.points[1], s.points[0] }, false, ""},
		"a checkpoint is there twice":         {func(s *sample) { s.points = append(s.points, s.points[1]) }, false, ""},
		"a checkpoint is of another history":  {func(s *sample) { s.points = s.points[:1]; s.point(key, 4, 5) }, true, ""},
		"a checkpoint is older than its head": {func(s *sample) { s.points = s.points[:1]; s.point(key, 7, 2) }, false, ""},
		"a checkpoint follows on another":     {func(s *sample) { s.points = s.points[:1]; s.points[0].PrevHash = Hash{}.String(); follow(s) }, false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			opt := Options{Keys: keysOf(key), Saved: slices.Clone(newSample().points)}
			s := newSample()
			c.tamper(s)
			r := s.verify(t, Options{Keys: opt.Keys})
			if r.OK() != c.saved {
				t.Fatalf("without saved checkpoints: %+v", r.Problems)
			}
			if c.saved {
				r = s.verify(t, opt)
			}
			if r.OK() {
				t.Fatal("it does not show")
			}
			first := slices.IndexFunc(r.Problems, func(p Problem) bool { return p.EventID != "" })
			if c.event == "" && r.Problems[0].Checkpoint == 0 || c.event != "" && (first < 0 || r.Problems[first].EventID != c.event) {
				t.Errorf("%+v", r.Problems)
			}
		})
	}
}

// Beyond that it shows, the report says what.
func TestAReportSaysWhatIsWrongWithCheckpoints(t *testing.T) {
	for want, tamper := range map[string]func(*sample){
		"checkpoints 2 to 2 are missing": func(s *sample) { s.point(key, 10, 11); s.points = slices.Delete(s.points, 1, 2) },
		"out of its order":               func(s *sample) { s.points = append(s.points, s.points[1]) },
		"of another org":                 func(s *sample) { s.sign(0, func(p *api.AuditCheckpoint) { p.OrgID = "p" }) },
		"those before it are missing":    func(s *sample) { s.points = s.points[1:] },
		"none of those that are trusted": func(s *sample) { s.points = s.points[:1]; s.point(otherKey, 6, 7) },
		"did not sign this":              func(s *sample) { s.points[1].Heads = nil },
	} {
		s := newSample()
		tamper(s)
		if r := s.verify(t, Options{Keys: keysOf(key)}); r.OK() || !strings.Contains(r.Problems[0].String(), want) {
			t.Errorf("%s: %v", want, r.Problems)
		}
	}
}

func swap(s *sample, i, j int) {
	s.events[i], s.events[j] = s.events[j], s.events[i]
	s.hashes[i], s.hashes[j] = s.hashes[j], s.hashes[i]
}

func repeat(s *sample, i int) {
	s.events, s.hashes = slices.Insert(s.events, i+1, s.events[i]), slices.Insert(s.hashes, i+1, s.hashes[i])
}

func cutChain(s *sample, c Chain) {
	for i := len(s.events) - 1; i >= 0; i-- {
		if s.events[i].Chain == c {
			s.cut(i, 1)
		}
	}
}

// putIn adds an event that no checkpoint names, and later ones that are.
func putIn(s *sample) {
	e := Event{Org: "o", Chain: Chain{0x8c}, Seq: 1, Time: t0.Add(500 * time.Millisecond).UnixNano(), Action: "forged"}
	s.events, s.hashes = slices.Insert(s.events, 1, e), slices.Insert(s.hashes, 1, e.Hash())
	s.add(Event{Chain: chainA})
	last := len(s.events) - 1
	s.change(last, true, func(e *Event) { e.Time = t0.Add(2 * time.Hour).UnixNano() })
	s.head.To = t0.Add(3 * time.Hour)
	s.point(key, last)
}

// splice puts event 3 of chain B in the place of that of A, under A's name.
func splice(s *sample) {
	e := s.events[5]
	e.Chain, e.Time = chainA, s.events[4].Time
	s.events[4], s.hashes[4] = e, e.Hash()
}

func follow(s *sample) {
	s.points[0].Heads = nil
	if err := Sign(&s.points[0], key); err != nil {
		panic(err)
	}
	good := newSample().points[1]
	s.points = append(s.points, good)
}

func TestAnExportThatIsNotWholeIsAnError(t *testing.T) {
	good := newSample().text(t)
	lines := strings.SplitAfter(good, "\n")
	for name, text := range map[string]string{
		"nothing":                   "",
		"no end":                    strings.Join(lines[:len(lines)-2], ""),
		"cut inside of a line":      good[:len(good)/2],
		"no head":                   strings.Join(lines[1:], ""),
		"two heads":                 lines[0] + good,
		"a line after the end":      good + lines[2],
		"fewer events than it says": strings.Join(slices.Delete(slices.Clone(lines), 5, 6), ""),
		"a checkpoint among events": strings.Join(append([]string{lines[0], lines[3]}, lines[1:]...), ""),
		"no JSON":                   "x\n" + good,
		"a space":                   strings.Replace(good, `,"org_id"`, `, "org_id"`, 1),
		"a member twice":            strings.Replace(good, `"action":"action 3"`, `"action":"x","action":"action 3"`, 1),
		"an unknown member":         strings.Replace(good, `"action":"action 3"`, `"action":"action 3","x":1`, 1),
		"another form":              strings.Replace(good, `"format":1`, `"format":2`, 1),
		"a line of 2 MiB":           strings.Replace(good, `"action 3"`, `"`+strings.Repeat("x", 2<<20)+`"`, 1),
	} {
		if r, err := VerifyExport(strings.NewReader(text), Options{}); err == nil {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// One flipped bit of every third byte after the head, which nobody signs.
func TestAFlippedBitAnywhereShows(t *testing.T) {
	text := []byte(newSample().text(t))
	opt := Options{Keys: keysOf(key), Saved: newSample().points}
	for i := bytes.IndexByte(text, '\n') + 1; i < len(text)-1; i += 3 {
		bad := bytes.Clone(text)
		bad[i] ^= 1 << (i % 7)
		if r, err := VerifyExport(bytes.NewReader(bad), opt); err == nil && r.OK() {
			t.Errorf("byte %d of %q does not show", i, bad[max(0, i-40):min(i+40, len(bad))])
		}
	}
}

// Lines that are missing, moved, swapped and there twice show, though the count
// at the end is made to fit. Events that no checkpoint names can be cut off.
func TestEveryEditOfLinesShows(t *testing.T) {
	lines := strings.SplitAfter(newSample().text(t), "\n")
	head, lines := lines[0], lines[1:len(lines)-2] // 2 checkpoints, 12 events
	const unsigned = 2 + 8
	check := func(name string, edited []string) {
		t.Helper()
		text := head + strings.Join(edited, "")
		text += fmt.Sprintf(`{"end":{"checkpoints":%d,"events":%d}}`+"\n", strings.Count(text, `{"checkpoint":{`), strings.Count(text, `{"event":{`))
		if r, err := VerifyExport(strings.NewReader(text), Options{Keys: keysOf(key), Saved: newSample().points}); err == nil && r.OK() {
			t.Errorf("%s does not show: %+v", name, r)
		}
	}
	for i := range lines {
		check(fmt.Sprint("a second ", i), slices.Insert(slices.Clone(lines), i, lines[i]))
		for j := i + 1; j <= len(lines); j++ {
			if i < unsigned {
				check(fmt.Sprint("without ", i, " to ", j-1), slices.Delete(slices.Clone(lines), i, j))
			}
			if j == len(lines) {
				break
			}
			swapped := slices.Clone(lines)
			swapped[i], swapped[j] = swapped[j], swapped[i]
			check(fmt.Sprint(i, " and ", j, " swapped"), swapped)
			check(fmt.Sprint(i, " moved to ", j), slices.Insert(slices.Delete(slices.Clone(lines), i, i+1), j, lines[i]))
			check(fmt.Sprint(j, " moved to ", i), slices.Insert(slices.Delete(slices.Clone(lines), j, j+1), i, lines[j]))
		}
	}
}

// A key that is none, or has another's name, signs nothing.
func TestAKeyThatIsNoneIsNotTrusted(t *testing.T) {
	for _, pub := range [][]byte{nil, {1}, keysOf(otherKey)[0].PublicKey} {
		s := newSample()
		s.head.Keys[0].PublicKey = pub
		if r := s.verify(t, Options{}); r.OK() || !strings.Contains(r.Problems[0].What, "none of those that are trusted") {
			t.Errorf("%x: %+v", pub, r)
		}
	}
}

// What hides beside another thing would be read, and not checked.
func TestALineSaysOneThing(t *testing.T) {
	lines := strings.SplitAfter(newSample().text(t), "\n")
	lines = lines[:len(lines)-1]
	forged := (&Event{Org: "o", Chain: Chain{0x8c}, Seq: 1, Time: t0.UnixNano(), Action: "forged"})
	w := forged.Wire(forged.Hash())
	for i := range lines {
		for name, edit := range map[string]func(*api.AuditExportLine){
			"nothing":      func(l *api.AuditExportLine) { *l = api.AuditExportLine{} },
			"an event":     func(l *api.AuditExportLine) { l.Event, l.Damaged = &w, l.Damaged+"x" },
			"a checkpoint": func(l *api.AuditExportLine) { l.Checkpoint, l.Damaged = &newSample().points[0], "x" },
			"a forged one": func(l *api.AuditExportLine) {
				if l.Event == nil {
					l.Event = &w
				} else {
					l.End = new(api.AuditExportEnd)
				}
			},
		} {
			var l api.AuditExportLine
			if err := json.Unmarshal([]byte(lines[i]), &l); err != nil {
				t.Fatal(err)
			}
			edit(&l)
			text, _ := json.Marshal(l)
			edited := slices.Clone(lines)
			edited[i] = string(text) + "\n"
			if r, err := VerifyExport(strings.NewReader(strings.Join(edited, "")), Options{Keys: keysOf(key)}); err == nil {
				t.Errorf("line %d with %s: %+v", i+1, name, r)
			}
		}
		again := slices.Insert(slices.Clone(lines), i, "{}\n")
		if _, err := VerifyExport(strings.NewReader(strings.Join(again, "")), Options{Keys: keysOf(key)}); err == nil {
			t.Errorf("an empty line %d is taken", i+1)
		}
	}
}

// An event that the server found damaged is a fault, and so is one whose texts
// do not make sense.
func TestADamagedEventIsAFault(t *testing.T) {
	s := newSample()
	text := s.text(t)
	lines := strings.SplitAfter(text, "\n")
	id := s.events[2].ID()
	for name, line := range map[string]string{
		"damaged":        `{"damaged":"` + id + `"}` + "\n",
		"a bad hash":     strings.Replace(lines[5], `"prev_hash":"`, `"prev_hash":"x`, 1),
		"a bad previous": strings.Replace(lines[5], `"prev_event_id":"`, `"prev_event_id":"x`, 1),
	} {
		bad := strings.Replace(text, lines[5], line, 1)
		r, err := VerifyExport(strings.NewReader(bad), Options{})
		if err != nil || r.Wrong != 1 || r.Problems[0].EventID != id || r.Events != 12 || r.Verified != 11 || r.Signed != 6 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// What is good has the events under the saved checkpoint, if its window does,
// and no event under a checkpoint that was not written.
func FuzzVerifyExport(f *testing.F) {
	s := newSample()
	good := s.text(f)
	f.Add([]byte(good))
	windowed := newSample()
	from := t0.Add(5 * time.Second)
	windowed.head.From = &from
	windowed.events, windowed.hashes, windowed.points = s.events[5:8], s.hashes[5:8], s.points[1:]
	f.Add([]byte(windowed.text(f)))
	opt := Options{Keys: keysOf(key), Saved: s.points[:1]}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := VerifyExport(bytes.NewReader(b), opt)
		if err != nil || !r.OK() {
			return
		}
		if r.Events < 4 && r.From.IsZero() && r.To.After(s.points[0].CreatedAt) {
			t.Errorf("%q is good", b)
		}
		for line := range bytes.Lines(b) {
			if r.Signed == r.Events && bytes.Contains(line, []byte(`"event":`)) && !strings.Contains(good, string(line)) {
				t.Errorf("%q is good, with %q", b, line)
			}
		}
	})
}
