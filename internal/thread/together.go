package thread

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
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
	apart bool // a thread is in one group at a time

	mu       sync.Mutex
	waiting  []*appending
	underWay int             // groups
	busy     map[string]bool // threads of these, where apart
}

// appending is a message on its way into the store.
type appending struct {
	m      meta        // the thread, as it was read when the item's key ID was chosen
	msg    api.Message // what is posted
	own    bool        // its time is its author's
	id     string
	wire   []byte  // msg as it is answered, and encrypted
	sent   string  // key of the row that says which message this request made; "": none
	dek    kmsMeta // what encrypts it
	from   tracing.Origin
	sealed []byte
	change change
	mine   bool        // taken by the group that it is in
	taken  atomic.Bool // by the one who says how it ends: a group that commits it, or its caller who leaves
	done   chan error  // errAlone: its caller goes on by himself
}

var errAlone = errors.New("the group failed")

// at gives a its place.
func (a *appending) at(ts int64, seq int) (err error) {
	a.id, a.sealed = layout.MessageID(ts, seq), nil
	a.msg.ID, a.msg.TS = a.id, ts
	a.wire, err = encodeMessage(a.msg)
	return err
}

// follow gives a a later place where it has none after t, and t that of a.
func (s *Service) follow(a *appending, t *tail) error {
	if !s.shared || a.own {
		return nil
	}
	if a.msg.TS <= t.ts {
		if err := a.at(s.tickAfter(t.ts), 0); err != nil {
			return err
		}
	}
	t.ts = a.msg.TS
	return nil
}

// item is what the KMS is asked to encrypt.
func (a *appending) item() kmsapi.EncryptItem {
	return kmsapi.EncryptItem{KeyID: a.dek.KeyID, Plaintext: a.wire, AAD: messageAAD(a.m.ID, a.id)}
}

// put encrypts a and stores it, unless there is or was a message with this ID or,
// where sent is not empty, under sent, or the thread changed since it was read: then
// the error is store.ErrConflict. Where the store is shared a may get a later place.
func (s *Service) put(ctx context.Context, a *appending) (err error) {
	if a.dek, err = s.dekOf(ctx, a.m); err != nil {
		return err
	}
	a.done, a.from = make(chan error, 1), tracing.OriginOf(ctx)
	if len(a.wire) > maxShared || a.dek.plain() || s.mayBeCounted(a.id) {
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
	if s.shared {
		done, err := s.alone.take(ctx, a.m.ID)
		if err != nil {
			return store.Fault(err)
		}
		defer done()
	}
	t, err := s.tail(ctx, a.m.ID)
	if err == nil {
		err = s.follow(a, &t)
	}
	if err == nil {
		err = s.sealAlone(ctx, a)
	}
	if err != nil {
		return err
	}
	var b store.Batch
	if err := s.recount(ctx, &b, a.m.ID, 1, a.id); err != nil {
		return err
	}
	s.add(&b, a, &t)
	s.putTail(&b, a.m.ID, t)
	rev, err := s.store.Commit(ctx, &b)
	s.committed(a.m.ID, t, rev, err)
	if err == nil {
		s.tell(a.m.ID, a.change)
	}
	return err
}

// sealAlone makes what is stored of a.
func (s *Service) sealAlone(ctx context.Context, a *appending) error {
	switch {
	case a.dek.plain():
		a.sealed = a.wire
		return nil
	case a.sealed != nil: // by the group that failed
		return nil
	}
	res, err := s.kms.Encrypt(ctx, []kmsapi.EncryptItem{a.item()})
	if err := kmsFault(err, len(res), 1); err != nil {
		return err
	}
	return a.seal(res[0])
}

// seal takes the answer of the KMS.
func (a *appending) seal(r kmsapi.EncryptResult) error {
	if err := checkSealed(r, len(a.wire)); err != nil {
		return err
	}
	a.sealed = r.Ciphertext
	return nil
}

// add adds a to b, which is committed at once, after t.
func (s *Service) add(b *store.Batch, a *appending, t *tail) {
	n := newestRow(a.id)
	a.m.putRow(b, n, a.sealed)
	b.RequireAbsent(n.key(a.m.ID))
	b.RequireAbsent(deletedRow(a.id).key(a.m.ID))
	if a.sent != "" {
		b.RequireAbsent(a.sent)
		b.Put(a.sent, sentRow(s.now().UnixNano(), sentOf{a.id, 1}))
	}
	a.change = s.note(b, t, a.m.ID, changeCreated, a.id)
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
		s.putGroup(slices.Clone(group))
		runtime.Gosched() // those who were answered make room for others
		group = s.together.next(group)
	}
}

// next ends a group and returns the next one, if one may leave.
func (t *together) next(ended []*appending) []*appending {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.underWay--
	for _, a := range ended {
		delete(t.busy, a.m.ID)
	}
	return t.leave()
}

