package pebblestore

import (
	"encoding/binary"
	"hash/crc32"
)

// Pebble's log and manifest are blocks of 32 KiB, and these hold chunks:
//
//	checksum (4) | length (2) | kind (1) | header by kind | payload
//
// Numbers are little endian. Checksums are masked CRC-32C over kind, header and
// payload. No chunk crosses a block; what is left of a block and too short for a
// chunk is zero. A record is one chunk (full) or several (first, middle...,
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
//
// A record of the manifest is an edit: numbered fields. If it moves the log from
// which recovery starts, it begins with 2 | log number (varint); an edit that
// names the order of keys, as the first one does, has 1 | length | name before.
const (
	blockSize  = 32 << 10
	chunkStart = 7 // checksum, length, kind
	noteSize   = 8
	batchHead  = 12 + 2 + noteSize // of a batch, up to the end of the note
	editHead   = 64                // of an edit, beyond the log number
)

// headerSizes are the lengths of the chunk headers, by (kind-1)/4.
var headerSizes = [3]int{chunkStart, chunkStart + 4, chunkStart + 12}

type chunk struct {
	kind    byte
	payload []byte
	size    int // with its header
}

func (c chunk) first() bool { return c.kind%4 == 1 || c.kind%4 == 2 }
func (c chunk) last() bool  { return c.kind%4 == 1 || c.kind%4 == 0 }

// logChunk returns the chunk at the start of b, the rest of a block, if there is
// a whole one of this log.
func logChunk(b []byte, log uint32) (c chunk, ok bool) {
	if len(b) < headerSizes[1] || b[6] < 5 || b[6] > 12 || binary.LittleEndian.Uint32(b[7:]) != log {
		return chunk{}, false
	}
	header, size := headerSizes[(b[6]-1)/4], 0
	if size = header + payloadSize(b); size > len(b) || !sound(b[:size]) {
		return chunk{}, false
	}
	return chunk{b[6], b[header:size], size}, true
}

func payloadSize(b []byte) int { return int(binary.LittleEndian.Uint16(b[4:])) }

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sound says whether the checksum of the chunk b holds.
func sound(b []byte) bool {
	c := crc32.Checksum(b[6:], castagnoli)
	return (c>>15|c<<17)+0xa282ead8 == binary.LittleEndian.Uint32(b)
}

// isPadding says whether the rest of a block is room too short for a chunk.
func isPadding(b []byte) bool {
	return len(b) < chunkStart || len(b) < headerSizes[2] && isZero(b)
}

// isFalseTrailer says whether Pebble takes the start of b for the regular end of
// the log although it is not: it looks at the log number only.
func isFalseTrailer(b []byte, log uint32) bool {
	return len(b) >= headerSizes[1] && b[6] >= 5 && b[6] <= 12 &&
		binary.LittleEndian.Uint32(b[7:]) == log+1 && !isZero(b[:6])
}

// head is the beginning of a record, gathered from its chunks.
type head []byte

func (h *head) add(c chunk, most int) {
	if c.first() {
		*h = (*h)[:0]
	}
	if room := most - len(*h); room > 0 {
		*h = append(*h, c.payload[:min(room, len(c.payload))]...)
	}
}

// batch returns the sequence number and the count of a batch and its note.
func (h head) batch() (sequence, count, note uint64, ok bool) {
	if len(h) < batchHead || h[12] != 3 || h[13] != noteSize {
		return 0, 0, 0, false
	}
	return binary.LittleEndian.Uint64(h), uint64(binary.LittleEndian.Uint32(h[8:])), binary.BigEndian.Uint64(h[14:]), true
}

// firstLog returns the log number that an edit sets, or 0.
func (h head) firstLog() uint64 {
	if len(h) > 2 && h[0] == 1 && len(h) > 2+int(h[1]) {
		h = h[2+int(h[1]):]
	}
	if len(h) < 2 || h[0] != 2 {
		return 0
	}
	n, _ := binary.Uvarint(h[1:])
	return n
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
