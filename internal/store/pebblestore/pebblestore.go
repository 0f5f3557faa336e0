// Package pebblestore keeps a store in a directory, with Pebble.
//
// It owns the directory: mode 0700, one process at a time, held by the file
// LOCK. It trusts the file system to keep what it said it synced, and nobody
// else to write there. After a crash, of the process or of the machine, the
// next Open finds every commit that was acknowledged, whole, and of the others
// some, each whole or not at all. Open and reads report damaged bytes as
// store.ErrDamaged; what that rests on, and what it cannot see, is in damage.go.
//
// # Format
//
// A record is a Pebble key and value. The key is the record's key. The value is
//
//	revision (8 bytes, big endian, never zero) | value
//
// Every batch begins with a note for the log alone (LogData, 8 bytes, big
// endian): the sequence number below which everything was known to be on
// stable storage when the batch was written. Close writes one more. See damage.go.
package pebblestore

import (
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyfold/keyfold/internal/store"
)

// Options are the settings of one store. The zero value is a good default.
type Options struct {
	Logger        *slog.Logger // nil: no log
	CacheBytes    int64        // blocks of tables kept in memory, and memtables; 0: 48 MiB
	MemTableBytes uint64       // writes kept in memory before they go to a table, up to 4 times; 0: 8 MiB

	// OnFailure, if not nil, is called once, when the store cannot go on: a
	// write or sync of its log or manifest failed, or the engine panicked. From
	// then on every call fails; calls that were running may never return, and if
	// it happened in the engine's background, the process ends by a panic as
	// soon as OnFailure returns. It should end the process in good order. It
	// must not call the store.
	OnFailure func(error)

	fs       vfs.FS // tests put a file system of their own here
	readOnly bool   // see OpenRead
}

// Store is an open store. Any number of goroutines may use it.
type Store struct {
	db      *pebble.DB
	lock    *pebble.Lock
	stripes *stripes
	recent  *recent
	logger  *slog.Logger
	onFail  func(error)
	dir     string // of its files
	fs      vfs.FS

	readOnly bool // nothing is written to it; see OpenRead

	oneScrub  sync.Mutex   // held by a call of Scrub
	fresh     atomic.Bool  // no file of an old log is used again; see logFS
	scrubbing atomic.Bool  // no value goes to a blob file; see scrub.go
	snapshots atomic.Int64 // open ones

	compactions compactions // that are under way

	// synced is the sequence number below which every write is known to be on
	// stable storage. It only grows.
	synced atomic.Uint64

	failure atomic.Pointer[error] // why the store cannot go on

	// life is held shared by every call and exclusively by Close.
	life   sync.RWMutex
	closed bool // guarded by life
}

var _ store.Store = (*Store)(nil)

// Get is [store.Store].Get.
func (s *Store) Get(ctx context.Context, key string) (rec store.Record, err error) {
	if err := s.enter(ctx); err != nil {
		return store.Record{}, err
	}
	defer s.leave(&err)
	part := &s.recent[s.stripes.number(key)]
	if rec, ok := part.get(key); ok {
		return rec, nil
	}
	count := part.count.Load()
	v, closer, err := s.db.Get([]byte(key))
	if err != nil {
		return store.Record{}, readError(err)
	}
	defer closer.Close()
	if rec, err = record(key, v); err == nil {
		part.leave(rec, count)
	}
	return rec, err
}

// Scan is [store.Store].Scan.
func (s *Store) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) (recs []store.Record, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave(&err)
	return scan(ctx, s.db, r, opt)
}

func scan(ctx context.Context, db pebble.Reader, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	if r.End != "" && r.End <= r.Start {
		return nil, nil
	}
	it, err := db.NewIter(bounds(r))
	if err != nil {
		return nil, readError(err)
	}
	recs, err := collect(ctx, it, opt)
	if err := errors.Join(err, readError(it.Close())); err != nil {
		return nil, err
	}
	return recs, nil
}

func bounds(r store.Range) *pebble.IterOptions {
	o := new(pebble.IterOptions)
	if r.Start != "" {
		o.LowerBound = []byte(r.Start)
	}
	if r.End != "" {
		o.UpperBound = []byte(r.End)
	}
	return o
}

