package kms

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
)

// recorder keeps events; while it is full it takes none.
type recorder struct {
	mu     sync.Mutex // guards all below
	events []audit.Event
	full   bool
	before func(audit.Event) // called with each event
	taken  chan struct{}     // gets a token for each record that it took, where there is room
}

func (a *recorder) Record(_ context.Context, events ...audit.Event) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.full {
		return errors.New("the audit's disk is full")
	}
	for _, e := range events {
		if a.before != nil {
			a.before(e)
		}
	}
	a.events = append(a.events, events...)
	select {
	case a.taken <- struct{}{}:
	default:
	}
	return nil
}

func (a *recorder) set(full bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.full = full
}

// lines are the events as "actor action target outcome", but those of uses.
func (a *recorder) lines() (lines []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		if e.Action != "key.use" {
			lines = append(lines, strings.TrimSpace(fmt.Sprint(e.Actor, " ", e.Action, " ", e.Target, " ", e.Outcome)))
		}
	}
	return lines
}

// uses adds up what was recorded of uses: "kek:v seal" to a number.
func (a *recorder) uses(t testing.TB) map[string]int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	sum := map[string]int64{}
	for _, e := range a.events {
		if e.Action != "key.use" {
			continue
		}
		text, err := json.Marshal(e)
		if err != nil || len(text) > 15<<10 || e.Time.IsZero() {
			t.Errorf("a record of %d bytes, %v", len(text), err)
		}
		for key, of := range e.Detail["uses"].(map[string]any) {
			for use, n := range of.(map[string]int64) {
				sum[key+" "+use] += n
			}
		}
	}
	return sum
}

func audited(a *recorder) func(*Config) {
	return func(c *Config) { c.Audit, c.UseInterval = a, time.Hour }
}

// life is every key-life call once, each as another actor; it says what failed.
func life(s *Service, key string) map[string]error {
	errs := map[string]error{}
	as := func(actor string, call func(ctx context.Context) error) {
		errs[actor] = call(WithActor(ctx, actor))
	}
	as("creates a KEK", func(ctx context.Context) error { _, err := s.CreateKEK(ctx, []string{"v", "v", "threads"}); return err })
	as("creates DEKs", func(ctx context.Context) error {
		_, err := s.CreateDEK(ctx, []kmsapi.CreateDEKItem{{ThreadID: "t"}, {ThreadID: "t"}, {}})
		return err
	})
	as("rotates", func(ctx context.Context) error { _, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: "v"}); return err })
	as("rotates the threads'", func(ctx context.Context) error {
		got, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: kmsapi.ThreadsKEK})
		if err == nil {
			_, err = s.jobs.Wait(ctx, got.Job.ID)
		}
		return err
	})
	as("releases", func(ctx context.Context) error { return s.ReleaseKEK(ctx, "v", 2) })
	as("destroys", func(ctx context.Context) error { return s.DestroyKEKVersion(ctx, "v", 1) })
	as("shreds", func(ctx context.Context) error { return s.ShredDEK(ctx, key) })
	as("backs up", func(ctx context.Context) error { return s.Audited(ctx, "backup", "", nil, func() error { return nil }) })
	return errs
}

func TestEveryChangeOfKeysIsRecordedWithWhoAskedBeforeItIsDone(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	st := &lastCommit{Store: r.store, rows: map[string]bool{}}
	r.store = st
	s := r.start(audited(a))
	key := r.createDEK(s, "t").KeyID
	a.before = func(e audit.Event) {
		row := map[string]string{"kek.create": "kek:v", "kek.rotate": "kek:" + e.Target, "kek.release": "kekuse:v",
			"kek.destroy": "kek:v", "dek.create": "dek:" + e.Target, "dek.shred": "dek:" + e.Target}[e.Action]
		if st.wrote(row) {
			t.Errorf("%s was done before it was recorded", e.Action)
		}
		st.forget()
	}
	for actor, err := range life(s, key) {
		if err != nil {
			t.Errorf("who %s: %v", actor, err)
		}
	}
	got := a.lines()
	made := a.events[1].Target
	for i, line := range got {
		if strings.Contains(line, "dek.create") {
			got[i] = strings.Replace(line, a.events[i].Target, "dek", 1)
		}
	}
	want := []string{
		"process kek.create threads", "process dek.create dek", "creates a KEK kek.create v", "creates DEKs dek.create dek", "creates DEKs dek.create dek",
		"rotates kek.rotate v", "rotates the threads' kek.rewrap threads", "rotates the threads' kek.rotate threads", "rotates the threads' kek.rewrap threads",
		"releases kek.release v", "destroys kek.destroy v", "shreds dek.shred " + key, "backs up backup",
	}
	if diff := cmp.Diff(want, got); diff != "" || made != key {
		t.Error(diff)
	}
}

