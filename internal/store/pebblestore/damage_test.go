package pebblestore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/wal"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest"
)

// random makes values that do not compress, the same for the same state of r.
func random(r *rand.Rand, size int) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], r.Uint64())
	b := make([]byte, size)
	rand.NewChaCha8(seed).Read(b) // never fails
	return b
}

func put(t testing.TB, s store.Store, key string, value []byte) {
	t.Helper()
	var b store.Batch
	b.Put(key, value)
	if _, err := s.Commit(context.Background(), &b); err != nil {
		t.Fatalf("Commit: %v", err)
	}
}

func all(t testing.TB, s store.Store) []store.Record {
	t.Helper()
	recs, err := s.Scan(context.Background(), store.Range{}, store.ScanOptions{})
	if err != nil {
		t.Fatalf("Scan: %v", err)
	}
	return recs
}

func same(a, b store.Record) bool {
	return a.Key == b.Key && bytes.Equal(a.Value, b.Value) && a.Revision == b.Revision
}

// killed returns a copy of the directory of s as a kill would leave it.
func killed(t testing.TB, dir string) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "killed")
	storetest.CopyDir(t, dst, dir)
	return dst
}

// newestLog returns the name and the bytes of the log that is being written.
func newestLog(t testing.TB, dir string) (string, []byte) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("no log in %s: %v", dir, err)
	}
	slices.Sort(logs)
	data, err := os.ReadFile(logs[len(logs)-1])
	if err != nil {
		t.Fatal(err)
	}
	return logs[len(logs)-1], data
}

// flip writes data to the file name, with one random bit of the byte at off changed.
func flip(t testing.TB, r *rand.Rand, name string, data []byte, off int) {
	t.Helper()
	bad := bytes.Clone(data)
	bad[off] ^= 1 << r.IntN(8)
	if err := os.WriteFile(name, bad, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestAFlippedByteInTheLogIsReported flips bytes all over the log of a store
// that was killed. Without checkFiles most of these flips lose acknowledged
// commits in silence.
func TestAFlippedByteInTheLogIsReported(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ size, commits int }{{10, 300}, {1_000, 150}, {20_000, 20}, {70_000, 10}} {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("values of %d bytes, first log %v", c.size, first), func(t *testing.T) {
				flipLog(t, c.size, c.commits, first)
			})
		}
	}
}

func flipLog(t *testing.T, size, commits int, first bool) {
	r := rand.New(rand.NewPCG(uint64(size), 0))
	live := t.TempDir()
	s := open(t, live, Options{})
	if !first { // the first log of a store is written in another format
		mustClose(t, s)
		s = open(t, live, Options{})
	}
	for i := range commits {
		put(t, s, fmt.Sprintf("k%05d", i), random(r, size))
	}
	want := all(t, s)
	dir := killed(t, live)
	mustClose(t, s)
	name, data := newestLog(t, dir)
	reported := 0
	for i := range 8 {
		off := r.IntN(len(data))
		if i == 0 {
			off = 30 // in the first record
		}
		dir := killed(t, dir)
		flip(t, r, filepath.Join(dir, filepath.Base(name)), data, off)
		s, err := Open(dir, Options{})
		if err != nil {
			if !errors.Is(err, store.ErrDamaged) || !errors.Is(err, fault.Damaged) {
				t.Fatalf("Open = %v, want ErrDamaged", err)
			}
			reported++
			continue
		}
		// Only the last commit has none after it that speaks for it.
		if got := all(t, s); !slices.EqualFunc(got, want, same) && !slices.EqualFunc(got, want[:commits-1], same) {
			t.Fatalf("a flipped byte left %d of %d commits, without a word", len(got), commits)
		}
		mustClose(t, s)
	}
	if reported == 0 {
		t.Error("no flipped byte was reported")
	}
}

func mustClose(t testing.TB, s store.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatalf("Close: %v", err)
	}
}

