package thread

import (
	"bytes"
	"context"
	"strings"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// rowName names an encrypted row of a thread: what follows "thread:<thread>:" in
// its key. Names are in the order in which a thread is re-encrypted.
//
//	msg:<id>         the newest version of a message that is there
//	del:<id>         the newest version of a message that was deleted
//	past:<id>:<n>    version n of a message that has a newer one
//	react:<id>       the reactions to a message
type rowName string

func newestRow(id string) rowName      { return rowName("msg:" + id) }
func deletedRow(id string) rowName     { return rowName("del:" + id) }
func pastRow(id string, n int) rowName { return rowName(layout.PastName(id, n)) }
func reactionsRow(id string) rowName   { return rowName("react:" + id) }

// rowKinds begin the names of all encrypted rows, in order.
var rowKinds = []string{"del:", "msg:", "past:", "react:"}

// rowOf is the name of the row of a thread under key.
func rowOf(threadID, key string) rowName {
	return rowName(strings.TrimPrefix(key, layout.ThreadRow(threadID, "")))
}

func (n rowName) key(threadID string) string { return layout.ThreadRow(threadID, string(n)) }

// message is the ID of the message that the row is of.
func (n rowName) message() string {
	_, rest, _ := strings.Cut(string(n), ":")
	id, _, _ := strings.Cut(rest, ":")
	return id
}

// aad is what a row is bound to, besides its thread's DEK.
func (n rowName) aad(threadID string) []byte {
	if id, ok := strings.CutPrefix(string(n), "msg:"); ok {
		return messageAAD(threadID, id)
	}
	return aead.AAD("keyfold/thread-row/v1", threadID, string(n))
}

// messageAAD is what a message row is bound to, besides its thread's DEK. The
// last field tells this form of row from others.
func messageAAD(threadID, messageID string) []byte {
	return aead.AAD("keyfold/message/v1", threadID, messageID, "1")
}

// openRow is a row of a thread in clear.
type openRow struct {
	name rowName
	text []byte
}

// encrypt returns what is stored of rows, in order, in one call of the KMS. Of a
// thread that is not encrypted, on a server that does not encrypt, that is their
// text; otherwise it is a ciphertext under the DEK that the row has to be under,
// or there is an error.
func (s *Service) encrypt(ctx context.Context, m meta, rows ...openRow) ([][]byte, error) {
	out := make([][]byte, len(rows))
	var items []kmsapi.EncryptItem
	var at []int // of items in out
	for i, r := range rows {
		dek, err := s.writable(m, r.name)
		if err != nil {
			return nil, err
		}
		if dek.plain() {
			out[i] = r.text
			continue
		}
		items, at = append(items, kmsapi.EncryptItem{KeyID: dek.KeyID, Plaintext: r.text, AAD: r.name.aad(m.ID)}), append(at, i)
	}
	if len(items) == 0 {
		return out, nil
	}
	res, err := s.kms.Encrypt(ctx, items)
	if err := kmsFault(err, len(res), len(items)); err != nil {
		return nil, err
	}
	for j, r := range res {
		if err := checkSealed(r, len(items[j].Plaintext)); err != nil {
			return nil, err
		}
		out[at[j]] = r.Ciphertext
	}
	return out, nil
}

// checkSealed lets pass nothing but a ciphertext of the right length: plaintext is
// never stored.
func checkSealed(r kmsapi.EncryptResult, plaintext int) error {
	if err := kmsFault(r.Err, 1, 1); err != nil {
		return err
	}
	if len(r.Ciphertext) != plaintext+aead.Overhead {
		return fault.New(fault.Internal, "the KMS answered with something that is no ciphertext; nothing was stored")
	}
	return nil
}

// writable returns the DEK that a row is written under, as things are.
func (s *Service) writable(m meta, n rowName) (kmsMeta, error) {
	dek := m.under(n)
	switch {
	case dek.plain() && m.Moving != nil:
		return dek, errEncrypting
	case dek.plain() && !(s.plain && m.Plain):
		return dek, errNoKey
	}
	return dek, nil
}

// putRow adds a row to b, with what its writer relies on: the thread as it was read
// and, for a row that is not re-encrypted yet, that it still is not.
func (m meta) putRow(b *store.Batch, n rowName, stored []byte) {
	m.require(b, n)
	b.Put(n.key(m.ID), stored)
}

func (m meta) require(b *store.Batch, n rowName) {
	b.RequireRevision(layout.ThreadMeta(m.ID), m.rev)
	if m.old(n) {
		b.RequireRevision(layout.ThreadRow(m.ID, cursorName), m.Moving.rev)
	}
}

// decrypt opens rows of m in one call, for p, in their order. All open, or the
// answer is an error that names the first that does not, and no cause. The thread
// may be re-encrypted meanwhile; see reopen.
func (s *Service) decrypt(ctx context.Context, p access.Principal, m meta, recs []store.Record) ([][]byte, error) {
	out := make([][]byte, len(recs))
	q := question{m: m, recs: recs, out: out}
	for i, rec := range recs {
		if err := q.ask(i, m.under(rowOf(m.ID, rec.Key))); err != nil {
			return nil, err
		}
	}
	failed, err := s.answer(ctx, p, &q)
	if err != nil || len(failed) == 0 {
		return out, err
	}
	return out, s.reopen(ctx, p, m, q, failed)
}

// question is what the KMS is asked to open.
type question struct {
	m     meta
	recs  []store.Record
	out   [][]byte // by the place in recs
	items []kmsapi.DecryptItem
	at    []int // of items in recs
}

// ask adds row i to the question, under dek.
func (q *question) ask(i int, dek kmsMeta) error {
	rec := q.recs[i]
	n := rowOf(q.m.ID, rec.Key)
	if dek.plain() {
		if !q.m.mayBePlain() {
			return errNoKey
		}
		if isPlain(n, rec.Value) {
			q.out[i] = rec.Value
			return nil
		}
		if dek = q.m.KMS; dek.plain() {
			return openFault(fault.New(fault.Unopenable, "no row of a thread that is not encrypted"), n.message())
		}
	}
	q.items = append(q.items, kmsapi.DecryptItem{KeyID: dek.KeyID, Ciphertext: rec.Value, AAD: n.aad(q.m.ID)})
	q.at = append(q.at, i)
	return nil
}

// mayBePlain reports whether rows of m may lie there in clear.
func (m meta) mayBePlain() bool { return m.Plain || m.Moving != nil && m.Moving.Old.plain() }

// isPlain reports whether a row lies there in clear: all texts of rows begin with
// the ID of their message, which no ciphertext does by chance.
func isPlain(n rowName, stored []byte) bool {
	return bytes.HasPrefix(stored, []byte(`{"id":"`+n.message()+`"`))
}

// unopened is a row that the KMS did not open, and its answer.
type unopened struct {
	at  int // in recs
	err error
}

// answer has q answered and returns the rows that do not open.
func (s *Service) answer(ctx context.Context, p access.Principal, q *question) (failed []unopened, err error) {
	if len(q.items) == 0 {
		return nil, nil
	}
	asked := make([]store.Record, len(q.at))
	for j, i := range q.at {
		asked[j] = q.recs[i]
	}
	res, err := s.open(ctx, p, q.m, asked, q.items)
	if err := kmsFault(err, len(res), len(q.items)); err != nil {
		return nil, err
	}
	for j, r := range res {
		if r.Err != nil {
			failed = append(failed, unopened{q.at[j], r.Err})
			continue
		}
		q.out[q.at[j]] = r.Plaintext
	}
	return failed, nil
}
