// Package store is the one ordered map that everything in Keyfold is kept in.
//
// Keys are byte strings in bytewise order (legend: package layout). A record
// carries a revision: a number that changes with every write of that key and
// never comes back, not even after the key was deleted and put again.
//
// A Commit is all or nothing. When it returns nil, it is on stable storage;
// when it returns ErrConflict, a precondition did not hold and nothing
// changed. Preconditions and writes of one batch are one atomic step against
// every other Commit, so conditional commits are serializable.
//
// There are no interactive transactions: read, decide, one conditional commit,
// and start again on ErrConflict (see Retry).
package store

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"iter"
	mathrand "math/rand/v2"
	"time"
)

// Limits of one batch, in bytes.
const (
	MaxKey   = 2 << 10
	MaxValue = 32 << 20
	MaxBatch = 64 << 20
)

var (
	// ErrNotFound says that there is no record under the key.
	ErrNotFound = errors.New("store: not found")
	// ErrConflict says that a precondition did not hold; nothing was changed.
	ErrConflict = errors.New("store: conflict")
	// ErrLimit says that a key, a value or a batch is over its limit, or a key is empty; nothing was changed.
	ErrLimit = errors.New("store: over the size limit")
	// ErrDamaged says that the engine found its own bytes damaged.
	ErrDamaged = errors.New("store: damaged")
	// ErrClosed says that the store was closed.
	ErrClosed = errors.New("store: closed")
)

// Revision names one write of one key. It can be compared for equality only.
// The zero Revision is never used for a record.
type Revision uint64

// NewRevision returns a fresh revision: 63 random bits, never zero. Random
// numbers, unlike counters, need no recovery, no hot record and no agreement
// between servers that share a store.
func NewRevision() Revision {
	var b [8]byte
	for {
		rand.Read(b[:])
		if r := binary.BigEndian.Uint64(b[:]) >> 1; r != 0 {
			return Revision(r)
		}
	}
}

// Record is one entry. Key and Value are the caller's own copies.
type Record struct {
	Key      string
	Value    []byte
	Revision Revision
}

// Range is the keys k with Start <= k < End. An empty End means no upper bound.
type Range struct{ Start, End string }

// Prefix is the range of all keys that begin with p.
func Prefix(p string) Range { return Range{Start: p, End: prefixEnd(p)} }

// prefixEnd is the smallest key greater than every key that begins with p; ""
// when there is none.
func prefixEnd(p string) string {
	b := []byte(p)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}

// ScanOptions bound and direct a Scan.
type ScanOptions struct {
	Limit   int  // at most so many records; 0 or less: MaxScan
	Reverse bool // from the end of the range downwards

	// MaxBytes ends the scan after the record with which the values make so
	// many bytes. A scan that finds a record returns at least one. 0: no bound.
	MaxBytes int
}

// MaxScan is the greatest number of records that one Scan returns.
const MaxScan = 10_000

// Max is the number of records to return at most: Limit, or MaxScan where
// Limit says nothing or too much.
func (o ScanOptions) Max() int {
	if o.Limit <= 0 {
		return MaxScan
	}
	return min(o.Limit, MaxScan)
}

// Full reports whether a scan ends that has collected so many records, with
// values of so many bytes.
func (o ScanOptions) Full(records, bytes int) bool {
	return records >= o.Max() || o.MaxBytes > 0 && bytes >= o.MaxBytes
}

// Store is the contract of every engine; package storetest is its suite. All
// methods may be called from many goroutines at once.
//
// Get and Scan may show a Commit that has not returned yet, and that a power
// failure could still undo. A Commit with writes that begins after such a read
// makes what was read durable together with itself.
type Store interface {
	// Get returns the record under key, or ErrNotFound.
	Get(ctx context.Context, key string) (Record, error)
	// Scan returns the records of r in key order (or its reverse), as they
	// stood at one moment.
	Scan(ctx context.Context, r Range, opt ScanOptions) ([]Record, error)
	// Commit applies b. All records put by b get the revision it returns; it is
	// 0 if b writes nothing. On ErrConflict, ErrLimit, ErrClosed and a context
	// that was done before the call, nothing changed. After any other error it
	// is not known whether b took effect.
	Commit(ctx context.Context, b *Batch) (Revision, error)
	// Close waits for running calls and closes the engine. Later calls answer ErrClosed.
	Close() error
}

// Over is a Store that stands over another one and adds to what some of its methods do.
type Over interface {
	Store
	Under() Store
}

