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
// text; otherwise it is a ciphertext under the thread's DEK, or there is an error.
func (s *Service) encrypt(ctx context.Context, m meta, rows ...openRow) ([][]byte, error) {
	dek, err := s.dekOf(ctx, m)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(rows))
	if dek.plain() {
		for i, r := range rows {
			out[i] = r.text
		}
		return out, nil
	}
	items := make([]kmsapi.EncryptItem, len(rows))
	for i, r := range rows {
		items[i] = kmsapi.EncryptItem{KeyID: dek.KeyID, Plaintext: r.text, AAD: r.name.aad(m.ID)}
	}
	res, err := s.kms.Encrypt(ctx, items)
	if err := kmsFault(err, len(res), len(items)); err != nil {
		return nil, s.orChanged(ctx, m, err)
	}
	for i, r := range res {
		if err := checkSealed(r, len(items[i].Plaintext)); err != nil {
			return nil, s.orChanged(ctx, m, err)
		}
		out[i] = r.Ciphertext
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

// writable returns the DEK that rows are written under, as things are: while a
// thread is re-encrypted, the new one.
func (s *Service) writable(m meta) (kmsMeta, error) {
	if m.KMS.plain() && !(s.plain && m.Plain) {
		return m.KMS, errNoKey
	}
	return m.KMS, nil
}

// putRow adds a row to b, on the condition that the thread is as it was read.
func (m meta) putRow(b *store.Batch, n rowName, stored []byte) {
	m.require(b)
	b.Put(n.key(m.ID), stored)
}

// require is the condition of whoever writes or removes a row.
func (m meta) require(b *store.Batch) { b.RequireRevision(layout.ThreadMeta(m.ID), m.rev) }

// decrypt opens rows of m in one call, for p, in their order. All open, or the
// answer is an error that names the first that does not, and no cause. The thread
// may be re-encrypted meanwhile; see reopen.
func (s *Service) decrypt(ctx context.Context, p access.Principal, m meta, recs []store.Record) ([][]byte, error) {
	out := make([][]byte, len(recs))
	q := s.question(ctx, m, recs, out)
	for i, rec := range recs {
		q.ask(i, m.under(rowOf(m.ID, rec.Key)))
	}
	failed, err := s.answer(ctx, p, &q)
	if err != nil || len(failed) == 0 {
		return out, err
	}
	return out, s.reopen(ctx, p, m, q, failed)
}

// question is what the KMS is asked to open.
type question struct {
	m      meta
	recs   []store.Record
	out    [][]byte // by the place in recs
	items  []kmsapi.DecryptItem
	at     []int      // of items in recs
	failed []unopened // without asking
	clear  bool       // rows in clear are believed
	err    error      // it is not known whether they are
}

// question takes a row that lies there in clear for one that was written so, where
// its thread's record says that it may. The record cannot prove it; see Config.Believe.
func (s *Service) question(ctx context.Context, m meta, recs []store.Record, out [][]byte) question {
	q := question{m: m, recs: recs, out: out}
	if m.mayBePlain() {
		q.clear, q.err = s.InClear(ctx)
	}
	return q
}

// ask adds row i to the question, under dek. A row that lies there in clear is
// answered at once, where such a row may be.
func (q *question) ask(i int, dek kmsMeta) {
	rec := q.recs[i]
	n := rowOf(q.m.ID, rec.Key)
	switch {
	case !dek.plain():
		q.items = append(q.items, kmsapi.DecryptItem{KeyID: dek.KeyID, Ciphertext: rec.Value, AAD: n.aad(q.m.ID)})
		q.at = append(q.at, i)
	case !q.clear:
		q.failed = append(q.failed, unopened{i, errNoKey})
	case !isPlain(n, rec.Value):
		q.failed = append(q.failed, unopened{i, errNotPlain})
	default:
		q.out[i] = rec.Value
	}
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

// answer has q answered, in as few calls as the KMS takes, and returns the rows
// that do not open.
func (s *Service) answer(ctx context.Context, p access.Principal, q *question) (failed []unopened, err error) {
	if q.err != nil {
		return nil, q.err
	}
	failed = q.failed
	for len(q.items) > 0 {
		n := min(len(q.items), kmsapi.MaxBatch)
		asked := make([]store.Record, n)
		for j, i := range q.at[:n] {
			asked[j] = q.recs[i]
		}
		res, err := s.open(ctx, p, q.m, asked, q.items[:n])
		if err := kmsFault(err, len(res), n); err != nil {
			return nil, err
		}
		for j, r := range res {
			if r.Err != nil {
				failed = append(failed, unopened{q.at[j], r.Err})
				continue
			}
			q.out[q.at[j]] = r.Plaintext
		}
		q.items, q.at = q.items[n:], q.at[n:]
	}
	return failed, nil
}
