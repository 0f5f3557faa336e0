package thread

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// The calls of this file are for operators: of all orgs, without text of a message.
// Whether the caller is one is decided before.

// Stats counts the threads that are not deleted and their messages. It reads each
// thread's record; see Count for its messages.
func (s *Service) Stats(ctx context.Context) (out api.Stats, err error) {
	err = s.each(ctx, "", func(m meta) error {
		if m.Deleted {
			return nil
		}
		n, err := s.total(ctx, m)
		out.Threads, out.Messages = out.Threads+1, out.Messages+n
		return err
	})
	return out, err
}

var errEnough = errors.New("enough")

// each calls do with the threads after the ID after, deleted ones too, until it
// answers an error; errEnough is none. A damaged record ends it.
func (s *Service) each(ctx context.Context, after string, do func(meta) error) error {
	for {
		id, rec, err := s.threadAfter(ctx, after)
		if err != nil || id == "" {
			return err
		}
		after = id
		if rec.Key == "" { // gone since
			continue
		}
		m, err := parseMeta(id, rec)
		if err == nil {
			err = do(m)
		}
		if errors.Is(err, errEnough) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// AllThreads returns threads in the order of their IDs, deleted ones too, with what
// is told of their DEKs. limit is 1 to MaxPage, 0: MaxPage; cursor is the last ID of
// the page before. Errors: Invalid, Damaged.
func (s *Service) AllThreads(ctx context.Context, limit int, cursor string) (api.Threads, error) {
	out := api.Threads{Threads: []api.Thread{}}
	limit, err := pageSize(limit)
	if err == nil && cursor != "" && !isThreadID(cursor) {
		err = errCursor
	}
	if err != nil {
		return out, err
	}
	err = s.each(ctx, cursor, func(m meta) error {
		if len(out.Threads) == limit {
			out.NextCursor = out.Threads[limit-1].ID
			return errEnough
		}
		t := m.api()
		if t.KMS = m.dek(); t.KMS != nil {
			t.KMS.CreatedTS = m.KMS.CreatedTS
		}
		out.Threads = append(out.Threads, t)
		return nil
	})
	return out, err
}

// DEKs returns what is told of the DEKs of these threads, deleted ones too, in the
// order of their naming: the one that is in use, and then the one before it while a
// job takes rows from under that. A thread that is not there, or whose rows are in
// clear, has none. Errors: Invalid, Damaged.
func (s *Service) DEKs(ctx context.Context, threadIDs []string) ([]api.DEK, error) {
	out := []api.DEK{}
	for _, id := range threadIDs {
		if !isThreadID(id) {
			return nil, fault.New(fault.Invalid, "thread_id is the ID of a thread: a UUID")
		}
		m, err := s.record(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if !m.KMS.plain() {
			out = append(out, m.KMS.listed(id, "enabled"))
		}
		if m.Moving != nil && !m.Moving.Old.plain() {
			out = append(out, m.Moving.Old.listed(id, "decrypt-only"))
		}
	}
	return out, nil
}

func (k kmsMeta) listed(threadID, state string) api.DEK {
	d := api.DEK{ThreadID: threadID, KeyID: k.KeyID, State: state, KEKVersion: int(k.KEKVersion)}
	if k.CreatedTS != 0 {
		d.CreatedAt = time.Unix(0, k.CreatedTS).UTC()
	}
	return d
}

var errCursor = fault.New(fault.Invalid, "cursor is not one of ours: pass next_cursor of the page before, unchanged")

// Names are a page of IDs.
type Names struct {
	IDs  []string
	Next string // cursor of the next page; "": this is the last
}

// Owners returns the IDs of those who own threads that are not deleted, by org; an
// end user's ID comes once for each org that has one of that ID.
func (s *Service) Owners(ctx context.Context, limit int, cursor string) (out Names, err error) {
	out.IDs = []string{}
	rng := store.Prefix(layout.AllOrgThreads())
	if cursor != "" {
		of, ok := parseOwner(cursor)
		if !ok {
			return out, errCursor
		}
		rng.Start = store.Prefix(of).End
	}
	if limit, err = pageSize(limit); err != nil {
		return out, err
	}
	last := ""
	for {
		recs, err := s.store.Scan(ctx, rng, store.ScanOptions{Limit: 1})
		if err != nil || len(recs) == 0 {
			return out, store.Fault(err)
		}
		of, author, _, ok := layout.ParseOrgThread(recs[0].Key)
		if !ok {
			return out, errIndex
		}
		rng.Start = store.Prefix(of).End
		owned, err := s.owned(ctx, of, author, "", 1)
		if err != nil {
			return out, err
		}
		if len(owned.IDs) == 0 {
			continue
		}
		if len(out.IDs) == limit {
			out.Next = formatCursor(last)
			return out, nil
		}
		out.IDs, last = append(out.IDs, author), of
	}
}

// parseOwner reads the cursor of Owners: the beginning of index entries.
func parseOwner(cursor string) (of string, ok bool) {
	of, ok = decodeCursor(cursor)
	return of, ok && strings.HasPrefix(of, layout.AllOrgThreads()) && strings.Count(of, ":") == 3 && strings.HasSuffix(of, ":")
}

// decodeCursor reads what formatCursor made; there is one text per cursor.
func decodeCursor(cursor string) (string, bool) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	return string(b), err == nil && formatCursor(string(b)) == cursor
}

// owned returns the threads under of, in the order of their creation, that are the
// author's own, and not only shared with him, after the entry after.
func (s *Service) owned(ctx context.Context, of, author, after string, limit int) (out Names, err error) {
	rng := store.Prefix(of)
	if after != "" {
		rng.Start = after + "\x00"
	}
	last := ""
	for {
		recs, err := s.store.Scan(ctx, rng, store.ScanOptions{Limit: 256})
		if err != nil || len(recs) == 0 {
			return out, store.Fault(err)
		}
		for _, rec := range recs {
			_, _, id, ok := layout.ParseOrgThread(rec.Key)
			if !ok {
				return out, errIndex
			}
			m, err := s.load(ctx, id)
			if errors.Is(err, store.ErrNotFound) || err == nil && m.Author != author {
				continue
			} else if err != nil {
				return out, store.Fault(err)
			}
			if len(out.IDs) == limit {
				out.Next = formatCursor(last)
				return out, nil
			}
			out.IDs, last = append(out.IDs, id), rec.Key
		}
		rng.Start = recs[len(recs)-1].Key + "\x00"
	}
}

// ThreadsOf returns the IDs of the threads of whoever has this ID, oldest first, by
// org. Errors: Invalid; NotFound: nobody of this ID owns one.
func (s *Service) ThreadsOf(ctx context.Context, author string, limit int, cursor string) (Names, error) {
	out := Names{IDs: []string{}}
	limit, err := pageSize(limit)
	if err != nil {
		return out, err
	}
	after, ok := decodeCursor(cursor)
	if _, who, _, is := layout.ParseOrgThread(after); cursor != "" && (!ok || !is || who != author) {
		return out, errCursor
	}
	for org := ""; ; {
		of, err := s.nextOrg(ctx, &org, author)
		if err != nil {
			return out, err
		}
		if of == "" {
			break
		}
		if cursor != "" && store.Prefix(of).End <= after {
			continue
		}
		from := ""
		if strings.HasPrefix(after, of) {
			from = after
		}
		some, err := s.owned(ctx, of, author, from, limit-len(out.IDs)+1)
		if err != nil {
			return out, err
		}
		out.IDs = append(out.IDs, some.IDs...)
		if len(out.IDs) > limit {
			break
		}
	}
	switch {
	case len(out.IDs) > limit:
		out.IDs = out.IDs[:limit]
		m, err := s.load(ctx, out.IDs[limit-1])
		if err != nil {
			return out, store.Fault(err)
		}
		out.Next = formatCursor(m.index())
	case len(out.IDs) == 0 && cursor == "":
		return out, fault.New(fault.NotFound, "nobody of this ID owns a thread; look at GET /admin/users")
	}
	return out, nil
}

// nextOrg puts the next org after *org that has an index of threads into it, and
// returns what begins the author's entries there; "": there is none.
func (s *Service) nextOrg(ctx context.Context, org *string, author string) (of string, err error) {
	rng := store.Prefix(layout.AllOrgThreads())
	if *org != "" {
		rng.Start = store.Prefix(layout.OrgThreadsOfAll(*org)).End
	}
	recs, err := s.store.Scan(ctx, rng, store.ScanOptions{Limit: 1})
	if err != nil || len(recs) == 0 {
		return "", store.Fault(err)
	}
	*org, _, _ = strings.Cut(strings.TrimPrefix(recs[0].Key, layout.AllOrgThreads()), ":")
	return layout.OrgThreads(*org, author), nil
}

// ownedBy reads a thread that is there and whose owner has this ID.
func (s *Service) ownedBy(ctx context.Context, author, threadID string) (meta, error) {
	m, err := s.load(ctx, threadID)
	if errors.Is(err, store.ErrNotFound) || err == nil && m.Author != author {
		return meta{}, access.NotThere
	}
	return m, store.Fault(err)
}

// MessagesOf returns the IDs of the messages of a thread, oldest first. cursor is
// the last ID of the page before. Errors: NotFound, Invalid.
func (s *Service) MessagesOf(ctx context.Context, author, threadID string, limit int, cursor string) (Names, error) {
	out := Names{IDs: []string{}}
	m, err := s.ownedBy(ctx, author, threadID)
	if err != nil {
		return out, err
	}
	if limit, err = pageSize(limit); err != nil {
		return out, err
	}
	rng := store.Prefix(layout.Messages(m.ID))
	if cursor != "" {
		if _, _, ok := parseMessageID(cursor); !ok {
			return out, errCursor
		}
		rng.Start = layout.Message(m.ID, cursor) + "\x00"
	}
	opt := store.ScanOptions{Limit: limit, MaxBytes: maxPageBytes}
	recs, err := s.store.Scan(ctx, rng, opt)
	for _, rec := range recs {
		out.IDs = append(out.IDs, idOf(rec))
	}
	if opt.Full(len(recs), sizeOf(recs)) {
		out.Next = out.IDs[len(out.IDs)-1]
	}
	return out, store.Fault(err)
}

// RowOf returns a message as it lies: nonce, ciphertext, tag. Errors: NotFound,
// Conflict (it lies there in clear, and is for those who may read it alone).
func (s *Service) RowOf(ctx context.Context, author, threadID, messageID string) ([]byte, error) {
	m, err := s.ownedBy(ctx, author, threadID)
	if err != nil {
		return nil, err
	}
	if _, _, ok := parseMessageID(messageID); !ok {
		return nil, errNoMessage
	}
	rec, err := s.store.Get(ctx, layout.Message(m.ID, messageID))
	if errors.Is(err, store.ErrNotFound) {
		return nil, errNoMessage
	} else if err != nil {
		return nil, store.Fault(err)
	}
	return rec.Value, CheckSealed(rec)
}

// CheckSealed tests that a row of the store is no text of a thread that lies there
// in clear. Errors: Conflict.
func CheckSealed(rec store.Record) error {
	id, name, ok := strings.Cut(strings.TrimPrefix(rec.Key, layout.Threads()), ":")
	if !strings.HasPrefix(rec.Key, layout.Threads()) || !ok || !isEncrypted(name) || !isPlain(rowOf(id, rec.Key), rec.Value) {
		return nil
	}
	return fault.New(fault.Conflict, "this is not encrypted, and is shown to nobody but those who may read it; encrypt it first: POST /admin/encryption/encrypt-existing")
}

// isEncrypted reports whether rows of this name hold text.
func isEncrypted(name string) bool {
	return slices.ContainsFunc(rowKinds, func(kind string) bool { return strings.HasPrefix(name, kind) })
}

// Rewrapped is what came of the rewrap of a DEK.
type Rewrapped struct {
	Of         string // key ID of the DEK, or ID of a thread of which no DEK is known
	KEKID      string
	KEKVersion uint32
	Err        error
}

// MaxRewrap is the most threads of one RewrapDEKs.
const MaxRewrap = 10_000

// RewrapDEKs brings the DEKs of threads, named or none: all, under the primary of the
// threads' KEK, one after the other, while the caller waits. With newKEK, 32 bytes
// that stay the caller's to wipe, it first makes that the primary; it may be asked for
// again. Errors: Unavailable, Invalid (there are more than MaxRewrap, or the KMS
// does not take newKEK).
func (s *Service) RewrapDEKs(ctx context.Context, threadIDs []string, newKEK []byte) (out []Rewrapped, err error) {
	if len(threadIDs) == 0 {
		if err := s.each(ctx, "", func(m meta) error { threadIDs = append(threadIDs, m.ID); return tooMany(threadIDs) }); err != nil {
			return nil, err
		}
	}
	if err := tooMany(threadIDs); err != nil {
		return nil, err
	}
	if newKEK != nil {
		if err := s.importKEK(ctx, newKEK); err != nil {
			return nil, err
		}
	}
	w := rewrapping{Service: s}
	if w.at.Version, err = w.primary(ctx); err != nil {
		return nil, err
	}
	for _, id := range threadIDs {
		some, err := w.one(ctx, id)
		if errors.Is(err, fault.Unavailable) {
			return nil, err
		} else if err != nil {
			some = []Rewrapped{{Of: id, Err: err}}
		}
		out = append(out, some...)
	}
	return out, nil
}

// importKEK names the KMS's reasons to refuse a key as the caller's to hear of.
func (s *Service) importKEK(ctx context.Context, raw []byte) error {
	_, err := s.kms.ImportKEK(ctx, raw)
	switch {
	case err == nil, errors.Is(err, fault.Invalid):
		return err
	case errors.Is(err, fault.Forbidden):
		return fault.Wrap(fault.Invalid, err, "the key process lets this server import no keys: its operator gives it the role admin there, or leave new_kek_hex out")
	}
	return fault.Wrap(fault.Unavailable, err, "the KMS did not answer whether the key is its primary now; send the same call again")
}

func tooMany(threadIDs []string) error {
	if len(threadIDs) > MaxRewrap {
		return fault.New(fault.Invalid, "there are more than %d threads; POST /admin/encryption/rewrap does them in a job", MaxRewrap)
	}
	return nil
}

// one rewraps the DEKs of a thread, which may be deleted.
func (w rewrapping) one(ctx context.Context, threadID string) (out []Rewrapped, err error) {
	err = store.Retry(ctx, func() error {
		m, err := w.record(ctx, threadID)
		if err != nil {
			return err
		}
		if deks := m.deksUnder(w.at.Version); len(deks) > 0 {
			if err := w.rewrapNow(ctx, &m, deks); err != nil {
				return err
			}
		}
		out = nil
		for _, d := range m.deksUnder(^uint32(0)) {
			out = append(out, Rewrapped{Of: d.KeyID, KEKID: d.KEKID, KEKVersion: d.KEKVersion})
		}
		return nil
	})
	if errors.Is(err, store.ErrNotFound) {
		err = errGone
	}
	if errors.Is(err, errNotRewrapped) {
		err = fault.New(fault.NotFound, "the KMS does not have the DEK of this thread; restore it from its newest backup")
	}
	return out, store.Fault(err)
}

// rewrapNow has deks, which are m's, rewrapped, and puts m.
func (w rewrapping) rewrapNow(ctx context.Context, m *meta, deks []*kmsMeta) error {
	var items []kmsapi.RewrapItem
	for _, d := range deks {
		items = append(items, kmsapi.RewrapItem{KeyID: d.KeyID})
	}
	res, err := w.kms.Rewrap(ctx, items)
	if err := kmsFault(err, len(res), len(items)); err != nil {
		return err
	}
	missing := w.take(deks, res)
	var b store.Batch
	switch {
	case errors.Is(missing, errNotRewrapped):
		m.require(&b) // or that DEK was destroyed since, as it should be
	case missing != nil:
		return missing
	default:
		if err := m.put(&b); err != nil {
			return err
		}
	}
	if _, err := w.store.Commit(ctx, &b); err != nil {
		return err
	}
	return missing
}
