package kms

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func importing(c *Config) { c.ImportKEK = true }

// imports imports raw as version and waits for the job.
func (r *rig) imports(s *Service, raw []byte, version uint32) job.Job {
	r.Helper()
	got, err := s.ImportKEK(ctx, raw)
	if err != nil || got.KEKID != kmsapi.ThreadsKEK || got.KEKVersion != version || got.Job.Kind != rotateKindName {
		r.Fatalf("%+v, %v; want version %d", got, err, version)
	}
	return r.finish(s, got.Job.ID)
}

func (r *rig) mustNotImport(s *Service, raw []byte, want string) {
	r.Helper()
	jobs, err := s.jobs.List(ctx)
	r.must(err)
	for _, j := range jobs { // of imports before this one: they write
		r.finish(s, j.ID)
	}
	before := r.dump()
	got, err := s.ImportKEK(ctx, raw)
	if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) || got.KEKVersion != 0 {
		r.Errorf("%+v, %v; want %q", got, err, want)
	}
	if diff := cmp.Diff(before, r.dump()); diff != "" {
		r.Errorf("a refused import changed the store: %s", diff)
	}
}

func TestAnImportedKEKCountsAtOnceAndItsJobBringsEveryDEKUnderIt(t *testing.T) {
	r := newRig(t)
	s := r.start(importing)
	ids := r.createDEKs(s, deksPerStep+20)
	c := r.encrypt(s, ids[0], "plain", "aad")
	raw := aead.GenerateRaw()
	_, err := s.ImportKEK(ctx, raw)
	r.must(err)
	if info := r.createKEK(s, kmsapi.ThreadsKEK); info[0].Version != 2 { // before the job has come far
		t.Error(info)
	}
	if j := r.imports(s, raw, 2); j.Processed != len(ids) || j.Failed != 0 {
		t.Errorf("%+v", j)
	}
	clear(raw) // it is the caller's
	r.mustLieUnder(2, ids...)
	r.must(s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 1))
	for _, s := range []*Service{s, r.start()} {
		r.mustDecrypt(s, ids[0], c, "aad", "plain")
		if info := r.createDEK(s, "t"); info.KEKVersion != 2 {
			t.Errorf("a new DEK is under version %d", info.KEKVersion)
		}
	}
	keys, err := s.Keys(ctx, kmsapi.KeysQuery{})
	r.must(err)
	if v := keys.KEKs[0].Versions; v[0].Imported || !v[1].Imported {
		t.Errorf("%+v", v)
	}
	if got := r.rotate(s, kmsapi.ThreadsKEK); got.KEKVersion != 3 {
		t.Errorf("%+v", got)
	}
	r.mustLieUnder(3, ids...)
}

func TestAKMSImportsOnlyWhereItsOwnConfigurationSaysSo(t *testing.T) {
	r := newRig(t)
	for _, raw := range [][]byte{nil, make([]byte, 32), aead.GenerateRaw()} {
		r.mustNotImport(r.start(), raw, "allow_kek_import")
	}
}

func TestWeakRepeatedAndForeignMaterialIsNotImported(t *testing.T) {
	r := newRig(t)
	s := r.start(importing)
	first, second, customers := aead.GenerateRaw(), aead.GenerateRaw(), aead.GenerateRaw()
	_, err := s.ImportCMEKKey(ctx, "", customers)
	r.must(err)
	made := kekMaterial(r, rootKey(t, r.rootPath), kmsapi.ThreadsKEK, 1)
	r.imports(s, first, 2)
	r.imports(s, second, 3)
	refused := func(s *Service) {
		t.Helper()
		for want, raw := range map[string][]byte{
			"32 bytes; send so many": first[:31], "send so many": append(bytes.Clone(first), 0), "random generator": make([]byte, 32),
			"is version 1 of the KEK already": made, "is version 2 of the KEK already": first, "a customer's key": customers, "is the root key": rootKey(t, r.rootPath),
		} {
			r.mustNotImport(s, raw, want)
		}
	}
	refused(s)
	r.must(s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 2))
	s = r.start(importing)
	r.mustNotImport(s, first, "is version 2 of the KEK already") // destroyed is destroyed
	refused(s)
}

