package external

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// scanner finds byte strings of 8 bytes and more in a stream of pages.
type scanner struct {
	first [1 << 16]bool       // the first two bytes of any
	by8   map[uint64][]needle // by the first eight bytes
	found map[string]bool     // names of what was found
	bytes int64               // read so far
}

type needle struct{ name, text string }

func (s *scanner) add(name string, text []byte) {
	if s.by8 == nil {
		s.by8, s.found = map[uint64][]needle{}, map[string]bool{}
	}
	s.first[binary.LittleEndian.Uint16(text)] = true
	head := binary.LittleEndian.Uint64(text)
	s.by8[head] = append(s.by8[head], needle{name, string(text)})
}

// addKey adds a key as it is in memory: raw, and as the words of an AES
// schedule begin with it on machines that keep them the other way round.
func (s *scanner) addKey(name string, raw []byte) {
	swapped := make([]byte, 0, len(raw))
	for word := range len(raw) / 4 {
		swapped = binary.LittleEndian.AppendUint32(swapped, binary.BigEndian.Uint32(raw[4*word:]))
	}
	s.add(name, raw)
	s.add(name, swapped)
}

func (s *scanner) search(page []byte) {
	s.bytes += int64(len(page))
	for i := 0; i+8 <= len(page); i++ {
		if !s.first[binary.LittleEndian.Uint16(page[i:])] {
			continue
		}
		for _, n := range s.by8[binary.LittleEndian.Uint64(page[i:])] {
			if strings.HasPrefix(string(page[i:min(len(page), i+len(n.text))]), n.text) {
				s.found[n.name] = true
			}
		}
	}
}

// memory is the readable memory of a process, map by map, as it was when read.
type memory [][]byte

// count searches all of mem and returns how many names were found.
func (s *scanner) count(mem memory) int {
	for _, page := range mem {
		s.search(page)
	}
	return len(s.found)
}

// readMemory copies all maps of a process that can be read. The error is that
// of opening its memory; a map that cannot be read, as those of the kernel
// cannot, is left out.
func readMemory(pid int) (memory, error) {
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, err
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	defer mem.Close()
	var all memory
	for line := range strings.Lines(string(maps)) {
		var start, end int64
		var perm string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &start, &end, &perm); err != nil || perm[0] != 'r' || strings.Contains(line, "[v") {
			continue
		}
		resident, err := readMap(mem, start, end)
		if err != nil {
			return nil, err
		}
		all = append(all, resident...)
	}
	if len(all) == 0 {
		return nil, errors.New("no map of the process can be read")
	}
	return all, nil
}

// readMap reads a map in pieces and drops those that are all zero: Go reserves
// far more than it uses.
func readMap(mem *os.File, start, end int64) (pieces [][]byte, err error) {
	const piece = 1 << 20
	for at := start; at < end; at += piece {
		// Each overlaps the next by the longest needle, so that none is cut in two.
		buf := make([]byte, min(end-at, piece+256))
		n, err := mem.ReadAt(buf, at)
		if err != nil && !errors.Is(err, io.EOF) && n == 0 {
			continue
		}
		if buf = buf[:n]; !allZero(buf) {
			pieces = append(pieces, buf)
		}
	}
	return pieces, nil
}

func allZero(b []byte) bool {
	for len(b) >= 8 {
		if binary.LittleEndian.Uint64(b) != 0 {
			return false
		}
		b = b[8:]
	}
	return true
}

func TestTheScannerFindsWhatIsThere(t *testing.T) {
	key := []byte("0123456789abcdefghijklmnopqrstuv")
	page := append(make([]byte, 4099), key...)
	for _, c := range []struct {
		page []byte
		want bool
	}{
		{page, true},
		{page[:len(page)-1], false},
		{append(make([]byte, 3), "32107654ba98fedcjihgnmlkrqpovuts"...), true},
		{make([]byte, 100), false},
	} {
		var s scanner
		s.addKey("key", key)
		if s.search(c.page); s.found["key"] != c.want {
			t.Errorf("found in %q: %v", c.page[max(0, len(c.page)-40):], s.found["key"])
		}
	}
}