// lastCommit knows which rows were written since it was told to forget.
type lastCommit struct {
	store.Store
	mu   sync.Mutex // guards rows
	rows map[string]bool
}

func (l *lastCommit) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	rev, err := l.Store.Commit(ctx, b)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range b.Writes {
		l.rows[w.Key] = true
	}
	return rev, err
}

func (l *lastCommit) wrote(row string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rows[row]
}

func (l *lastCommit) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	clear(l.rows)
}

func TestAKMSThatCannotWriteItsAuditChangesNoKeyAndStillServes(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(audited(a))
	key := r.createDEK(s, "t").KeyID
	r.createKEK(s, "v")
	e := r.seal(s, "v", "x", "")
	r.rotate(s, "v")
	r.rotate(s, "v")
	r.must(s.ReleaseKEK(ctx, "v", 2))
	a.set(true)
	before := r.dump()
	errs := life(s, key)
	delete(errs, "creates a KEK") // it is there: nothing to record
	errs["releases"] = s.ReleaseKEK(ctx, "v", 3)
	for actor, err := range errs {
		if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "start the KMS again") {
			t.Errorf("who %s: %v", actor, err)
		}
	}
	if _, err := s.CreateKEK(ctx, []string{"new"}); !errors.Is(err, fault.Unavailable) {
		t.Errorf("CreateKEK: %v", err)
	}
	after := r.dump()
	delete(before, "kekuse:threads") // wraps were reserved
	delete(after, "kekuse:threads")
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	r.mustOpen(s, e, "", "x")
	r.mustDecrypt(s, key, r.encrypt(s, key, "x", ""), "", "x")
	if _, err := New(ctx, Config{Store: newRig(t).store, Root: r.root, Audit: a}); !errors.Is(err, fault.Unavailable) {
		t.Errorf("New in an empty store: %v", err)
	}
}

func TestWhatWasRecordedAndThenFailedIsRecordedAsFailed(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	st := &faultyStore{Store: r.store}
	r.store = st
	s := r.start(audited(a))
	key := r.createDEK(s, "t").KeyID
	r.createKEK(s, "w")
	st.failing(func(*store.Batch) (error, bool) { return errors.New("disk"), false })
	if err := s.ShredDEK(WithActor(ctx, "uid:7"), key); !errors.Is(err, fault.Unavailable) {
		t.Errorf("ShredDEK: %v", err)
	}
	if _, err := s.CreateKEK(ctx, []string{"v"}); !errors.Is(err, fault.Unavailable) {
		t.Errorf("CreateKEK: %v", err)
	}
	want := []string{"uid:7 dek.shred " + key, "uid:7 dek.shred " + key + " failed", "process kek.create v", "process kek.create v failed"}
	if diff := cmp.Diff(want, a.lines()[3:]); diff != "" {
		t.Error(diff)
	}
}

