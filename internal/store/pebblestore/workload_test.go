package pebblestore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
)

// The workload of the crash tests: some writers, each of which commits batches
// 1, 2, 3... one after the other. What is in a batch follows from its writer and
// number, so that a reader can tell whether it is there, whole. A batch puts
// 1 to 6 records, sets the writer's head to the number of the batch, and deletes
// the records of the batch that came keep batches earlier. Every second writer
// requires its head to be the last one; every fifth batch is followed by a draw
// from one counter that all share.
const (
	writers = 6
	keep    = 8
)

// crashOptions make tables and new logs frequent.
func crashOptions() Options { return Options{MemTableBytes: 512 << 10} }

func headKey(w int) string { return fmt.Sprintf("head/%d", w) }

// contents returns the records of one batch.
func contents(w, number int) []store.Record {
	r := rand.New(rand.NewPCG(uint64(w), uint64(number)))
	recs := make([]store.Record, 1+r.IntN(6))
	for i := range recs {
		size := r.IntN(300)
		switch r.IntN(40) {
		case 0:
			size = r.IntN(150_000)
		case 1, 2, 3:
			size = r.IntN(20_000)
		}
		recs[i] = store.Record{Key: fmt.Sprintf("batch/%d/%06d/%d", w, number, i), Value: random(r, size)}
	}
	return recs
}

// batchOf returns the batch itself.
func batchOf(w, number int, head store.Revision) *store.Batch {
	var b store.Batch
	for _, rec := range contents(w, number) {
		b.Put(rec.Key, rec.Value)
	}
	if number > keep {
		for _, rec := range contents(w, number-keep) {
			b.Delete(rec.Key)
		}
	}
	b.Put(headKey(w), []byte(strconv.Itoa(number)))
	if w%2 == 0 {
		b.RequireRevision(headKey(w), head)
	}
	return &b
}

// write is writer w: it goes on where the store stands, and calls acked after
// each commit, until that says no or a commit fails.
func write(s store.Store, w int, acked func(name string, number int) bool) error {
	ctx := context.Background()
	head, err := s.Get(ctx, headKey(w))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	number, _ := strconv.Atoi(string(head.Value))
	for {
		number++
		if head.Revision, err = s.Commit(ctx, batchOf(w, number, head.Revision)); err != nil {
			return err
		}
		if !acked(headKey(w), number) {
			return nil
		}
		if number%5 == 0 {
			n, err := draw(s)
			if err != nil {
				return err
			}
			acked("counter", n)
		}
	}
}

// draw adds one to the shared counter and returns it.
func draw(s store.Store) (n int, err error) {
	ctx := context.Background()
	err = store.Retry(ctx, func() error {
		rec, err := s.Get(ctx, "counter")
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		n, _ = strconv.Atoi(string(rec.Value))
		n++
		var b store.Batch
		b.Put("counter", []byte(strconv.Itoa(n)))
		b.RequireRevision("counter", rec.Revision)
		_, err = s.Commit(ctx, &b)
		return err
	})
	return n, err
}

// verify checks that s holds every acknowledged commit and of the others at most
// the one that each writer had in flight, whole. acked holds the last number
// acknowledged by name; verify moves it on to what the store holds.
func verify(t *testing.T, s store.Store, acked map[string]int) {
	t.Helper()
	found := map[string]string{}
	for _, rec := range all(t, s) {
		found[rec.Key] = string(rec.Value)
	}
	for w := range writers {
		head := take(t, found, headKey(w))
		if last := acked[headKey(w)]; head != last && head != last+1 {
			t.Errorf("writer %d stands at %d, but %d was acknowledged last", w, head, last)
		}
		for number := max(1, head-keep+1); number <= head; number++ {
			for _, rec := range contents(w, number) {
				if found[rec.Key] != string(rec.Value) {
					t.Errorf("batch %d of writer %d, whose head is %d: %s is missing or wrong", number, w, head, rec.Key)
				}
				delete(found, rec.Key)
			}
		}
		acked[headKey(w)] = head
	}
	counter := take(t, found, "counter")
	if last := acked["counter"]; counter < last || counter > last+writers {
		t.Errorf("the counter stands at %d, but %d was acknowledged", counter, last)
	}
	acked["counter"] = counter
	for key := range found {
		t.Errorf("%s should not be there", key)
	}
}

// take removes a number from found.
func take(t *testing.T, found map[string]string, key string) int {
	t.Helper()
	value := found[key]
	if value == "" {
		return 0
	}
	delete(found, key)
	n, err := strconv.Atoi(value)
	if err != nil {
		t.Errorf("%s is %q", key, value)
	}
	return n
}