// The answer of an import may be lost: who asks again hears what is there.
func TestAnImportMayBeRepeated(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(importing, audited(a))
	r.createDEKs(s, 3)
	raw := aead.GenerateRaw()
	for range 3 {
		r.imports(s, raw, 2)
		s = r.start(importing, audited(a))
	}
	r.together(8, func(int) error {
		got, err := s.ImportKEK(ctx, raw)
		if err == nil && got.KEKVersion != 2 {
			err = fmt.Errorf("version %d", got.KEKVersion)
		}
		return err
	})
	if n := strings.Count(strings.Join(a.lines(), "\n"), "kek.import"); n != 1 {
		t.Errorf("%d records of an import", n)
	}
	r.rotate(s, kmsapi.ThreadsKEK)
	r.mustNotImport(s, raw, "is version 2 of the KEK already")
}

// Two processes on one store, each with imports of its own and one in common.
func TestImportsAtOnceAreEachOneVersion(t *testing.T) {
	r := newRig(t)
	keys := r.start(importing)
	ids := r.createDEKs(keys, 5)
	services := []*Service{keys, r.start(importing)}
	var material [5][]byte
	for i := range material {
		material[i] = aead.GenerateRaw()
	}
	versions := make([]uint32, 20)
	r.together(len(versions), func(i int) error {
		got, err := services[i%2].ImportKEK(ctx, material[i%len(material)])
		if errors.Is(err, fault.Invalid) && strings.Contains(err.Error(), "already") {
			return nil // another came between this one and the one like it
		}
		versions[i] = got.KEKVersion
		return err
	})
	of := map[uint32]int{}
	for i, v := range versions {
		if m, ok := of[v]; v != 0 && ok && m != i%len(material) {
			t.Errorf("version %d is two materials", v)
		}
		of[v] = i % len(material)
	}
	if p := r.primary(r.start(), kmsapi.ThreadsKEK); p != uint32(1+len(material)) {
		t.Errorf("the primary is %d", p)
	}
	r.rotate(keys, kmsapi.ThreadsKEK)
	r.mustLieUnder(uint32(2+len(material)), ids...)
}

func TestAnImportIsRecordedBeforeItIsDoneAndNotDoneUnrecorded(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(importing, audited(a))
	a.set(true)
	before := r.dump()
	if _, err := s.ImportKEK(ctx, aead.GenerateRaw()); !errors.Is(err, fault.Unavailable) {
		t.Error(err)
	}
	if diff := cmp.Diff(before, r.dump()); diff != "" {
		t.Error(diff)
	}
	a.set(false)
	got, err := s.ImportKEK(WithActor(ctx, "uid:7"), aead.GenerateRaw())
	r.must(err)
	r.finish(s, got.Job.ID)
	want := []string{"process kek.create threads", "uid:7 kek.import threads", "uid:7 kek.rewrap threads", "uid:7 kek.rewrap threads"}
	if diff := cmp.Diff(want, a.lines()); diff != "" {
		t.Error(diff)
	}
	if v := a.events[1].Detail["kek_version"]; v != uint32(2) {
		t.Errorf("the record names version %v", v)
	}
	f := &faultyStore{Store: r.store, fail: func(*store.Batch) (error, bool) { return errors.New("the disk is away"), false }}
	s = r.start(importing, audited(a), func(c *Config) { c.Store = f })
	if _, err := s.ImportKEK(ctx, aead.GenerateRaw()); err == nil || errors.Is(err, fault.Invalid) {
		t.Error(err)
	}
	if lines := a.lines(); lines[len(lines)-2] != "process kek.import threads failed" {
		t.Errorf("%q", lines)
	}
}

