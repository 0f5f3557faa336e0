package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The directory of a log (mode 0700) holds
//
//	00000000000000000001.jsonl   records, one JSON object per line; the name is the seq of the first
//	00000000000000000512.jsonl   the next file, begun when the one before had reached its size
//	head                         the last record that was answered, signed; two slots of 4096 bytes
//
// all with mode 0600. A line, without its newline, has at most 17 KiB:
//
//	{"seq":7,"prev":"<64 hex>","time":"2026-11-22T10:00:00.5Z","actor":"uid:0","action":"kek.rotate",
//	 "target":"threads","outcome":"failed","detail":{"kek_version":2},"sig":"<88 base64>"}
//
// (on one line). "target", "outcome", "detail" and "sig" may be missing; there
// is no other member, no other order and no space, so that there is one text
// per record. "seq" counts from 1 without gaps, across files. "prev" is the
// SHA-256 of the line before, its "sig" included, its newline not; of the first
// line of a log it is 32 random bytes, which make this log unlike every other.
//
// Records are appended in groups that do not go over the end of a file. The
// last line of a group has "sig": Ed25519 over
//
//	"keyfold/audit/record/v1\n" and the line up to `,"sig"`
//
// which, through the hashes, covers all lines before. A group without its
// signed line was never answered.
//
// A slot of the head is one line, filled up with spaces before its newline:
//
//	{"seq":7,"hash":"<64 hex>","sig":"<88 base64>"}
//
// "hash" is the SHA-256 of the line of record seq; "sig" is Ed25519 over
// "keyfold/audit/head/v1\n" and the slot up to `,"sig"`. Before the first
// record seq is 0 and hash what the first "prev" will be. A group is synced,
// then the older slot is written over and synced, then the group is answered
// and the next one begun. So the newer slot never names what is not there, one
// slot is always whole, and at most one group comes after the head.
const (
	recordDomain = "keyfold/audit/record/v1\n"
	headDomain   = "keyfold/audit/head/v1\n"

	maxEvent = 16 << 10        // bytes of an event as JSON
	maxLine  = maxEvent + 1024 // bytes of a line, with seq, prev and sig
	slotSize = 4096
	headName = "head"

	sigHead = `,"sig":"`
	sigTail = `"}`
	sigSize = len(sigHead) + 88 + len(sigTail)
)

type hash [sha256.Size]byte

func (h hash) String() string { return hex.EncodeToString(h[:]) }

func parseHash(text string) (h hash, ok bool) {
	if len(text) != 2*len(h) {
		return h, false
	}
	_, err := hex.Decode(h[:], []byte(text))
	return h, err == nil && h.String() == text
}

// row is a line as JSON.
type row struct {
	Seq     uint64          `json:"seq"`
	Prev    string          `json:"prev"`
	Time    time.Time       `json:"time"`
	Actor   string          `json:"actor"`
	Action  string          `json:"action"`
	Target  string          `json:"target,omitzero"`
	Outcome string          `json:"outcome,omitzero"`
	Detail  json.RawMessage `json:"detail,omitempty"`
	Sig     []byte          `json:"sig,omitempty"`
}

// appendRow appends to dst the line, not yet signed, of an event as JSON.
func appendRow(dst []byte, seq uint64, prev hash, event []byte) []byte {
	dst = append(dst, `{"seq":`...)
	dst = strconv.AppendUint(dst, seq, 10)
	dst = append(dst, `,"prev":"`...)
	dst = hex.AppendEncode(dst, prev[:])
	dst = append(dst, `",`...)
	return append(dst, event[1:]...)
}

// sign returns text, a JSON object that ends dst[from:], with its signature as
// the last member.
func sign(dst []byte, from int, key ed25519.PrivateKey, domain string) []byte {
	dst = dst[:len(dst)-1] // the brace
	sig := ed25519.Sign(key, append([]byte(domain), dst[from:]...))
	dst = append(dst, sigHead...)
	dst = base64.StdEncoding.AppendEncode(dst, sig)
	return append(dst, sigTail...)
}

// signedBy reports whether key signed text, a JSON object whose last member is
// its signature.
func signedBy(key ed25519.PublicKey, domain string, text []byte) bool {
	n := len(text) - sigSize
	if n < 0 || !bytes.HasPrefix(text[n:], []byte(sigHead)) || !bytes.HasSuffix(text, []byte(sigTail)) {
		return false
	}
	sig, err := base64.StdEncoding.Strict().DecodeString(string(text[n+len(sigHead) : len(text)-len(sigTail)]))
	return err == nil && ed25519.Verify(key, append([]byte(domain), text[:n]...), sig)
}

var errShape = errors.New("not a record: see the format")

// parseRow reads a line without its newline. It accepts what appendRow and
// sign write, to the byte; the signature is not yet verified.
func parseRow(line []byte) (r row, prev hash, err error) {
	if len(line) > maxLine || json.Unmarshal(line, &r) != nil {
		return row{}, prev, errShape
	}
	prev, ok := parseHash(r.Prev)
	if again, err := json.Marshal(r); err != nil || !ok || r.Seq == 0 || !bytes.Equal(again, line) {
		return row{}, prev, errShape
	}
	if r.Sig != nil && len(r.Sig) != ed25519.SignatureSize {
		return row{}, prev, errShape
	}
	return r, prev, nil
}

// fileName is the name of the file whose first record is seq.
func fileName(seq uint64) string { return fmt.Sprintf("%020d.jsonl", seq) }

// parseFileName is the mirror of fileName.
func parseFileName(name string) (seq uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, ".jsonl")
	seq, err := strconv.ParseUint(digits, 10, 64)
	return seq, ok && err == nil && fileName(seq) == name
}
