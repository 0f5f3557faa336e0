// Package kms is the key process in process: it makes KEKs and DEKs and is the
// only one to use them. Its callers name keys and hand over plaintext or
// ciphertext, many items in one call; raw keys never leave it.
//
// It owns the rows kek:*, kekuse:*, dek:*, auditkey, cmekkey:* and job:* of its store. It
// trusts its root key and this process's memory, and not the store: a row that
// was edited, shortened or moved opens nothing. An older row put back whole does
// open, and a count of seals or wraps is then too low: the limit leaves room for
// a restored backup, not for an attacker who does it again and again.
//
// After a crash everything answered is there: a key is answered only when its
// row is on stable storage. What a crash loses is reserved seals and wraps (see
// allowance), the counts of uses of its last interval, and the sessions of CMEK
// rotations, whose keys are in memory alone.
//
// A change of keys takes effect at once in this process, and within 1.5 seconds in
// others on the same store (see look.go). Sessions and one-time keys of CMEK
// rotations, and the limits on how many there are, are each process's own.
package kms

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/tracing"
)

// Limits of one item, in bytes.
const (
	MaxPlaintext = 32 << 20
	MaxAAD       = 64 << 10
)

// maxSeals is how many seals a DEK, or wraps a version of a KEK, makes at most:
// half of the 2^32 at which random nonces under one key begin to be a risk. The
// other half is room for a store that was restored from a backup and so forgot
// some.
const maxSeals = 1 << 31

// Config is what a Service stands on. Zero values mean the stated default.
type Config struct {
	Store        store.Store      // stays the caller's to close, after the Service
	Root         keyring.Root     // stays the caller's to wipe
	CacheEntries int              // 10000; so many DEKs and so many KEKs are kept ready
	MaxSeals     int64            // 2^31, which is also the most; a key that has made so many seals or wraps must be rotated
	SealBlock    int64            // 4096, at least 2; so many seals or wraps are reserved by one write of the store
	Now          func() time.Time // time.Now
	Audit        audit.Recorder   // none; stays the caller's to close, after the Service
	UseInterval  time.Duration    // a minute; so often the counts of uses go to the audit
	Log          *slog.Logger     // none
	Tracer       *tracing.Tracer  // of the jobs; nil: there are no traces
	Holder       string           // of the jobs' leases, see job.Config
	ImportKEK    bool             // key material may be imported: see Service.ImportKEK
	NoJobs       bool             // jobs that were left running are not taken up: for a look at the keys
}

// Service is the KMS. It may be used by many goroutines, and many Services may
// share a store.
type Service struct {
	store    store.Store
	root     keyring.Root
	now      func() time.Time
	maxSeals int64
	block    int64
	audit    audit.Recorder // may be nil
	log      *slog.Logger
	jobs     *job.Runner
	keks     *cache[*kek]
	deks     *cache[*dek]
	tally    *tally

	rotations cmekRotations // of customers' keys

	cmeks     *cache[*cmekKey] // customers' keys that are kept here
	cmekSeals sync.Map         // *allowance of each, by fingerprint
	denials   denials

	imports  bool // see Config.ImportKEK
	tries    tries
	counted  counted
	rotating sync.Mutex    // one rotation at a time: a job's and the call's that started it meet
	stop     chan struct{} // closed by Close
	closing  sync.Once
	counter  sync.WaitGroup
}

// New opens the KMS in cfg.Store. In an empty store it makes the KEK of the
// threads. When the root key does not open what is stored it fails with
// fault.Damaged and has changed nothing. Jobs that were left running go on.
func New(ctx context.Context, cfg Config) (*Service, error) {
	s, err := fromConfig(cfg)
	if err != nil {
		return nil, err
	}
	if s.audit != nil {
		s.counter.Go(func() { s.recordUses(defaulted(cfg.UseInterval, time.Minute)) })
	}
	err = s.ready(ctx)
	if err == nil && !cfg.NoJobs {
		err = s.jobs.Resume(ctx)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("open the KMS: %w", err)
	}
	return s, nil
}