func TestUsesAreCountedPerKeyThroughEvictionAndClose(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(audited(a), func(c *Config) { c.CacheEntries = 2 })
	r.createKEK(s, "v", "w")
	ids := r.createDEKs(s, 5)
	want := map[string]int64{"kek:threads wrap": 5}
	var es []kmsapi.Envelope
	for i := range 30 {
		id, kek := ids[i%5], []string{"v", "w"}[i%2]
		c := r.encrypt(s, id, "x", "")
		r.mustDecrypt(s, id, c, "", "x")
		r.mustNotDecrypt(s, id, c[:20], "", fault.Unopenable)
		es = append(es, r.seal(s, kek, "x", ""))
		r.mustOpen(s, es[i], "", "x")
		want["dek:"+id+" encrypt"]++
		want["dek:"+id+" decrypt"] += 2
		want["kek:"+kek+" seal"]++
		want["kek:"+kek+" wrap"]++
		want["kek:"+kek+" open"]++
	}
	s.Close()
	s.Close()
	if diff := cmp.Diff(want, a.uses(t)); diff != "" {
		t.Error(diff)
	}
}

func TestUsesAreRecordedAtEveryInterval(t *testing.T) {
	r := newRig(t)
	a := &recorder{taken: make(chan struct{}, 1)}
	s := r.start(func(c *Config) { c.Audit, c.UseInterval = a, time.Millisecond })
	key := r.createDEK(s, "t").KeyID
	for range 3 {
		r.encrypt(s, key, "x", "")
	}
	for a.uses(t)["dek:"+key+" encrypt"] < 3 { // while the key stays in the cache
		<-a.taken
	}
	s.Close()
	if diff := cmp.Diff(map[string]int64{"kek:threads wrap": 1, "dek:" + key + " encrypt": 3}, a.uses(t)); diff != "" {
		t.Error(diff)
	}
}

func TestUsesThatTheAuditDoesNotTakeWait(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(audited(a), func(c *Config) { c.CacheEntries = 1 })
	ids := r.createDEKs(s, 3)
	want := map[string]int64{"kek:threads wrap": 3}
	for round := range 4 {
		a.set(round < 3)
		for _, id := range ids {
			r.encrypt(s, id, "x", "")
			want["dek:"+id+" encrypt"]++
		}
		s.flushUses()
	}
	s.Close()
	if diff := cmp.Diff(want, a.uses(t)); diff != "" {
		t.Error(diff)
	}
}

func TestManyKeysMakeManyRecordsOfBoundedSizeAndBoundedMemory(t *testing.T) {
	a := &recorder{}
	s := &Service{audit: a, now: func() time.Time { return day }, tally: newTally(day)}
	long := strings.Repeat("k", 120)
	for i := range maxTally + 500 {
		s.tally.add(fmt.Sprintf("dek:%s%08d", long, i), taken{1, 1 << 62, 1 << 62, 1 << 62, 1 << 62})
	}
	if n := len(s.tally.counts); n != maxTally+1 || len(s.tally.half) != 1 {
		t.Errorf("%d keys are kept", n)
	}
	s.flushUses()
	sum := a.uses(t)
	if sum[otherKeys+" seal"] != 500 || len(a.events) < maxTally/usesPerRow {
		t.Errorf("%d records, %d of others", len(a.events), sum[otherKeys+" seal"])
	}
	if len(s.tally.counts) != 0 {
		t.Error("what was recorded is kept")
	}
}

// An audit that fails must not be asked again and again for as long as it does.
func TestManyCountsThatCannotBeRecordedWaitForTheNextInterval(t *testing.T) {
	a := &recorder{full: true}
	s := &Service{audit: a, log: slog.New(slog.DiscardHandler), now: func() time.Time { return day }, tally: newTally(day)}
	for i := range maxTally/2 + 1 {
		s.tally.add(fmt.Sprintf("dek:%d", i), taken{1})
	}
	if len(s.tally.half) != 1 {
		t.Fatal("so many counts do not ask to be recorded")
	}
	<-s.tally.half
	s.flushUses()
	s.tally.add("dek:another", taken{1})
	if len(s.tally.half) != 0 || len(s.tally.counts) != maxTally/2+2 {
		t.Errorf("%d requests to record at once what could not be, %d counts", len(s.tally.half), len(s.tally.counts))
	}
}