// TestAfterACloseTheLastCommitIsCoveredToo flips each byte of a short log.
func TestAfterACloseTheLastCommitIsCoveredToo(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	s := open(t, src, Options{})
	put(t, s, "k", []byte("the only value"))
	mustClose(t, s)
	name, data := newestLog(t, src)
	end := bytes.Index(data, []byte("the only value")) + len("the only value")
	r := rand.New(rand.NewPCG(13, 14))
	for off := range end {
		dir := killed(t, src)
		flip(t, r, filepath.Join(dir, filepath.Base(name)), data, off)
		if recs, err := readAll(dir); !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("byte %d of %d flipped: %d records, %v", off, end, len(recs), err)
		}
	}
}

// TestAChunkOfTheNextLogIsNotTheEnd gives the last record of a log the number of
// the next one, by which Pebble knows the end of a log.
func TestAChunkOfTheNextLogIsNotTheEnd(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	defer s.Close()
	put(t, s, "k", nil)
	put(t, s, "l", nil)
	name, data := newestLog(t, dir)
	number, _, _ := wal.ParseLogFilename(filepath.Base(name))
	first, ok := logChunk(data, uint32(number))
	if !ok || first.size >= len(data) {
		t.Fatalf("the log %s has no two records", name)
	}
	binary.LittleEndian.PutUint32(data[first.size+7:], uint32(number)+1)
	if at, err := logDamage(bytes.NewReader(data), uint32(number)); at != int64(first.size) || err != nil {
		t.Errorf("damage at %d, %v, want %d", at, err, first.size)
	}
}

// TestALostBlockOfUnsyncedCommitsIsNotDamage damages a batch that was written
// together with the one behind it, as a power failure can that keeps the later
// of two blocks. Neither had been acknowledged when they were written.
func TestALostBlockOfUnsyncedCommitsIsNotDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{})
	defer s.Close()
	put(t, s, "before", nil)
	var pending []*pebble.Batch
	for _, key := range []string{"lost", "kept"} {
		pb, err := s.encode(&store.Batch{Writes: []store.Write{{Key: key}}}, 1)
		if err != nil {
			t.Fatal(err)
		}
		pending = append(pending, pb)
	}
	for _, pb := range pending {
		if err := pb.Commit(pebble.Sync); err != nil {
			t.Fatal(err)
		}
		s.noteSynced(pb)
	}
	name, data := newestLog(t, dir)
	number, _, _ := wal.ParseLogFilename(filepath.Base(name))
	lost := bytes.Index(data, []byte("lost"))
	data[lost] ^= 1
	if at, err := logDamage(bytes.NewReader(data), uint32(number)); at >= 0 || err != nil {
		t.Errorf("damage at %d, %v", at, err)
	}
	put(t, s, "behind", nil)
	_, data = newestLog(t, dir)
	data[lost] ^= 1
	if at, err := logDamage(bytes.NewReader(data), uint32(number)); at < 0 || at >= int64(lost) || err != nil {
		t.Errorf("with an acknowledgement behind it: damage at %d, %v, want it before %d", at, err, lost)
	}
}

// TestEveryByteOfAManifestCounts flips them all. Only the length of the last
// record can be made to look like a torn write.
func TestEveryByteOfAManifestCounts(t *testing.T) {
	dir := t.TempDir()
	manyTables(t, dir)
	desc, err := pebble.Peek(dir, vfs.Default)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(desc.ManifestFilename)
	if err != nil {
		t.Fatal(err)
	}
	last := 0
	for off := 0; off < len(data); {
		last = off
		size, _, bad := manifestChunk(data[off:], blockSize-off)
		if off += size; size == 0 || bad {
			t.Fatalf("a good manifest is bad at %d", off)
		}
	}
	for i := range 8 * len(data) {
		off, bad := i/8, bytes.Clone(data)
		bad[off] ^= 1 << (i % 8)
		at, _, err := manifestDamage(bytes.NewReader(bad))
		if at > int64(off) || err != nil || at < 0 && off != last+4 && off != last+5 {
			t.Fatalf("bit %d of byte %d of %d: damage at %d, %v", i%8, off, len(data), at, err)
		}
	}
}

