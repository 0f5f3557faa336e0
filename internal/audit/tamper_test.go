package audit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
)

// A sample is a closed log of 12 records in groups of 1 and 3, 4 to a file:
//
//	file 1: 1, 2 3 4     file 5: 5, 6 7 8     file 9: 9, 10 11 12
type sample struct {
	t     testing.TB
	dir   string
	heads [][]byte // the file of the head before the first group and after each
	tops  []Anchor // the head likewise
}

var sampleFiles = []string{fileName(1), fileName(5), fileName(9)}

func newSample(t testing.TB) *sample {
	t.Helper()
	s := &sample{t: t, dir: newDir(t)}
	l := open(t, s.dir, Options{})
	l.opt.MaxFile = 1 << 30
	seq := 0
	note := func() {
		s.heads = append(s.heads, s.read(headName))
		s.tops = append(s.tops, anchor(t, l))
	}
	note()
	for i := range 6 {
		if i%2 == 0 {
			l.size = 1 << 30 // so that the next group begins a file
		}
		targets := []string{}
		for range 1 + i%2*2 {
			seq++
			targets = append(targets, fmt.Sprint("t", seq))
		}
		record(t, l, targets...)
		note()
	}
	closeLog(t, l)
	mustVerify(t, s.dir, 12, s.tops...)
	return s
}

func (s *sample) path(name string) string { return filepath.Join(s.dir, name) }

func (s *sample) read(name string) []byte {
	s.t.Helper()
	b, err := os.ReadFile(s.path(name))
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

func (s *sample) write(name string, b []byte) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), b, 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sample) remove(names ...string) {
	s.t.Helper()
	for _, name := range names {
		if err := os.Remove(s.path(name)); err != nil {
			s.t.Fatal(err)
		}
	}
}

// lines changes the lines of a file, each with its newline.
func (s *sample) lines(name string, change func(lines [][]byte) [][]byte) {
	s.t.Helper()
	lines := slices.Collect(bytes.Lines(s.read(name)))
	s.write(name, bytes.Join(change(lines), nil))
}

// rechain makes seq and prev right again from line i on, as one would who does
// not have the key.
func rechain(lines [][]byte, i int) {
	first, prev, _ := parseRow(bytes.TrimSuffix(lines[0], []byte("\n")))
	for n, line := range lines {
		text := bytes.TrimSuffix(line, []byte("\n"))
		if n >= i {
			_, rest, _ := bytes.Cut(text, []byte(`,"time":`))
			text = appendRow(nil, first.Seq+uint64(n), prev, append([]byte(`{"time":`), rest...))
			lines[n] = append(text, '\n')
		}
		prev = sha256.Sum256(text)
	}
}

func edit(line []byte) []byte {
	return bytes.Replace(line, []byte(`"target":"t`), []byte(`"target":"u`), 1)
}

