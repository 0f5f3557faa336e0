package thread

import (
	"context"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// ListQuery selects among the caller's threads.
type ListQuery struct {
	Title  string // part of the title, upper and lower case alike; empty: any
	Slug   string // the whole slug; empty: any
	Limit  int    // 1 to MaxPage; 0: MaxPage
	Cursor string // NextCursor of the page before; empty: the first page
}

// List returns p's own threads and those that he has a part in, newest first. NextCursor is set when there
// are more. A search by title reads all of p's threads until the page is full.
// Errors: Unauthenticated, Invalid (limit, cursor).
func (s *Service) List(ctx context.Context, p access.Principal, q ListQuery) (api.Threads, error) {
	if err := s.authority.Check(ctx, p, access.ThreadRead, access.Resource{OrgID: p.OrgID, OwnerID: p.ID, Type: "thread"}); err != nil {
		return api.Threads{}, err
	}
	limit, err := pageSize(q.Limit)
	if err != nil {
		return api.Threads{}, err
	}
	// A cursor is a position inside this range and cannot lead out of it.
	rng := store.Prefix(layout.OrgThreads(p.OrgID, p.ID))
	if q.Cursor != "" {
		pos, ok := parseCursor(q.Cursor)
		if !ok {
			return api.Threads{}, fault.New(fault.Invalid, "cursor is not one of ours: pass next_cursor of the page before, unchanged")
		}
		rng.End = rng.Start + pos
	}
	if q.Slug != "" {
		return s.bySlug(ctx, p, q)
	}
	return s.walk(ctx, p, q, rng, limit)
}

// bySlug finds the one thread whose ID the slug ends with.
func (s *Service) bySlug(ctx context.Context, p access.Principal, q ListQuery) (api.Threads, error) {
	out := api.Threads{Threads: []api.Thread{}}
	t, ok, err := s.find(ctx, p, q, q.Slug[max(0, len(q.Slug)-36):])
	if err != nil {
		return api.Threads{}, err
	}
	if ok {
		out.Threads = append(out.Threads, t)
	}
	return out, nil
}

// find reads one thread and reports whether it is p's to see and matches q.
func (s *Service) find(ctx context.Context, p access.Principal, q ListQuery, threadID string) (t api.Thread, ok bool, err error) {
	m, err := s.load(ctx, threadID)
	if errors.Is(err, store.ErrNotFound) {
		return api.Thread{}, false, nil
	} else if err != nil {
		return api.Thread{}, false, store.Fault(err)
	}
	may, err := s.authority.Filter(ctx, p, access.ThreadRead, m.resource(p, threadID))
	if err != nil || !may("") {
		return api.Thread{}, false, err
	}
	t = m.seen(p)
	return t, q.match(t), nil
}

// walk goes through rng from its end until the page is full and one more
// thread was found.
func (s *Service) walk(ctx context.Context, p access.Principal, q ListQuery, rng store.Range, limit int) (api.Threads, error) {
	step := min(limit+1, 256)
	out := api.Threads{Threads: []api.Thread{}}
	last := "" // position of the last thread of out
	for {
		entries, err := s.store.Scan(ctx, rng, store.ScanOptions{Limit: step, Reverse: true})
		if err != nil {
			return api.Threads{}, store.Fault(err)
		}
		for _, e := range entries {
			pos := e.Key[len(rng.Start):]
			id, ok := parsePosition(pos)
			if !ok {
				return api.Threads{}, errIndex
			}
			t, ok, err := s.find(ctx, p, q, id)
			if err != nil {
				return api.Threads{}, err
			}
			if !ok { // another title, or deleted since the scan
				continue
			}
			if len(out.Threads) == limit {
				out.NextCursor = formatCursor(last)
				return out, nil
			}
			out.Threads, last = append(out.Threads, t), pos
		}
		if len(entries) < step {
			return out, nil
		}
		rng.End = entries[len(entries)-1].Key
	}
}

func (q ListQuery) match(t api.Thread) bool {
	return (q.Slug == "" || q.Slug == t.Slug) &&
		strings.Contains(strings.ToLower(t.Title), strings.ToLower(q.Title))
}

// pageSize checks a limit. 0 is MaxPage.
func pageSize(limit int) (int, error) {
	switch {
	case limit == 0:
		return MaxPage, nil
	case limit < 0 || limit > MaxPage:
		return 0, fault.New(fault.Invalid, "limit must be 1 to %d", MaxPage)
	}
	return limit, nil
}

// A cursor is the base64url form, without padding, of the position of the last
// thread of a page: "<created>-<thread>", as layout.OrgThread ends. It holds
// nothing that the page did not.

func formatCursor(pos string) string { return base64.RawURLEncoding.EncodeToString([]byte(pos)) }

// parseCursor returns the position; there is one text per position.
func parseCursor(cursor string) (pos string, ok bool) {
	b, err := base64.RawURLEncoding.DecodeString(cursor)
	if err != nil || formatCursor(string(b)) != cursor {
		return "", false
	}
	_, ok = parsePosition(string(b))
	return string(b), ok
}

// parsePosition returns the thread ID of a position.
func parsePosition(pos string) (threadID string, ok bool) {
	if len(pos) != 20+1+36 || !isDigits(pos[:20]) || pos[20] != '-' {
		return "", false
	}
	return pos[21:], isThreadID(pos[21:])
}
