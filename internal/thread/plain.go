package thread

import (
	"context"
	"errors"
	"slices"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/store"
)

// A server that does not encrypt (Config.Plain) makes threads without a DEK and
// stores their rows in clear; threads with one it encrypts as ever. A server that
// encrypts stores nothing in clear: a thread without a DEK gets its first one before
// anything is written to it (Service.dekOf), and what lies there in clear is brought
// under that by an EncryptJob, as a rotation brings rows under a fresh DEK. Nothing
// leads back: a thread that has a DEK is never without one.

var errPlain = fault.New(fault.Conflict, "this server does not encrypt; start it with encryption on first")

// dekOf returns the DEK that m's rows are written under: none only where neither
// this server nor the thread encrypts. store.ErrConflict: m has got its first DEK
// just now and has to be read again.
func (s *Service) dekOf(ctx context.Context, m meta) (kmsMeta, error) {
	if !m.Plain || s.plain {
		return s.writable(m)
	}
	err := errLag
	for lags := 0; errors.Is(err, errLag); lags++ {
		if lags == maxLags {
			return kmsMeta{}, errOldKEK
		}
		_, err = s.beginMoving(idem.Apart(ctx), m) // what the call does comes after it
	}
	if err == nil {
		err = store.ErrConflict
	}
	return kmsMeta{}, err
}

// InClear reports whether rows may lie in clear: this server does not encrypt, or one
// did not and not all is encrypted since. It scans nothing. Errors: Config.Believe's.
func (s *Service) InClear(ctx context.Context) (bool, error) {
	if s.plain {
		return true, nil
	}
	return s.askBelieve(ctx)
}

// askBelieve is Config.Believe, which is asked until it has answered.
func (s *Service) askBelieve(ctx context.Context) (bool, error) {
	if is := s.believed.Load(); is != nil {
		return *is, nil
	}
	is, err := s.believe(ctx)
	if err != nil {
		return false, err
	}
	s.believed.CompareAndSwap(nil, &is) // or all was encrypted meanwhile
	return *s.believed.Load(), nil
}

// EncryptJob is the name of the kind that EncryptKind returns.
const EncryptJob = "encrypt-existing"

// EncryptArgs are the arguments of an EncryptJob.
type EncryptArgs struct {
	Threads []string `json:"threads,omitzero"` // IDs, in order; none: all threads that are not encrypted
}

// EncryptKind is the job that brings the threads under a first DEK that are not
// encrypted, or not to the end, deleted ones too, one after the other as a
// RotateAllJob does, and then has the store's files scrubbed: when it is completed
// and names no failure, no text of theirs is in a file of the store. Its units are
// threads. It fails on a server that does not encrypt.
//
// # Why no text is left
//
// Nobody makes a thread without a DEK, or writes to one, while servers encrypt
// (Service.dekOf). So the pass over all threads meets each that has rows in clear,
// and when it is done with one all its rows are under the DEK (MoveKind says why).
// Only then the scrub begins, which takes out of the files what was overwritten
// before it began. A thread that another job takes up meanwhile, or whose rows are
// just being purged, is named, since it may not be done. A crash, or a cancelled job,
// leaves every row readable; the next job begins with what is left and always scrubs.
func (s *Service) EncryptKind() job.Kind {
	return job.Kind{
		Name: EncryptJob,
		Count: func(ctx context.Context, j job.Job) (int, error) {
			w, err := s.encrypterOf(j)
			if n := len(w.args.Threads); n > 0 || err != nil {
				return n, err
			}
			return s.count(ctx)
		},
		Step: func(ctx context.Context, j job.Job) (job.Step, error) {
			w, err := s.encrypterOf(j)
			if err != nil {
				return job.Step{}, err
			}
			return w.step(ctx)
		},
		Done: func(ctx context.Context, j job.Job) error {
			w, err := s.encrypterOf(j)
			if err == nil && w.plain { // since the last batch: there is more
				err = errPlain
			}
			if err != nil || len(w.args.Threads) > 0 || j.Failed > 0 {
				return err // there may be more
			}
			if err := s.noneInClear(ctx); err != nil {
				return err
			}
			if s.encrypted != nil {
				err = s.encrypted(ctx)
			}
			if err == nil {
				s.believed.Store(new(bool))
			}
			return err
		},
	}
}