func TestACrashAtAnyCommitOfAnImportLosesNothingAndARepeatEndsIt(t *testing.T) {
	raw := aead.GenerateRaw()
	var ids []string
	var c []byte
	prepare := func(r *rig, s *Service) {
		ids = r.createDEKs(s, deksPerStep+20)
		c = r.encrypt(s, ids[0], "plain", "")
	}
	act := func(s *Service, died <-chan struct{}) {
		s.imports = true
		got, err := s.ImportKEK(ctx, raw)
		if err == nil {
			waiting, cancel := context.WithCancel(ctx)
			defer cancel()
			go func() { <-died; cancel() }()
			s.jobs.Wait(waiting, got.Job.ID)
		}
	}
	check := func(r *rig, s *Service, _ bool) {
		r.mustDecrypt(s, ids[0], c, "", "plain")
		jobs, err := s.Jobs(ctx)
		r.must(err)
		if p := r.primary(s, kmsapi.ThreadsKEK); p != uint32(1+len(jobs)) || p > 2 {
			t.Errorf("%d jobs, and the primary is %d", len(jobs), p)
		}
		s.Close()
		s = r.start(importing, func(c *Config) { c.Holder = "the kms" })
		defer s.Close()
		r.imports(s, raw, 2)
		r.mustLieUnder(2, ids...)
		r.must(s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 1))
		r.mustDecrypt(s, ids[0], c, "", "plain")
	}
	eachCrash(t, prepare, act, check)
}

// A break-glass export and a store put back to before the import.
func TestImportedMaterialOpensWhatItWrappedAfterARestore(t *testing.T) {
	r := newRig(t)
	s := r.start(importing)
	old := r.createDEK(s, "t")
	c := r.encrypt(s, old.KeyID, "plain", "")
	before := r.get(layout.KEK(kmsapi.ThreadsKEK)).Value
	raw := aead.GenerateRaw()
	r.imports(s, raw, 2)
	text, err := s.ExportBreakGlass(ctx)
	r.must(err)
	off, err := OpenOffline(ctx, r.root, text)
	r.must(err)
	defer off.Wipe()
	rec := r.record(old.KeyID)
	out, err := off.Decrypt(ctx, kmsapi.DEKInfo{KeyID: old.KeyID, WrappedDEK: rec.Wrapped, KEKID: rec.KEKID, KEKVersion: rec.KEKVersion}, "t", []kmsapi.DecryptItem{{KeyID: old.KeyID, Ciphertext: c}})
	if err != nil || rec.KEKVersion != 2 || string(out[0].Plaintext) != "plain" {
		t.Errorf("break-glass: %+v, %v", out, err)
	}
	s.Close()
	r.put(layout.KEK(kmsapi.ThreadsKEK), before)
	s = r.start(importing)
	r.mustNotDecrypt(s, old.KeyID, c, "", fault.Damaged)
	r.imports(s, raw, 2)
	r.mustDecrypt(s, old.KeyID, c, "", "plain")
}

func TestImportedMaterialIsInNoRowRecordOrError(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(importing, audited(a))
	r.createDEK(s, "t")
	raw := aead.GenerateRaw()
	var out bytes.Buffer
	try := func(raw []byte) {
		got, err := s.ImportKEK(ctx, raw)
		r.finish(s, got.Job.ID)
		for ; err != nil; err = errors.Unwrap(err) {
			fmt.Fprintf(&out, "%v %+v %#v\n", err, err, err)
		}
		fmt.Fprintf(&out, "%+v %#v\n", got, got)
	}
	try(raw)
	try(raw)
	fmt.Fprint(&out, r.dump(), s)
	try(raw[:31])
	try(append(bytes.Clone(raw), 1))
	try(aead.GenerateRaw())
	try(raw)
	s.imports = false
	try(raw)
	keys, err := s.Keys(ctx, kmsapi.KeysQuery{})
	r.must(err)
	jobs, err := s.Jobs(ctx)
	r.must(err)
	fmt.Fprintf(&out, "%+v %+v %v %+v", keys, jobs, r.dump(), a.events)
	text, err := json.Marshal(a.events)
	r.must(err)
	out.Write(text)
	for form, canary := range forms(raw) {
		if bytes.Contains(out.Bytes(), canary) {
			t.Errorf("it turns up as %s", form)
		}
	}
	if !bytes.Contains(out.Bytes(), []byte("kek.import")) || bytes.Contains(out.Bytes(), []byte(base64.StdEncoding.EncodeToString(raw[:12]))) {
		t.Error("the search sees too little, or the material")
	}
}

// A root that makes its KEKs itself takes none.
func TestAKMSWithATokenImportsNothing(t *testing.T) {
	r := newRig(t)
	r.root = struct{ keyring.Root }{r.root}
	r.mustNotImport(r.start(importing), aead.GenerateRaw(), "inside a token")
}
