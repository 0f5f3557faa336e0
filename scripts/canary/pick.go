package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
)

// pieceLen is the length of a canary taken from a binary file.
const pieceLen = 32

// Lines that are distinctive: a full line of a PEM file, and a long line of
// plain words. Neither holds a character that JSON would spell otherwise.
var (
	pemLine  = regexp.MustCompile(`^[A-Za-z0-9+/]{64}$`)
	textLine = regexp.MustCompile(`^[A-Za-z0-9 ,.;:()'-]{48,}$`)
)

// pick takes canaries evenly from all of the inputs, by the kind of each: "pem",
// "text" or "binary". want canaries of each file list, or an error.
func pick(kind string, want int, files []string) ([][]byte, error) {
	var pool [][]byte
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		pool = append(pool, candidates(kind, b)...)
	}
	pool = distinct(pool)
	if len(pool) < want {
		return nil, fmt.Errorf("%d canaries of kind %s wanted, %d found", want, kind, len(pool))
	}
	picked := make([][]byte, want)
	for i := range picked {
		picked[i] = pool[(2*i+1)*len(pool)/(2*want)]
	}
	return picked, nil
}

func candidates(kind string, b []byte) (all [][]byte) {
	if kind == "binary" {
		for at := 0; at+pieceLen <= len(b); at += 1009 {
			all = append(all, b[at:at+pieceLen])
		}
		return all
	}
	shape := pemLine
	if kind == "text" {
		shape = textLine
	}
	for line := range bytes.Lines(b) {
		if line = bytes.TrimSpace(line); shape.Match(line) {
			all = append(all, line)
		}
	}
	return all
}

func distinct(all [][]byte) (out [][]byte) {
	seen := map[[32]byte]bool{}
	for _, c := range all {
		if h := sha256.Sum256(c); !seen[h] {
			seen[h] = true
			out = append(out, c)
		}
	}
	return out
}

// writeCanaries and readCanaries keep canaries as lines of hex.
func writeCanaries(w io.Writer, all [][]byte) error {
	for _, c := range all {
		if _, err := fmt.Fprintln(w, hex.EncodeToString(c)); err != nil {
			return err
		}
	}
	return nil
}

func readCanaries(r io.Reader) (all [][]byte, err error) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		c, err := hex.DecodeString(strings.TrimSpace(lines.Text()))
		if err != nil || len(c) < window+4 {
			return nil, fmt.Errorf("not a canary: %.20q", lines.Text())
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no canaries to look for")
	}
	return all, nil
}
