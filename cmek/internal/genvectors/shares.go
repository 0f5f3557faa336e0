package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

type sharesRow struct {
	Name   string   `json:"name"`
	Shares []string `json:"shares"`
	Key    string   `json:"key,omitempty"`
	Class  string   `json:"class,omitempty"`
}

// order is that of the group ristretto255: 2^252 + 27742317777372353535851937790883648493.
var order, _ = new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)

// scalar is a number below order in 32 bytes, little endian.
func scalar(x *big.Int) []byte {
	b := x.FillBytes(make([]byte, 32))
	slices.Reverse(b)
	return b
}

// split is one split of a key. Each of its members may be forged before texts
// are made of it.
type split struct {
	fingerprint string
	threshold   int
	sealed      []byte
	values      [][]byte
}

// splitKey shares the constant term of a polynomial whose coefficients are
// hashes of seed, and seals raw under it.
func splitKey(raw []byte, threshold, n int, seed string) split {
	var c []*big.Int
	for i := range threshold {
		c = append(c, coefficient(seed, i))
	}
	s := split{fingerprint: fingerprint(raw), threshold: threshold}
	for x := range n {
		y := new(big.Int)
		for _, a := range slices.Backward(c) {
			y.Mul(y, big.NewInt(int64(x+1))).Add(y, a).Mod(y, order)
		}
		s.values = append(s.values, scalar(y))
	}
	sealing := expand(scalar(c[0]), nil, "keyfold/cmek-share/v1", 32)
	s.sealed = sealWith(sealing, nonce, raw, aad("keyfold/cmek-share/v1", s.fingerprint, strconv.Itoa(threshold)))
	return s
}

// texts are the shares as files, without comments.
func (s split) texts() []string {
	head := fmt.Sprintf("keyfold-cmek-share: 1\nfingerprint: %s\nthreshold: %d\nshares: %d\nsealed-key: %s\n",
		s.fingerprint, s.threshold, len(s.values), b64(s.sealed))
	fields := []string{"keyfold/cmek-share/set/v1", s.fingerprint, strconv.Itoa(s.threshold), string(s.sealed)}
	for i, v := range s.values {
		c := sha256.Sum256(aad("keyfold/cmek-share/value/v1", strconv.Itoa(i+1), string(v)))
		head += fmt.Sprintf("commitment-%d: %s\n", i+1, b64(c[:]))
		fields = append(fields, string(c[:]))
	}
	head += fmt.Sprintf("set: %x\n", sha256.Sum256(aad(fields...)))
	var out []string
	for i, v := range s.values {
		out = append(out, fmt.Sprintf("%sindex: %d\nvalue: %s\n", head, i+1, b64(v)))
	}
	return out
}

