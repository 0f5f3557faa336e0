package audit

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/private"
)

// Open takes the log in dir for appending, and begins one when dir is empty or
// missing. The key is the same for the life of a log.
//
// It reads the file that the head is in, and fails with fault.Damaged when the
// log is not whole up to its head or was written with another key: then nothing
// has changed. What a crash left unfinished after the head it cuts off, and
// records that, action "audit.recover". It fails with fault.Conflict while
// another process has the log. Its errors name paths: they are for the
// operator at start.
func Open(dir string, key ed25519.PrivateKey, opt Options) (*Log, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, errors.New("open the audit log: the key is no Ed25519 private key")
	}
	if opt.MaxFile == 0 {
		opt.MaxFile = 16 << 20
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	l := &Log{key: key, dir: dir, opt: opt, in: make(chan *call), quit: make(chan struct{}), stopped: make(chan struct{})}
	recovered, err := l.open()
	if err != nil {
		return nil, fmt.Errorf("open the audit log %s: %w", dir, errors.Join(err, l.abandon()))
	}
	go l.run()
	if recovered != nil {
		if err := l.Record(context.Background(), *recovered); err != nil {
			return nil, errors.Join(err, l.Close())
		}
	}
	return l, nil
}

func (l *Log) abandon() error {
	if l.lock == nil {
		return nil
	}
	return l.closeFiles()
}

// open takes the directory and finds the end of the log. It returns what is to
// be recorded of a recovery, if there was one.
func (l *Log) open() (*Event, error) {
	if err := l.takeDir(); err != nil {
		return nil, err
	}
	pub := l.key.Public().(ed25519.PublicKey)
	h, err := readHeads(l.lock, pub)
	if errors.Is(err, errNoHead) {
		return nil, fmt.Errorf("%w: %w; use the key that the log was begun with, or move the directory away and begin another", fault.Damaged, err)
	} else if err != nil {
		return nil, err
	}
	l.slot = h.at
	l.head.Store(&h.newest)
	end, last, err := findEnd(l.dir, pub, h.newest)
	if err != nil {
		return nil, err
	}
	return l.settle(h, end, last)
}

// takeDir makes the directory and the head if they are missing, and locks them.
func (l *Log) takeDir() error {
	if err := private.MakeDir(l.dir, "directory"); err != nil {
		return err
	}
	err := l.makeHead()
	if err != nil {
		return err
	}
	if l.lock, err = os.OpenFile(filepath.Join(l.dir, headName), os.O_RDWR, 0); err != nil {
		return err
	}
	if err := lock(l.lock); err != nil {
		return fmt.Errorf("%w: another process writes to it; stop that one first", fault.Conflict)
	}
	l.heads = l.wrapped(l.lock)
	return nil
}

// makeHead makes the head of a log that has not begun.
func (l *Log) makeHead() error {
	_, err := os.Lstat(filepath.Join(l.dir, headName))
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	files, err := logFiles(l.dir)
	if err != nil {
		return err
	}
	if len(files) > 0 {
		return fmt.Errorf("%w: there are records and no head; bring the head back, or move the directory away and begin another", fault.Damaged)
	}
	return createHead(l.dir, l.key)
}

// findEnd reads the log from the file of the head on. It returns the end of the
// last group that is whole and signed, and the last file ("": none).
func findEnd(dir string, pub ed25519.PublicKey, head Anchor) (end place, last string, err error) {
	files, err := logFiles(dir)
	if err != nil || len(files) == 0 && head.Seq == 0 {
		return place{Anchor: head}, "", err
	}
	start := 0
	for i, name := range files {
		if first, _ := parseFileName(name); first <= head.Seq {
			start = i
		}
	}
	w := walker{dir: dir, pub: pub, anchors: []Anchor{head}, trusted: head.Seq}
	var wrong Problem
	w.wrong = func(p Problem) bool { wrong = p; return false }
	w.last = head
	if head.Seq > 0 {
		w.last, w.unknown = Anchor{}, true
	}
	if len(files) > 0 {
		first, _ := parseFileName(files[start])
		last, w.last.Seq = files[len(files)-1], first-1
	}
	w.settled.Anchor = w.last
	if err := w.files(files[start:]); err != nil {
		return place{}, "", err
	}
	switch {
	case w.settled.Seq < head.Seq || wrong.What != "" && (wrong.File != last || wrong.Line == 0):
		return place{}, "", fmt.Errorf("%w: it is not whole up to its head, record %d (%s); verify it, keep it as it is, and begin another in an empty directory", fault.Damaged, head.Seq, wrong)
	case w.before > head.Seq:
		return place{}, "", fmt.Errorf("%w: its head is older than its records; verify it, keep it as it is, and begin another in an empty directory", fault.Damaged)
	}
	return w.settled, last, nil
}

// settle cuts off what comes after end in the last file, makes end the head,
// and mends a slot that a crash has torn. All of it may be done again after a
// crash in between.
func (l *Log) settle(h heads, end place, last string) (*Event, error) {
	cut, err := l.openLast(end, last)
	if err != nil {
		return nil, err
	}
	after := end.Seq - h.newest.Seq
	if after > 0 { // else the record of the recovery goes into a slot that is torn
		if err := l.setHead(end.Anchor); err != nil {
			return nil, err
		}
	}
	if after+uint64(cut)+uint64(h.bad) == 0 {
		return nil, nil
	}
	return &Event{Actor: "process", Action: "audit.recover", Detail: map[string]any{
		"records_kept": after, "bytes_cut": cut, "head_slots_mended": h.bad,
	}}, nil
}

// openLast opens the last file for appending, without what comes after end. It
// returns how many bytes that was.
func (l *Log) openLast(end place, last string) (cut int64, err error) {
	if last == "" {
		return 0, nil
	}
	f, err := os.OpenFile(filepath.Join(l.dir, last), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return 0, err
	}
	l.records = l.wrapped(f)
	if end.file == last {
		l.size = end.offset
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if cut = info.Size() - l.size; cut > 0 {
		err = f.Truncate(l.size)
	}
	return cut, errors.Join(err, l.records.Sync())
}
