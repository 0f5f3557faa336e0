package thread

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// maxVersion is the greatest number of a version that has a row's name.
const maxVersion = 9_999_999_999

// ListVersions returns the versions of a message, oldest first, as the JSON of
// api.MessageVersions; of a deleted one, too, whose last version says so. Limit is
// 1 to MaxPage, 0: MaxPage; a page ends earlier when it holds 16 MiB. Cursor is
// next_cursor of the page before; empty: the first page. It costs one scan and one
// call of the KMS. Errors: Unauthenticated, NotFound, Forbidden, Invalid,
// Unavailable, Damaged.
func (s *Service) ListVersions(ctx context.Context, p access.Principal, threadID, messageID string, limit int, cursor string) (json.RawMessage, error) {
	m, err := s.gate(ctx, p, access.MessageRead, threadID)
	if err != nil {
		return nil, err
	}
	limit, err = pageSize(limit)
	if err != nil {
		return nil, err
	}
	after, ok := parseVersion(cursor)
	if cursor != "" && !ok {
		return nil, fault.New(fault.Invalid, "cursor is not one of ours: pass next_cursor of the page before, unchanged")
	}
	done, err := s.reading.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	recs, next, err := s.versions(ctx, m, messageID, after, limit)
	if err != nil {
		return nil, err
	}
	opened, err := s.decrypt(ctx, p, m, recs)
	if err != nil {
		return nil, err
	}
	if next == "" {
		if opened, err = upToNewest(recs, opened, after); err != nil {
			return nil, err
		}
	}
	return encodeVersions(messageID, opened, next), nil
}

// versions reads the rows of the versions after that number. The newest one is
// read first, so that an edit that comes between leaves no gap.
func (s *Service) versions(ctx context.Context, m meta, messageID string, after, limit int) (recs []store.Record, next string, err error) {
	newest, err := s.lastVersion(ctx, m, messageID)
	if err != nil {
		return nil, "", err
	}
	rng := store.Prefix(layout.ThreadRow(m.ID, "past:"+messageID+":"))
	if after > 0 {
		rng.Start = pastRow(messageID, after).key(m.ID) + "\x00"
	}
	opt := store.ScanOptions{Limit: limit, MaxBytes: maxPageBytes}
	recs, err = s.store.Scan(ctx, rng, opt)
	if err != nil {
		return nil, "", store.Fault(err)
	}
	if !opt.Full(len(recs), sizeOf(recs)) {
		return append(recs, newest), "", nil
	}
	return recs, strconv.Itoa(versionOf(recs[len(recs)-1])), nil
}

// versionOf is the number of a version that has a newer one. A row whose name
// holds none has 0, and does not open.
func versionOf(past store.Record) int {
	n, _ := strconv.Atoi(past.Key[strings.LastIndexByte(past.Key, ':')+1:])
	return n
}

// lastVersion reads the row of the newest version of a message, be it deleted.
func (s *Service) lastVersion(ctx context.Context, m meta, messageID string) (store.Record, error) {
	if _, _, ok := parseMessageID(messageID); !ok {
		return store.Record{}, errNoMessage
	}
	rec, err := s.store.Get(ctx, newestRow(messageID).key(m.ID))
	if errors.Is(err, store.ErrNotFound) {
		rec, err = s.store.Get(ctx, deletedRow(messageID).key(m.ID))
	}
	if errors.Is(err, store.ErrNotFound) {
		return store.Record{}, errNoMessage
	}
	return rec, store.Fault(err)
}

// upToNewest takes the versions that came after the newest one was read off those
// after the given number. That one is the last of them.
func upToNewest(recs []store.Record, opened [][]byte, after int) ([][]byte, error) {
	last := len(opened) - 1
	newest, err := parseMessage(opened[last])
	if err != nil || newest.Version <= after {
		return nil, err
	}
	n := last
	for n > 0 && versionOf(recs[n-1]) >= newest.Version {
		n--
	}
	return append(opened[:n], opened[last]), nil
}

// parseVersion reads the number of a version; there is one text per number.
func parseVersion(text string) (n int, ok bool) {
	n, err := strconv.Atoi(text)
	return n, err == nil && n > 0 && n <= maxVersion && strconv.Itoa(n) == text
}

// encodeVersions is the page as JSON, each version as it was opened.
func encodeVersions(messageID string, opened [][]byte, next string) []byte {
	out := appendList([]byte(`{"id":"`+messageID+`","versions":[`), opened)
	if next != "" {
		out = append(out, `,"next_cursor":"`+next+`"`...)
	}
	return append(out, '}')
}