// tampering is what somebody does to the files who does not have the key.
var tampering = []struct {
	name string
	do   func(s *sample)
	want string // of the first problem
	open fault.Code
}{
	{"a record in the middle of a group is edited", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte { l[2] = edit(l[2]); return l })
	}, fileName(5) + ":4: record 8: it does not follow", ""},
	{"the last record of a group is edited", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte { l[3] = edit(l[3]); return l })
	}, fileName(5) + ":4: record 8: the signature", ""},
	{"the last record of all is edited", func(s *sample) {
		s.lines(fileName(9), func(l [][]byte) [][]byte { l[3] = edit(l[3]); return l })
	}, fileName(9) + ":4: record 12: this is not the record 12:", fault.Damaged},
	{"a record is edited and what follows is chained again", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte { l[2] = edit(l[2]); rechain(l, 2); return l })
	}, fileName(5) + ":4: record 8: the signature", ""},
	{"a line is no record any more", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte { l[1] = []byte("{}\n"); return l })
	}, fileName(5) + ":2: record 6: the line is not a record", ""},
	{"a line is longer than a record, and ends with one", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte {
			l[1] = append(bytes.Repeat([]byte("x"), maxLine+1), l[1]...)
			return l
		})
	}, fileName(5) + ":2: record 6: the line is not a record", ""},
	{"a record is deleted in the middle", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte { return slices.Delete(l, 1, 2) })
	}, fileName(5) + ":2: record 6: records 6 to 6 are missing", ""},
	{"a record is deleted and what follows is chained again", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte { l = slices.Delete(l, 1, 2); rechain(l, 1); return l })
	}, fileName(5) + ":3: record 7: the signature", ""},
	{"a group is deleted in the middle", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte { return l[:1] })
	}, fileName(9) + ":0: record 6: the file before ends with record 5", ""},
	{"a file is deleted in the middle", func(s *sample) {
		s.remove(fileName(5))
	}, fileName(9) + ":0: record 5: the file before ends with record 4", ""},
	{"the first record is deleted", func(s *sample) {
		s.lines(fileName(1), func(l [][]byte) [][]byte { return l[1:] })
	}, fileName(1) + ":1: record 1: records 1 to 1 are missing", ""},
	{"the first file is deleted", func(s *sample) {
		s.remove(fileName(1))
	}, fileName(5) + ":0: record 1: the file before ends with record 0", ""},
	{"the last group is cut off", func(s *sample) {
		s.lines(fileName(9), func(l [][]byte) [][]byte { return l[:1] })
	}, fileName(9) + ":1: record 9: the log is cut off", fault.Damaged},
	{"it is cut off inside of a group", func(s *sample) {
		s.lines(fileName(9), func(l [][]byte) [][]byte { return l[:3] })
	}, fileName(9) + ":3: record 9: the log is cut off", fault.Damaged},
	{"it is cut off inside of a line", func(s *sample) {
		b := s.read(fileName(9))
		s.write(fileName(9), b[:len(b)-9])
	}, fileName(9) + ":4: record 12: the line is cut off", fault.Damaged},
	{"the last newline is cut off", func(s *sample) {
		b := s.read(fileName(9))
		s.write(fileName(9), b[:len(b)-1])
	}, fileName(9) + ":4: record 12: the line is cut off", fault.Damaged},
	{"the last file is emptied", func(s *sample) {
		s.write(fileName(9), nil)
	}, fileName(9) + ":0: record 8: the log is cut off", fault.Damaged},
	{"the last file is deleted", func(s *sample) {
		s.remove(fileName(9))
	}, fileName(5) + ":4: record 8: the log is cut off", fault.Damaged},
	{"all files but the head are deleted", func(s *sample) {
		s.remove(sampleFiles...)
	}, ":0: record 0: the log is cut off", fault.Damaged},
	{"two records change places", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte { l[1], l[2] = l[2], l[1]; return l })
	}, fileName(5) + ":2: record 6: records 6 to 6 are missing", ""},
	{"two records change places and are chained again", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte { l[1], l[2] = l[2], l[1]; rechain(l, 1); return l })
	}, fileName(5) + ":4: record 8: the signature", ""},
	{"two files change places", func(s *sample) {
		a, b := s.read(fileName(1)), s.read(fileName(5))
		s.write(fileName(1), b)
		s.write(fileName(5), a)
	}, fileName(1) + ":1: record 1: records 1 to 4 are missing", ""},
	{"a record is there twice", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte { return slices.Insert(l, 2, l[1]) })
	}, fileName(5) + ":3: record 7: out of its order", ""},
	{"a record is inserted and what follows is chained again", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte { l = slices.Insert(l, 2, edit(l[1])); rechain(l, 2); return l })
	}, fileName(5) + ":5: record 9: the signature", ""},
	{"records are added after the end", func(s *sample) {
		s.lines(fileName(9), func(l [][]byte) [][]byte { l = append(l, edit(l[0]), edit(l[3])); rechain(l, 4); return l })
	}, "", ""},
	{"a file is added after the end", func(s *sample) {
		s.write(fileName(20), []byte("{}\n"))
	}, fileName(20) + ":0: record 13: the file before ends with record 12", fault.Damaged},
	{"a record comes from another log of the same key", func(s *sample) {
		other := newSample(s.t)
		s.lines(fileName(5), func(l [][]byte) [][]byte {
			l[0], _, _ = bytes.Cut(other.read(fileName(5)), []byte("\n"))
			l[0] = append(l[0], '\n')
			return l
		})
	}, fileName(5) + ":1: record 5: it does not follow", ""},
	{"a file comes from another log of the same key", func(s *sample) {
		s.write(fileName(5), newSample(s.t).read(fileName(5)))
	}, fileName(5) + ":1: record 5: it does not follow", ""},
	{"all files but the head come from another log of the same key", func(s *sample) {
		other := newSample(s.t)
		for _, name := range sampleFiles {
			s.write(name, other.read(name))
		}
	}, fileName(9) + ":4: record 12: this is not the record 12:", fault.Damaged},
	{"the head comes from another log of the same key", func(s *sample) {
		s.write(headName, newSample(s.t).read(headName))
	}, fileName(9) + ":4: record 12: this is not the record 12:", fault.Damaged},
	{"a group is signed with another key", func(s *sample) {
		s.lines(fileName(5), func(l [][]byte) [][]byte {
			text, _, _ := bytes.Cut(l[3], []byte(`,"sig"`))
			l[3] = append(sign(append(text, '}'), 0, keyOf(2), recordDomain), '\n')
			return l
		})
	}, fileName(5) + ":4: record 8: the signature", ""},
	{"the head is put back", func(s *sample) {
		s.write(headName, s.heads[4])
	}, fileName(9) + ":4: record 12: the head names record 8, and later ones", fault.Damaged},
	{"the head is put back to the beginning", func(s *sample) {
		s.write(headName, s.heads[0])
	}, fileName(9) + ":4: record 12: the head names record 0, and later ones", fault.Damaged},
	{"the log is cut off and the head made to fit, without the key", func(s *sample) {
		s.remove(fileName(9))
		text := encodeSlot(s.tops[4], keyOf(2))
		s.write(headName, append(text, text...))
	}, headName + ":0: record 0: no slot of the head is signed", fault.Damaged},
	{"the head's number is edited", func(s *sample) {
		s.write(headName, bytes.ReplaceAll(s.read(headName), []byte(`{"seq":12,`), []byte(`{"seq":11,`)))
	}, headName + ":1: record 0: the slot is not signed", ""},
	{"the last group is cut off and the older slot copied over the newer", func(s *sample) {
		s.lines(fileName(9), func(l [][]byte) [][]byte { return l[:1] })
		older := s.heads[6][:slotSize]
		if !bytes.Equal(older, s.heads[5][:slotSize]) { // it was the newer one
			older = s.heads[6][slotSize:]
		}
		s.write(headName, slices.Concat(older, older))
	}, headName + ":2: record 0: the slot is not signed", ""},
	{"the head is deleted", func(s *sample) {
		s.remove(headName)
	}, headName + ":0: record 0: there is no head", fault.Damaged},
}

