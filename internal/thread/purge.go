package thread

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// PurgeJob is the name of the kind that PurgeKind returns.
const PurgeJob = "thread-retention"

// Bounds of one batch. It ends after the row with which it has so many bytes.
const (
	purgeRows  = 500
	purgeBytes = 8 << 20
	purgeLook  = 2000 // rows and index entries that are looked at
	purgeHeld  = 1000 // held threads that are counted
)

// PurgeKind is the job that purges what the orgs' policies say, of all orgs, and
// sweeps what is kept of changes and requests for a day. Its units are the threads
// and messages that it purges.
//
// # What is found, and how
//
// A pass over all threads comes first. It reads no message: it sweeps, goes on with
// threads that an earlier run left half purged, and enters in the index of what was
// deleted the threads that were deleted before there was one. Then, of each org with
// a policy, the job looks at all threads for messages up to a time, which are the
// first of their kind in the order of keys, and at the index of what was deleted up
// to a time. So a message costs something when it is purged, and not before.
//
// Ages are counted from the time at which the run began. A preview takes the same
// steps for one org and drops the batches.
//
// # Why a hold wins, whenever it comes
//
// Every batch that takes something from a thread requires the thread's record as
// it was read, without a hold. A hold is a change of that record: whichever is
// committed first is met by the other, and the step that meets a hold is made
// again. A batch requires the policy, too.
//
// A DEK that is destroyed cannot be had back, and that is in no batch. So a
// deleted thread is purged in three parts:
//
//  1. mark. One commit, which requires the record, puts Purge into it, in the place
//     of all that names or holds a DEK. A hold finds no such thread from here on,
//     and nothing else does; whoever wants to write to it finds his commit refused.
//  2. shred. Only then the KMS destroys the DEKs; one that it does not have was
//     destroyed before. While it has not, no row goes.
//  3. remove. The rows go, batch by batch, the record and the index entry with the
//     last ones. Until then the record says that the thread is to be purged,
//     whatever becomes of the job and of the policy: the next run goes on with 2.
//
// A message is purged in one commit, with all of its versions and reactions, on the
// condition that its newest version is as it was read. Whoever edits it, reacts to
// it or deletes it requires that too, so one of them comes after the other, and no row
// of it is left or appears. Versions that make no batch go before it, the oldest
// first. A thread that is re-encrypted meanwhile is no matter: a row is replaced only at
// the revision at which it was read, and so it does not come back.
//
// # What lay there in clear
//
// Of rows that are encrypted the store's files keep nothing that opens without a DEK.
// A batch that takes rows from a thread that may have some in clear leaves a note. A
// run that finds the note when all orgs are done has the store's files scrubbed, and
// then takes the note away: so a run that is cancelled or crashes owes that to the next.
func (s *Service) PurgeKind() job.Kind {
	return job.Kind{
		Name: PurgeJob,
		Step: func(ctx context.Context, j job.Job) (job.Step, error) {
			w := &purger{Service: s, id: j.ID, at: purged{Phase: sweeping}}
			if err := j.Decode(&w.purgeArgs, &w.at); err != nil {
				return job.Step{}, err
			}
			return w.step(ctx)
		},
	}
}

// purgeArgs are the arguments of a PurgeJob.
type purgeArgs struct {
	Now int64 `json:"now"` // when the run began, in nanoseconds since 1970
}

// purged is the cursor of a PurgeJob, as JSON.
type purged struct {
	Phase purgePhase `json:"phase"`
	Org   string     `json:"org,omitzero"`   // that is at work, or was last
	After string     `json:"after,omitzero"` // ID of the thread, or key of the index entry, that is done; "": none is
	Row   rowName    `json:"row,omitzero"`   // of what comes after it, the row that is done; "": none is
	Shred string     `json:"shred,omitzero"` // key IDs of the DEKs that were destroyed last
	Files string     `json:"files,omitzero"` // state of the scrub

	// Of the org at work.
	Threads  int      `json:"threads,omitzero"`
	Messages int      `json:"messages,omitzero"`
	Held     []string `json:"held,omitzero"` // threads that would have lost something, sorted
}

// purgePhase is what comes next at a cursor.
type purgePhase string

const (
	sweeping  purgePhase = "sweep" // pass over all threads
	choosing  purgePhase = "org"   // go to the org after Org
	ageing    purgePhase = "age"   // purge messages of threads that are there
	clearing  purgePhase = "gone"  // purge what was deleted
	telling   purgePhase = "tell"  // record what was purged of the org
	scrubbing purgePhase = "scrub" // take what lay in clear out of the store's files
)

// purger is a PurgeJob at work, or a preview.
type purger struct {
	*Service
	purgeArgs
	id     string // of the job
	dry    bool   // nothing is purged
	at     purged
	policy policy

	batch   store.Batch
	inClear bool // it takes rows that may lie in clear
	looked  int  // rows and index entries
	failed  []string
}

