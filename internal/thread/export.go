package thread

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/store"
)

// An export is JSON Lines. A line is a version of a message, the JSON of api.Message:
//
//	{"id":"...-000000","thread":"...","author":"...","role":"user","ts":1,"body":"hello"}
//	{"id":"...-000000","thread":"...","author":"...","role":"user","ts":1,"body":"hello!","version":2,"updated_ts":5,"reactions":{"ann":"+1"}}
//	{"id":"...-000001","thread":"...","author":"...","role":"user","ts":1,"body":"oops"}
//	{"id":"...-000001","thread":"...","author":"...","role":"user","ts":1,"version":2,"updated_ts":6,"deleted":true}
//	{"end":true,"messages":2}
//
// Messages are in their order; the versions of one stand together, oldest first, and
// the last has the reactions. The last line counts the messages: without it the
// export was cut off. A line break between the tokens of a body becomes a space.

// exportBytes is the size, in bytes, of a page of an export: it is in the memory for
// as long as its reader takes.
const exportBytes = MaxBody

// Export writes a thread with all versions and what was deleted, page by page: each is
// decided on, and recorded, as a call of ListMessages is, and from the second on again
// tells who calls now; nil: p, still. What is posted meanwhile is in it. Errors: those
// of ListMessages, again's, and out's.
func (s *Service) Export(ctx context.Context, p access.Principal, again Again, threadID string, out io.Writer) error {
	x := exporting{Service: s, p: p, again: again, thread: threadID, out: out}
	messages := 0
	for from := ""; ; {
		m, err := x.page(ctx)
		if err != nil {
			return err
		}
		recs, err := s.scan(ctx, m.ID, true, span{from: from, limit: MaxPage, bytes: exportBytes})
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			_, err := fmt.Fprintf(out, `{"end":true,"messages":%d}`+"\n", messages)
			return err
		}
		n, err := x.write(ctx, m, recs)
		if err != nil {
			return err
		}
		messages, from = messages+n, after(idOf(recs[len(recs)-1]))
	}
}

// Again finds out anew who calls; an error: nobody any more.
type Again func(context.Context) (access.Principal, error)

// exporting is an export under way.
type exporting struct {
	*Service
	p      access.Principal
	again  Again // nil: p it stays
	begun  bool
	thread string
	out    io.Writer
}

// page decides on the next page, for who calls now.
func (x *exporting) page(ctx context.Context) (_ meta, err error) {
	if x.begun && x.again != nil {
		if x.p, err = x.again(ctx); err != nil {
			return meta{}, err
		}
	}
	x.begun = true
	return x.gate(ctx, x.p, access.MessageRead, x.thread)
}

// write writes the messages of rows as scan returns them, and tells how many.
func (x *exporting) write(ctx context.Context, m meta, recs []store.Record) (int, error) {
	opened, err := x.decrypt(ctx, x.p, m, recs)
	if err != nil {
		return 0, err
	}
	texts, n := joined(recs, opened), 0
	for i, text := range opened {
		if isReactions(recs[i]) {
			continue
		}
		msg, err := parseMessage(text)
		if err == nil {
			err = x.past(ctx, msg.ID, msg.Version)
		}
		if err == nil {
			err = writeLine(x.out, texts[n])
		}
		if err != nil {
			return 0, err
		}
		n++
	}
	return n, nil
}

// past writes the versions of a message before the given one. They may be more
// than a page, so who exports is asked about each time.
func (x *exporting) past(ctx context.Context, messageID string, newest int) error {
	for done := 0; done < newest-1; {
		m, err := x.page(ctx)
		if err != nil {
			return err
		}
		rng := store.Range{Start: pastRow(messageID, done+1).key(m.ID), End: pastRow(messageID, newest).key(m.ID)}
		recs, err := x.store.Scan(ctx, rng, store.ScanOptions{Limit: MaxPage, MaxBytes: exportBytes})
		if err != nil {
			return store.Fault(err)
		}
		if len(recs) == 0 { // purged since
			return nil
		}
		opened, err := x.decrypt(ctx, x.p, m, recs)
		if err != nil {
			return err
		}
		for _, text := range opened {
			if err := writeLine(x.out, text); err != nil {
				return err
			}
		}
		done = versionOf(recs[len(recs)-1])
	}
	return nil
}

// writeLine writes a JSON text as one line.
func writeLine(out io.Writer, text []byte) error {
	if bytes.ContainsAny(text, "\r\n") { // between tokens: inside of them there is none
		text = bytes.Map(func(r rune) rune {
			if r == '\r' || r == '\n' {
				return ' '
			}
			return r
		}, text)
	}
	_, err := out.Write(append(text, '\n'))
	return err
}
