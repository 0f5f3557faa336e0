package audit

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/private"
)

// Options of a log. Zero means the stated default.
type Options struct {
	MaxFile int64            // 16 MiB; a file that has reached it is followed by another
	Now     func() time.Time // time.Now

	wrap func(file) file // for tests: puts something between the log and its files
}

// maxGroup is the size, in bytes, at which a group takes no more calls.
const maxGroup = 1 << 20

// MaxEvents is the greatest number of events in one call of Record.
const MaxEvents = 1000

// Log appends to one audit log. It may be used by many goroutines; only one Log
// at a time has a directory.
type Log struct {
	key     ed25519.PrivateKey
	dir     string
	opt     Options
	in      chan *call
	quit    chan struct{}
	stopped chan struct{}
	close   sync.Once
	head    atomic.Pointer[Anchor] // the last record that was answered
	failed  atomic.Pointer[error]  // why nothing is recorded any more; set once

	// The rest belongs to the goroutine that writes.
	lock     *os.File // the file of the head, under a lock
	heads    file
	slot     int // of the newest head
	records  file
	size     int64 // of records
	buf      []byte
	closeErr error
}

// file is what a log does with a file.
type file interface {
	Write(b []byte) (int, error)
	WriteAt(b []byte, offset int64) (int, error)
	Sync() error
	Close() error
}

// call is one call of Record.
type call struct {
	events [][]byte
	done   chan error // of size 1
}

var errClosed = fault.New(fault.Unavailable, "the audit log was closed; try again when the process is up")

// Record appends events, all or none, and returns nil when they are on stable
// storage. Calls at the same time share a write, a sync and a signature. It
// fails with fault.Invalid (too many events, or one too large) before anything
// was written, else with fault.Unavailable; then, or when ctx ends first, the
// events may be in the log or not. After a write or a sync that failed, every
// call fails until the log is opened again.
func (l *Log) Record(ctx context.Context, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	if len(events) > MaxEvents {
		return fault.New(fault.Invalid, "record at most %d audit events in one call", MaxEvents)
	}
	c := &call{events: make([][]byte, len(events)), done: make(chan error, 1)}
	for i, e := range events {
		text, err := l.encode(e)
		if err != nil {
			return err
		}
		c.events[i] = text
	}
	select {
	case l.in <- c:
	case <-l.stopped:
		return errClosed
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err(), "the audit log did not take the record in time; try again")
	}
	select {
	case err := <-c.done:
		return err
	case <-ctx.Done():
		return fault.Wrap(fault.Unavailable, ctx.Err(), "the audit log did not answer in time; try again")
	}
}

// encode returns e as JSON, in the one text that parseRow accepts.
func (l *Log) encode(e Event) ([]byte, error) {
	if e.Time.IsZero() {
		e.Time = l.opt.Now()
	}
	e.Time = e.Time.UTC()
	for _, s := range []*string{&e.Actor, &e.Action, &e.Target, &e.Outcome} {
		*s = strings.ToValidUTF8(*s, "\uFFFD")
	}
	text, err := json.Marshal(e)
	if err != nil {
		return nil, fault.Wrap(fault.Internal, err, "an audit event cannot be written as JSON")
	}
	if len(text) > maxEvent {
		return nil, fault.New(fault.Invalid, "an audit event has at most %d bytes; shorten its target and detail", maxEvent)
	}
	return text, nil
}

// Head returns the seq and the hash, in hex, of the last record that was
// answered: an anchor to note somewhere else. Before the first, seq is 0.
func (l *Log) Head() (seq uint64, hash string) {
	a := l.head.Load()
	return a.Seq, a.Hash()
}

// Err is what every Record answers since a write or a sync failed, else nil.
func (l *Log) Err() error {
	if err := l.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Close waits for the records that are being written and lets go of the
// directory. Later calls of Record fail.
func (l *Log) Close() error {
	l.close.Do(func() { close(l.quit) })
	<-l.stopped
	return l.closeErr
}

// run writes groups until Close.
func (l *Log) run() {
	defer close(l.stopped)
	for {
		select {
		case c := <-l.in:
			l.answer(l.gather(c))
		case <-l.quit:
			l.closeErr = l.closeFiles()
			return
		}
	}
}

func (l *Log) closeFiles() error {
	err := l.lock.Close()
	if l.records != nil {
		err = errors.Join(err, l.records.Close())
	}
	return err
}

// gather makes a group of c and the calls that wait beside it.
func (l *Log) gather(c *call) []*call {
	group := []*call{c}
	for size := 0; ; {
		for _, e := range c.events {
			size += len(e)
		}
		if size >= maxGroup {
			return group
		}
		select {
		case c = <-l.in:
			group = append(group, c)
		default:
			return group
		}
	}
}

// answer writes a group and tells its callers.
func (l *Log) answer(group []*call) {
	err := l.Err()
	if err == nil {
		if err = l.write(group); err != nil {
			err = fault.Wrap(fault.Unavailable, err, "the audit log cannot be written, and what is not recorded is not done; mend its disk and start the process again")
			l.failed.Store(&err)
		}
	}
	for _, c := range group {
		c.done <- err
	}
}

// write appends a group. When it returns nil the group is on stable storage,
// and so is the head that names its last record. After an error, what the files
// hold is not known.
func (l *Log) write(group []*call) error {
	head := *l.head.Load()
	if l.records == nil || l.size >= l.opt.MaxFile {
		if err := l.nextFile(head.Seq + 1); err != nil {
			return err
		}
	}
	l.buf = l.buf[:0]
	for i, c := range group {
		for j, event := range c.events {
			from := len(l.buf)
			l.buf = appendRow(l.buf, head.Seq+1, head.hash, event)
			if i == len(group)-1 && j == len(c.events)-1 {
				l.buf = sign(l.buf, from, l.key, recordDomain)
			}
			head = Anchor{Seq: head.Seq + 1, hash: sha256.Sum256(l.buf[from:])}
			l.buf = append(l.buf, '\n')
		}
	}
	if _, err := l.records.Write(l.buf); err != nil {
		return err
	}
	l.size += int64(len(l.buf))
	if err := l.records.Sync(); err != nil {
		return err
	}
	// The group is on stable storage. A crash here leaves it after the head: Open keeps it.
	return l.setHead(head)
}

// setHead writes over the older slot.
func (l *Log) setHead(a Anchor) error {
	slot := 1 - l.slot
	if _, err := l.heads.WriteAt(encodeSlot(a, l.key), int64(slot*slotSize)); err != nil {
		return err
	}
	if err := l.heads.Sync(); err != nil {
		return err
	}
	l.slot = slot
	l.head.Store(&a)
	return nil
}

// nextFile begins the file whose first record is seq. A crash after it leaves
// an empty file, which Open goes on with.
func (l *Log) nextFile(seq uint64) error {
	f, err := os.OpenFile(filepath.Join(l.dir, fileName(seq)), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	if l.records != nil {
		err = l.records.Close()
	}
	l.records, l.size = l.wrapped(f), 0
	return errors.Join(err, private.SyncDir(l.dir))
}

func (l *Log) wrapped(f file) file {
	if l.opt.wrap != nil {
		return l.opt.wrap(f)
	}
	return f
}
