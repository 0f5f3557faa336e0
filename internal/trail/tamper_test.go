package trail

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// tampered is a trail of 8 events: a to f under two checkpoints, g and h under
// none.
func tampered(t *testing.T) (*world, *Trail) {
	w := newWorld(t)
	tr := w.open()
	w.record(tr, "a", "b", "c")
	w.checkpoint(tr)
	w.record(tr, "d", "e", "f")
	w.checkpoint(tr)
	w.record(tr, "g", "h")
	w.good(tr, 8, 6)
	return w, tr
}

// point reads a checkpoint.
func (w *world) point(n int) (p api.AuditCheckpoint) {
	w.t.Helper()
	if err := json.Unmarshal(w.rows(layout.TrailPoints("o"))[n].Value, &p); err != nil {
		w.t.Fatal(err)
	}
	return p
}

func (w *world) putPoint(b *store.Batch, key string, p api.AuditCheckpoint) {
	w.t.Helper()
	row, err := json.Marshal(p)
	if err != nil {
		w.t.Fatal(err)
	}
	b.Put(key, row)
}

// sealRow returns the row of e as who has the keys writes it.
func sealRow(tr *Trail, e auditcheck.Event) (key string, row []byte) {
	row = e.AppendBody(e.AppendHead(nil))
	return layout.TrailEvent(e.Org, e.Time, e.Chain.String(), e.Seq), tr.ring.Load().appendMAC(row, e.Hash())
}

// What somebody does who can write to the store and has no key.
func TestATamperedStoreShows(t *testing.T) {
	type rows = []store.Record
	for name, c := range map[string]struct {
		tamper func(w *world, b *store.Batch, e, p rows)
		broken int // the event that is named, from 1; 0: a checkpoint is; -1: either
	}{
		"a byte of a row":                {nil, 3},
		"a row is deleted in the middle": {func(w *world, b *store.Batch, e, p rows) { b.Delete(e[3].Key) }, 4},
		"the first row is deleted":       {func(w *world, b *store.Batch, e, p rows) { b.Delete(e[0].Key) }, 1},
		"the end under a checkpoint is":  {func(w *world, b *store.Batch, e, p rows) { b.Delete(e[5].Key); b.Delete(e[6].Key); b.Delete(e[7].Key) }, 6},
		"all rows are deleted":           {func(w *world, b *store.Batch, e, p rows) { deleteAll(b, e) }, 1},
		"two rows are swapped":           {func(w *world, b *store.Batch, e, p rows) { b.Put(e[2].Key, e[3].Value); b.Put(e[3].Key, e[2].Value) }, 3},
		"a row is there under another time": {func(w *world, b *store.Batch, e, p rows) {
			b.Put(strings.Replace(e[2].Key, "trail:o:017", "trail:o:016", 1), e[2].Value)
		}, 3},
		"a row is there under another seq": {func(w *world, b *store.Batch, e, p rows) {
			b.Delete(e[7].Key)
			b.Put(e[7].Key[:len(e[7].Key)-1]+"9", e[7].Value)
		}, -1},
		"a row is cut off":            {func(w *world, b *store.Batch, e, p rows) { b.Put(e[2].Key, e[2].Value[:20]) }, 3},
		"a row is one of before":      {func(w *world, b *store.Batch, e, p rows) { b.Put(e[2].Key, e[1].Value) }, 3},
		"a row is emptied":            {func(w *world, b *store.Batch, e, p rows) { b.Put(e[2].Key, nil) }, 3},
		"a row of a key that is none": {func(w *world, b *store.Batch, e, p rows) { b.Put(layout.Trail("o")+"0", e[1].Value) }, -1},
		"a checkpoint is edited":      {func(w *world, b *store.Batch, e, p rows) { q := w.point(1); q.Heads = nil; w.putPoint(b, p[1].Key, q) }, 0},
		"a checkpoint is no JSON":     {func(w *world, b *store.Batch, e, p rows) { b.Put(p[0].Key, []byte("x")) }, 0},
		"a checkpoint is removed":     {func(w *world, b *store.Batch, e, p rows) { b.Delete(p[0].Key) }, 0},
		"checkpoints are swapped":     {func(w *world, b *store.Batch, e, p rows) { b.Put(p[0].Key, p[1].Value); b.Put(p[1].Key, p[0].Value) }, 0},
		"a checkpoint is there twice": {func(w *world, b *store.Batch, e, p rows) { b.Put(layout.TrailPoint("o", 3), p[1].Value) }, 0},
		"a checkpoint of another org": {func(w *world, b *store.Batch, e, p rows) {
			b.Put(p[1].Key, w.rows(layout.TrailPoints("other"))[0].Value)
		}, 0},
		"a checkpoint is signed by another": {func(w *world, b *store.Batch, e, p rows) { w.putPoint(b, p[1].Key, foreign(w)) }, 0},
		"an event of another org is put in": {func(w *world, b *store.Batch, e, p rows) { moveIn(w, b) }, -1},
	} {
		t.Run(name, func(t *testing.T) {
			w, tr := tampered(t)
			if err := tr.Record(t.Context(), event("other", "x")); err != nil {
				t.Fatal(err)
			}
			w.checkpoint(tr)
			w.write(func(b *store.Batch) { b.Delete(layout.TrailPoint("o", 3)) }) // as before
			e, p := w.events("o"), w.rows(layout.TrailPoints("o"))
			ids := ids(t, tr, e)
			steps := 1
			if c.tamper == nil {
				steps = len(e[2].Value)
			}
			for i := 0; i < steps; i += 3 {
				w.write(func(b *store.Batch) {
					if c.tamper != nil {
						c.tamper(w, b, e, p)
					} else {
						row := bytes.Clone(e[2].Value)
						row[i] ^= 1
						b.Put(e[2].Key, row)
					}
				})
				v, r := w.verify(tr)
				if v.ChainValid || v.Reason == "" || r.OK() {
					t.Fatalf("step %d: it does not show: %+v, %+v", i, v, r)
				}
				if c.broken > 0 && (v.BrokenAtEventID == nil || *v.BrokenAtEventID != ids[c.broken-1]) {
					t.Errorf("the event that is named is %v, want %s: %s", v.BrokenAtEventID, ids[c.broken-1], v.Reason)
				}
				if c.broken == 0 && !strings.HasPrefix(v.Reason, "checkpoint ") {
					t.Errorf("the reason is %q", v.Reason)
				}
			}
		})
	}
}