// noneInClear fails if a thread may have rows in clear: a server that did not encrypt
// ran since the job passed it.
func (s *Service) noneInClear(ctx context.Context) error {
	return s.each(ctx, "", func(m meta) error {
		if m.mayBePlain() {
			return fault.New(fault.Conflict, "a server that does not encrypt made thread %s meanwhile; run encrypt-existing again", m.ID)
		}
		return nil
	})
}

// encrypted is the cursor of an EncryptJob, as JSON. Empty: at the start.
type encrypted struct {
	Moved  moved  `json:"moved,omitzero"`
	Scrubs bool   `json:"scrubs,omitzero"` // all threads are done
	Files  string `json:"files,omitzero"`  // state of the scrub
}

// encrypter is an EncryptJob at work.
type encrypter struct {
	*Service
	job.Job
	args EncryptArgs
	at   *encrypted
}

func (s *Service) encrypterOf(j job.Job) (encrypter, error) {
	w := encrypter{Service: s, Job: j, at: new(encrypted)}
	return w, j.Decode(&w.args, w.at)
}

func (w encrypter) step(ctx context.Context) (s job.Step, err error) {
	if w.plain {
		return s, errPlain
	}
	if w.at.Scrubs {
		return w.scrub(ctx)
	}
	all := allMover{mover: mover{Service: w.Service, Job: w.Job, at: &w.at.Moved}, all: RotateAllArgs{Plain: true, Threads: w.args.Threads}}
	if s, err = all.step(ctx); err != nil {
		return s, err
	}
	w.at.Scrubs, s.Done = s.Done, false
	return s.At(w.at)
}

func (w encrypter) scrub(ctx context.Context) (s job.Step, err error) {
	if w.at.Files, err = scrub(ctx, w.store, w.at.Files); err != nil {
		return s, err
	}
	s.Done = w.at.Files == ""
	return s.At(w.at)
}

// scrub has a store go on with its files, from a state of store.Scrubber's. One that
// keeps nothing in files is none, and is done at once.
func scrub(ctx context.Context, rows store.Store, state string) (next string, err error) {
	if files, ok := store.As[store.Scrubber](rows); ok {
		return files.Scrub(ctx, state)
	}
	return "", nil
}

// maxBegun is how many threads one call of BeginEncrypting begins.
const maxBegun = 1000

// Encrypting is how far a thread is encrypted.
type Encrypting struct {
	Thread string
	KeyID  string // of its DEK
	Begun  bool   // some of its rows may lie in clear yet; an EncryptJob does the rest
	Err    error  // it has no DEK, since this went wrong
}

// BeginEncrypting gives the named threads, or all, their first DEK where they have
// none: nothing is written to them in clear from then on, and what there is an
// EncryptJob encrypts. It answers one for each that is named, in the order of their
// IDs, or, where none is named, for each that it meets until it has begun 1,000.
// Who may ask is the caller's to decide. Errors: Conflict (this server does not
// encrypt), Unavailable.
func (s *Service) BeginEncrypting(ctx context.Context, threadIDs []string) (out []Encrypting, err error) {
	if s.plain {
		return nil, errPlain
	}
	pass := allMover{mover: mover{Service: s}, all: RotateAllArgs{Threads: slices.Compact(slices.Sorted(slices.Values(threadIDs)))}}
	for id, begun := "", 0; begun < maxBegun || len(threadIDs) > 0; {
		if id, _, err = pass.threadAfter(ctx, id); err != nil || id == "" {
			return out, err
		}
		one := s.beginEncrypting(ctx, id)
		if out = append(out, one); one.Begun {
			begun++
		}
	}
	return out, nil
}

func (s *Service) beginEncrypting(ctx context.Context, threadID string) Encrypting {
	var m meta
	err := retryKEK(ctx, func() (err error) {
		if m, err = s.record(ctx, threadID); err == nil && m.Plain {
			m, err = s.beginMoving(ctx, m)
		}
		return err
	})
	switch {
	case errors.Is(err, store.ErrNotFound):
		err = errGone
	case err == nil && m.KMS.plain():
		err = errNoKey
	}
	if err != nil {
		return Encrypting{Thread: threadID, Err: store.Fault(err)}
	}
	return Encrypting{Thread: threadID, KeyID: m.KMS.KeyID, Begun: m.Moving != nil && m.Moving.Old.plain()}
}
