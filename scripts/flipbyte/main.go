// Command flipbyte damages a stopped store on purpose: it flips one bit of one
// byte, to see that what was damaged does not open any more.
//
//	flipbyte -store DIR -row version-ciphertext|version-dek|message|thread-dek [-match TEXT]
//	flipbyte -file PATH [-at OFFSET]
//
// The first form changes a record, through the store, so that the engine's own
// checksums hold and only the cryptography is left to notice: the first record
// of its kind whose key or value contains TEXT. It prints the record's key. The second
// form changes a file as it lies on the disk, in its middle unless told where.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

func main() {
	dir := flag.String("store", "", "directory of a stopped store")
	row := flag.String("row", "", "kind of record: version-ciphertext, version-dek, message, thread-dek")
	match := flag.String("match", "", "text that the record's key or value must contain")
	file := flag.String("file", "", "file to change as it lies")
	at := flag.Int64("at", -1, "byte of the file; -1: its middle")
	flag.Parse()
	var err error
	switch {
	case *file != "" && *dir == "":
		err = flipFile(*file, *at)
	case *file == "" && *dir != "":
		var key string
		key, err = flipRow(*dir, *row, *match)
		fmt.Println(key)
	default:
		err = errors.New("give either -store with -row, or -file")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "flipbyte:", err)
		os.Exit(1)
	}
}

// kind is a kind of record: the keys that belong to it, and the byte that is
// flipped in its value.
type kind struct {
	prefix, infix string
	at            func(value []byte) (int, error)
}

func last(value []byte) (int, error)   { return len(value) - 1, nil }
func middle(value []byte) (int, error) { return len(value) / 2, nil }
func first(value []byte) (int, error)  { return 0, nil }

// kinds follow the legend of package layout.
var kinds = map[string]kind{
	"version-ciphertext": {"vault:", ":version:", last}, // the ciphertext is the end of the row
	"version-dek":        {"vault:", ":version:", inWrappedDEK},
	"message":            {"thread:", ":msg:", middle},
	"thread-dek":         {"dek:", "", first}, // the row begins with its seal
}

// inWrappedDEK is a byte of the wrapped DEK in a version row, whose format is
// described in package vault:
//
//	0x01 | length (4) | attributes | length (1) | KEK ID | KEK version (4) | length (2) | wrapped DEK | ciphertext
func inWrappedDEK(row []byte) (int, error) {
	errFormat := errors.New("this is not a version row as flipbyte knows it")
	at := 1 + 4
	if len(row) < at || row[0] != 1 {
		return 0, errFormat
	}
	if at += int(binary.BigEndian.Uint32(row[1:])); at >= len(row) {
		return 0, errFormat
	}
	at += 1 + int(row[at]) + 4
	if at+2 > len(row) {
		return 0, errFormat
	}
	length := int(binary.BigEndian.Uint16(row[at:]))
	if at += 2; length == 0 || at+length > len(row) {
		return 0, errFormat
	}
	return at + length/2, nil
}

func flipRow(dir, name, match string) (key string, err error) {
	k, ok := kinds[name]
	if !ok {
		return "", fmt.Errorf("%q is no kind of row", name)
	}
	if _, err := os.Stat(dir); err != nil {
		return "", err
	}
	st, err := pebblestore.Open(dir, pebblestore.Options{})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	for rec, err := range store.All(context.Background(), st, store.Prefix(k.prefix)) {
		if err != nil {
			return "", err
		}
		if strings.Contains(rec.Key, k.infix) && strings.Contains(rec.Key+string(rec.Value), match) {
			return rec.Key, flipRecord(st, rec, k)
		}
	}
	return "", fmt.Errorf("no %s matches %q", name, match)
}

func flipRecord(st store.Store, rec store.Record, k kind) error {
	at, err := k.at(rec.Value)
	if err != nil {
		return err
	}
	rec.Value[at] ^= 0x01
	var b store.Batch
	b.RequireRevision(rec.Key, rec.Revision)
	b.Put(rec.Key, rec.Value)
	_, err = st.Commit(context.Background(), &b)
	return err
}

func flipFile(path string, at int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if at < 0 {
		info, err := f.Stat()
		if err != nil {
			return err
		}
		at = info.Size() / 2
	}
	var b [1]byte
	if _, err := f.ReadAt(b[:], at); err != nil {
		return err
	}
	b[0] ^= 0x01
	_, err = f.WriteAt(b[:], at)
	return err
}
