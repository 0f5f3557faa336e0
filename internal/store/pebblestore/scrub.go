package pebblestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// Where bytes stay that were overwritten or deleted, and what Scrub does about it.
//
// Logs: a log whose records are all in tables is kept to be written over, up to
// five of them, and behind what a new one has written so far lie the old records.
// So Scrub has Pebble begin new logs, none of them in an old file (see logFS),
// until the files of all old ones are gone.
//
// Tables: an old version of a record goes when it meets a newer one in a
// compaction, which may be never. All that was written before Scrub has a sequence
// number under the mark that Scrub begins with. It compacts until no table above
// the last level holds such a record: then all of them lie in the last level,
// which has one version of a record, the newest of them.
//
// More than one it has only where a Snapshot needed the others when the compaction
// began that wrote the table. So Scrub waits at its beginning for those under way,
// and each table of the last level that is there then is written anew as well: a
// record of it is written once more, as it is, which the compaction of that record
// brings to the table.
//
// Blob files: one stays whole while a table refers to any of its values. So from
// its first call to its end Scrub has large values written into the tables, writes
// anew every table that refers to a blob file, those too that came between two of
// its calls when the process was restarted, and ends when there is no blob file.
//
// Manifests and filters hold keys, never values. What the disk itself keeps of
// files that were removed is not the store's to say.

var _ store.Scrubber = (*Store)(nil)

// Scrub is [store.Scrubber].Scrub. It is fault.Unavailable while a Snapshot is open, and
// while another call is under way: what ends one of them must not end what the other needs.
func (s *Store) Scrub(ctx context.Context, state string) (next string, err error) {
	if err := s.enter(ctx); err != nil {
		return state, err
	}
	defer s.leave(&err)
	if s.snapshots.Load() > 0 {
		return state, fault.New(fault.Unavailable, "the store is being copied, and what was overwritten stays until that is done; try again")
	}
	if !s.oneScrub.TryLock() {
		return state, fault.New(fault.Unavailable, "the files of the store are being scrubbed already; try again")
	}
	defer s.oneScrub.Unlock()
	s.scrubbing.Store(true)
	if state == "" {
		m, err := s.renewLogs(ctx)
		return m.String(), err
	}
	m, err := parseMark(state)
	if err != nil {
		return state, err
	}
	old, err := s.tablesBefore(m)
	if err != nil {
		return state, err
	}
	if len(old) > 0 {
		return state, s.renewTables(ctx, old)
	}
	if err := s.filesGone(ctx); err != nil {
		return state, err
	}
	s.scrubbing.Store(false)
	return "", nil
}

// mark tells what was written before a Scrub from what came after.
type mark struct {
	sequence uint64 // of the first write after
	file     uint64 // number, greater than those of all files before
}

func (m mark) String() string { return fmt.Sprintf("%d-%d", m.sequence, m.file) }

func parseMark(state string) (m mark, err error) {
	if _, err := fmt.Sscanf(state, "%d-%d", &m.sequence, &m.file); err != nil || m.String() != state {
		return mark{}, fault.New(fault.Invalid, "the state of a scrub is not one that Scrub returned")
	}
	return m, nil
}

// logFS is a file system in which Pebble uses files of old logs again, but not
// while fresh is set.
type logFS struct {
	vfs.FS
	fresh *atomic.Bool
}

// ReuseForWrite makes a file that has nothing of the old one, if it has to.
func (f logFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if !f.fresh.Load() {
		return f.FS.ReuseForWrite(oldname, newname, category)
	}
	if err := f.Remove(oldname); err != nil {
		return nil, err
	}
	return f.Create(newname, category)
}

// Unwrap is [vfs.FS].Unwrap.
func (f logFS) Unwrap() vfs.FS { return f.FS }

// noKey is before all keys, and no record has it.
const noKey = "\x00"

// renewLogs has all records of logs written to tables and the files of the logs
// removed, and returns the mark.
func (s *Store) renewLogs(ctx context.Context) (m mark, err error) {
	if err := s.touch(noKey); err != nil {
		return m, err
	}
	if err := s.compactions.ended(ctx); err != nil {
		return m, err
	}
	m.sequence = s.synced.Load() // behind that of noKey
	s.fresh.Store(true)
	defer s.fresh.Store(false)
	logs, err := s.numbers(".log")
	for newest := slices.Max(append(logs, 0)); err == nil && slices.Min(append(logs, newest+1)) <= newest; {
		// It begins a log, in the place of the oldest one that is kept.
		if err := renewError(ctx, s.db.Flush()); err != nil {
			return m, err
		}
		logs, err = s.numbers(".log")
	}
	if err != nil {
		return m, err
	}
	files, err := s.numbers("")
	m.file = slices.Max(append(files, 0)) + 1
	return m, err
}