func TestTamperingIsFoundAndPlaced(t *testing.T) {
	for _, c := range tampering {
		t.Run(c.name, func(t *testing.T) {
			s := newSample(t)
			c.do(s)
			r := verify(t, s.dir)
			switch {
			case c.want == "" && (!r.OK() || r.TailBytes == 0 || r.Records != 12):
				t.Errorf("%+v", r)
			case c.want != "" && (r.OK() || !strings.HasPrefix(r.Problems[0].String(), c.want)):
				t.Errorf("report %+v\nwant %q", r, c.want)
			}
		})
	}
}

// What lies before the file of the head Open does not read; all else that it
// finds it refuses, and changes nothing.
func TestOpenGoesOnWithNoLogThatIsNotWholeUpToItsHead(t *testing.T) {
	for _, c := range tampering {
		t.Run(c.name, func(t *testing.T) {
			s := newSample(t)
			c.do(s)
			before := s.all()
			l, err := Open(s.dir, keyOf(1), Options{})
			if c.open == "" {
				if err != nil {
					t.Fatal(err)
				}
				closeLog(t, l)
				return
			}
			if !errors.Is(err, c.open) {
				t.Errorf("error %v", err)
			}
			if after := s.all(); after != before {
				t.Error("it has changed the files")
			}
		})
	}
}