// manyTables makes a store with tables, some edits in its manifest, and a log,
// and returns its records.
func manyTables(t *testing.T, dir string) []store.Record {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	s := open(t, dir, Options{})
	for round := range 4 {
		for i := range 20 {
			put(t, s, fmt.Sprintf("k%03d", r.IntN(60)), random(r, r.IntN(2_000)))
			put(t, s, fmt.Sprintf("r%d/%03d", round, i), random(r, 10))
		}
		put(t, s, fmt.Sprintf("l%d", round%2), random(r, largeValue))
		if round < 3 {
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	recs := all(t, s)
	mustClose(t, s)
	return recs
}

// TestAFlippedByteAnywhereIsReported flips bytes in each file of a store that
// was closed. Nothing may be lost or changed without an error.
func TestAFlippedByteAnywhereIsReported(t *testing.T) {
	t.Parallel()
	src := t.TempDir()
	want := manyTables(t, src)
	r := rand.New(rand.NewPCG(3, 4))
	files, err := os.ReadDir(src)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(src, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		reported := 0
		for range min(8, len(data)) {
			dir := killed(t, src)
			off := r.IntN(len(data))
			flip(t, r, filepath.Join(dir, f.Name()), data, off)
			got, err := readAll(dir)
			if err == nil && slices.EqualFunc(got, want, same) {
				continue
			}
			if reported++; !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%s, byte %d of %d flipped: %d of %d records, %v", f.Name(), off, len(data), len(got), len(want), err)
			}
			if _, again := readAll(dir); !errors.Is(again, store.ErrDamaged) {
				t.Errorf("%s, byte %d of %d flipped: opened again, %v", f.Name(), off, len(data), again)
			}
		}
		t.Logf("%s: %d bytes, %d flips reported", f.Name(), len(data), reported)
	}
}

func readAll(dir string) ([]store.Record, error) {
	s, err := Open(dir, Options{})
	if err != nil {
		return nil, err
	}
	recs, err := s.Scan(context.Background(), store.Range{}, store.ScanOptions{})
	return recs, errors.Join(err, s.Close())
}

// TestADamagedTableLeavesTheRestReadable flips a byte in the block of one
// record and reads that one and others.
func TestADamagedTableLeavesTheRestReadable(t *testing.T) {
	ctx, dir, value := context.Background(), t.TempDir(), []byte("a value to look for, as it lies in the table")
	s := open(t, dir, Options{})
	put(t, s, "a", random(rand.New(rand.NewPCG(5, 6)), 10_000))
	put(t, s, "b", value)
	put(t, s, "c", random(rand.New(rand.NewPCG(7, 8)), 10_000))
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	tables, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
	for _, name := range tables {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if off := bytes.Index(data, value[:8]); off >= 0 {
			flip(t, rand.New(rand.NewPCG(9, 10)), name, data, off)
		}
	}
	s = open(t, dir, Options{})
	defer s.Close()
	if _, err := s.Get(ctx, "b"); !errors.Is(err, store.ErrDamaged) || fault.Of(err).Code != fault.Damaged {
		t.Errorf("Get = %v, want ErrDamaged", err)
	}
	for _, opt := range []store.ScanOptions{{}, {Reverse: true}} {
		if recs, err := s.Scan(ctx, store.Range{}, opt); !errors.Is(err, store.ErrDamaged) || recs != nil {
			t.Errorf("Scan(%+v) = %d records, %v, want ErrDamaged", opt, len(recs), err)
		}
	}
	var b store.Batch
	b.RequireAbsent("b")
	if _, err := s.Commit(ctx, &b); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("Commit with a precondition on it = %v, want ErrDamaged", err)
	}
	put(t, s, "d", value)
	for _, key := range []string{"a", "d"} {
		if _, err := s.Get(ctx, key); err != nil {
			t.Errorf("Get(%q) = %v", key, err)
		}
	}
}

