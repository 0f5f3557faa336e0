package pebblestore

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/internal/store"
)

func TestAPartKeepsOnlyWhatNoCommitHasOvertaken(t *testing.T) {
	r := store.Record{Key: "k", Value: []byte("old"), Revision: 1}
	p := new(part)
	before := p.count.Load()
	p.count.Add(1) // closed
	if p.leave(r, p.count.Load()); len(p.held) != 0 {
		t.Error("a closed part keeps a record")
	}
	p.count.Add(1) // open
	if p.leave(r, before); len(p.held) != 0 {
		t.Error("a part keeps a record that was read before a commit")
	}
	p.leave(r, p.count.Load())
	got, ok := p.get("k")
	if !ok || string(got.Value) != "old" {
		t.Fatalf("get = %+v, %v", got, ok)
	}
	got.Value[0], r.Value[1] = 'x', 'x'
	if again, _ := p.get("k"); string(again.Value) != "old" {
		t.Errorf("a caller changed what is kept: %q", again.Value)
	}
}

func TestAPartIsBounded(t *testing.T) {
	p := new(part)
	p.leave(store.Record{Key: "large", Value: make([]byte, recentValue+1)}, 0)
	if _, ok := p.get("large"); ok {
		t.Error("a large value is kept")
	}
	for i := range 10 * recentRecords {
		key := fmt.Sprint(i)
		p.leave(store.Record{Key: key}, 0)
		if _, ok := p.get(key); !ok || len(p.held) > recentRecords {
			t.Fatalf("after %s: kept %v, %d records", key, ok, len(p.held))
		}
	}
}

// Each key counts upwards. A reader that ever sees a key count down, or less
// than what was committed before it began, was answered from the past.
func TestAReadIsNeverOlderThanACommit(t *testing.T) {
	s, err := Open(t.TempDir(), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const keys, writes = 4, 300
	var committed [keys]atomic.Uint64
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for k := range keys {
		key := fmt.Sprint("key", k)
		writers.Go(func() {
			for n := uint64(1); n <= writes; n++ {
				b := new(store.Batch)
				b.Put(key, binary.BigEndian.AppendUint64(nil, n))
				if _, err := s.Commit(t.Context(), b); err != nil {
					t.Error(err)
					return
				}
				committed[k].Store(n)
			}
		})
		for range 2 {
			readers.Go(func() {
				for last := uint64(0); ; {
					select {
					case <-done:
						return
					default:
					}
					least := max(last, committed[k].Load())
					rec, err := s.Get(t.Context(), key)
					if err == nil {
						last = binary.BigEndian.Uint64(rec.Value)
					}
					if last < least {
						t.Errorf("%s is %d after it was %d", key, last, least)
						return
					}
				}
			})
		}
	}
	writers.Wait()
	close(done)
	readers.Wait()
}
