package kms

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

const (
	agent = "cert:agent-7"
	other = "cert:agent-8"
)

// createCMEK makes a customer's key and grants it.
func (r *rig) createCMEK(s *Service, callers ...string) string {
	r.Helper()
	k, err := s.CreateCMEKKey(ctx, "")
	r.must(err)
	for _, caller := range callers {
		r.must(s.GrantCMEKKey(ctx, k.Fingerprint, caller))
	}
	return k.Fingerprint
}

func sealCMEKOne(s *Service, caller, fingerprint, path string, version uint32, plaintext string) (string, error) {
	out, err := s.CMEKSeal(ctx, caller, []kmsapi.CMEKSealItem{{Fingerprint: fingerprint, Vault: "v", Path: path, Version: version, Plaintext: []byte(plaintext)}})
	if err != nil {
		return "", err
	}
	return out[0].Value, out[0].Err
}

func openCMEKOne(s *Service, caller, fingerprint, path, value string) (string, error) {
	out, err := s.CMEKOpen(ctx, caller, []kmsapi.CMEKOpenItem{{Fingerprint: fingerprint, Vault: "v", Path: path, Value: value}})
	if err != nil {
		return "", err
	}
	return string(out[0].Plaintext), out[0].Err
}

// mayUse checks that caller seals and opens with a key, or is refused both.
func (r *rig) mayUse(s *Service, caller, fingerprint string, may bool) {
	r.Helper()
	value, err := sealCMEKOne(s, caller, fingerprint, "p", 2, "x")
	if got := err == nil; got != may || !may && !errors.Is(err, fault.Forbidden) {
		r.Errorf("%s seals: %v, want %v", caller, err, may)
	}
	if !may {
		value = "AQECAwQFBgcICQoLDC3gPa5mMHGDGFnvi52pNfY="
	}
	if _, err := openCMEKOne(s, caller, fingerprint, "p", value); (err == nil) != may || !may && !errors.Is(err, fault.Forbidden) {
		r.Errorf("%s opens: %v, want %v", caller, err, may)
	}
}

func TestACustomersKeyIsUsedByThoseWhoHaveAGrantAlone(t *testing.T) {
	r := newRig(t)
	s, elsewhere := r.start(), r.start() // another process on the same store
	a, b := r.createCMEK(s), r.createCMEK(s, other)
	for _, caller := range []string{agent, other, "", "process", "cert:agent-", "cert:agent-77", "CERT:agent-7"} {
		r.mayUse(s, caller, a, false)
	}
	r.must(s.GrantCMEKKey(ctx, a, agent))
	r.must(s.GrantCMEKKey(ctx, a, agent))
	for _, s := range []*Service{s, elsewhere} {
		r.mayUse(s, agent, a, true)
		r.mayUse(s, agent, b, false)
		r.mayUse(s, other, a, false)
		r.mayUse(s, other, b, true)
	}
	r.must(elsewhere.RevokeCMEKKey(ctx, a, agent))
	r.must(elsewhere.RevokeCMEKKey(ctx, a, agent))
	for _, s := range []*Service{s, elsewhere} {
		r.mayUse(s, agent, a, false)
		r.mayUse(s, other, b, true)
	}
	for _, call := range []func(fingerprint string) error{
		func(f string) error { return s.GrantCMEKKey(ctx, f, agent) },
		func(f string) error { return s.RevokeCMEKKey(ctx, f, agent) },
		func(f string) error { return s.DeleteCMEKKey(ctx, f) },
	} {
		for _, f := range []string{"", "x", strings.Repeat("0", 64), strings.ToUpper(a), a + ":"} {
			if err := call(f); !errors.Is(err, fault.NotFound) {
				t.Errorf("%q: %v", f, err)
			}
		}
	}
	for _, caller := range []string{"", "agent-7", "cert:", "user:1", "uid:" + strings.Repeat("1", 600)} {
		if err := s.GrantCMEKKey(ctx, a, caller); !errors.Is(err, fault.Invalid) {
			t.Errorf("a grant to %.20q: %v", caller, err)
		}
	}
}