// collect reads the records of it. An error that ends the iteration shows when
// it is closed.
func collect(ctx context.Context, it *pebble.Iterator, opt store.ScanOptions) ([]store.Record, error) {
	start, step := it.First, it.Next
	if opt.Reverse {
		start, step = it.Last, it.Prev
	}
	const often = 256 // records between looks at the context
	recs, size := make([]store.Record, 0, min(opt.Max(), 64)), 0
	for more := start(); more && !opt.Full(len(recs), size); more = step() {
		v, err := it.ValueAndErr()
		if err != nil {
			return nil, readError(err)
		}
		rec, err := record(string(it.Key()), v)
		if err != nil {
			return nil, err
		}
		size += len(rec.Value)
		if recs = append(recs, rec); len(recs)%often == 0 && ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	return recs, nil
}

// Commit is [store.Store].Commit.
//
// The preconditions are checked and the batch is applied under the locks of its
// keys (see stripes); the wait for the disk comes after, without them, so that
// commits of one key too share a sync. The log keeps their order: when the later
// one is on stable storage, the earlier one is.
func (s *Store) Commit(ctx context.Context, b *store.Batch) (rev store.Revision, err error) {
	if err := b.Validate(); err != nil {
		return 0, err
	}
	if err := s.enter(ctx); err != nil {
		return 0, err
	}
	defer s.leave(&err)
	if len(b.Writes) == 0 {
		return 0, s.apply(b, nil)
	}
	rev = store.NewRevision()
	if err := s.write(b, rev); err != nil {
		return 0, err
	}
	return rev, nil
}

// write applies b, whose records get the revision rev, and waits until it is on
// stable storage.
func (s *Store) write(b *store.Batch, rev store.Revision) error {
	pb, err := s.encode(b, rev)
	if err != nil {
		return err
	}
	if err := s.apply(b, pb); err != nil {
		return errors.Join(err, pb.Close())
	}
	// The batch is in memory and in line for the log: visible, not yet safe.
	if err := pb.SyncWait(); err != nil {
		return s.fail(err)
	}
	// The batch is on stable storage.
	s.noteSynced(pb)
	return pb.Close()
}

// encode turns b into a Pebble batch.
func (s *Store) encode(b *store.Batch, rev store.Revision) (*pebble.Batch, error) {
	size := 64
	for _, w := range b.Writes {
		size += len(w.Key) + len(w.Value) + 24
	}
	pb := s.db.NewBatchWithSize(size)
	if err := pb.LogData(s.note(), nil); err != nil {
		return nil, err
	}
	for _, w := range b.Writes {
		if err := encodeWrite(pb, w, rev); err != nil {
			return nil, err
		}
	}
	return pb, nil
}

func encodeWrite(pb *pebble.Batch, w store.Write, rev store.Revision) error {
	if w.Delete {
		op := pb.DeleteDeferred(len(w.Key))
		copy(op.Key, w.Key)
		return op.Finish()
	}
	op := pb.SetDeferred(len(w.Key), revisionSize+len(w.Value))
	copy(op.Key, w.Key)
	binary.BigEndian.PutUint64(op.Value, uint64(rev))
	copy(op.Value[revisionSize:], w.Value)
	return op.Finish()
}

// apply checks the preconditions of b and applies pb, unless it is nil, as one
// step against every other commit.
func (s *Store) apply(b *store.Batch, pb *pebble.Batch) error {
	var room [32]uint32
	held := s.stripes.lock(s.stripes.of(room[:0], b))
	defer s.stripes.unlock(held)
	for _, p := range b.Preconditions {
		if err := s.check(p); err != nil {
			return err
		}
	}
	if pb == nil {
		return nil
	}
	s.closeParts(held, b.Writes)
	defer s.openParts(held)
	return s.db.ApplyNoSyncWait(pb, pebble.Sync)
}

// check returns ErrConflict if p does not hold. The caller holds p's stripe.
func (s *Store) check(p store.Precondition) error {
	if rec, ok := s.recent[s.stripes.number(p.Key)].peek(p.Key); ok {
		if rec.Revision != p.Revision {
			return store.ErrConflict
		}
		return nil
	}
	var rev store.Revision
	v, closer, err := s.db.Get([]byte(p.Key))
	switch {
	case errors.Is(err, pebble.ErrNotFound):
	case err != nil:
		return readError(err)
	default:
		defer closer.Close()
		if rev, _, err = split(v); err != nil {
			return err
		}
	}
	if rev != p.Revision {
		return store.ErrConflict
	}
	return nil
}

// note is the note that goes into the log.
func (s *Store) note() []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 0, noteSize), s.synced.Load())
}

// noteSynced records that everything up to pb is on stable storage.
func (s *Store) noteSynced(pb *pebble.Batch) {
	first := uint64(pb.SeqNum())
	if first == 0 {
		return // Pebble took the bytes of a very large batch; the next small one speaks for it
	}
	end := first + uint64(pb.Count())
	for {
		old := s.synced.Load()
		if end <= old || s.synced.CompareAndSwap(old, end) {
			return
		}
	}
}

const revisionSize = 8

// split takes a stored value apart. The value aliases v.
func split(v []byte) (store.Revision, []byte, error) {
	if len(v) < revisionSize {
		return 0, nil, damaged(errors.New("a record is shorter than its revision"))
	}
	return store.Revision(binary.BigEndian.Uint64(v)), v[revisionSize:], nil
}

// record makes a record with a copy of the value in v.
func record(key string, v []byte) (store.Record, error) {
	rev, value, err := split(v)
	if err != nil {
		return store.Record{}, err
	}
	return store.Record{Key: key, Value: append([]byte{}, value...), Revision: rev}, nil
}
