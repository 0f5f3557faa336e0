package vault

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest/fresh"
)

// spin is a turn with a vault whose CMEK key is rotated from old to fresh. Every
// version ever written is known by what it holds.
type spin struct {
	*turn
	id         string
	old, fresh *cmek.Key
	holds      map[string]string // plaintext by the key of the version row
	leaks      bool              // a server that was killed may have left a session to its idle end
	log        *strings.Builder
}

func newSpin(t testing.TB) *spin {
	x := &spin{turn: newTurn(t), old: cmek.Generate(), fresh: cmek.Generate(), holds: map[string]string{}, log: new(strings.Builder)}
	x.over(x.hooks)
	x.id = x.vault()
	x.enable(x.old, 0)
	return x
}

// over puts the Service over another store.
func (x *spin) over(s store.Store) {
	x.Service = New(Config{Store: s, KMS: x.twin, Gate: x.asked, Now: x.present, Log: slog.New(slog.NewTextHandler(x.log, nil))})
}

func (x *spin) enable(k *cmek.Key, blobVersion int) {
	x.t.Helper()
	check := k.Check(x.id)
	if _, err := x.EnableCMEK(x.t.Context(), owner, x.id, api.EnableCMEK{Fingerprint: k.Fingerprint(), KeyCheck: check, BlobVersion: blobVersion}); err != nil {
		x.t.Fatal(err)
	}
}

func (x *spin) disable() {
	x.t.Helper()
	if _, err := x.DisableCMEK(x.t.Context(), owner, x.id); err != nil {
		x.t.Fatal(err)
	}
}

// seal returns text under k in the form of the n-th kind: base64, hex.
func (x *spin) seal(k *cmek.Key, n int, text string) string {
	x.t.Helper()
	value, err := cmek.EncryptValue(k, []byte(text))
	if err != nil {
		x.t.Fatal(err)
	}
	if n%2 == 1 {
		blob, _ := base64.StdEncoding.DecodeString(value)
		return hex.EncodeToString(blob[1:])
	}
	return value
}

// write writes text under k, declared or not; a nil key writes it plain.
func (x *spin) write(k *cmek.Key, declared bool, path, text string) error {
	value, opt := text, PutOptions{}
	if k != nil {
		value = x.seal(k, len(text), text)
		if declared {
			opt.DeclaredFingerprint = k.Fingerprint()
		}
	}
	m, err := x.Put(context.Background(), owner, x.id, path, api.PutSecret{Value: &value}, opt)
	if err == nil {
		x.holds[layout.SecretVersion(x.id, path, m.Version)] = text
	}
	return err
}

func (x *spin) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

// fill writes n versions under the old key, over some paths; of one path all are
// deleted, one has a disabled and an expired version.
func (x *spin) fill(n int) {
	x.t.Helper()
	paths := []string{"a", "a/b", "a-b", "gone", "z"}
	for i := range n {
		x.must(x.write(x.old, i%3 == 0, paths[i%len(paths)], fmt.Sprint("text ", strings.Repeat("x", i%7), i)))
	}
	if n >= 10 {
		x.must(x.DisableVersion(x.t.Context(), owner, x.id, "a", 1))
		x.must(x.DeleteSecret(x.t.Context(), owner, x.id, "gone"))
	}
}

// clone is x over a copy of its store; the KMS is the same.
func (x *spin) clone(t testing.TB) *spin {
	t.Helper()
	y := *x
	y.turn = &turn{rig: &rig{t: t, mem: fresh.Store(t), asked: new(accesstest.Gate)}, twin: x.twin}
	y.clock.Store(x.clock.Load())
	b := new(store.Batch)
	for key, row := range x.rows() {
		b.Put(key, []byte(row))
	}
	if _, err := y.mem.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	y.hooks = &hookStore{Store: y.mem}
	y.holds = maps.Clone(x.holds)
	y.over(y.hooks)
	return &y
}

// process is one run of the server over s.
func (x *spin) process(s store.Store) (*Rotations, *job.Runner) {
	v := New(Config{Store: s, KMS: x.twin, Gate: x.asked, Now: x.present, Log: slog.New(slog.NewTextHandler(x.log, nil))})
	r := job.New(job.Config{Store: s, Kinds: []job.Kind{v.RotationKind(), v.RewrapKind()}, Now: x.present, Holder: "test"})
	return NewRotations(v, r), r
}

// serve is process over the spin's store, until the test ends.
func (x *spin) serve() (*Rotations, *job.Runner) {
	r, jobs := x.process(x.hooks)
	x.t.Cleanup(jobs.Close)
	return r, jobs
}

func (x *spin) keys() RotationKeys { return RotationKeys{x.old.Bytes(), x.fresh.Bytes()} }

// begin asks for the rotation.
func (x *spin) begin(r *Rotations, accept bool) (api.CMEKRotationJob, error) {
	return r.Rotate(context.Background(), owner, x.id, api.RotateCMEK{NewFingerprint: x.fresh.Fingerprint(), NewKeyCheck: x.fresh.Check(x.id), AcceptFailed: accept}, x.keys())
}