func TestBlobsAreThoseOfTheKeyItself(t *testing.T) {
	r := newRig(t)
	s := r.start()
	key := cmek.Generate()
	raw := key.Bytes()
	k, err := s.ImportCMEKKey(ctx, "moved", raw)
	r.must(err)
	if k.Fingerprint != key.Fingerprint() || !k.Imported || k.Name != "moved" || k.Grants != nil {
		t.Errorf("imported as %+v", k)
	}
	r.must(s.GrantCMEKKey(ctx, k.Fingerprint, agent))
	at := cmek.Context{VaultID: "v", Path: "a/b"}
	plain, _ := cmek.EncryptValue(key, []byte("one"))
	bound, _ := cmek.EncryptBoundValue(key, at, []byte("two"))
	for value, want := range map[string]string{plain: "one", bound: "two"} {
		if got, err := openCMEKOne(s, agent, k.Fingerprint, at.Path, value); err != nil || got != want {
			t.Errorf("opened %q, %v; want %q", got, err, want)
		}
	}
	for version := uint32(1); version <= 2; version++ {
		value, err := sealCMEKOne(s, agent, k.Fingerprint, at.Path, version, "three")
		r.must(err)
		info, err := cmek.Inspect(value)
		got, openErr := cmek.DecryptValueAt(key, at, value)
		if err := errors.Join(err, openErr); err != nil || string(got) != "three" || uint32(info.Version) != version {
			t.Errorf("version %d: %+v, %q, %v", version, info, got, err)
		}
	}
	for value, code := range map[string]fault.Code{bound: fault.Unopenable, "my plaintext": fault.Invalid, "": fault.Invalid, plain[:len(plain)-8] + "AAAAAAA=": fault.Unopenable} {
		if got, err := openCMEKOne(s, agent, k.Fingerprint, "elsewhere", value); got != "" || !errors.Is(err, code) {
			t.Errorf("%q: %q, %v; want %s", value, got, err, code)
		}
	}
	for _, n := range []int{0, 16, 31, 33} {
		if _, err := s.ImportCMEKKey(ctx, "", make([]byte, n)); !errors.Is(err, fault.Invalid) {
			t.Errorf("a key of %d bytes: %v", n, err)
		}
	}
	if _, err := s.ImportCMEKKey(ctx, "", raw); !errors.Is(err, fault.Conflict) {
		t.Errorf("imported again: %v", err)
	}
	if _, err := s.CreateCMEKKey(ctx, "a name\n"); !errors.Is(err, fault.Invalid) {
		t.Errorf("a bad name: %v", err)
	}
}

func TestItemsThatLackSomethingFailAlone(t *testing.T) {
	r := newRig(t)
	s := r.start()
	f := r.createCMEK(s, agent)
	ok := kmsapi.CMEKSealItem{Fingerprint: f, Vault: "v", Path: "p", Version: 1, Plaintext: []byte{}}
	bad := []func(*kmsapi.CMEKSealItem){
		func(i *kmsapi.CMEKSealItem) { i.Fingerprint = "x" }, func(i *kmsapi.CMEKSealItem) { i.Vault = "" }, func(i *kmsapi.CMEKSealItem) { i.Path = "" },
		func(i *kmsapi.CMEKSealItem) { i.Vault = strings.Repeat("v", 129) }, func(i *kmsapi.CMEKSealItem) { i.Path = strings.Repeat("p", 1025) },
		func(i *kmsapi.CMEKSealItem) { i.Version = 0 }, func(i *kmsapi.CMEKSealItem) { i.Version = 3 },
	}
	items := []kmsapi.CMEKSealItem{ok}
	for _, change := range bad {
		item := ok
		change(&item)
		items = append(items, item)
	}
	out, err := s.CMEKSeal(ctx, agent, append(items, ok))
	r.must(err)
	for i, res := range out {
		if i == 0 || i == len(items) {
			r.must(res.Err)
		} else if !errors.Is(res.Err, fault.Invalid) || res.Value != "" {
			t.Errorf("item %d: %v", i, res.Err)
		}
	}
	if _, err := s.CMEKSeal(ctx, agent, make([]kmsapi.CMEKSealItem, kmsapi.MaxBatch+1)); !errors.Is(err, fault.TooLarge) {
		t.Errorf("too many items: %v", err)
	}
}

