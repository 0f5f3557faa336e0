package private

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
)

// A key file is text, at most 4 KiB: comment lines, which begin with '#', empty
// lines, and one line with the standard base64 (44 characters) of the 32 bytes
// of a key.
//
//	# Keyfold root key ...
//	mfH0V7yXQ0yv1l1cB1s0m3Zb0S0c0m3PbHk1r0ot2k4=
const keySize = 32

// CreateKey makes the key file path of a key of 32 bytes, as Create says.
// comment is the lines before it, each with its '#' and newline.
func CreateKey(path, comment string, key []byte) error {
	text := slices.Grow([]byte(comment), base64.StdEncoding.EncodedLen(len(key))+1) // growing later would leave a copy
	text = append(base64.StdEncoding.AppendEncode(text, key), '\n')
	defer clear(text)
	return Create(path, func(f *os.File) error { _, err := f.Write(text); return err })
}

// ParseKey returns the key, 32 bytes, in the text of a key file, which comes from
// a file or from elsewhere; what names that in errors. Text and key are the
// caller's to wipe.
func ParseKey(text []byte, what string) (key []byte, err error) {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		if key != nil {
			return nil, notOne(key, what)
		}
		key = make([]byte, base64.StdEncoding.DecodedLen(len(line)))
		n, err := base64.StdEncoding.Strict().Decode(key, line)
		if err != nil {
			return nil, notOne(key, what)
		}
		key = key[:n]
	}
	if len(key) != keySize {
		return nil, notOne(key, what)
	}
	return key, nil
}

// notOne wipes what was read of a key.
func notOne(key []byte, what string) error {
	clear(key[:cap(key)])
	return fmt.Errorf("the %s must hold one line with the base64 of 32 bytes, beside comments; restore it from its backup", what)
}