// As returns s, or the first of the Stores that it stands over, as a T: what an engine
// can do beyond a Store is not lost behind others.
func As[T any](s Store) (found T, ok bool) {
	for {
		if found, ok = s.(T); ok {
			return found, true
		}
		over, more := s.(Over)
		if !more {
			return found, false
		}
		s = over.Under()
	}
}

// Shared reports whether other processes may have the map of s open, too, as an
// engine says with a method Shared() bool. Of one that does not say, this process is
// the only user, and what it remembers in memory is all that there is to know.
func Shared(s Store) bool {
	engine, says := As[interface{ Shared() bool }](s)
	return says && engine.Shared()
}

// Ahead returns a context in which the first Get of each of keys is answered by one read
// of all of them, at one moment: when the first of these Gets is called. It is for who is
// about to Get them one after the other, and saves him round trips. What must be read after
// something that he does in between does not belong in it. Keys of an earlier Ahead
// that are in ctx, and of which none was asked for yet, are read with them, for all who have
// either context. Of an engine whose Gets cost next to nothing it returns ctx.
func Ahead(ctx context.Context, s Store, keys ...string) context.Context {
	engine, does := As[aheader](s)
	if !does {
		return ctx
	}
	return engine.Ahead(ctx, keys...)
}

// aheader is an engine that reads ahead.
type aheader interface {
	Ahead(ctx context.Context, keys ...string) context.Context
}

// Batch is a set of writes with preconditions. The zero value is an empty
// batch, whose Commit does nothing. Of several writes to one key the last one
// counts. A batch may hold preconditions on keys that it does not write.
type Batch struct {
	Writes        []Write
	Preconditions []Precondition
}

// Write is a put, or a delete when Delete is set.
type Write struct {
	Key    string
	Value  []byte
	Delete bool
}

// Precondition holds when Key is at Revision or, for Revision 0, absent.
type Precondition struct {
	Key      string
	Revision Revision
}

// Put writes value under key. The batch keeps value, not a copy.
func (b *Batch) Put(key string, value []byte) {
	b.Writes = append(b.Writes, Write{Key: key, Value: value})
}

// Delete removes the record under key; there need not be one.
func (b *Batch) Delete(key string) { b.Writes = append(b.Writes, Write{Key: key, Delete: true}) }

// RequireRevision makes the commit fail with ErrConflict unless key is at r.
func (b *Batch) RequireRevision(key string, r Revision) {
	b.Preconditions = append(b.Preconditions, Precondition{Key: key, Revision: r})
}

// RequireAbsent makes the commit fail with ErrConflict if there is a record under key.
func (b *Batch) RequireAbsent(key string) {
	b.Preconditions = append(b.Preconditions, Precondition{Key: key})
}

// Validate checks b against the limits. Engines call it first in Commit.
func (b *Batch) Validate() error {
	total := 0
	for _, w := range b.Writes {
		if w.Key == "" || len(w.Key) > MaxKey || len(w.Value) > MaxValue {
			return ErrLimit
		}
		total += len(w.Key) + len(w.Value)
	}
	for _, p := range b.Preconditions {
		if p.Key == "" || len(p.Key) > MaxKey {
			return ErrLimit
		}
	}
	if total > MaxBatch {
		return ErrLimit
	}
	return nil
}

// Scanner is the part of a Store that All needs, and all that a view of one
// moment has.
type Scanner interface {
	Scan(ctx context.Context, r Range, opt ScanOptions) ([]Record, error)
}

// All yields every record of r in key order, a page at a time: of a Store, each
// page is one moment's state, the whole is not. A page is bounded in bytes too.
func All(ctx context.Context, s Scanner, r Range) iter.Seq2[Record, error] {
	page := ScanOptions{Limit: 256, MaxBytes: 8 << 20}
	return func(yield func(Record, error) bool) {
		for {
			recs, err := s.Scan(ctx, r, page)
			if err != nil {
				yield(Record{}, err)
				return
			}
			size := 0
			for _, rec := range recs {
				if !yield(rec, nil) {
					return
				}
				size += len(rec.Value)
				r.Start = rec.Key + "\x00"
			}
			if !page.Full(len(recs), size) {
				return
			}
		}
	}
}

// Retry calls try until it returns something other than ErrConflict, or ctx
// is done. try reads, decides and commits once. Between tries it waits a
// random time that grows from microseconds to some milliseconds, so that
// writers who met do not meet again.
func Retry(ctx context.Context, try func() error) error {
	wait := 50 * time.Microsecond
	for {
		err := try()
		if !errors.Is(err, ErrConflict) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(mathrand.N(wait) + 1):
		}
		wait = min(2*wait, 8*time.Millisecond)
	}
}
