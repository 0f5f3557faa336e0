package audit

import (
	"bufio"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Problem is one thing that is wrong with a log, and where.
type Problem struct {
	File string `json:"file"`
	Line int    `json:"line,omitzero"` // from 1; 0: the file as a whole
	Seq  uint64 `json:"seq,omitzero"`  // the record that is there, or was expected
	What string `json:"what"`
}

// String returns "file:line: record seq: what".
func (p Problem) String() string {
	return fmt.Sprintf("%s:%d: record %d: %s", p.File, p.Line, p.Seq, p.What)
}

// walker reads lines in their order and holds each against the one before.
type walker struct {
	dir     string
	pub     ed25519.PublicKey
	anchors []Anchor
	trusted uint64             // signatures of records before this one are not verified: an anchor covers them
	wrong   func(Problem) bool // is told what is wrong; true goes on
	line    func(row)          // nil, or is told of every record that parses

	at      Problem // where it reads
	last    Anchor  // the last record read
	unknown bool    // last.hash is not known
	settled place   // the end of the last group
	before  uint64  // the seq at the end of the group before that
}

// place is the end of a signed line in a file.
type place struct {
	Anchor
	file   string
	offset int64
}

// files reads files, and stops where wrong says so.
func (w *walker) files(files []string) error {
	for _, name := range files {
		f, err := os.Open(filepath.Join(w.dir, name))
		if err != nil {
			return err
		}
		on, err := w.file(name, f)
		if err := errors.Join(err, f.Close()); err != nil || !on {
			return err
		}
	}
	return nil
}

// file reads one file. It answers false to stop.
func (w *walker) file(name string, f io.Reader) (on bool, err error) {
	w.at = Problem{File: name, Seq: w.last.Seq + 1}
	if first, _ := parseFileName(name); first != w.last.Seq+1 {
		if !w.complain("the file before ends with record %d: records are missing, or there twice", w.last.Seq) {
			return false, nil
		}
		w.last.Seq, w.unknown = first-1, true
	}
	r := bufio.NewReaderSize(f, maxLine+1)
	for offset := int64(0); ; {
		text, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) && len(text) == 0 {
			return true, nil
		}
		w.at.Line++
		w.at.Seq = w.last.Seq + 1
		for errors.Is(err, bufio.ErrBufferFull) { // no record is as long: skip it, and parse nothing
			text, err = r.ReadSlice('\n')
			text = text[len(text):]
		}
		switch {
		case errors.Is(err, io.EOF):
			return w.complain("the line is cut off"), nil
		case err != nil:
			return false, err
		}
		offset += int64(len(text))
		if !w.record(text[:max(len(text), 1)-1], offset) {
			return false, nil
		}
	}
}

// record holds one line, which ends at offset, against the one before.
func (w *walker) record(text []byte, offset int64) (on bool) {
	r, prev, err := parseRow(text)
	if err != nil {
		w.last.Seq, w.unknown = w.last.Seq+1, true
		return w.complain("the line is not a record")
	}
	if what := w.follows(r.Seq, prev); what != "" && !w.complain("%s", what) {
		return false
	}
	w.at.Seq = r.Seq
	w.last, w.unknown = Anchor{Seq: r.Seq, hash: sha256.Sum256(text)}, false
	for _, a := range w.anchors {
		if a.Seq == r.Seq && a.hash != w.last.hash && !w.complain("this is not the record %s: it, or one before it, was replaced", a) {
			return false
		}
	}
	if r.Sig != nil {
		if r.Seq >= w.trusted && !signedBy(w.pub, recordDomain, text) && !w.complain("the signature is not of this key over this record") {
			return false
		}
		w.before, w.settled = w.settled.Seq, place{Anchor: w.last, file: w.at.File, offset: offset}
	}
	if w.line != nil {
		w.line(r)
	}
	return true
}

// follows says how a record is not the next one.
func (w *walker) follows(seq uint64, prev hash) string {
	switch next := w.last.Seq + 1; {
	case seq > next:
		return fmt.Sprintf("records %d to %d are missing before it", next, seq-1)
	case seq < next:
		return fmt.Sprintf("out of its order: record %d was put in its place, or it is there twice", seq)
	case !w.unknown && prev != w.last.hash:
		return "it does not follow on the line before: that one was changed, or this one is of another log"
	}
	return ""
}

// complain tells wrong what is wrong here.
func (w *walker) complain(format string, args ...any) (on bool) {
	p := w.at
	p.What = fmt.Sprintf(format, args...)
	return w.wrong(p)
}

// logFiles returns the names of a log's files in their order.
func logFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, ok := parseFileName(e.Name()); ok {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