// useLines is each use as the audit has it.
func useLines(a *recorder) (lines []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		if strings.HasPrefix(e.Action, "cmek.") {
			lines = append(lines, strings.Join(strings.Fields(fmt.Sprint(e.Actor, " ", e.Action, " ", e.Target[:4], " ", e.Detail["vault"], " ", e.Detail["path"], " ", e.Outcome)), " "))
		}
	}
	return lines
}

func TestEachUseIsRecordedWithCallerKeyVaultAndPath(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(audited(a))
	f := r.createCMEK(s, agent)
	value, err := sealCMEKOne(s, agent, f, "a/b", 2, "x")
	r.must(err)
	out, err := s.CMEKOpen(ctx, agent, []kmsapi.CMEKOpenItem{
		{Fingerprint: f, Vault: "v", Path: "a/b", Value: value}, {Fingerprint: f, Vault: "w", Path: "a/b", Value: value}, {Fingerprint: f, Vault: "v", Path: "c", Value: "none"},
	})
	r.must(errors.Join(err, out[0].Err))
	if _, err := openCMEKOne(s, other, f, "a/b", value); !errors.Is(err, fault.Forbidden) {
		t.Error(err)
	}
	want := []string{
		agent + " cmek.seal " + f[:4] + " v a/b", agent + " cmek.open " + f[:4] + " v a/b",
		agent + " cmek.open " + f[:4] + " w a/b failed", agent + " cmek.open " + f[:4] + " v c failed",
		other + " cmek.open " + f[:4] + " v a/b denied",
	}
	if d := cmp.Diff(want, useLines(a)); d != "" {
		t.Error(d)
	}
}

