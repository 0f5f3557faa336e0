package audit

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// VerifyOptions of Verify.
type VerifyOptions struct {
	Anchors []Anchor // records that must be in the log as they are named
}

// maxProblems is how many problems a Report names.
const maxProblems = 100

// Report is what Verify found.
type Report struct {
	Records   uint64    `json:"records"` // in signed groups
	FirstTime time.Time `json:"first_time,omitzero"`
	LastTime  time.Time `json:"last_time,omitzero"`
	Head      string    `json:"head"` // "seq:hash" of the last signed record: an anchor for the next time

	// What comes after the signed head was not answered when the process was
	// last heard of: it is being written, or a crash left it and the next Open
	// keeps or cuts it. It is no problem.
	Unanswered uint64 `json:"unanswered,omitzero"` // signed records
	TailBytes  int64  `json:"tail_bytes,omitzero"` // bytes that are no signed records

	Problems []Problem `json:"problems,omitempty"` // the first 100
	Wrong    int       `json:"wrong"`              // how many there are
}

// OK reports whether the log is whole and every anchor is in it.
func (r *Report) OK() bool { return r.Wrong == 0 }

func (r *Report) add(p Problem) {
	r.Wrong++
	if len(r.Problems) < maxProblems {
		r.Problems = append(r.Problems, p)
	}
}

// Verify reads the log in dir, once and with bounded memory, and says what is
// wrong with it. It trusts nothing but pub and the anchors. The log may be
// written to meanwhile. The error is of reading the directory; a log that is
// not as it was written is no error but in the Report.
//
// What only anchors show: a log, head included, that was replaced by an older
// copy of itself, or by another log of the same key.
func Verify(dir string, pub ed25519.PublicKey, opt VerifyOptions) (Report, error) {
	if len(pub) != ed25519.PublicKeySize {
		return Report{}, errors.New("verify the audit log: the public key is no Ed25519 key")
	}
	v := verifier{walker: walker{dir: dir, pub: pub, unknown: true}}
	if err := v.verify(opt); err != nil {
		return Report{}, fmt.Errorf("verify the audit log: %w", err)
	}
	return v.Report, nil
}

type verifier struct {
	walker
	Report
	head     Anchor // as it was before the records were read
	lastFile string
	group    uint64 // records of a group whose end was not yet read
	tail     bool   // the rest of the last file was never answered
}

func (v *verifier) verify(opt VerifyOptions) error {
	head, err := v.readHead()
	if err != nil {
		return err
	}
	v.head = head
	v.anchors = append([]Anchor{head}, opt.Anchors...)
	for _, a := range v.anchors {
		if a.Seq == 0 && a != (Anchor{}) { // what the first record follows on
			v.last, v.unknown = a, false
		}
	}
	v.wrong, v.line = v.problem, v.count
	files, err := logFiles(v.dir)
	if err != nil {
		return err
	}
	if len(files) > 0 {
		v.lastFile = files[len(files)-1]
	}
	if err := v.files(files); err != nil {
		return err
	}
	if err := v.measureTail(); err != nil {
		return err
	}
	return v.compare(opt.Anchors)
}

// readHead reads the head; a head that is not in order is a problem.
func (v *verifier) readHead() (Anchor, error) {
	f, err := os.Open(filepath.Join(v.dir, headName))
	if errors.Is(err, fs.ErrNotExist) {
		v.add(Problem{File: headName, What: "there is no head: what was cut off at the end does not show"})
		return Anchor{}, nil
	} else if err != nil {
		return Anchor{}, err
	}
	defer f.Close()
	h, err := readHeads(f, v.pub)
	for range 3 { // a slot may be half written just now
		if err == nil && h.bad > 0 {
			h, err = readHeads(f, v.pub)
		}
	}
	switch {
	case errors.Is(err, errNoHead):
		v.add(Problem{File: headName, What: err.Error() + ": what was cut off at the end does not show"})
	case err != nil:
		return Anchor{}, err
	case h.bad > 0:
		v.add(Problem{File: headName, Line: 2 - h.at, What: "the slot is not signed by this key, or was changed since, or is a copy of the other"})
	}
	return h.newest, nil
}

// problem is told of each problem that is found in the records.
func (v *verifier) problem(p Problem) (on bool) {
	if p.File == v.lastFile && p.Line > 0 && v.head.hash != (hash{}) && v.settled.Seq >= v.head.Seq && v.last.Seq >= v.head.Seq {
		v.tail = true
		return false
	}
	v.add(p)
	return true
}

func (v *verifier) count(r row) {
	if v.FirstTime.IsZero() {
		v.FirstTime = r.Time
	}
	if v.group++; r.Sig != nil {
		v.Records, v.LastTime, v.group = v.Records+v.group, r.Time, 0
	}
}

// measureTail measures what comes after the last group.
func (v *verifier) measureTail() error {
	if v.lastFile == "" || v.settled.Seq == v.last.Seq && !v.tail {
		return nil
	}
	info, err := os.Stat(filepath.Join(v.dir, v.lastFile))
	if err != nil {
		return err
	}
	v.TailBytes = info.Size()
	if v.settled.file == v.lastFile {
		v.TailBytes -= v.settled.offset
	}
	return nil
}

// compare holds the end of the records against the head and the anchors. It
// reads the head again, since records may have been added meanwhile: each group
// but the last one that was read was answered before the next was begun.
func (v *verifier) compare(anchors []Anchor) error {
	v.Head = v.settled.String()
	v.at.Seq = v.settled.Seq
	for _, a := range append([]Anchor{v.head}, anchors...) {
		if a.Seq > v.settled.Seq {
			v.complainEnd("the log is cut off here: there was a record %s", a)
		}
	}
	var again verifier
	again.walker = walker{dir: v.dir, pub: v.pub}
	now, err := again.readHead()
	if err != nil {
		return err
	}
	if v.before > now.Seq && v.head.hash != (hash{}) {
		v.complainEnd("the head names record %d, and later ones were answered: the head was put back", now.Seq)
	} else if v.settled.Seq > now.Seq {
		v.Unanswered = v.settled.Seq - now.Seq
	}
	return nil
}

// complainEnd adds a problem of the end of the log.
func (v *verifier) complainEnd(format string, args ...any) {
	p := v.at
	p.What = fmt.Sprintf(format, args...)
	v.add(p)
}
