package pebblestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// format is the version of Pebble's files. A store of an older one is brought
// up to it when it is opened; there is no way back.
const format = pebble.FormatValueSeparation

// defaultCache leaves room for the index and data blocks that busy readers come
// back to: Pebble takes the memory of its memtables out of the cache, and with
// its own default of 8 MiB hardly anything else stays. It is taken as it fills.
const defaultCache = 48 << 20

// defaultMemTable, twice Pebble's own, halves how often a busy writer's records
// go to a table that a compaction soon writes again.
const defaultMemTable = 8 << 20

// largeValue is the size from which a value goes to a file of its own kind, a
// blob file, when it is flushed. Compactions then move a reference to it and not
// the value: 60 KB commits take two thirds of the CPU and wait less for
// compactions (BenchmarkCommitLarge).
const largeValue = 16 << 10

// Open opens the store in dir, and makes both if there is none.
//
// The error is a fault.Conflict if another process, or another Store of this
// one, has dir; a fault.Damaged that is also store.ErrDamaged if the files are
// not what was written; a fault.Unavailable if the system refused something.
// Its message names dir: it is for the operator, not for callers of the server.
func Open(dir string, opts Options) (*Store, error) {
	dir, err := prepareDir(dir, &opts)
	if err != nil {
		return nil, fault.Wrap(fault.Unavailable, err, "the store's directory %s cannot be used: %v", dir, err)
	}
	return openLocked(dir, opts)
}

// openLocked locks dir, which is there, and opens the store in it.
func openLocked(dir string, opts Options) (*Store, error) {
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	lock, err := pebble.LockDirectory(dir, opts.fs)
	if err != nil {
		return nil, lockError(dir, err)
	}
	s := &Store{lock: lock, stripes: newStripes(), recent: new(recent), logger: opts.Logger, onFail: opts.OnFailure, dir: dir, fs: opts.fs, readOnly: opts.readOnly}
	if err := s.open(dir, opts); err != nil {
		return nil, errors.Join(openError(dir, err), lock.Close())
	}
	return s, nil
}

// open checks the files and hands them to Pebble, which panics at some kinds of
// damage, and by our logger if it cannot write.
func (s *Store) open(dir string, opts Options) (err error) {
	defer func() {
		if r := recover(); r != nil {
			if err = s.failed(); err == nil {
				err = damaged(fmt.Errorf("panic: %v", r))
			}
		}
	}()
	if err := checkFiles(opts.fs, dir); err != nil {
		return err
	}
	s.db, err = pebble.Open(dir, s.pebbleOptions(opts))
	return err
}

func (s *Store) pebbleOptions(opts Options) *pebble.Options {
	logger := engineLogger{s}
	events := pebble.TeeEventListener(pebble.MakeLoggingEventListener(logger), s.compactions.listener())
	o := &pebble.Options{
		FS:                          logFS{opts.fs, &s.fresh},
		Lock:                        s.lock,
		ReadOnly:                    s.readOnly,
		Logger:                      logger,
		EventListener:               &events,
		FormatMajorVersion:          format,
		CacheSize:                   cmp.Or(opts.CacheBytes, defaultCache),
		MemTableSize:                cmp.Or(opts.MemTableBytes, defaultMemTable),
		MemTableStopWritesThreshold: 4,
	}
	o.Experimental.ValueSeparationPolicy = s.separation
	// Bloom filters spare many checks that a new key is absent a look at the disk.
	// Blocks of 8 KiB hold several records of the usual size; with the default of
	// 4 KiB, conditional commits and scans take some 10% more CPU.
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].BlockSize = 8 << 10
	}
	return o
}

// separation says which values go to blob files. Pebble asks at each flush and
// compaction.
func (s *Store) separation() pebble.ValueSeparationPolicy {
	return pebble.ValueSeparationPolicy{
		Enabled:     !s.scrubbing.Load(),
		MinimumSize: largeValue,
		// A table may refer to many blob files: a large value is read on its own
		// anyway, and gathering them writes each once more.
		MaxBlobReferenceDepth: 100,
		TargetGarbageRatio:    0.2, // of a blob file's bytes, before the rest is written to another
		RewriteMinimumAge:     5 * time.Minute,
	}
}

