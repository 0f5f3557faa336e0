package thread

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// MaxImport is the most lines of one import.
const MaxImport = 1000

// An import does what a client could do that posts, edits, reacts and deletes, so it
// brings nothing that its caller may not write. What comes back is each message at its
// time, with its versions and its deletion. What does not: the author is whoever
// imports, or anybody could put words into the mouth of another; the time of an edit
// is that of the import; reactions are the importer's own alone, unless a backend key
// speaks for its users; of a deleted message whose versions were purged there is
// nothing to bring.

// Import brings the lines of an export, or a part of one, into a thread: at most
// MaxImport lines, each with its time. What the thread has already, a message of the
// caller's of the same time and with the same first body, is not brought again, and
// what is left of it is; so an import that was interrupted is sent again as it was.
// Of two at once into a thread, on one server, the second waits for the first.
// A reply answers the message that its file calls so, or the one of the thread that
// has that ID. All lines are checked before the first is brought. Errors: those of
// Post, EditMessage and React; Invalid names the line.
func (s *Service) Import(ctx context.Context, p access.Principal, threadID string, lines []byte) (api.ImportedMessages, error) {
	m, err := s.gate(ctx, p, access.MessageAppend, threadID)
	if err != nil {
		return api.ImportedMessages{}, err
	}
	messages, err := s.parseImport(m, lines)
	if err != nil {
		return api.ImportedMessages{}, err
	}
	done, err := s.imports.take(ctx, threadID)
	if err != nil {
		return api.ImportedMessages{}, err
	}
	defer done()
	if err := idem.Repeatable(ctx); err != nil {
		return api.ImportedMessages{}, err
	}
	in := importing{s: s, p: p, thread: threadID, ids: map[string]string{}, used: map[string]bool{}}
	for _, versions := range messages {
		if err := in.bring(ctx, versions); err != nil {
			return in.out, err
		}
	}
	for _, id := range in.deleted { // after what answers them
		if err := s.DeleteMessage(ctx, p, threadID, id); err != nil && !errors.Is(err, fault.NotFound) {
			return in.out, err
		}
	}
	return in.out, nil
}

