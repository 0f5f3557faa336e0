package main

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
)

// pattern is one spelling of a canary.
type pattern struct {
	canary   int
	spelling string
	bytes    []byte
}

// spellings are the ways in which a canary may lie in a file: as it is, in hex
// of either case, and in base64 of either alphabet. In base64 a text has three
// spellings, by where it begins in its group of three bytes; the groups at both
// ends that it shares with its neighbours are left out.
func spellings(n int, c []byte) []pattern {
	all := []pattern{{n, "raw", c}}
	add := func(spelling, s string) {
		if !slices.ContainsFunc(all, func(p pattern) bool { return string(p.bytes) == s }) {
			all = append(all, pattern{n, spelling, []byte(s)})
		}
	}
	lower := hex.EncodeToString(c)
	add("hex", lower)
	add("hex", strings.ToUpper(lower))
	for skip := range 3 {
		groups := c[skip : skip+(len(c)-skip)/3*3]
		add("base64", base64.StdEncoding.EncodeToString(groups))
		add("base64", base64.URLEncoding.EncodeToString(groups))
	}
	return all
}

// window is how many first bytes of a pattern find it; no pattern is shorter.
const window = 8

// matcher finds patterns.
type matcher struct {
	starts   [1 << 16]bool // by the first two bytes
	patterns map[uint64][]pattern
}

func newMatcher(canaries [][]byte) *matcher {
	m := &matcher{patterns: map[uint64][]pattern{}}
	for n, c := range canaries {
		for _, p := range spellings(n, c) {
			m.starts[binary.LittleEndian.Uint16(p.bytes)] = true
			k := binary.LittleEndian.Uint64(p.bytes)
			m.patterns[k] = append(m.patterns[k], p)
		}
	}
	return m
}

// find calls found for every pattern in data.
func (m *matcher) find(data []byte, found func(p pattern, at int)) {
	for i := 0; i+window <= len(data); i++ {
		if !m.starts[binary.LittleEndian.Uint16(data[i:])] {
			continue
		}
		for _, p := range m.patterns[binary.LittleEndian.Uint64(data[i:])] {
			if bytes.HasPrefix(data[i:], p.bytes) {
				found(p, i)
			}
		}
	}
}