// numbers returns the numbers of the files of a kind, or of all that have one.
func (s *Store) numbers(kind string) (out []uint64, err error) {
	names, err := s.fs.List(s.dir)
	if err != nil {
		return nil, readError(err)
	}
	for _, name := range names {
		var n uint64
		var suffix string
		if _, err := fmt.Sscanf(name, "%d%s", &n, &suffix); err == nil && (kind == "" || suffix == kind) {
			out = append(out, n)
		}
	}
	return out, nil
}

// tablesBefore returns the tables that have to be written anew, in the order of
// their last keys.
func (s *Store) tablesBefore(m mark) (old []pebble.SSTableInfo, err error) {
	levels, err := s.db.SSTables(pebble.WithProperties())
	for level, tables := range levels {
		for _, t := range tables {
			last, large := level == len(levels)-1, t.Properties.NumValuesInBlobFiles > 0
			if large || last && uint64(t.BackingSSTNum) < m.file || !last && uint64(t.SmallestSeqNum) < m.sequence {
				old = append(old, t)
			}
		}
	}
	slices.SortFunc(old, func(a, b pebble.SSTableInfo) int {
		return bytes.Compare(a.Largest.UserKey, b.Largest.UserKey)
	})
	return old, readError(err)
}

// scrubBytes is the size of the tables that one call writes anew, when they span no others.
const scrubBytes = 128 << 20

// renewTables has the first tables of old, some, written anew.
func (s *Store) renewTables(ctx context.Context, old []pebble.SSTableInfo) error {
	start, end, size := old[0].Smallest.UserKey, old[0].Largest.UserKey, uint64(0)
	for i, t := range old {
		if size += t.Size; size > scrubBytes && i > 0 {
			break
		}
		if err := s.touch(string(t.Smallest.UserKey)); err != nil {
			return err
		}
		if end = t.Largest.UserKey; bytes.Compare(t.Smallest.UserKey, start) < 0 {
			start = t.Smallest.UserKey
		}
	}
	if err := s.db.Flush(); err != nil {
		return renewError(ctx, err)
	}
	return renewError(ctx, s.db.Compact(ctx, start, append(slices.Clip(end), 0), false))
}

func renewError(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return ctx.Err()
	}
	return fault.Wrap(fault.Unavailable, err, "the store could not write its files anew; try again, and see the log")
}

// touch writes the record under key once more as it is, or that there is none.
func (s *Store) touch(key string) error {
	b := store.Batch{Writes: []store.Write{{Key: key, Delete: true}}}
	var rev store.Revision
	v, closer, err := s.db.Get([]byte(key))
	if err == nil {
		defer closer.Close()
		b.Writes[0].Delete = false
		rev, b.Writes[0].Value, err = split(v)
	}
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return readError(err)
	}
	b.RequireRevision(key, rev)
	if err = s.write(&b, rev); errors.Is(err, store.ErrConflict) {
		return nil // somebody else has just written it
	}
	return err
}

// goneTime is how long Pebble may take to remove files that nobody needs.
const goneTime = 2 * time.Second

// filesGone waits until each table that was there when it began is one of the
// store's, or gone, and there is no blob file.
func (s *Store) filesGone(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, goneTime)
	defer cancel()
	left, err := s.numbers(".sst")
	for err == nil {
		var blobs []uint64
		if left, err = s.unused(left); err == nil {
			blobs, err = s.numbers(".blob")
		}
		if err != nil || len(left) == 0 && len(blobs) == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return fault.New(fault.Unavailable, "a reader still uses a file of before; try again")
		case <-time.After(5 * time.Millisecond):
		}
	}
	return err
}

// unused returns those of the tables that are there and belong to no level.
func (s *Store) unused(tables []uint64) ([]uint64, error) {
	levels, err := s.db.SSTables()
	if err != nil {
		return nil, readError(err)
	}
	used := map[uint64]bool{}
	for _, t := range slices.Concat(levels...) {
		used[uint64(t.BackingSSTNum)] = true
	}
	there, err := s.numbers(".sst")
	return slices.DeleteFunc(there, func(n uint64) bool { return used[n] || !slices.Contains(tables, n) }), err
}