// begun is begin that must succeed.
func (x *spin) begun(r *Rotations, accept bool) api.CMEKRotationJob {
	x.t.Helper()
	j, err := x.begin(r, accept)
	if err != nil {
		x.t.Fatalf("Rotate: %v", err)
	}
	if j.Status != "running" && j.Status != "completed" {
		x.t.Errorf("the first answer says %q", j.Status)
	}
	return j
}

// end waits until the rotation runs no more, and returns how a client sees it.
func (x *spin) end(r *Rotations, jobs *job.Runner, id string) api.CMEKRotationJob {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), 2*time.Minute)
	defer cancel()
	if j, err := jobs.Wait(ctx, id); err != nil {
		x.t.Fatalf("%v: %+v", err, j)
	}
	j, err := r.Rotation(ctx, owner, x.id, id)
	if err != nil {
		x.t.Fatal(err)
	}
	return j
}

// completed fails unless j is complete with n versions, and everything is as it
// then has to be.
func (x *spin) completed(j api.CMEKRotationJob, n int) {
	x.t.Helper()
	if j.Status != "completed" || j.Error != "" || j.Processed != n || j.TotalSecrets != n || j.CompletedAt == nil {
		x.t.Errorf("the rotation ended as %+v, want %d versions", j, n)
	}
	x.wantFingerprint(x.fresh)
	if under := x.tagged(); under[x.old.Fingerprint()] != 0 {
		x.t.Errorf("%d versions are under the old key", under[x.old.Fingerprint()])
	}
	x.opens()
	if n := x.twin.open(); n != 0 && !x.leaks {
		x.t.Errorf("%d sessions are open", n)
	}
}

func (x *spin) meta() vaultMeta {
	x.t.Helper()
	v, err := x.load(context.Background(), x.id)
	if err != nil {
		x.t.Fatal(err)
	}
	return v.vaultMeta
}

func (x *spin) wantFingerprint(k *cmek.Key) {
	x.t.Helper()
	if m := x.meta(); m.Fingerprint != k.Fingerprint() || m.Rotation != nil || m.KeyCheck != k.Check(x.id) {
		x.t.Errorf("the vault is %+v, want the key %s and no rotation", m, k.Fingerprint())
	}
}

// tagged counts version rows by fingerprint.
func (x *spin) tagged() map[string]int {
	x.t.Helper()
	out := map[string]int{}
	x.each(func(_ string, _ string, _ int, r versionRow) { out[r.Fingerprint]++ })
	return out
}

func (x *spin) each(see func(key, path string, n int, r versionRow)) {
	x.t.Helper()
	for key, row := range x.rows() {
		if !strings.HasPrefix(key, layout.VaultVersions(x.id)) {
			continue
		}
		path, n, _ := parseVersionKey(x.id, key)
		r, err := decodeVersion([]byte(row))
		if err != nil {
			x.t.Fatalf("%s: %v", key, err)
		}
		see(key, path, n, r)
	}
}

// opens fails unless every version opens with the key that its tag names, and
// holds what was written.
func (x *spin) opens(others ...*cmek.Key) {
	x.t.Helper()
	keys := map[string]*cmek.Key{}
	for _, k := range append(others, x.old, x.fresh) {
		keys[k.Fingerprint()] = k
	}
	met := 0
	x.each(func(key, path string, n int, r versionRow) {
		met++
		value, err := x.turn.Service.open(context.Background(), x.id, path, n, r)
		if err != nil {
			x.t.Errorf("%s: %v", key, err)
			return
		}
		if r.Fingerprint != "" {
			plaintext, err := cmek.DecryptValueAt(keys[r.Fingerprint], cmek.Context{VaultID: x.id, Path: path}, value)
			if err != nil {
				x.t.Errorf("%s does not open with the key that its tag names: %v", key, err)
				return
			}
			value = string(plaintext)
		}
		if want, ok := x.holds[key]; !ok || value != want {
			x.t.Errorf("%s holds %q, want %q", key, value, want)
		}
	})
	if met != len(x.holds) {
		x.t.Errorf("%d versions are stored, %d were written", met, len(x.holds))
	}
}

// hides fails when a key, or the text of a value, is in the store, in the log or
// in what the gate was told.
func (x *spin) hides() {
	x.t.Helper()
	said := fmt.Sprintf("%+v %+v", x.asked.Asked(), x.asked.WasDone())
	places := x.rows()
	places["the log"], places["the trail"] = x.log.String(), said
	for _, k := range []*cmek.Key{x.old, x.fresh} {
		raw := k.Bytes()
		for _, text := range []string{string(raw), hex.EncodeToString(raw), base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw)} {
			for where, row := range places {
				if strings.Contains(row, text) {
					x.t.Errorf("%s holds a key", where)
				}
			}
		}
	}
}

var errAway = fault.New(fault.Unavailable, "the key process was killed")
