package pebblestore

import (
	"errors"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"
)

// What Pebble v2.1.7 does about damaged bytes, and what is added here.
//
// Tables: every block has a checksum. A read that meets a bad one fails, and
// Get and Scan answer store.ErrDamaged.
//
// Log: a record with a bad checksum may be damage, or the torn end of a write
// that the crash cut short. Pebble takes it for the end, drops everything after
// it and opens without a word, unless a later record proves that this place was
// synced. Its proof is an offset in the chunk header, and it often fails: the
// offset counts only part of what was written (full blocks are left out), it is
// looked for only from the next 32 KiB block on, and the first log of a new
// store has none. A flipped bit in a chunk's log number can even pass for the
// regular end of the log.
//
// Manifest: it is read up to the first bad record. The rest is dropped, and the
// tables that it names are deleted.
//
// So checkFiles reads both before Pebble does, in the format described in
// chunk.go. In each log that recovery will read it looks, behind the first bad
// place, for a whole chunk whose note (see the package comment) says that a batch
// that cannot be read was already on stable storage. A manifest is synced after
// each record and never used twice, so only its last record can be torn, and that
// by being too short; any other bad place is damage.
//
// What remains unseen: after an unclean stop, damage in the last records of the
// log, those that no later one speaks for, cannot be told from a torn write. It
// then looks as if these commits had never been made. A clean Close ends the log
// with a note, so that after it this cannot happen.

// checkFiles returns an error if the manifest or a log in dir is damaged.
func checkFiles(fs vfs.FS, dir string) error {
	desc, err := pebble.Peek(dir, fs)
	if err != nil || !desc.Exists {
		return err
	}
	firstLog := uint64(0)
	err = inFile(fs, desc.ManifestFilename, func(f io.Reader) (at int64, err error) {
		at, firstLog, err = manifestDamage(f)
		return at, err
	})
	if err != nil {
		return err
	}
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		number, _, ok := wal.ParseLogFilename(name)
		if !ok || uint64(number) < firstLog {
			continue
		}
		err := inFile(fs, fs.PathJoin(dir, name), func(f io.Reader) (int64, error) {
			return logDamage(f, uint32(number))
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inFile runs check on a file. The offset that it returns is that of the damage, or -1.
func inFile(fs vfs.FS, name string, check func(io.Reader) (int64, error)) error {
	f, err := fs.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	at, err := check(f)
	if err == nil && at >= 0 {
		err = fmt.Errorf("%s is damaged at offset %d, before what was acknowledged", fs.PathBase(name), at)
	}
	return err
}

// blocks calls each with the blocks of r and their offsets, until it says stop.
func blocks(r io.Reader, each func(b []byte, at int64) (stop bool)) error {
	b := make([]byte, blockSize)
	for at := int64(0); ; at += blockSize {
		n, err := io.ReadFull(r, b)
		if n > 0 && each(b[:n], at) {
			return nil
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// manifestDamage returns the offset of the damage in a manifest, or -1, and the
// number of the first log that recovery reads.
func manifestDamage(r io.Reader) (damage int64, firstLog uint64, err error) {
	damage = -1
	var edit head
	err = blocks(r, func(b []byte, at int64) bool {
		for off := 0; ; {
			rest := b[off:]
			size, torn, bad := manifestChunk(rest, blockSize-off)
			if bad {
				damage = at + int64(off)
			}
			if size == 0 {
				return torn || bad
			}
			c := chunk{rest[6], rest[chunkStart:size], size}
			edit.add(c, editHead)
			if n := edit.firstLog(); c.last() && n != 0 {
				firstLog = n
			}
			off += size
		}
	})
	return damage, firstLog, err
}

// manifestChunk returns the size of the chunk at the start of b, where room bytes
// are left of a block. If there is no whole one, the size is 0, and the block
// ends here, or the file is torn here, or the chunk is bad.
func manifestChunk(b []byte, room int) (size int, torn, bad bool) {
	short := len(b) < room // the file ends within the block
	switch {
	case room < chunkStart:
		return 0, false, false
	case short && (len(b) < chunkStart || isZero(b)):
		return 0, true, false
	case b[6] < 1 || b[6] > 4 || chunkStart+payloadSize(b) > room:
		return 0, false, true
	}
	size = chunkStart + payloadSize(b)
	switch {
	case size > len(b) && !anySound(b[1:]):
		return 0, true, false
	case size > len(b) || !sound(b[:size]):
		return 0, false, true
	}
	return size, false, false
}

// anySound says whether there is a whole chunk of a manifest anywhere in b.
func anySound(b []byte) bool {
	for ; len(b) >= chunkStart; b = b[1:] {
		size := chunkStart + payloadSize(b)
		if b[6] >= 1 && b[6] <= 4 && size <= len(b) && sound(b[:size]) {
			return true
		}
	}
	return false
}

// logDamage returns the offset of the damage in a log, or -1.
func logDamage(r io.Reader, log uint32) (int64, error) {
	c := logCheck{log: log, bad: -1}
	proven := false
	err := blocks(r, func(b []byte, at int64) bool {
		proven = c.block(b, at)
		return proven
	})
	if err != nil || !proven {
		return -1, err
	}
	return c.bad, nil
}

// logCheck reads a log block by block: the chunks up to the first bad place, and
// from there on a proof that it was once good.
type logCheck struct {
	log   uint32
	batch head
	next  uint64 // sequence number of the batch that is read next, or now; 0 if unknown
	bad   int64  // offset of the first place without a whole chunk; -1 before it
}

// block reads the block b at offset at, and says whether damage is proven.
func (c *logCheck) block(b []byte, at int64) bool {
	if c.bad < 0 {
		off := c.read(b)
		if b = b[off:]; isPadding(b) {
			return false
		}
		if c.bad = at + int64(off); isFalseTrailer(b, c.log) {
			return true
		}
	}
	for ; len(b) > 0; b = b[1:] {
		if found, ok := logChunk(b, c.log); ok && found.first() && c.proof(found) {
			return true
		}
	}
	return false
}

// read reads the whole chunks of b and returns the offset of what follows.
func (c *logCheck) read(b []byte) int {
	for off := 0; ; {
		found, ok := logChunk(b[off:], c.log)
		if !ok {
			return off
		}
		c.batch.add(found, batchHead)
		if sequence, count, _, ok := c.batch.batch(); ok {
			c.next = sequence
			if found.last() {
				c.next += count
			}
		}
		off += found.size
	}
}

// proof says whether a chunk behind the bad place notes that the batch which
// should have been read there was on stable storage. If no batch could be read
// before, it is some batch before the first one found.
func (c *logCheck) proof(found chunk) bool {
	sequence, _, note, ok := head(found.payload).batch()
	if !ok {
		return false
	}
	if c.next == 0 {
		c.next = sequence - 1
	}
	return note > c.next
}
