package audit

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/private"
)

// Anchor names a record: its seq and the SHA-256 of its line. Noted somewhere
// else, it shows later that the log up to it is still the same.
type Anchor struct {
	Seq  uint64
	hash hash
}

// String returns "seq:hash", the hash in hex.
func (a Anchor) String() string { return fmt.Sprintf("%d:%s", a.Seq, a.hash) }

// Hash returns the hash in hex.
func (a Anchor) Hash() string { return a.hash.String() }

// ParseAnchor reads what String wrote. It fails with fault.Invalid.
func ParseAnchor(text string) (Anchor, error) {
	digits, hexHash, _ := strings.Cut(text, ":")
	seq, err := strconv.ParseUint(digits, 10, 64)
	h, ok := parseHash(hexHash)
	if err != nil || !ok {
		return Anchor{}, fault.New(fault.Invalid, "an anchor is SEQ:HASH, with the 64 hex digits of the hash as the status of the process shows it")
	}
	return Anchor{Seq: seq, hash: h}, nil
}

// slot is a slot of the head as JSON.
type slot struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
	Sig  []byte `json:"sig,omitempty"`
}

// encodeSlot returns the slot of a, slotSize bytes.
func encodeSlot(a Anchor, key ed25519.PrivateKey) []byte {
	text, _ := json.Marshal(slot{Seq: a.Seq, Hash: a.Hash()}) // cannot fail: a number and a text
	return pad(sign(text, 0, key, headDomain))
}

// pad fills text up to a slot.
func pad(text []byte) []byte {
	b := bytes.Repeat([]byte(" "), slotSize)
	copy(b, text)
	b[slotSize-1] = '\n'
	return b
}

// parseSlot reads a slot. It accepts what encodeSlot wrote with this key, to
// the byte.
func parseSlot(b []byte, pub ed25519.PublicKey) (Anchor, bool) {
	text := bytes.TrimRight(b, " \n")
	var s slot
	if len(b) != slotSize || json.Unmarshal(text, &s) != nil {
		return Anchor{}, false
	}
	h, ok := parseHash(s.Hash)
	again, err := json.Marshal(s)
	if !ok || err != nil || !bytes.Equal(pad(again), b) || !signedBy(pub, headDomain, text) {
		return Anchor{}, false
	}
	return Anchor{Seq: s.Seq, hash: h}, true
}

// heads is what the file of the head says.
type heads struct {
	newest Anchor
	at     int // the slot of newest
	bad    int // slots that are not in order: 0 or 1
}

var errNoHead = errors.New("no slot of the head is signed by this key")

// readHeads reads both slots. Of two that name the same record one is bad,
// unless nothing was recorded yet: a log never writes them so, and who copies the
// older slot over the newer can cut off the last group unseen.
func readHeads(f io.ReaderAt, pub ed25519.PublicKey) (h heads, err error) {
	b := make([]byte, slotSize)
	for i := range 2 {
		if _, err := f.ReadAt(b, int64(i*slotSize)); err != nil && !errors.Is(err, io.EOF) {
			return heads{}, err
		}
		a, ok := parseSlot(b, pub)
		switch {
		case !ok, i == 1 && h.bad == 0 && a.Seq == h.newest.Seq && a.Seq > 0:
			h.bad++
		case i == h.bad || a.Seq > h.newest.Seq: // the first that parses, or a newer one
			h.newest, h.at = a, i
		}
		clear(b)
	}
	if h.bad == 2 {
		return heads{}, errNoHead
	}
	return h, nil
}

// createHead makes the head of a new log. The file is whole or not there,
// whenever a crash comes; one that is there already is left alone.
func createHead(dir string, key ed25519.PrivateKey) error {
	genesis := Anchor{}
	rand.Read(genesis.hash[:])
	text := bytes.Repeat(encodeSlot(genesis, key), 2)
	err := private.Create(filepath.Join(dir, headName), func(f *os.File) error { _, err := f.Write(text); return err })
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