func TestWhatTheAuditDoesNotTakeIsNotAnswered(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(audited(a))
	f := r.createCMEK(s, agent)
	value, err := sealCMEKOne(s, agent, f, "p", 1, "x")
	r.must(err)
	a.set(true)
	sealed, err := s.CMEKSeal(ctx, agent, []kmsapi.CMEKSealItem{{Fingerprint: f, Vault: "v", Path: "p", Version: 1, Plaintext: []byte("x")}})
	if sealed != nil || !errors.Is(err, fault.Unavailable) {
		t.Errorf("sealed %v, %v", sealed, err)
	}
	opened, err := s.CMEKOpen(ctx, agent, []kmsapi.CMEKOpenItem{{Fingerprint: f, Vault: "v", Path: "p", Value: value}})
	if opened != nil || !errors.Is(err, fault.Unavailable) {
		t.Errorf("opened %v, %v", opened, err)
	}
	before := r.dump()
	for name, call := range map[string]func() error{
		"create": func() error { _, err := s.CreateCMEKKey(ctx, ""); return err },
		"import": func() error { _, err := s.ImportCMEKKey(ctx, "", make([]byte, 32)); return err },
		"grant":  func() error { return s.GrantCMEKKey(ctx, f, other) },
		"revoke": func() error { return s.RevokeCMEKKey(ctx, f, agent) },
	} {
		if err := call(); !errors.Is(err, fault.Unavailable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if d := cmp.Diff(before, r.dump()); d != "" {
		t.Errorf("keys changed without a record: %s", d)
	}
}

func TestEachChangeOfACustomersKeyIsRecordedWithWhoAsked(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(audited(a))
	as := WithActor(ctx, "uid:0")
	k, err := s.CreateCMEKKey(as, "")
	r.must(err)
	raw := make([]byte, 32)
	imported, err := s.ImportCMEKKey(as, "", raw)
	r.must(err)
	f := k.Fingerprint
	r.must(s.GrantCMEKKey(as, f, agent))
	if err := s.DeleteCMEKKey(as, f); !errors.Is(err, fault.Conflict) || fault.Of(err).Type != kmsapi.TypeCMEKGranted {
		t.Errorf("deleted while granted: %v", err)
	}
	r.must(s.RevokeCMEKKey(as, f, agent))
	r.must(s.DeleteCMEKKey(as, f))
	want := []string{
		"process kek.create threads", "uid:0 kek.create cmek", "uid:0 cmek_key.create " + f, "uid:0 cmek_key.import " + imported.Fingerprint,
		"uid:0 cmek_key.grant " + f, "uid:0 cmek_key.revoke " + f, "uid:0 cmek_key.delete " + f,
	}
	if d := cmp.Diff(want, a.lines()); d != "" {
		t.Error(d)
	}
	if got := a.events[4].Detail["caller"]; got != agent {
		t.Errorf("granted to %v", got)
	}
	r.mayUse(s, agent, f, false)
	if err := s.DeleteCMEKKey(as, f); !errors.Is(err, fault.NotFound) {
		t.Errorf("deleted again: %v", err)
	}
}

// Who was cut off and asks on, by the thousand, does not fill the disk; and
// each denial is counted.
func TestDenialsAreCountedAndNotAllRecorded(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	var now atomic.Int64
	s := r.start(audited(a), func(c *Config) { c.Now = func() time.Time { return day.Add(time.Duration(now.Load())) } })
	f := r.createCMEK(s)
	for i := range 1000 {
		now.Store(int64(i) * int64(2*time.Millisecond))
		if _, err := openCMEKOne(s, agent, f, "p", "x"); !errors.Is(err, fault.Forbidden) {
			t.Fatal(err)
		}
	}
	if _, err := openCMEKOne(s, other, f, "p", "x"); !errors.Is(err, fault.Forbidden) {
		t.Fatal(err)
	}
	s.Close()
	sum, records := map[string]int{}, 0
	for _, e := range a.events {
		if e.Outcome == "denied" {
			records++
			sum[e.Actor] += e.Detail["denied_since"].(int)
		}
	}
	if records > 5 || sum[agent] != 1000 || sum[other] != 1 {
		t.Errorf("%d records of %v", records, sum)
	}
}

func TestARowThatWasChangedOrMovedOpensNothing(t *testing.T) {
	r := newRig(t)
	s := r.start()
	f, g := r.createCMEK(s, agent), r.createCMEK(s)
	good := r.get(layout.CMEKKey(f)).Value
	use := func() error { _, err := sealCMEKOne(r.start(), agent, f, "p", 1, "x"); return err }
	for i := 0; i < len(good); i += 7 {
		bad := slices.Clone(good)
		bad[i] ^= 1
		r.put(layout.CMEKKey(f), bad)
		if err := use(); !errors.Is(err, errNotGranted) {
			t.Errorf("byte %d: %v", i, err)
		}
	}
	r.put(layout.CMEKKey(g), good) // with its grant
	if _, err := sealCMEKOne(s, agent, g, "p", 1, "x"); !errors.Is(err, errNotGranted) {
		t.Errorf("moved: %v", err)
	}
	keys, err := s.CMEKKeys(ctx, "")
	r.must(err)
	if len(keys.Keys) != 2 || !keys.Keys[0].Damaged || !keys.Keys[1].Damaged {
		t.Errorf("listed as %+v", keys.Keys)
	}
	r.must(s.DeleteCMEKKey(ctx, g))
	r.put(layout.CMEKKey(f), good)
	r.must(use())
}

// The grants are in the row: with a grant or without, nobody has one that can be
// read, and no answer tells that row from none.
func TestWhoHasNoGrantCannotTellADamagedKeyFromNone(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(audited(a))
	f, none := r.createCMEK(s, agent), strings.Repeat("0", 64)
	r.put(layout.CMEKKey(f), []byte("no row"))
	for _, caller := range []string{agent, other} {
		_, sealed := sealCMEKOne(s, caller, f, "p", 1, "x")
		_, opened := openCMEKOne(s, caller, f, "p", "x")
		_, absent := openCMEKOne(s, caller, none, "p", "x")
		for _, err := range []error{sealed, opened} {
			if !errors.Is(err, fault.Forbidden) || fault.Of(err).Message != fault.Of(absent).Message || fault.Of(err).Type != fault.Of(absent).Type {
				t.Errorf("%s: %v; of no key: %v", caller, err, absent)
			}
		}
	}
	damaged := 0
	for _, e := range a.events {
		if e.Outcome == "denied" && e.Target == f && e.Detail["damaged"] == true {
			damaged++
		}
	}
	if damaged != 2 { // the first of each caller
		t.Errorf("%d records say that the key is damaged", damaged)
	}
}

func TestTheKEKOfCustomersKeysServesNothingElse(t *testing.T) {
	r := newRig(t)
	s := r.start()
	if _, err := s.CreateKEK(ctx, []string{cmekKEK}); !errors.Is(err, fault.Invalid) {
		t.Errorf("made by a caller: %v", err)
	}
	f := r.createCMEK(s)
	if _, err := sealOne(s, cmekKEK, "x", ""); !errors.Is(err, fault.Invalid) {
		t.Errorf("seals for a caller: %v", err)
	}
	row, err := parseEnvelope(cmekKEK, r.get(layout.CMEKKey(f)).Value)
	r.must(err)
	for _, aad := range []string{"", string(cmekRowAAD(f)), f} {
		r.mustNotOpen(s, row, aad, fault.Unopenable)
		out, err := s.Rewrap(ctx, []kmsapi.RewrapItem{{KEKID: cmekKEK, KEKVersion: 1, WrappedDEK: row.WrappedDEK, AAD: []byte(aad)}})
		if err != nil || !errors.Is(out[0].Err, fault.Unopenable) {
			t.Errorf("rewrapped for a caller: %v", out[0].Err)
		}
	}
}

func TestTheKEKOfCustomersKeysRotatesAndItsOldVersionIsDestroyed(t *testing.T) {
	r := newRig(t)
	s := r.start()
	fingerprints := []string{r.createCMEK(s, agent)}
	for range 250 { // more than a page
		fingerprints = append(fingerprints, r.createCMEK(s))
	}
	value, err := sealCMEKOne(s, agent, fingerprints[0], "p", 2, "x")
	r.must(err)
	r.rotate(s, cmekKEK)
	r.must(s.DestroyKEKVersion(ctx, cmekKEK, 1))
	got, err := s.RotateKEK(ctx, kmsapi.Rotate{All: true})
	r.must(err)
	r.finish(s, got.Job.ID)
	_ = s.DestroyKEKVersion(ctx, cmekKEK, 2) // of the same moment as the job: it may have left it
	s = r.start()
	if got, err := openCMEKOne(s, agent, fingerprints[0], "p", value); err != nil || got != "x" {
		t.Errorf("after the rotations: %q, %v", got, err)
	}
	primary, err := s.primary(ctx, cmekKEK)
	r.must(err)
	for after, n := "", 0; ; {
		keys, err := s.CMEKKeys(ctx, after)
		r.must(err)
		for _, k := range keys.Keys {
			n++
			if k.Damaged || k.KEKVersion != primary {
				t.Errorf("%+v is not under version %d", k, primary)
			}
		}
		if after = keys.Next; after == "" {
			if n != len(fingerprints) {
				t.Errorf("%d keys are listed, want %d", n, len(fingerprints))
			}
			break
		}
	}
}

// A rotation that is cut off after any commit loses no key; until it is asked
// for again the old version stays.
func TestARotationThatIsCutOffLosesNoCustomersKey(t *testing.T) {
	for at := range 8 {
		for _, tookEffect := range []bool{false, true} {
			r := newRig(t)
			faulty := &faultyStore{Store: r.store}
			r.store = faulty
			s := r.start()
			var all []string
			for range 4 {
				all = append(all, r.createCMEK(s, agent))
			}
			n := -1
			faulty.failing(func(*store.Batch) (error, bool) {
				if n++; n < at {
					return nil, false
				}
				return errors.New("the disk is gone"), tookEffect && n == at
			})
			_, cutOff := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: cmekKEK, IfVersion: 1})
			faulty.failing(nil)
			s = r.start()
			usable := func() {
				t.Helper()
				for _, f := range all {
					r.mayUse(s, agent, f, true)
				}
			}
			if err := s.DestroyKEKVersion(ctx, cmekKEK, 1); err == nil && cutOff != nil && !tookEffect {
				t.Errorf("commit %d: the old version was destroyed under its keys", at)
			}
			usable() // which brings them under the primary, by counting a seal
			if _, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: cmekKEK, IfVersion: 1}); err != nil {
				t.Fatalf("commit %d: asked again: %v", at, err)
			}
			if err := s.DestroyKEKVersion(ctx, cmekKEK, 1); err != nil {
				t.Errorf("commit %d: %v", at, err)
			}
			usable()
		}
	}
}

