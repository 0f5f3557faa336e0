package thread

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// meta is the record of a thread, kept as JSON under layout.ThreadMeta. It is
// the one home of the thread's key facts. Example:
//
//	{"id":"0198...","org":"0198...","author":"0198...","title":"Plans",
//	 "created_ts":1790000000000000001,"updated_ts":1790000000000000001,
//	 "kms":{"key_id":"k1","wrapped_dek":"base64 of 60 bytes","kek_id":"threads","kek_version":1}}
//
// A deleted thread keeps its record, with "deleted" and "deleted_ts".
type meta struct {
	ID        string         `json:"id"`
	Org       string         `json:"org"`
	Author    string         `json:"author"`            // ID of the principal that made it
	EndUser   bool           `json:"end_user,omitzero"` // the author is an access.EndUser
	Title     string         `json:"title"`
	CreatedTS int64          `json:"created_ts"`
	UpdatedTS int64          `json:"updated_ts"` // of this record; a post does not change it
	Deleted   bool           `json:"deleted,omitzero"`
	DeletedTS int64          `json:"deleted_ts,omitzero"`
	KMS       kmsMeta        `json:"kms"`
	Plain     bool           `json:"plain,omitzero"`            // made by a server that does not encrypt, and not encrypted since
	Moving    *moving        `json:"moving,omitzero"`           // it is being re-encrypted
	Owed      []string       `json:"owed,omitzero"`             // key IDs of DEKs that nothing is under any more and that the KMS did not let this server destroy
	CMEK      string         `json:"cmek_fingerprint,omitzero"` // of the customer's key that bodies are sealed with
	Parts     []participant  `json:"participants,omitzero"`
	Hold      *hold          `json:"hold,omitzero"`
	Purge     *purging       `json:"purge,omitzero"` // it is deleted for good
	rev       store.Revision // of the record that this was read from
}

// participant is somebody who takes part in another's thread.
type participant struct {
	ID      string      `json:"id"`
	EndUser bool        `json:"end_user,omitzero"`
	Part    access.Part `json:"part"`
}

// hold is a legal hold: nothing of the thread is purged while it lasts.
type hold struct {
	By     string `json:"by"` // ID of the user who set it
	Since  int64  `json:"since"`
	Reason string `json:"reason,omitzero"`
}

// purging says that a deleted thread is on its way out of the store: its DEKs are
// being destroyed or are, its rows go, and nothing brings it back. Its KMS names no
// key and it moves no more.
type purging struct {
	Since int64    `json:"since"`
	DEKs  []string `json:"deks,omitzero"`  // key IDs
	Clear bool     `json:"clear,omitzero"` // rows may lie in clear
}

// kmsMeta names the thread's DEK. WrappedDEK is a copy for recovery; the KMS
// holds the one that is used.
type kmsMeta struct {
	KeyID      string `json:"key_id"`
	WrappedDEK []byte `json:"wrapped_dek"`
	KEKID      string `json:"kek_id"`
	KEKVersion uint32 `json:"kek_version"`
	CreatedTS  int64  `json:"created_ts,omitzero"` // absent where an older program wrote it
}

// parseMeta reads a thread's record. A record that does not parse, or that
// was written for another thread, is fault.Damaged.
func parseMeta(threadID string, rec store.Record) (meta, error) {
	var m meta
	if err := json.Unmarshal(rec.Value, &m); err != nil || m.ID != threadID {
		return meta{}, fault.New(fault.Damaged, "the record of thread %s is damaged; restore the store from a backup", threadID)
	}
	m.rev = rec.Revision
	return m, nil
}

// put adds m to b, on the condition that its record is still as it was read
// (absent, for a new thread).
func (m meta) put(b *store.Batch) error {
	value, err := json.Marshal(m)
	if err != nil {
		return fault.New(fault.Internal, "the thread's record does not encode")
	}
	b.RequireRevision(layout.ThreadMeta(m.ID), m.rev)
	b.Put(layout.ThreadMeta(m.ID), value)
	return nil
}

// index is the key of m's entry among its author's threads.
func (m meta) index() string { return layout.OrgThread(m.Org, m.Author, m.CreatedTS, m.ID) }

// api is m as clients see it.
func (m meta) api() api.Thread {
	return api.Thread{
		ID: m.ID, Title: m.Title, Author: m.Author, Slug: slug(m.Title, m.ID),
		CreatedTS: m.CreatedTS, UpdatedTS: m.UpdatedTS, Deleted: m.Deleted, DeletedTS: m.DeletedTS,
		CMEKFingerprint: m.CMEK,
	}
}

// maxSlug is the greatest number of characters that a slug takes from the title.
const maxSlug = 80

// slug is the title's letters, marks and digits in lower case, with one dash
// for whatever lies between them, then a dash and the ID. A title with none of
// these counts as "thread".
func slug(title, id string) string {
	words := strings.FieldsFunc(strings.ToLower(title), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsMark(r) && !unicode.IsDigit(r)
	})
	s := []rune(strings.Join(words, "-"))
	s = s[:min(len(s), maxSlug)]
	if len(s) == 0 {
		return "thread-" + id
	}
	return strings.TrimRight(string(s), "-") + "-" + id
}

// isText reports whether s is UTF-8 of at most limit characters without control characters.
func isText(s string, limit int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= limit && !strings.ContainsFunc(s, unicode.IsControl)
}