func (s *sample) all() string {
	var all strings.Builder
	files, err := os.ReadDir(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range files {
		fmt.Fprintf(&all, "%s %s\n", f.Name(), s.read(f.Name()))
	}
	return all.String()
}

func TestAnotherKeyOpensAndVerifiesNothing(t *testing.T) {
	s := newSample(t)
	if _, err := Open(s.dir, keyOf(2), Options{}); !errors.Is(err, fault.Damaged) {
		t.Errorf("Open: %v", err)
	}
	r, err := Verify(s.dir, pubOf(2), VerifyOptions{})
	if err != nil || r.Wrong != 7 { // the head and six groups
		t.Errorf("%+v, %v", r, err)
	}
}

// An older copy of the whole directory is a whole log: only an anchor that was
// noted elsewhere shows that there was more, or something else.
func TestAnchorsShowALogThatWasPutBackOrReplacedAsAWhole(t *testing.T) {
	s := newSample(t)
	s.remove(fileName(9))
	s.write(headName, s.heads[4])
	mustVerify(t, s.dir, 8, s.tops[:5]...)
	if r := verify(t, s.dir, s.tops[6]); r.OK() || !strings.Contains(r.Problems[0].What, "the log is cut off here: there was a record 12:") {
		t.Errorf("put back: %+v", r)
	}
	other := newSample(t)
	for _, a := range []Anchor{other.tops[0], other.tops[1], other.tops[4], {Seq: 2, hash: s.tops[1].hash}} {
		if r := verify(t, s.dir, a); r.OK() {
			t.Errorf("anchor %s: %+v", a, r)
		}
	}
}

func TestAFlippedBitAnywhereIsFound(t *testing.T) {
	s := &sample{t: t, dir: newDir(t)}
	l := open(t, s.dir, Options{})
	record(t, l, "a")
	record(t, l, "b", "c")
	closeLog(t, l)
	step := 4
	if os.Getenv("KEYFOLD_LONG") != "" {
		step = 1
	}
	for _, name := range []string{headName, fileName(1)} {
		b := s.read(name)
		for i := 0; i < len(b); i += step {
			if b[i] == ' ' && i%64 != 0 { // of the spaces in the head, some
				continue
			}
			b[i] ^= 1 << (i / step % 8)
			s.write(name, b)
			if r := verify(t, s.dir); r.OK() {
				t.Errorf("%s: byte %d: %+v", name, i, r)
			}
			b[i] ^= 1 << (i / step % 8)
		}
		s.write(name, b)
	}
	mustVerify(t, s.dir, 3)
}

// A flipped bit makes Open fail, or Open keeps every record that was answered.
func TestOpenLosesNothingToAFlippedBit(t *testing.T) {
	s := newSample(t)
	for _, name := range []string{headName, fileName(9)} {
		b := s.read(name)
		for i := 0; i < len(b); i += 7 {
			if b[i] == ' ' && i%512 != 0 {
				continue
			}
			trial := &sample{t: t, dir: t.TempDir()}
			os.Chmod(trial.dir, 0o700)
			for _, f := range append([]string{headName}, sampleFiles...) {
				trial.write(f, s.read(f))
			}
			b[i] ^= 1 << (i % 8)
			trial.write(name, b)
			b[i] ^= 1 << (i % 8)
			l, err := Open(trial.dir, keyOf(1), Options{})
			if err != nil {
				continue
			}
			closeLog(t, l)
			if r := verify(t, trial.dir, s.tops...); !r.OK() {
				t.Errorf("%s: byte %d: %+v", name, i, r)
			}
		}
	}
}

func TestAReportNamesAHundredProblemsAndCountsTheRest(t *testing.T) {
	s := newSample(t)
	s.write(fileName(5), bytes.Repeat([]byte("x\n"), 500))
	if r := verify(t, s.dir); len(r.Problems) != maxProblems || r.Wrong < 500 {
		t.Errorf("%d of %d problems", len(r.Problems), r.Wrong)
	}
}
