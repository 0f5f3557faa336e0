package pebblestore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
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
// So checkFiles reads both before Pebble does. In the log it looks, behind the
// first bad place, for any whole chunk whose note (see the package comment) says
// that a batch that is not readable was already on stable storage. A manifest is
// synced after each record and never used twice, so only its last record can
// be torn, and that by being too short; any other bad place is damage.
//
// What remains unseen: after an unclean stop, damage in the last records of the
// log, those that no later one speaks for, cannot be told from a torn write. It
// then looks as if these commits had never been made. A clean Close ends the log
// with a note, so that after it this cannot happen.

// The log and the manifest are 32 KiB blocks of chunks:
//
//	checksum (4) | length (2) | kind (1) | header by kind | payload
//
// Numbers are little endian. Checksums are masked CRC-32C over kind, header and
// payload. No chunk crosses a block; what is left of a block that is too short
// for a chunk is zero. A record is one chunk (full) or several (first, middle...,
// last). Kinds:
//
//	1 ...  4   full, first, middle, last; no header           manifest
//	5 ...  8   the same; log number (4)                       log
//	9 ... 12   the same; log number (4) | synced offset (8)   log
//
// A log file that is used again may hold old chunks behind the new ones, with
// smaller log numbers. A log that was closed ends with checksum 0, length 0,
// kind 5 and the next log number.
//
// A record of the log is a batch: sequence number of its first write (8), count
// of writes (4), writes. Ours begin with the note: 3 (log data) | 8 | note
// (8, big endian).
const (
	blockSize  = 32 << 10
	chunkStart = 7 // checksum, length, kind
	noteSize   = 8
	headSize   = 12 + 2 + noteSize // of a batch, up to the end of the note
)

type chunk struct {
	kind    byte
	payload []byte
	end     int // offset of what follows
}

func (c chunk) first() bool { return c.kind%4 == 1 || c.kind%4 == 2 }
func (c chunk) last() bool  { return c.kind%4 == 1 || c.kind%4 == 0 }

// headerSizes are the lengths of the chunk headers, by (kind-1)/4.
var headerSizes = [3]int{chunkStart, chunkStart + 4, chunkStart + 12}

// logChunk returns the chunk at off, if there is a whole one of this log.
func logChunk(data []byte, off int, log uint32) (c chunk, ok bool) {
	block := data[off:min(len(data), off-off%blockSize+blockSize)]
	if len(block) < headerSizes[1] || block[6] < 5 || block[6] > 12 || binary.LittleEndian.Uint32(block[7:]) != log {
		return chunk{}, false
	}
	header := headerSizes[(block[6]-1)/4]
	size := header + int(binary.LittleEndian.Uint16(block[4:]))
	if size > len(block) || checksum(block[6:size]) != binary.LittleEndian.Uint32(block) {
		return chunk{}, false
	}
	return chunk{block[6], block[header:size], off + size}, true
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 {
	c := crc32.Checksum(b, castagnoli)
	return (c>>15 | c<<17) + 0xa282ead8
}

// checkFiles returns an error if the manifest or a log in dir is damaged.
func checkFiles(fs vfs.FS, dir string) error {
	desc, err := pebble.Peek(dir, fs)
	if err != nil || !desc.Exists {
		return err
	}
	data, err := readFile(fs, desc.ManifestFilename)
	if err != nil {
		return err
	}
	if at := manifestDamage(data); at >= 0 {
		return fmt.Errorf("%s at offset %d", fs.PathBase(desc.ManifestFilename), at)
	}
	return checkLogs(fs, dir)
}

func checkLogs(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	for _, name := range names {
		number, _, ok := wal.ParseLogFilename(name)
		if !ok {
			continue
		}
		data, err := readFile(fs, fs.PathJoin(dir, name))
		if err != nil {
			return err
		}
		if at := logDamage(data, uint32(number)); at >= 0 {
			return fmt.Errorf("%s at offset %d, before commits that were acknowledged", name, at)
		}
	}
	return nil
}

func readFile(fs vfs.FS, name string) ([]byte, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	data := make([]byte, info.Size())
	_, err = io.ReadFull(f, data)
	return data, err
}

// manifestDamage returns the offset of the damage in a manifest, or -1.
func manifestDamage(data []byte) int {
	for off := 0; ; {
		left := blockSize - off%blockSize
		if left < chunkStart {
			off += left
			continue
		}
		if off+chunkStart > len(data) {
			return -1 // the end, or half a header
		}
		size := chunkStart + int(binary.LittleEndian.Uint16(data[off+4:]))
		kind := data[off+6]
		switch {
		case isZero(data[off:]):
			return -1 // room that was never written
		case kind < 1 || kind > 4 || size > left:
			return off
		case off+size > len(data):
			return -1 // half a record
		case checksum(data[off+6:off+size]) != binary.LittleEndian.Uint32(data[off:]):
			return off
		}
		off += size
	}
}

// logDamage returns the offset of the damage in a log, or -1.
func logDamage(data []byte, log uint32) int {
	var head []byte // of the record that is being read
	next := uint64(0)
	off := 0
	for {
		off = skipPadding(data, off)
		c, ok := logChunk(data, min(off, len(data)), log)
		if !ok {
			break
		}
		if c.first() {
			head = head[:0]
		}
		if room := headSize - len(head); room > 0 {
			head = append(head, c.payload[:min(room, len(c.payload))]...)
		}
		if len(head) >= headSize {
			next = sequence(head)
			if c.last() {
				next += uint64(binary.LittleEndian.Uint32(head[8:]))
			}
		}
		off = c.end
	}
	if off < len(data) && (isFalseTrailer(data[off:], log) || provenSynced(data, off, log, next)) {
		return off
	}
	return -1
}

// skipPadding returns off, or the start of the next block if the rest of this
// one is zero and too short for a chunk.
func skipPadding(data []byte, off int) int {
	end := off - off%blockSize + blockSize
	if end-off < chunkStart || end <= len(data) && end-off < headerSizes[2] && isZero(data[off:end]) {
		return end
	}
	return off
}

// isFalseTrailer says whether Pebble takes what is here for the regular end of
// the log although it is not: it looks at the log number only.
func isFalseTrailer(data []byte, log uint32) bool {
	return len(data) >= headerSizes[1] && data[6] >= 5 && data[6] <= 12 &&
		binary.LittleEndian.Uint32(data[7:]) == log+1 && !isZero(data[:6])
}

// provenSynced says whether a chunk behind off notes that the batch with the
// sequence number next was on stable storage. If next is 0, no record is
// readable before off, and it is a batch before the first one found.
func provenSynced(data []byte, off int, log uint32, next uint64) bool {
	for off++; off+headerSizes[1] <= len(data); off++ {
		c, ok := logChunk(data, off, log)
		if !ok || !c.first() || len(c.payload) < headSize || c.payload[12] != byte(pebble.InternalKeyKindLogData) || c.payload[13] != noteSize {
			continue
		}
		if next == 0 {
			next = sequence(c.payload) - 1
		}
		if binary.BigEndian.Uint64(c.payload[14:]) > next {
			return true
		}
	}
	return false
}

func sequence(batch []byte) uint64 { return binary.LittleEndian.Uint64(batch) }

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