func deleteAll(b *store.Batch, recs []store.Record) {
	for _, r := range recs {
		b.Delete(r.Key)
	}
}

func ids(t *testing.T, tr *Trail, recs []store.Record) (out []string) {
	t.Helper()
	for _, r := range recs {
		_, _, id, err := parse(tr.ring.Load(), "o", r)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, id)
	}
	return out
}

// foreign is checkpoint 2 as another server signs it.
func foreign(w *world) api.AuditCheckpoint {
	other := newWorld(w.t)
	tr := other.open()
	other.record(tr, "a")
	p := w.point(1)
	if err := auditcheck.Sign(&p, tr.ring.Load().sign); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// moveIn puts an event of another org under a key of o's.
func moveIn(w *world, b *store.Batch) {
	r := w.events("other")[0]
	b.Put(strings.Replace(r.Key, layout.Trail("other"), layout.Trail("o"), 1), r.Value)
}

// Who has the keys of MACs, but not of signatures, is held by the chain and by
// the checkpoints alone.
func TestWithTheMACAloneNothingUnderACheckpointChanges(t *testing.T) {
	w, tr := tampered(t)
	e := w.events("o")
	keys := tr.ring.Load()
	parsed := make([]auditcheck.Event, len(e))
	for i, r := range e {
		parsed[i], _, _, _ = parse(keys, "o", r)
	}
	for i := range 6 {
		s := newWorldOf(w)
		prev := parsed[i].Prev
		s.write(func(b *store.Batch) {
			for _, c := range parsed[i:] { // the whole rest of the chain is made anew
				c.Prev, c.Action = prev, c.Action+"x"
				prev = c.Hash()
				key, row := sealRow(tr, c)
				b.Put(key, row)
			}
		})
		if v, r := s.verify(s.open()); v.ChainValid || r.OK() || v.EventsSigned >= 6 {
			t.Errorf("from event %d on: %+v", i+1, v)
		}
	}
	for name, splice := range map[string]func(*auditcheck.Event){
		"of another chain":  func(c *auditcheck.Event) { c.Prev[0]++ },
		"at another time":   func(c *auditcheck.Event) { c.Time = parsed[0].Time },
		"with another seq":  func(c *auditcheck.Event) { c.Seq++ },
		"a seq that is had": func(c *auditcheck.Event) { c.Seq-- },
	} {
		s := newWorldOf(w)
		c := parsed[7]
		splice(&c)
		s.write(func(b *store.Batch) {
			b.Delete(e[7].Key)
			key, row := sealRow(tr, c)
			b.Put(key, row)
		})
		if v, r := s.verify(s.open()); v.ChainValid || r.OK() {
			t.Errorf("the last event %s: %+v", name, v)
		}
	}
}

// newWorldOf is a world with a copy of w's store.
func newWorldOf(w *world) *world {
	s := &world{t: w.t, mem: w.copy(), kms: w.kms}
	s.store = s.mem
	s.clock.Store(w.clock.Load() + int64(time.Millisecond))
	return s
}

// What the package comment says cannot be seen, and what a saved checkpoint shows.
func TestWhatIsCutOffShowsByASavedCheckpointAlone(t *testing.T) {
	w, tr := tampered(t)
	saved := w.point(1)
	e, p := w.events("o"), w.rows(layout.TrailPoints("o"))
	w.write(func(b *store.Batch) { deleteAll(b, e[6:]) })
	w.good(tr, 6, 6)
	w.write(func(b *store.Batch) { deleteAll(b, e[3:6]); b.Delete(p[1].Key) })
	w.good(tr, 3, 3)
	if _, r := w.verify(tr, saved); r.OK() || r.Problems[0].Checkpoint != 2 || r.Problems[1].EventID == "" {
		t.Errorf("%+v", r)
	}
	// The process that wrote them still runs: its next checkpoint names what is gone.
	w.record(tr, "i")
	w.checkpoint(tr)
	if v, r := w.verify(tr); v.ChainValid || r.OK() {
		t.Errorf("%+v", v)
	}
}

// A store that was put back to a copy of before, and gone on with, is whole in
// itself; a checkpoint of between shows it.
func TestAStoreThatWasPutBackShowsByASavedCheckpoint(t *testing.T) {
	w := newWorld(t)
	tr := w.open()
	w.record(tr, "a")
	w.checkpoint(tr)
	s := newWorldOf(w)
	w.record(tr, "b")
	w.checkpoint(tr)
	saved := w.point(1)
	after := s.open()
	s.record(after, "c", "d")
	s.checkpoint(after)
	s.good(after, 3, 3)
	if _, r := s.verify(after, saved); r.OK() || !strings.Contains(r.Problems[0].What, "not the one that was saved") && !strings.Contains(fmt.Sprint(r.Problems), "not the one that was saved") {
		t.Errorf("%+v", r)
	}
}

// A forged event is not listed, and not signed though there is a mark for it.
func TestAForgedEventIsNeitherListedNorSigned(t *testing.T) {
	w, tr := tampered(t)
	e := auditcheck.Event{Org: "o", Chain: auditcheck.NewChain(), Seq: 1, Time: w.now().UnixNano(), Action: "forged"}
	w.write(func(b *store.Batch) {
		row := e.AppendBody(e.AppendHead(nil))
		b.Put(layout.TrailEvent("o", e.Time, e.Chain.String(), 1), append(row, make([]byte, 32)...))
		b.Put(layout.TrailOpen("o", e.Chain.String(), 1), fmt.Append(nil, e.Time))
		b.Put(layout.TrailOpens()+"x", []byte("y"))
	})
	w.sleep(time.Hour)
	w.checkpoint(tr)
	if p := w.point(2); len(p.Heads) != 1 || p.Heads[0].EventID == e.ID() {
		t.Errorf("signed: %+v", p.Heads)
	}
	if !strings.Contains(w.log.String(), e.ID()) {
		t.Error("the log does not tell of it")
	}
	if got := fmt.Sprint(w.actions(tr)); got != "[a b c d e f g h]" {
		t.Errorf("listed: %s", got)
	}
	if v, r := w.verify(tr); v.ChainValid || r.OK() || *v.BrokenAtEventID != e.ID() {
		t.Errorf("%+v", v)
	}
}

func TestKeysThatAreGoneOrSpoiledAreNotMadeAnew(t *testing.T) {
	w, tr := tampered(t)
	tr.Close()
	key := layout.Sealed(ringName.Kind, ringName.Owner, ringName.ID)
	good, err := w.mem.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*store.Batch){
		"gone":    func(b *store.Batch) { b.Delete(key) },
		"spoiled": func(b *store.Batch) { b.Put(key, bytes.ToUpper(good.Value)) },
	} {
		w.write(edit)
		if _, err := Open(t.Context(), Config{Store: w.mem, Box: w.box(w.mem), Now: w.now, Every: -1}); !errors.Is(err, fault.Damaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.write(func(b *store.Batch) { b.Put(key, good.Value) })
	w.good(w.open(), 8, 8)
}