// TestAMissingFileIsReported removes a table, and a blob file, of a store that
// was closed. Open looks for all tables, but only a read for a blob file, and that
// ends the store.
func TestAMissingFileIsReported(t *testing.T) {
	src := t.TempDir()
	s := open(t, src, Options{})
	put(t, s, "large", random(rand.New(rand.NewPCG(11, 12)), largeValue))
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	for _, kind := range []string{"*.sst", "*.blob"} {
		dir := killed(t, src)
		names, _ := filepath.Glob(filepath.Join(dir, kind))
		if len(names) != 1 {
			t.Fatalf("%d files of %s, want one", len(names), kind)
		}
		if err := os.Remove(names[0]); err != nil {
			t.Fatal(err)
		}
		_, err := readAll(dir)
		if table := kind == "*.sst"; table && !errors.Is(err, store.ErrDamaged) || !table && fault.Of(err).Code != fault.Unavailable {
			t.Errorf("without %s: %v", kind, err)
		}
	}
}

// TestATornTailIsNotDamage cuts log and manifest at many lengths.
func TestATornTailIsNotDamage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, Options{})
	defer s.Close()
	r := rand.New(rand.NewPCG(11, 12))
	for i := range 40 {
		put(t, s, fmt.Sprint(i), random(r, r.IntN(5_000)))
	}
	name, data := newestLog(t, dir)
	number, _, _ := wal.ParseLogFilename(filepath.Base(name))
	for n := 0; n <= len(data); n += 1 + r.IntN(20) {
		if at, err := logDamage(bytes.NewReader(data[:n]), uint32(number)); at >= 0 || err != nil {
			t.Fatalf("a log cut to %d of %d bytes is called damaged at %d, %v", n, len(data), at, err)
		}
	}
	manifests, _ := filepath.Glob(filepath.Join(dir, "MANIFEST-*"))
	for _, name := range manifests {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for n := range len(data) + 1 {
			if at, _, err := manifestDamage(bytes.NewReader(data[:n])); at >= 0 || err != nil {
				t.Fatalf("a manifest cut to %d of %d bytes is called damaged at %d, %v", n, len(data), at, err)
			}
		}
		if at, _, err := manifestDamage(bytes.NewReader(append(data, make([]byte, 100)...))); at >= 0 || err != nil {
			t.Fatalf("a manifest with room behind it is called damaged at %d, %v", at, err)
		}
	}
}

// TestATornTailCostsTheLastCommitOnly opens a store whose log was cut within
// its last record, several times in a row.
func TestATornTailCostsTheLastCommitOnly(t *testing.T) {
	dir := t.TempDir()
	for round := range 4 {
		s := open(t, dir, Options{})
		if got := len(all(t, s)); got != round*2 {
			t.Fatalf("round %d begins with %d records, want %d", round, got, round*2)
		}
		for i := range 3 {
			put(t, s, fmt.Sprint(round, i), make([]byte, 40_000))
		}
		next := killed(t, dir)
		mustClose(t, s)
		dir = next
		name, data := newestLog(t, dir)
		if err := os.Truncate(name, int64(len(data)-1-round*10_000)); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzDamageChecksDoNotPanic(f *testing.F) {
	dir := f.TempDir()
	s := open(f, dir, Options{})
	put(f, s, "k", []byte("v"))
	put(f, s, "l", make([]byte, 33_000))
	name, data := newestLog(f, dir)
	number, _, _ := wal.ParseLogFilename(filepath.Base(name))
	mustClose(f, s)
	f.Add(data, uint32(number))
	f.Add(make([]byte, 40_000), uint32(1))
	f.Fuzz(func(t *testing.T, data []byte, log uint32) {
		inLog, err := logDamage(bytes.NewReader(data), log)
		inManifest, _, err2 := manifestDamage(bytes.NewReader(data))
		for _, at := range []int64{inLog, inManifest} {
			if at < -1 || at >= int64(len(data)) && at != -1 || err != nil || err2 != nil {
				t.Errorf("damage at %d of %d bytes, %v, %v", at, len(data), err, err2)
			}
		}
	})
}
