package kmsbackup

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"io"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Check reads a backup to its end and compares its checksum. It needs no key,
// and so finds damage and not forgery.
func Check(r io.Reader) (Info, error) {
	info, _, err := read(r, func(string, []byte) error { return nil })
	return info, err
}

// tail is what follows the rows of a backup.
type tail struct{ checksum, seal []byte }

// read gives each row of a backup to do, which keeps value. What it gave is
// sound only when read returns without an error.
func read(r io.Reader, do func(key string, value []byte) error) (info Info, t tail, err error) {
	in := &reader{r: bufio.NewReaderSize(r, 64<<10), sum: sha256.New()}
	head := in.read(headSize)
	if in.err == nil && !bytes.HasPrefix(head, []byte(magic)) {
		return info, t, fault.New(fault.Invalid, "this is not a backup of a key store, or one of a newer version of keyfold-kms")
	}
	last := ""
	for {
		key, value := in.row()
		if in.err != nil || key == "" {
			break
		}
		if key <= last {
			return info, t, errDamaged
		}
		last = key
		if err := do(key, value); err != nil {
			return info, t, err
		}
		info.count(key)
	}
	t, err = in.tail()
	if err == nil {
		info.Created = time.Unix(0, int64(binary.BigEndian.Uint64(head[len(magic):]))).UTC()
	}
	return info, t, err
}

var errDamaged = fault.New(fault.Damaged, "the backup is damaged or not all there; take another copy of it, or an older backup")

// reader reads and sums, until the first error.
type reader struct {
	r   *bufio.Reader
	sum hash.Hash
	err error
}

// read returns the next n bytes, or nil after an error. It takes no more memory
// than there is to read.
func (r *reader) read(n int) []byte {
	if r.err != nil {
		return nil
	}
	var b bytes.Buffer
	if _, r.err = io.CopyN(&b, r.r, int64(n)); errors.Is(r.err, io.EOF) {
		r.err = errDamaged
	}
	r.sum.Write(b.Bytes())
	if r.err != nil {
		return nil
	}
	return b.Bytes()
}

// row returns the next row; its key is "" at the end of the rows.
func (r *reader) row() (key string, value []byte) {
	head := r.read(2)
	if r.err != nil || head[0] == 0 && head[1] == 0 {
		return "", nil
	}
	keySize := int(binary.BigEndian.Uint16(head))
	size := r.read(4)
	if r.err != nil {
		return "", nil
	}
	valueSize := binary.BigEndian.Uint32(size)
	if keySize > store.MaxKey || valueSize > store.MaxValue {
		r.err = errDamaged
		return "", nil
	}
	return string(r.read(keySize)), r.read(int(valueSize))
}

// tail reads what follows the rows, and compares the checksum.
func (r *reader) tail() (tail, error) {
	want := r.sum.Sum(nil)
	b := r.read(tailSize)
	if r.err != nil {
		return tail{}, r.err
	}
	if _, err := r.r.ReadByte(); !errors.Is(err, io.EOF) || !bytes.Equal(want, b[:sha256.Size]) {
		return tail{}, errDamaged
	}
	return tail{want, b[sha256.Size:]}, nil
}

// count counts the row of key.
func (i *Info) count(key string) {
	i.Rows++
	switch {
	case strings.HasPrefix(key, layout.KEK("")):
		i.KEKs++
	case strings.HasPrefix(key, layout.DEK("")):
		i.DEKs++
	case strings.HasPrefix(key, layout.CMEKKey("")):
		i.CMEKs++
	}
}
