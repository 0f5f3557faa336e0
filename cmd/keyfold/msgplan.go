package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/keyfold/keyfold/internal/cli"
)

// An import must be safe to run again: after an interrupt, a crash of either
// side, or by mistake. So every message gets its time from us, and a message
// that the thread has already, with the same time, role and body, is not
// posted again. Times also keep the order of the file, however many posts are
// under way at once.
//
// A line without a time gets base + its number, in nanoseconds. base is chosen
// once for a file and a thread, later than all that the thread holds, and kept
// beside the file before the first message is posted:
//
//	F.keyfold-import   {"<thread ID>": {"sha256": "<of F>", "plain": false, "base_ts": 1790000000000000000}, ...}
//
// That file must stay as long as the import may be run again. A file whose
// lines all have times needs none.

const stateSuffix = ".keyfold-import"

// importState is what is kept of one import.
type importState struct {
	SHA256 string `json:"sha256"`
	Plain  bool   `json:"plain"`
	BaseTS int64  `json:"base_ts"`
}

// msgPlan is what the first reading of a file finds.
type msgPlan struct {
	lines      int             // messages
	untimed    int             // of them without a time
	minTS      int64           // least time given; 0: none
	maxTS      int64           // greatest time given
	repliedTo  map[string]bool // IDs that some line answers
	named      map[string]bool // ids of lines that are no message ID
	sha256     string
	plain      bool
	file       string
	base       int64 // set by chooseBase
	newlyBased bool  // base was chosen by this run, so nothing of it is in the thread
}

// planImport reads the whole file, so that a mistake in its last line is found
// before the first is posted.
func planImport(file string, plain bool) (*msgPlan, error) {
	f, err := openRegular(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &msgPlan{file: file, plain: plain, repliedTo: map[string]bool{}, named: map[string]bool{}}
	hash := sha256.New()
	if err := readLines(io.TeeReader(f, hash), plain, p.see); err != nil {
		return nil, fmt.Errorf("%s: %w; nothing was imported", file, err)
	}
	p.sha256 = hex.EncodeToString(hash.Sum(nil))
	return p, nil
}

func (p *msgPlan) see(l msgLine) error {
	p.lines++
	if l.ReplyTo != "" {
		if !p.named[l.ReplyTo] && !isMessageID(l.ReplyTo) {
			return fmt.Errorf("line %d: reply_to must be the id of an earlier line or the ID of a message", l.no)
		}
		p.repliedTo[l.ReplyTo] = true
	}
	if l.id != "" && !isMessageID(l.id) {
		p.named[l.id] = true
	}
	if l.TS == 0 {
		p.untimed++
		return nil
	}
	if p.minTS == 0 || l.TS < p.minTS {
		p.minTS = l.TS
	}
	p.maxTS = max(p.maxTS, l.TS)
	return nil
}

// chooseBase takes the base of an earlier run, or a new one that is later than
// newest, the time of the thread's newest message, and keeps it.
func (p *msgPlan) chooseBase(threadID string, newest int64, now time.Time, again bool) error {
	if p.untimed == 0 {
		return nil
	}
	states, err := readStates(p.file + stateSuffix)
	if err != nil {
		return err
	}
	old, ok := states[threadID]
	switch {
	case ok && !again && (old.SHA256 != p.sha256 || old.Plain != p.plain):
		return cli.Advise(fmt.Errorf("%s is not what it was when its import into this thread began", p.file),
			"bring the old file back to finish that import, or import this one as new with --again")
	case ok && !again:
		p.base = old.BaseTS
		return nil
	case newest > math.MaxInt64-int64(p.lines):
		return cli.Advise(errors.New("the thread has a message at the end of time, and the lines without ts would come after it; nothing was imported"),
			"give every line a ts, or import the file into another thread")
	}
	p.base, p.newlyBased = max(now.UnixNano(), newest+1), true
	states[threadID] = importState{p.sha256, p.plain, p.base}
	return writeStates(p.file+stateSuffix, states)
}

func readStates(path string) (map[string]importState, error) {
	states := map[string]importState{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return states, nil
	}
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&states); err != nil {
		return nil, cli.Advise(fmt.Errorf("%s is damaged", path), "remove it; messages that were imported already will then be imported again")
	}
	return states, nil
}

func writeStates(path string, states map[string]importState) error {
	data, err := json.Marshal(states)
	if err == nil {
		err = cli.ReplaceFile(path, cli.Bytes(append(data, '\n')))
	}
	if err != nil {
		return cli.Advise(fmt.Errorf("the state of the import cannot be kept: %w", err), "copy the file to a directory that you can write to: "+filepath.Dir(path)+" is not")
	}
	return nil
}

// time is what message l is posted with.
func (p *msgPlan) time(l msgLine) int64 {
	if l.TS != 0 {
		return l.TS
	}
	return p.base + int64(l.seq)
}

// window is the span of times that messages of this import can have.
func (p *msgPlan) window() (from, to int64) {
	from, to = p.minTS, p.maxTS
	if p.untimed == 0 {
		return from, to
	}
	last := p.base + int64(p.lines) - 1
	if from == 0 || p.base < from {
		from = p.base
	}
	return from, max(to, last)
}
