package thread

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Messages that meet go together: one call of the KMS encrypts them and one
// commit stores them, while the next ones gather. Nobody waits but for a group
// that is under way. A group that fails as a whole has stored nothing, and each
// of its messages goes on by itself, so that none fails for another's sake.
const (
	maxUnderWay = 4        // groups at a time
	enough      = 32       // messages that do not wait for another group
	maxTogether = 64       // messages of a group
	maxShared   = 64 << 10 // bytes of a message that may go with others
)

// together gathers messages.
type together struct {
	mu       sync.Mutex
	waiting  []*appending
	underWay int // groups
}

// appending is a message on its way into the store.
type appending struct {
	item   kmsapi.EncryptItem
	thread string         // the key of the thread's metadata
	rev    store.Revision // at which the item's key ID was read there
	key    string
	sealed []byte
	taken  atomic.Bool // by the one who says how it ends: a group that commits it, or its caller who leaves
	done   chan error  // errAlone: its caller goes on by himself
}

var errAlone = errors.New("the group failed")

// put encrypts wire and stores it as a message of m, unless there is one with
// this ID, or m changed since it was read: then the error is store.ErrConflict.
func (s *Service) put(ctx context.Context, m meta, messageID string, wire []byte) error {
	if m.KMS.KeyID == "" {
		return errNoKey
	}
	a := &appending{
		item:   kmsapi.EncryptItem{KeyID: m.KMS.KeyID, Plaintext: wire, AAD: messageAAD(m.ID, messageID)},
		thread: layout.ThreadMeta(m.ID), rev: m.rev,
		key:  layout.Message(m.ID, messageID),
		done: make(chan error, 1),
	}
	if len(wire) > maxShared {
		return s.putAlone(ctx, a)
	}
	s.gather(a)
	select {
	case err := <-a.done:
		return s.ended(ctx, a, err)
	case <-ctx.Done():
		if a.take() {
			return fault.Wrap(fault.Unavailable, ctx.Err(), "the KMS did not answer in the time that there was; nothing was stored, try again")
		}
		return s.ended(ctx, a, <-a.done)
	}
}

func (a *appending) take() bool { return a.taken.CompareAndSwap(false, true) }

func (s *Service) ended(ctx context.Context, a *appending, err error) error {
	if err == errAlone {
		return s.putAlone(ctx, a)
	}
	return err
}

func (s *Service) putAlone(ctx context.Context, a *appending) error {
	if a.sealed == nil {
		res, err := s.kms.Encrypt(ctx, []kmsapi.EncryptItem{a.item})
		if err := kmsFault(err, len(res), 1); err != nil {
			return err
		}
		if err := a.seal(res[0]); err != nil {
			return err
		}
	}
	var b store.Batch
	a.add(&b)
	_, err := s.store.Commit(ctx, &b)
	return err
}

// seal takes the answer of the KMS. Anything but a ciphertext of the right
// length is an error: plaintext is never stored.
func (a *appending) seal(r kmsapi.EncryptResult) error {
	if err := kmsFault(r.Err, 1, 1); err != nil {
		return err
	}
	if len(r.Ciphertext) != len(a.item.Plaintext)+aead.Overhead {
		return fault.New(fault.Internal, "the KMS answered with something that is no ciphertext; nothing was stored")
	}
	a.sealed = r.Ciphertext
	return nil
}

func (a *appending) add(b *store.Batch) {
	b.RequireRevision(a.thread, a.rev) // not deleted since, and still under this DEK
	b.RequireAbsent(a.key)
	b.Put(a.key, a.sealed)
}

// gather lets a wait for a group.
func (s *Service) gather(a *appending) {
	t := &s.together
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = append(t.waiting, a)
	if group := t.leave(); group != nil {
		go s.putGroups(group)
	}
}

// putGroups puts group and those that may leave when it has ended.
func (s *Service) putGroups(group []*appending) {
	for group != nil {
		s.putGroup(group)
		runtime.Gosched() // those who were answered make room for others
		group = s.together.next()
	}
}

// next ends a group and returns the next one, if one may leave.
func (t *together) next() []*appending {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.underWay--
	return t.leave()
}

// leave returns a group that is under way now; nil when none may leave. The
// caller holds the lock.
func (t *together) leave() []*appending {
	n := min(len(t.waiting), maxTogether)
	if n == 0 || t.underWay > 0 && n < enough || t.underWay == maxUnderWay {
		return nil
	}
	t.underWay++
	group := slices.Clone(t.waiting[:n])
	t.waiting = slices.Delete(t.waiting, 0, n)
	return group
}

// putGroup ends every message of group. It belongs to no request, so it has
// the context of none: the KMS's client and the store have bounds of their own.
func (s *Service) putGroup(group []*appending) {
	items := make([]kmsapi.EncryptItem, len(group))
	for i, a := range group {
		items[i] = a.item
	}
	res, err := s.kms.Encrypt(context.Background(), items)
	if err := kmsFault(err, len(res), len(group)); err != nil {
		end(group, err, true)
		return
	}
	var b store.Batch
	sealed, keys := group[:0], make(map[string]bool, len(group))
	for i, a := range group {
		switch err := a.seal(res[i]); {
		case err != nil:
			a.done <- err
		case keys[a.key]: // of one time that their callers chose: a commit holds one of them
			a.done <- errAlone
		case a.take():
			keys[a.key] = true
			a.add(&b)
			sealed = append(sealed, a)
		}
	}
	_, err = s.store.Commit(context.Background(), &b)
	end(sealed, err, errors.Is(err, store.ErrConflict))
}

// end says err to every message of group. nothing says that none was stored, so
// that each of several may try by itself.
func end(group []*appending, err error, nothing bool) {
	if nothing && len(group) > 1 {
		err = errAlone
	}
	for _, a := range group {
		a.done <- err
	}
}
