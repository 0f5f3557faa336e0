package thread

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/tracing"
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
	m      meta // the thread, as it was read when the item's key ID was chosen
	id     string
	sent   string // key of the row that says which message this request made; "": none
	item   kmsapi.EncryptItem
	from   tracing.Origin
	sealed []byte
	change change
	taken  atomic.Bool // by the one who says how it ends: a group that commits it, or its caller who leaves
	done   chan error  // errAlone: its caller goes on by himself
}

var errAlone = errors.New("the group failed")

// put encrypts wire and stores it as a message of m, unless there is or was one
// with this ID or, where sent is not empty, under sent, or m changed since it was
// read: then the error is store.ErrConflict.
func (s *Service) put(ctx context.Context, m meta, messageID, sent string, wire []byte) error {
	dek, err := s.dekOf(ctx, m)
	if err != nil {
		return err
	}
	a := &appending{m: m, id: messageID, sent: sent, from: tracing.OriginOf(ctx), done: make(chan error, 1)}
	if dek.plain() {
		a.sealed = wire
	} else {
		a.item = kmsapi.EncryptItem{KeyID: dek.KeyID, Plaintext: wire, AAD: messageAAD(m.ID, messageID)}
	}
	if len(wire) > maxShared || dek.plain() || s.mayBeCounted(messageID) {
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
	if err := s.recount(ctx, &b, a.m.ID, 1, a.id); err != nil {
		return err
	}
	s.add(&b, a)
	_, err := s.store.Commit(ctx, &b)
	if err == nil {
		s.tell(a.m.ID, a.change)
	}
	return err
}

// seal takes the answer of the KMS.
func (a *appending) seal(r kmsapi.EncryptResult) error {
	if err := checkSealed(r, len(a.item.Plaintext)); err != nil {
		return err
	}
	a.sealed = r.Ciphertext
	return nil
}

// add adds a to b, which is committed at once.
func (s *Service) add(b *store.Batch, a *appending) {
	n := newestRow(a.id)
	a.m.putRow(b, n, a.sealed)
	b.RequireAbsent(n.key(a.m.ID))
	b.RequireAbsent(deletedRow(a.id).key(a.m.ID))
	if a.sent != "" {
		b.RequireAbsent(a.sent)
		b.Put(a.sent, sentRow(s.now().UnixNano(), sentOf{a.id, 1}))
	}
	a.change = s.note(b, a.m.ID, changeCreated, a.id)
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
// the context of none, but their IDs and spans: the KMS's client and the store have
// bounds of their own.
func (s *Service) putGroup(group []*appending) {
	items, from := make([]kmsapi.EncryptItem, len(group)), make([]tracing.Origin, len(group))
	for i, a := range group {
		items[i], from[i] = a.item, a.from
	}
	ctx, span := tracing.Joined(context.Background(), from, "messages together", tracing.Items(len(group)))
	var err error
	defer func() { span.End(store.Fault(err)) }()
	res, err := s.kms.Encrypt(ctx, items)
	if err := kmsFault(err, len(res), len(group)); err != nil {
		end(group, err, true)
		return
	}
	var b store.Batch
	sealed, keys := group[:0], make(map[string]bool, len(group))
	for i, a := range group {
		key := newestRow(a.id).key(a.m.ID)
		switch err := a.seal(res[i]); {
		case err != nil:
			a.done <- err
		case keys[key] || keys[a.sent] || s.mayBeCounted(a.id): // of one time that their callers chose, or one request: a commit holds one of them; or waited for long
			a.done <- errAlone
		case a.take():
			keys[key] = true
			keys[a.sent] = a.sent != ""
			s.add(&b, a)
			sealed = append(sealed, a)
		}
	}
	_, err = s.store.Commit(ctx, &b)
	for _, a := range sealed {
		if err == nil {
			s.tell(a.m.ID, a.change)
		}
	}
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