// leave returns a group that is under way now; nil when none may leave. The
// caller holds the lock.
func (t *together) leave() []*appending {
	if t.apart {
		return t.leaveApart()
	}
	n := min(len(t.waiting), maxTogether)
	if n == 0 || t.underWay > 0 && n < enough || t.underWay == maxUnderWay {
		return nil
	}
	t.underWay++
	group := slices.Clone(t.waiting[:n])
	t.waiting = slices.Delete(t.waiting, 0, n)
	return group
}

// leaveApart is leave, of messages whose threads are in no group that is under way.
func (t *together) leaveApart() []*appending {
	var group, rest []*appending
	for _, a := range t.waiting {
		if len(group) == maxTogether || t.busy[a.m.ID] {
			rest = append(rest, a)
		} else {
			group = append(group, a)
		}
	}
	if n := len(group); n == 0 || t.underWay > 0 && n < enough || t.underWay == maxUnderWay {
		return nil
	}
	if t.busy == nil {
		t.busy = map[string]bool{}
	}
	for _, a := range group {
		t.busy[a.m.ID] = true
	}
	t.underWay++
	t.waiting = rest
	return group
}

// follows returns the tails of the threads of group, which is sorted then, with every
// message in a place after those before it.
func (s *Service) follows(ctx context.Context, group []*appending) (map[string]*tail, error) {
	if !s.shared {
		return nil, nil
	}
	slices.SortStableFunc(group, func(a, b *appending) int { return strings.Compare(a.id, b.id) })
	of := map[string]*tail{}
	for _, a := range group {
		t := of[a.m.ID]
		if t == nil {
			last, err := s.tail(ctx, a.m.ID)
			if err != nil {
				return nil, err
			}
			t = &last
			of[a.m.ID] = t
		}
		if err := s.follow(a, t); err != nil {
			return nil, err
		}
	}
	return of, nil
}

// putGroup ends every message of group. It belongs to no request, so it has
// the context of none, but their IDs and spans: the KMS's client and the store have
// bounds of their own.
//
// Where another server changed a thread of the group meanwhile, the group goes again,
// some times: by themselves its messages would meet each other.
func (s *Service) putGroup(group []*appending) {
	for tries := 0; group != nil; tries++ {
		if tries > 0 { // so that those who met do not meet again
			time.Sleep(rand.N(min(time.Millisecond<<tries, maxAgainPause)))
		}
		group = s.tryGroup(group, tries < maxAgain)
	}
}

const (
	maxAgain      = 10
	maxAgainPause = 8 * time.Millisecond
)

// tryGroup is putGroup, or returns those of the group that are to go once more, if
// again says that they may.
func (s *Service) tryGroup(group []*appending, again bool) (more []*appending) {
	from := make([]tracing.Origin, len(group))
	for i, a := range group {
		from[i] = a.from
	}
	ctx, span := tracing.Joined(context.Background(), from, "messages together", tracing.Items(len(group)))
	var err error
	defer func() { span.End(store.Fault(err)) }()
	tails, err := s.follows(ctx, group)
	if err != nil {
		end(group, err, true)
		return nil
	}
	items := make([]kmsapi.EncryptItem, len(group))
	for i, a := range group {
		items[i] = a.item()
	}
	res, err := s.kms.Encrypt(ctx, items)
	if err := kmsFault(err, len(res), len(group)); err != nil {
		end(group, err, true)
		return nil
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
		case a.mine || a.take():
			a.mine = true
			keys[key] = true
			keys[a.sent] = a.sent != ""
			s.add(&b, a, tailOf(tails, a))
			sealed = append(sealed, a)
		}
	}
	maps.DeleteFunc(tails, func(id string, _ *tail) bool {
		return !slices.ContainsFunc(sealed, func(a *appending) bool { return a.m.ID == id }) // of whose messages none is stored
	})
	for id, t := range tails {
		s.putTail(&b, id, *t)
	}
	rev, err := s.store.Commit(ctx, &b)
	for id, t := range tails {
		s.committed(id, *t, rev, err)
	}
	if again && errors.Is(err, store.ErrConflict) && s.overtaken(tails) {
		return sealed
	}
	for _, a := range sealed {
		if err == nil {
			s.tell(a.m.ID, a.change)
		}
	}
	end(sealed, err, errors.Is(err, store.ErrConflict))
	return nil
}

// tailOf is the tail that a follows; where the store is not shared, none.
func tailOf(tails map[string]*tail, a *appending) *tail {
	if t := tails[a.m.ID]; t != nil {
		return t
	}
	return new(tail)
}

// overtaken reports whether another server has changed one of the threads since their
// tails were read.
func (s *Service) overtaken(tails map[string]*tail) bool {
	for id, was := range tails {
		if now, err := s.readTail(context.Background(), id); err == nil && now.rev != was.rev {
			return true
		}
	}
	return false
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