func TestKeysAreMadeGrantedAndUsedWhileTheirKEKRotates(t *testing.T) {
	r := newRig(t)
	s := r.start(func(c *Config) { c.SealBlock = 2 })
	shared := r.createCMEK(s, agent)
	made := make([]string, 4)
	r.together(12, func(i int) error {
		switch {
		case i < 4:
			k, err := s.CreateCMEKKey(ctx, "")
			made[i] = k.Fingerprint
			return errors.Join(err, s.GrantCMEKKey(ctx, k.Fingerprint, agent))
		case i < 6:
			_, err := s.RotateKEK(ctx, kmsapi.Rotate{KEKID: cmekKEK})
			return err
		case i < 8:
			who := fmt.Sprint("uid:", i)
			return errors.Join(s.GrantCMEKKey(ctx, shared, who), s.RevokeCMEKKey(ctx, shared, who), s.GrantCMEKKey(ctx, shared, who))
		}
		for range 20 {
			value, err := sealCMEKOne(s, agent, shared, "p", 1, "x")
			if err == nil {
				_, err = openCMEKOne(s, agent, shared, "p", value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	for _, f := range append(made, shared) {
		r.mayUse(s, agent, f, true)
	}
	r.mayUse(s, "uid:6", shared, true)
	r.must(s.rewrapCMEK(ctx))
	for version := uint32(1); version < 3; version++ {
		r.must(s.DestroyKEKVersion(ctx, cmekKEK, version))
	}
	r.mayUse(r.start(), agent, shared, true)
}

// A process that missed a rotation must not wrap a key by a version that is
// destroyed by now: the key would be lost as it is made.
func TestAKeyIsNotMadeUnderAVersionThatIsGone(t *testing.T) {
	r := newRig(t)
	late, s := r.start(), r.start()
	r.createCMEK(late)
	r.rotate(s, cmekKEK)
	r.must(s.DestroyKEKVersion(ctx, cmekKEK, 1))
	f := r.createCMEK(late, agent)
	r.mayUse(r.start(), agent, f, true)
}

// A process counts seals in the row, from what it has read, while another takes
// the grant out of it.
func TestARevokeIsNotWrittenOver(t *testing.T) {
	r := newRig(t)
	alive := r.store
	owner := r.start()
	f := r.createCMEK(owner, agent)
	between := &meanwhile{Store: alive, key: layout.CMEKKey(f)}
	r.store = between
	s := r.start()
	between.act = func() { // at the read that decides
		between.act = func() { r.must(owner.RevokeCMEKKey(ctx, f, agent)) } // at the read that is written back
	}
	if _, err := sealCMEKOne(s, agent, f, "p", 1, "x"); err != nil {
		t.Errorf("a call that began before: %v", err)
	}
	r.mayUse(s, agent, f, false)
	r.mayUse(owner, agent, f, false)
}

func TestCustomersKeysAreWipedAtTheEnd(t *testing.T) {
	r := newRig(t)
	s := r.start()
	f := r.createCMEK(s, agent)
	k, err := s.cmekKey(ctx, f)
	r.must(err)
	s.cmeks.release(k)
	s.Close()
	if k.key.Bytes() != nil {
		t.Error("the key is still there")
	}
	if _, err := sealCMEKOne(s, agent, f, "p", 1, "x"); !errors.Is(err, fault.Unavailable) {
		t.Errorf("after the end: %v", err)
	}
}

func TestAKeyThatHasSealedEnoughSealsNoMore(t *testing.T) {
	r := newRig(t)
	few := func(c *Config) { c.SealBlock, c.MaxSeals = 4, 10 }
	s := r.start(few)
	f := r.createCMEK(s, agent)
	var last string
	for i := range 10 {
		value, err := sealCMEKOne(s, agent, f, "p", 1, "x")
		if err != nil {
			t.Fatalf("seal %d: %v", i, err)
		}
		last = value
	}
	for _, s := range []*Service{s, r.start(few)} {
		if _, err := sealCMEKOne(s, agent, f, "p", 1, "x"); !errors.Is(err, fault.Conflict) || fault.Of(err).Type != kmsapi.TypeCMEKWornOut {
			t.Errorf("the 11th seal: %v", err)
		}
		if _, err := openCMEKOne(s, agent, f, "p", last); err != nil {
			t.Errorf("it still opens: %v", err)
		}
	}
	if keys, err := s.CMEKKeys(ctx, ""); err != nil || keys.Keys[0].Seals != 10 {
		t.Errorf("%+v, %v", keys, err)
	}
}

func TestACustomersKeyIsNowhereInTheStoreOrTheAudit(t *testing.T) {
	r := newRig(t)
	a := &recorder{}
	s := r.start(audited(a))
	raw := aead.GenerateRaw()
	k, err := s.ImportCMEKKey(ctx, "n", raw)
	r.must(err)
	r.must(s.GrantCMEKKey(ctx, k.Fingerprint, agent))
	const plain = "the canary of a plaintext, longer than a key"
	_, err = sealCMEKOne(s, agent, k.Fingerprint, "p", 2, plain)
	r.must(err)
	r.rotate(s, cmekKEK)
	slot, err := s.cmekKey(ctx, k.Fingerprint)
	r.must(err)
	text := fmt.Sprintf("%v %+v %#v %v %+v", slot.key, slot.key, slot.key, r.dump(), a.events)
	s.cmeks.release(slot)
	for name, form := range forms(raw) {
		if strings.Contains(text, string(form)) {
			t.Errorf("the key is there as %s", name)
		}
	}
	if strings.Contains(text, plain) {
		t.Error("the plaintext is there")
	}
}

// benchCMEK opens by n callers at once, with a real audit on a real disk.
func benchCMEK(b *testing.B, n int) {
	r := newRig(b)
	log, err := audit.Open(filepath.Join(b.TempDir(), "audit"), r.auditKey(), audit.Options{})
	r.must(err)
	defer log.Close()
	s := r.start(func(c *Config) { c.Audit = log })
	f := r.createCMEK(s, agent)
	value, err := sealCMEKOne(s, agent, f, "p", 2, strings.Repeat("x", kib))
	r.must(err)
	b.SetParallelism(n)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := openCMEKOne(s, agent, f, "p", value); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "uses/s")
}

func BenchmarkCMEKOpenRecorded1(b *testing.B)  { benchCMEK(b, 1) }
func BenchmarkCMEKOpenRecorded16(b *testing.B) { benchCMEK(b, 16) }