// Close is [store.Store].Close. A store that failed is not closed, as its engine
// may wait for ever: Close returns the failure at once, and dir stays locked
// until the process ends.
func (s *Store) Close() (err error) {
	if err := s.failed(); err != nil {
		return err
	}
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return store.ErrClosed
	}
	s.closed = true
	defer func() {
		if r := recover(); r != nil {
			err = s.fail(fmt.Errorf("panic: %v", r))
		}
	}()
	if s.readOnly {
		return errors.Join(s.db.Close(), s.lock.Close())
	}
	return errors.Join(s.db.LogData(s.note(), pebble.NoSync), s.db.Close(), s.lock.Close())
}

// enter begins a call; leave ends it.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.failed(); err != nil {
		return err
	}
	s.life.RLock()
	if s.closed {
		s.life.RUnlock()
		return store.ErrClosed
	}
	return nil
}

// leave ends a call that enter began. A panic of the engine becomes the error of
// the call, and the end of the store, since the engine's locks may still be held.
func (s *Store) leave(err *error) {
	if r := recover(); r != nil {
		*err = s.fail(fmt.Errorf("panic: %v", r))
	}
	s.life.RUnlock()
}

// prepareDir makes dir, with mode 0700, and returns its one true name, by which
// Pebble knows a directory that this process has locked already.
func prepareDir(dir string, opts *Options) (string, error) {
	if opts.fs != nil {
		return dir, makeDir(opts.fs, dir)
	}
	opts.fs = vfs.Default
	abs, err := filepath.Abs(dir)
	if err != nil {
		return dir, err
	}
	if err := makeDir(opts.fs, abs); err != nil {
		return dir, err
	}
	if err := os.Chmod(abs, 0o700); err != nil {
		return dir, err
	}
	return filepath.EvalSymlinks(abs)
}

// makeDir makes dir and its parents, and syncs each parent, so that a power
// failure cannot take the directory away from around synced files.
func makeDir(fs vfs.FS, dir string) error {
	if info, err := fs.Stat(dir); err == nil && info.IsDir() {
		return nil
	}
	parent := fs.PathDir(dir)
	if parent == dir {
		return nil
	}
	if err := makeDir(fs, parent); err != nil {
		return err
	}
	if err := fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	p, err := fs.OpenDir(parent)
	if err != nil {
		return err
	}
	return errors.Join(p.Sync(), p.Close())
}

// lockError tells a lock that is held from one that cannot be had.
func lockError(dir string, err error) error {
	_, noFile := errors.AsType[*fs.PathError](err)
	errno, refused := errors.AsType[syscall.Errno](err)
	if noFile || refused && errno != syscall.EAGAIN && errno != syscall.EACCES {
		return fault.Wrap(fault.Unavailable, err, "the lock file of the store in %s cannot be had: %v", dir, err)
	}
	return fault.Wrap(fault.Conflict, err,
		"another keyfold is using %s (it holds the lock %s); stop it, or name another directory",
		dir, filepath.Join(dir, "LOCK"))
}

// openError says whose fault it is that a store did not open. What the system
// did not refuse must be in the files.
func openError(dir string, err error) error {
	_, refused := errors.AsType[syscall.Errno](err)
	if refused && !errors.Is(err, fs.ErrNotExist) || errors.Is(err, fault.Unavailable) {
		return fault.Wrap(fault.Unavailable, err, "the store in %s cannot be opened: %v", dir, err)
	}
	return fault.Wrap(fault.Damaged, fmt.Errorf("%w: %w", store.ErrDamaged, err),
		"the store in %s is damaged: %v; keep a copy of it, and restore a backup", dir, err)
}