// ready finds the KEK of the threads or, in an empty store, makes it.
func (s *Service) ready(ctx context.Context) error {
	used, err := s.storeIsUsed(ctx) // before the look for the KEK: another process may make it in between
	if err != nil {
		return asFault(err)
	}
	_, err = s.primary(ctx, kmsapi.ThreadsKEK)
	switch {
	case errors.Is(err, fault.NotFound) && used:
		return fault.New(fault.Damaged, "the key store holds keys but not the KEK %q; restore it from its backup", kmsapi.ThreadsKEK)
	case errors.Is(err, fault.NotFound):
		_, err = s.CreateKEK(ctx, []string{kmsapi.ThreadsKEK})
	}
	return err
}

func fromConfig(cfg Config) (*Service, error) {
	entries := defaulted(cfg.CacheEntries, 10_000)
	s := &Service{
		store: cfg.Store, root: cfg.Root, now: cfg.Now, audit: cfg.Audit, log: cfg.Log, imports: cfg.ImportKEK,
		maxSeals: defaulted(cfg.MaxSeals, maxSeals), block: defaulted(cfg.SealBlock, 4096),
		keks: newCache[*kek](entries), deks: newCache[*dek](entries), cmeks: newCache[*cmekKey](entries), stop: make(chan struct{}),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if entries < 1 || s.block < 2 || s.maxSeals < s.block || s.maxSeals > maxSeals || cfg.UseInterval < 0 {
		return nil, fault.New(fault.Invalid, "KMS configuration: need CacheEntries >= 1, UseInterval >= 0 and 2 <= SealBlock <= MaxSeals <= 2^31")
	}
	s.tally = newTally(s.now())
	s.counted.turn = make(chan struct{}, 1)
	s.rotations.open, s.rotations.keys = map[string]*cmekRotation{}, map[string]rotationKey{}
	if s.audit != nil {
		s.keks.leaves, s.deks.leaves = s.collectKEK, s.collectDEK
	}
	s.jobs = job.New(job.Config{Store: s.store, Kinds: []job.Kind{s.rotateKind()}, Now: s.now, Log: s.log, Tracer: cfg.Tracer, Holder: cfg.Holder})
	return s, nil
}

func defaulted[N int | int64 | time.Duration](n, def N) N {
	if n == 0 {
		return def
	}
	return n
}

// storeIsUsed reports whether there is any key in the store, beside the audit's.
func (s *Service) storeIsUsed(ctx context.Context) (bool, error) {
	for _, prefix := range []string{layout.KEK(""), layout.DEK("")} {
		recs, err := s.store.Scan(ctx, store.Prefix(prefix), store.ScanOptions{Limit: 2})
		if err != nil {
			return false, err
		}
		for _, rec := range recs {
			if rec.Key != layout.KEK(auditKEK) {
				return true, nil
			}
		}
	}
	return false, nil
}

// Check returns nil while the KMS can work: its root key can be used and its
// store answers. Otherwise it fails with fault.Unavailable.
func (s *Service) Check(ctx context.Context) error {
	if err := s.root.Check(ctx); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the KMS is locked: its root key cannot be used now")
	}
	if err := s.CheckStore(ctx); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the KMS's key store does not answer")
	}
	return nil
}

// storeTime is how long the store may take to show that it answers. Who asks waits longer,
// and hears which part it is.
const storeTime = 2 * time.Second

// CheckStore returns nil while the store answers, and else, for the operator, why not.
func (s *Service) CheckStore(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTime)
	defer cancel()
	_, err := s.store.Get(ctx, layout.KEK(kmsapi.ThreadsKEK))
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("nothing came from it in %v", storeTime)
	}
	return err
}

// Close stops jobs between two batches, wipes every key and records the last
// counts of uses. Calls that are running finish; later ones fail with
// fault.Unavailable.
func (s *Service) Close() {
	s.closing.Do(func() {
		close(s.stop)
		s.counter.Wait()
		s.jobs.Close()
		s.closeCMEKRotations()
		s.deks.close()
		s.cmeks.close()
		s.keks.close()
		if s.audit != nil {
			s.flushUses()
		}
	})
}