func (w *purger) step(ctx context.Context) (s job.Step, err error) {
	before := w.at.Threads + w.at.Messages
	done := false
	switch w.at.Phase {
	case sweeping:
		err = w.sweep(ctx)
	case choosing:
		done, err = w.choose(ctx)
	case scrubbing:
		done, err = w.scrub(ctx)
	default:
		w.policy, err = w.policyOf(ctx, w.at.Org)
		if errors.Is(err, fault.Damaged) {
			w.failed, err = append(w.failed, "policy of org "+w.at.Org), nil
			w.enter(choosing)
		} else if err == nil {
			err = w.org(ctx)
		}
	}
	if err != nil {
		return s, err
	}
	if w.inClear {
		w.batch.Put(layout.RetentionScrub(), nil)
	}
	s = job.Step{Batch: w.batch, Failed: w.failed, Done: done, Processed: len(w.failed) + max(0, w.at.Threads+w.at.Messages-before)}
	return s.At(w.at)
}

// choose goes to the next org with a policy or, when there are no more, scrubs.
func (w *purger) choose(ctx context.Context) (done bool, err error) {
	rng := store.Prefix(layout.Retention(""))
	if w.at.Org != "" {
		rng.Start = layout.Retention(w.at.Org) + "\x00"
	}
	recs, err := w.store.Scan(ctx, rng, store.ScanOptions{Limit: 1})
	if err != nil {
		return false, store.Fault(err)
	}
	if len(recs) == 0 {
		w.at = purged{Phase: scrubbing}
		return w.scrub(ctx)
	}
	w.at = purged{Phase: ageing, Org: strings.TrimPrefix(recs[0].Key, layout.Retention(""))}
	return false, nil
}

// scrub has the store go on with its files, if rows that lay in clear were purged.
func (w *purger) scrub(ctx context.Context) (done bool, err error) {
	note, err := w.store.Get(ctx, layout.RetentionScrub())
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	} else if err != nil {
		return false, store.Fault(err)
	}
	if w.at.Files, err = scrub(ctx, w.store, w.at.Files); err != nil || w.at.Files != "" {
		return false, err
	}
	w.batch.RequireRevision(note.Key, note.Revision)
	w.batch.Delete(note.Key)
	return true, nil
}

// org takes the org at work a batch on.
func (w *purger) org(ctx context.Context) (err error) {
	switch {
	case w.at.Phase == telling:
		return w.tellOrg(ctx)
	case w.at.Phase == clearing:
		err = w.clear(ctx)
	case w.policy.MessageDays == 0:
		w.enter(clearing)
	default:
		err = w.entries(ctx, store.Prefix(layout.OrgThreadsOfAll(w.at.Org)), clearing, func(key string) (bool, error) {
			return w.age(ctx, key[max(0, len(key)-36):], func(m meta) bool { return m.index() == key }) // else it is a participant's
		})
	}
	if len(w.batch.Writes) > 0 {
		w.batch.RequireRevision(layout.Retention(w.at.Org), w.policy.rev)
	}
	return err
}

// tellOrg records what was purged of an org, in the name of whoever set its policy,
// and goes on. A crash may have it recorded again.
func (w *purger) tellOrg(ctx context.Context) error {
	w.enter(choosing)
	if w.at.Threads+w.at.Messages == 0 {
		return nil
	}
	what := access.Resource{OrgID: w.at.Org, Type: "org", ID: w.at.Org, As: "retention.purge", Details: w.policy.details()}
	what.Details["threads"], what.Details["messages"] = strconv.Itoa(w.at.Threads), strconv.Itoa(w.at.Messages)
	what.Details["held"], what.Details["job_id"] = strconv.Itoa(len(w.at.Held)), w.id
	return w.authority.Done(ctx, access.Principal{Kind: access.User, ID: w.policy.By, OrgID: w.at.Org}, access.RetentionWrite, what)
}

func (w *purger) enter(p purgePhase) { w.at.Phase, w.at.After, w.at.Row = p, "", "" }

// full reports whether the batch is to be committed.
func (w *purger) full() bool { return len(w.batch.Writes) >= purgeRows || w.looked >= purgeLook }

// entries has do look at the entries of an index after At.After, until the batch is
// full or, when there are no more, phase comes next. do reports whether it is done
// with the entry; if not, the batch is committed first.
func (w *purger) entries(ctx context.Context, rng store.Range, phase purgePhase, do func(key string) (bool, error)) error {
	if w.at.After != "" {
		rng.Start = w.at.After + "\x00"
	}
	opt := store.ScanOptions{Limit: purgeLook}
	recs, err := w.store.Scan(ctx, rng, opt)
	if err != nil {
		return store.Fault(err)
	}
	for _, rec := range recs {
		if w.full() {
			return nil
		}
		w.looked++
		done, err := do(rec.Key)
		if errors.Is(err, fault.Damaged) {
			w.failed = append(w.failed, "index entry "+rec.Key)
			done, err = true, nil
		}
		if err != nil || !done {
			return store.Fault(err)
		}
		w.at.After, w.at.Row = rec.Key, ""
	}
	if !opt.Full(len(recs), 0) {
		w.enter(phase)
	}
	return nil
}

// held notes that a hold keeps something of m.
func (w *purger) held(m meta) {
	at, known := slices.BinarySearch(w.at.Held, m.ID)
	if !known && len(w.at.Held) < purgeHeld {
		w.at.Held = slices.Insert(w.at.Held, at, m.ID)
	}
}
