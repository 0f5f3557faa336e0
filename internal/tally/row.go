package tally

import (
	"encoding/binary"
	"errors"
)

// A row is a byte 1, and then, for each tick in which there was something to tell, the
// oldest first:
//
//	uvarint  number of the tick, which grows
//	uvarint  how many counts follow
//	         and each of them:
//	  byte     the Limiter's kind
//	  8 bytes  name
//	  uvarint  calls
//
// One of 300 calls of one name, and then 2:
//
//	01  29 01 70 0011223344556677 ac02  2a 01 70 0011223344556677 02
const rowVersion = 1

// tick is what a server let through in one of its ticks, and had not told before.
type tick struct {
	n      uint64
	counts []count
}

type count struct {
	kind  byte
	name  name
	calls uint64
}

// name is what is counted; see Service.name.
type name [8]byte

var errRow = errors.New("tally: not a row")

func appendRow(b []byte, ticks []tick) []byte {
	b = append(b, rowVersion)
	for _, t := range ticks {
		b = binary.AppendUvarint(b, t.n)
		b = binary.AppendUvarint(b, uint64(len(t.counts)))
		for _, c := range t.counts {
			b = append(append(b, c.kind), c.name[:]...)
			b = binary.AppendUvarint(b, c.calls)
		}
	}
	return b
}

func parseRow(b []byte) (ticks []tick, err error) {
	if len(b) == 0 || b[0] != rowVersion {
		return nil, errRow
	}
	b = b[1:]
	number := func() (n uint64) {
		n, size := binary.Uvarint(b)
		if size <= 0 {
			err = errRow
			return 0
		}
		b = b[size:]
		return n
	}
	for len(b) > 0 && err == nil {
		t := tick{n: number()}
		for left := number(); left > 0 && err == nil; left-- {
			var c count
			if len(b) < 1+len(c.name) {
				return nil, errRow
			}
			c.kind, b = b[0], b[1:]
			b = b[copy(c.name[:], b):]
			c.calls = number()
			t.counts = append(t.counts, c)
		}
		ticks = append(ticks, t)
	}
	if err != nil {
		return nil, err
	}
	return ticks, nil
}