// parseImport returns the versions of each message, oldest first.
func (s *Service) parseImport(m meta, lines []byte) (messages [][]api.Message, err error) {
	n, ended := 0, false
	for line := range bytes.Lines(lines) {
		if n++; n > MaxImport+1 {
			return nil, fault.New(fault.TooLarge, "an import takes %d lines; send the rest in another", MaxImport)
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var l api.ThreadExportLine
		if err := json.Unmarshal(line, &l, loose, json.RejectUnknownMembers(true)); err != nil || ended {
			return nil, fault.New(fault.Invalid, "line %d is none of an export; send its lines as they are, the end last", n)
		}
		last := len(messages) - 1
		same := last >= 0 && l.ID != "" && messages[last][0].ID == l.ID
		switch {
		case l.End && l.Messages != len(messages):
			return nil, fault.New(fault.Invalid, "line %d says that there are %d messages, and there are %d; send all of them, or leave the line out", n, l.Messages, len(messages))
		case l.End:
			ended = true
		case l.TS < 1 || l.Body == nil && !l.Deleted:
			return nil, fault.New(fault.Invalid, "line %d lacks ts, nanoseconds since 1970, or body", n)
		case same && l.Version < messages[last][len(messages[last])-1].Version:
			return nil, fault.New(fault.Invalid, "line %d is an older version than the line before; send the lines in their order", n)
		case same:
			messages[last] = append(messages[last], version(l))
		default:
			messages = append(messages, []api.Message{version(l)})
		}
		if err := s.checkLine(m, l); err != nil {
			f := fault.Of(err)
			return nil, fault.New(f.Code, "line %d: %s", n, f.Message).WithType(f.Type)
		}
	}
	return messages, nil
}

// checkLine tests what is to be posted, and its reactions.
func (s *Service) checkLine(m meta, l api.ThreadExportLine) error {
	for _, reaction := range l.Reactions {
		if err := checkReaction(reaction); err != nil {
			return err
		}
	}
	if l.End || l.Deleted {
		return nil
	}
	if err := s.check(&api.PostMessage{Body: l.Body, Role: l.Role, TS: l.TS}); err != nil {
		return err
	}
	return m.checkBlob(l.Body)
}

// importing is an import under way.
type importing struct {
	s       *Service
	p       access.Principal
	thread  string
	ids     map[string]string // of the thread's messages, by those of the lines
	used    map[string]bool   // IDs of messages that lines have been found to be: two equal lines are two
	deleted []string          // IDs of messages that are to be deleted
	out     api.ImportedMessages
}

// bring makes the thread have a message, with all that can be brought of it but its deletion.
func (in *importing) bring(ctx context.Context, versions []api.Message) error {
	first, last := versions[0], versions[len(versions)-1]
	if first.Deleted {
		in.out.LeftOut++
		return nil
	}
	has, err := in.find(ctx, first)
	switch {
	case err != nil:
		return err
	case has.ID != "":
		in.out.Present++
	default:
		if has, err = in.post(ctx, first); err != nil {
			return err
		}
	}
	in.used[has.ID] = true
	if first.ID != "" {
		in.ids[first.ID] = has.ID
	}
	if has.Deleted {
		return nil
	}
	if err := in.edit(ctx, has, versions); err != nil {
		return err
	}
	if last.Deleted {
		in.deleted = append(in.deleted, has.ID)
	}
	return in.react(ctx, has.ID, last.Reactions)
}

// find returns the newest version of the message that the thread has already; without
// ID: it has none. Messages of one time can be many: they are read as a list is.
func (in *importing) find(ctx context.Context, first api.Message) (has api.Message, err error) {
	m, err := in.s.gate(ctx, in.p, access.MessageRead, in.thread)
	if err != nil {
		return has, err
	}
	for from := layout.MessageID(first.TS, 0); ; {
		recs, err := in.s.scan(ctx, m.ID, true, span{from: from, to: after(layout.MessageID(first.TS, maxSeq)), limit: MaxPage, bytes: maxPageBytes})
		if err != nil || len(recs) == 0 {
			return has, err
		}
		from = after(idOf(recs[len(recs)-1]))
		recs = slices.DeleteFunc(recs, func(r store.Record) bool { return isReactions(r) || in.used[idOf(r)] })
		if has, err = in.among(ctx, m, recs, first); err != nil || has.ID != "" {
			return has, err
		}
	}
}

// among is find in the newest versions of some messages.
func (in *importing) among(ctx context.Context, m meta, recs []store.Record, first api.Message) (has api.Message, err error) {
	opened, err := in.s.decrypt(ctx, in.p, m, recs)
	if err != nil {
		return has, err
	}
	for _, text := range opened {
		newest, err := parseMessage(text)
		if err != nil {
			return has, err
		}
		oldest, err := in.s.oldest(ctx, in.p, m, newest)
		if err != nil {
			return has, err
		}
		if m.wrote(in.p, oldest) && sameJSON(jsontext.Value(oldest.Body), jsontext.Value(first.Body)) {
			return newest, nil
		}
	}
	return has, nil
}

// oldest opens the first version of a message.
func (s *Service) oldest(ctx context.Context, p access.Principal, m meta, newest api.Message) (api.Message, error) {
	if newest.Version == 1 {
		return newest, nil
	}
	rec, err := s.store.Get(ctx, pastRow(newest.ID, 1).key(m.ID))
	if errors.Is(err, store.ErrNotFound) { // it is being purged, the oldest versions first
		return newest, nil
	} else if err != nil {
		return api.Message{}, store.Fault(err)
	}
	opened, err := s.decrypt(ctx, p, m, []store.Record{rec})
	if err != nil {
		return api.Message{}, err
	}
	return parseMessage(opened[0])
}

// sameJSON compares two JSON texts but for the space between their tokens.
func sameJSON(a, b jsontext.Value) bool {
	a, b = a.Clone(), b.Clone()
	return a.Compact(loose) == nil && b.Compact(loose) == nil && bytes.Equal(a, b)
}

// post posts the first version. Where its place is taken the same import may run at
// another server, and it looks again whether the message is there by now.
func (in *importing) post(ctx context.Context, first api.Message) (has api.Message, err error) {
	reply, err := in.reply(ctx, first.ReplyTo)
	if err != nil {
		return api.Message{}, err
	}
	wire, err := in.s.PostWith(ctx, in.p, in.thread, api.PostMessage{Body: first.Body, Role: first.Role, ReplyTo: reply, TS: first.TS},
		PostOptions{taken: func() (err error) {
			if has, err = in.find(ctx, first); err == nil && has.ID != "" {
				err = errPresent
			}
			return err
		}})
	switch {
	case errors.Is(err, errPresent):
		in.out.Present++
		return has, nil
	case err != nil:
		return api.Message{}, err
	}
	in.out.Imported++
	return parseMessage(wire)
}

var errPresent = fault.New(fault.Conflict, "the message, or its version, is there by now")

// reply is the message that a line answers, as the thread calls it; "": it is not there.
func (in *importing) reply(ctx context.Context, id string) (string, error) {
	id = cmp.Or(in.ids[id], id)
	err := in.s.checkReply(ctx, in.thread, id)
	if errors.Is(err, fault.Invalid) {
		in.out.LeftOut++
		return "", nil
	}
	return id, err
}

// edit makes the versions that the message has not yet, and that the same import at
// another server has not made meanwhile.
func (in *importing) edit(ctx context.Context, has api.Message, versions []api.Message) error {
	for made := has.Version; made < len(versions) && !versions[made].Deleted; made++ {
		v := versions[made]
		reply, err := in.reply(ctx, v.ReplyTo)
		if reply == has.ID { // it answers one that is gone, whose ID it got itself
			in.out.LeftOut++
			reply = ""
		}
		if err == nil {
			_, err = in.s.EditWith(ctx, in.p, in.thread, has.ID, api.EditMessage{Body: v.Body, Role: v.Role, ReplyTo: reply}, PostOptions{version: made + 1})
		}
		if err != nil && !errors.Is(err, errPresent) {
			return err
		}
	}
	return nil
}

// react brings the reactions that the importer may bring, of identities that have none yet.
func (in *importing) react(ctx context.Context, id string, reactions map[string]string) error {
	if len(reactions) == 0 {
		return nil
	}
	has, err := in.s.ListReactions(ctx, in.p, in.thread, id)
	if err != nil {
		return err
	}
	for _, who := range slices.Sorted(maps.Keys(reactions)) {
		if slices.ContainsFunc(has.Reactions, func(r api.Reaction) bool { return r.ID == who }) {
			continue
		}
		_, err := in.s.React(ctx, in.p, in.thread, id, api.Reaction{ID: who, Reaction: reactions[who]})
		if errors.Is(err, fault.Forbidden) {
			in.out.LeftOut++
		} else if err != nil {
			return err
		}
	}
	return nil
}

// version is the version of a message that a line holds.
func version(l api.ThreadExportLine) api.Message {
	return api.Message{
		ID: l.ID, Thread: l.Thread, Author: l.Author, EndUser: l.EndUser, Role: l.Role, TS: l.TS, Body: l.Body,
		ReplyTo: l.ReplyTo, Version: l.Version, UpdatedTS: l.UpdatedTS, Deleted: l.Deleted, Reactions: l.Reactions,
	}
}