func shares() []any {
	var rows []any
	add := func(name, class string, raw []byte, texts ...string) {
		row := sharesRow{Name: name, Shares: []string{}, Class: class}
		for _, t := range texts {
			row.Shares = append(row.Shares, b64([]byte(t)))
		}
		if class == "" {
			row.Key = hex.EncodeToString(raw)
		}
		rows = append(rows, row)
	}
	t := splitKey(key, 3, 5, "one").texts()
	for a := range 5 {
		for b := range a {
			for c := range b {
				add(fmt.Sprintf("3 of 5: %d, %d and %d", a+1, c+1, b+1), "", key, t[a], t[c], t[b])
			}
		}
	}
	add("more than needed", "", key, t...)
	add("comments, CRLF and a byte order mark", "", key, "\ufeff# mine\r\n"+strings.ReplaceAll(t[0], "\n", "\r\n"), t[1]+"# end", t[2])
	two, many := splitKey(otherKey, 2, 2, "two").texts(), splitKey(key, 20, 20, "many").texts()
	add("2 of 2", "", otherKey, two...)
	add("20 of 20", "", key, many...)

	again, other := splitKey(key, 3, 5, "again").texts(), splitKey(otherKey, 3, 5, "one").texts()
	add("none", "too_few_shares", nil)
	add("2 of the needed 3", "too_few_shares", nil, t[0], t[4])
	add("the same one twice", "share_twice", nil, t[0], t[1], t[0])
	add("the same one twice beside enough", "share_twice", nil, t[0], t[1], t[2], t[0])
	add("of another split of the key", "other_set", nil, t[0], t[1], again[2])
	add("of another split of another key", "other_set", nil, t[0], other[1], t[2])
	add("too few and of another split", "other_set", nil, t[0], other[1])

	add("a key file", "not_share", nil, t[0], b64(key)+"\n", t[1])
	add("an empty file", "not_share", nil, t[0], "")
	add("another version", "not_share", nil, strings.Replace(t[0], "share: 1", "share: 2", 1))
	add("over 8192 bytes", "not_share", nil, "# "+strings.Repeat("x", 8192)+"\n"+t[0])
	for _, c := range damages(t[0]) {
		add("damaged: "+c[0], "damaged_share", nil, c[1])
	}
	forged := splitKey(key, 3, 5, "one")
	forged.threshold = 6
	add("forged: a threshold above the shares", "damaged_share", nil, forged.texts()...)
	forged = splitKey(key, 3, 5, "one")
	forged.values[1] = scalar(new(big.Int).Sub(order, big.NewInt(1)))
	add("forged: a value that is not the polynomial's", "not_the_key", nil, forged.texts()[:3]...)
	forged = splitKey(key, 3, 5, "one")
	forged.values[1] = scalar(order)
	add("forged: a value that is no scalar", "not_the_key", nil, forged.texts()[:3]...)
	forged = splitKey(key, 3, 5, "one")
	forged.sealed = flip(forged.sealed, 20)
	add("forged: another sealed key", "not_the_key", nil, forged.texts()[:3]...)
	forged = splitKey(key, 3, 5, "one")
	forged.threshold = 2
	add("forged: a smaller threshold", "not_the_key", nil, forged.texts()[:3]...)
	forged = splitKey(otherKey, 3, 5, "one")
	forged.fingerprint = fingerprint(key)
	forged.sealed = sealWith(expand(scalar(coefficient("one", 0)), nil, "keyfold/cmek-share/v1", 32), nonce, otherKey,
		aad("keyfold/cmek-share/v1", fingerprint(key), "3"))
	add("forged: another key in the name of this", "not_the_key", nil, forged.texts()[:3]...)
	return rows
}

func coefficient(seed string, i int) *big.Int {
	sum := sha256.Sum256(fmt.Append(nil, seed, i))
	return new(big.Int).Mod(new(big.Int).SetBytes(sum[:]), order)
}

// damages are names and texts: one thing changed in each line of a share, and more.
func damages(text string) [][2]string {
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	replaced := func(i int, line string) string {
		return strings.Join(slices.Concat(lines[:i], []string{line}, lines[i+1:]), "")
	}
	var out [][2]string
	for i, line := range lines[1:] {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		at := len(value) / 2
		next := map[bool]byte{true: '2', false: '4'}[value[at] != '2']
		out = append(out,
			[2]string{name + " changed", replaced(i+1, name+": "+value[:at]+string(next)+value[at+1:]+"\n")},
			[2]string{name + " left out", replaced(i+1, "")},
			[2]string{name + " cut by one", replaced(i+1, name+": "+value[:len(value)-1]+"\n")})
	}
	if len(lines) < 12 {
		log.Fatal("a share has more lines")
	}
	return append(out,
		[2]string{"the end is missing", text[:len(text)/2]},
		[2]string{"a line too many", text + "x: 1\n"},
		[2]string{"index of another share", strings.Replace(text, "index: 1", "index: 2", 1)},
		[2]string{"no such index", strings.Replace(text, "index: 1", "index: 6", 1)},
		[2]string{"a threshold above the shares", strings.Replace(text, "threshold: 3", "threshold: 6", 1)},
	)
}
