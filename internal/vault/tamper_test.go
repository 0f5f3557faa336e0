package vault

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
)

// wantDamaged reads every version of every path and wants each damaged one to
// say so in one way.
func (r *rig) wantDamaged(what, vaultID, path string, n int) {
	r.t.Helper()
	got, err := r.ReadVersion(r.t.Context(), owner, vaultID, path, n)
	if got.Secret.Value != "" {
		r.t.Errorf("%s: it opened as %q", what, got.Secret.Value)
	}
	if answer(err) != answer(damaged(nil)) {
		r.t.Errorf("%s: %v, want the one answer to damaged rows", what, err)
	}
}

func TestARowMovedToAnotherPathVersionOrVaultDoesNotOpen(t *testing.T) {
	r := newRig(t)
	v, w := r.vault(), r.vault()
	type place struct {
		vault, path string
		n           int
	}
	places := []place{{v, "a", 1}, {v, "a", 2}, {v, "b", 1}, {v, "b", 2}, {v, "a/b", 1}, {w, "a", 1}, {w, "a", 2}}
	for _, p := range places {
		r.put(p.vault, p.path, "x")
	}
	key := func(p place) string { return layout.SecretVersion(p.vault, p.path, p.n) }
	rows := r.rows()
	for _, from := range places {
		for _, to := range places {
			r.set(key(to), rows[key(from)])
			if from == to {
				if _, err := r.ReadVersion(t.Context(), owner, to.vault, to.path, to.n); err != nil {
					t.Errorf("its own row: %v", err)
				}
			} else {
				r.wantDamaged(key(from)+" at "+key(to), to.vault, to.path, to.n)
			}
			r.set(key(to), rows[key(to)])
		}
	}
}

func TestAnEditedAttributeDoesNotOpen(t *testing.T) {
	r := newRig(t)
	v, key := r.sealed()
	at := r.present().Add(time.Hour)
	value := blob(t, key, "x")
	_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{
		Value: &value, ExpiresAt: &at, MaxAccessCount: ptr(3), Metadata: json.RawMessage(`{"a":1}`), RotationPolicy: json.RawMessage(`{"days":1}`),
	}, PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	rowKey := layout.SecretVersion(v, "a", 1)
	original := r.rows()[rowKey]
	edit := func(name string, change func(*versionRow)) {
		row, err := decodeVersion([]byte(original))
		if err != nil {
			t.Fatal(err)
		}
		change(&row)
		edited, err := encodeVersion(row.raw, row.envelope)
		if err != nil {
			t.Fatal(err)
		}
		if string(edited) == original {
			t.Fatalf("%s: nothing was edited", name)
		}
		r.set(rowKey, string(edited))
		r.wantDamaged(name, v, "a", 1)
	}
	attribute := func(name string, change func(*attributes)) {
		edit(name, func(row *versionRow) {
			change(&row.attributes)
			row.raw = mustJSON(t, row.attributes)
		})
	}
	attribute("id", func(a *attributes) { a.SecretID = noVault })
	attribute("type", func(a *attributes) { a.Type = "note" })
	attribute("created_at", func(a *attributes) { a.CreatedAt = a.CreatedAt.Add(1) })
	attribute("created_by", func(a *attributes) { a.CreatedBy = mate.Ref() })
	attribute("metadata", func(a *attributes) { a.Metadata = `{"a":2}` })
	attribute("metadata taken away", func(a *attributes) { a.Metadata = "" })
	attribute("expiry put off", func(a *attributes) { a.ExpiresAt = ptr(a.ExpiresAt.Add(time.Hour)) })
	attribute("expiry taken away", func(a *attributes) { a.ExpiresAt = nil })
	attribute("rotation policy", func(a *attributes) { a.RotationPolicy = "" })
	attribute("limit raised", func(a *attributes) { a.MaxAccessCount = 1000 })
	attribute("limit taken away", func(a *attributes) { a.MaxAccessCount = 0 })
	attribute("fingerprint", func(a *attributes) { a.Fingerprint = strings.Repeat("a", 64) })
	attribute("fingerprint taken away", func(a *attributes) { a.Fingerprint = "" })
	edit("spelling", func(row *versionRow) { row.raw = append([]byte("{ "), row.raw[1:]...) })
	edit("an unknown attribute", func(row *versionRow) { row.raw = append([]byte(`{"x":1,`), row.raw[1:]...) })
	edit("KEK ID", func(row *versionRow) { row.envelope.KEKID = "vault-" + noVault })
	edit("KEK version", func(row *versionRow) { row.envelope.KEKVersion++ })

	r.set(rowKey, original)
	r.wantValue(v, "a", value)
}

func TestAFlippedOrMissingByteOfAVersionDoesNotOpen(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "old")
	_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{
		Value: ptr("canary"), MaxAccessCount: ptr(5), Metadata: json.RawMessage(`{"a":1}`), RotationPolicy: json.RawMessage(`{"days":1}`),
	}, PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	key := layout.SecretVersion(v, "a", 2)
	row := r.rows()[key]
	for i := range row {
		for bit := range 8 {
			flipped := []byte(row)
			flipped[i] ^= 1 << bit
			r.set(key, string(flipped))
			r.wantDamaged("flipped", v, "a", 2)
		}
		r.set(key, row[:i])
		r.wantDamaged("truncated", v, "a", 2)
	}
	r.set(key, row+"\x00")
	r.wantDamaged("extended", v, "a", 2)
	r.unset(key)
	r.wantDamaged("lost", v, "a", 2)
	_, err = r.Versions(t.Context(), owner, v, "a", false)
	want(t, "Versions with one lost", err, fault.Damaged)
	r.set(key, row)
	r.wantValue(v, "a", "canary")
}

// snapshot is all that owner sees of a vault.
func (r *rig) snapshot(vaultID string, paths ...string) map[string]string {
	out := map[string]string{}
	note := func(name string, v any, err error) {
		text, _ := json.Marshal(v)
		if err != nil {
			text = []byte("error " + answer(err))
		}
		out[name] = string(text)
	}
	ctx := r.t.Context()
	g, err := r.Get(ctx, owner, vaultID)
	note("Get", g, err)
	l, err := r.ListSecrets(ctx, owner, vaultID, "", false)
	note("ListSecrets", l, err)
	for _, p := range paths {
		vs, err := r.Versions(ctx, owner, vaultID, p, false)
		note("Versions "+p, vs, err)
		read, err := r.Read(ctx, owner, vaultID, p)
		note("Read "+p, read, err)
		read, err = r.ReadVersion(ctx, owner, vaultID, p, 1)
		note("ReadVersion "+p, read, err)
	}
	return out
}

// A row without AEAD has a checksum: it does not stop a forger, but no decayed
// row is answered from.
func TestAFlippedByteOfAnyOtherRowIsAnErrorOrDoesNoHarm(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "one")
	r.put(v, "a", "two")
	r.put(v, "b", "other")
	if err := r.DisableVersion(t.Context(), owner, v, "a", 1); err != nil {
		t.Fatal(err)
	}
	whole := r.snapshot(v, "a", "b")
	rows := r.rows()
	for _, key := range []string{layout.VaultMeta(v), layout.SecretHead(v, "a"), layout.SecretState(v, "a", 1)} {
		row := rows[key]
		if row == "" {
			t.Fatalf("no row %s", key)
		}
		check := func(name, changed string) {
			r.set(key, changed)
			errs := 0
			for what, got := range r.snapshot(v, "a", "b") {
				if strings.HasPrefix(got, "error") && got != whole[what] {
					errs++
				} else if got != whole[what] {
					t.Errorf("%s %s, %s: %s", name, key, what, got)
				}
			}
			if errs == 0 {
				t.Errorf("%s %s: nobody noticed", name, key)
			}
		}
		for i := range row {
			flipped := []byte(row)
			flipped[i] ^= 1 << (i % 8)
			check("flipped", string(flipped))
			check("truncated", row[:i])
		}
		check("extended", row+"\x00")
		r.set(key, row)
	}
}

func TestAMisplacedRowIsDamaged(t *testing.T) {
	r := newRig(t)
	v, w := r.vault(), r.vault()
	for _, path := range []string{"a", "b"} {
		r.put(v, path, path)
		if err := r.DisableVersion(t.Context(), owner, v, path, 1); err != nil {
			t.Fatal(err)
		}
		r.put(v, path, path)
	}
	rows := r.rows()
	for from, to := range map[string]string{
		layout.VaultMeta(w):           layout.VaultMeta(v),
		layout.SecretHead(v, "b"):     layout.SecretHead(v, "a"),
		layout.SecretState(v, "b", 1): layout.SecretState(v, "a", 1),
	} {
		r.set(to, rows[from])
		_, err := r.ReadVersion(t.Context(), owner, v, "a", 1)
		want(t, from+" at "+to, err, fault.Damaged)
		r.set(to, rows[to])
	}
}

// What AAD cannot show, and the threat model says so: a head that was put back
// answers the older version, under its own number.
func TestAHeadPutBackAnswersTheOlderVersionUnderItsOwnNumber(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "one")
	old := r.rows()[layout.SecretHead(v, "a")]
	r.put(v, "a", "two")
	r.set(layout.SecretHead(v, "a"), old)
	got, err := r.read(v, "a")
	if err != nil || got.Secret.Value != "one" || got.Secret.Version != 1 {
		t.Errorf("Read = %+v, %v", got, err)
	}
}

// Whatever a forger writes into head, state and meta, a read answers an error
// or a version of that very path with its true number.
func TestNoForgedHeadStateOrMetaShowsAnotherSecretsValue(t *testing.T) {
	r := newRig(t)
	v, w := r.vault(), r.vault()
	values := map[string]string{} // by value: path and number
	for _, c := range []struct{ vault, path, value string }{{v, "a", "a1"}, {v, "a", "a2"}, {v, "b", "b1"}, {w, "a", "wa1"}, {w, "a", "wa2"}} {
		r.put(c.vault, c.path, c.value)
		values[c.value] = c.vault + c.path
	}
	rows := r.rows()
	forge := func(key string, row any) {
		forged, err := encodeRow(key, row)
		if err != nil {
			return // not a time that JSON has
		}
		r.set(key, string(forged))
	}
	rapid.Check(t, func(t *rapid.T) {
		defer func() {
			for _, key := range slices.Sorted(maps.Keys(r.rows())) {
				if rows[key] == "" {
					r.unset(key)
				} else {
					r.set(key, rows[key])
				}
			}
		}()
		number := rapid.OneOf(rapid.IntRange(-2, 4), rapid.Int())
		if rapid.Bool().Draw(t, "head") {
			forge(layout.SecretHead(v, "a"), secretHead{ID: rapid.String().Draw(t, "id"), Version: number.Draw(t, "version"), DeletedThrough: number.Draw(t, "deleted"), Metadata: rapid.String().Draw(t, "metadata")})
		}
		if rapid.Bool().Draw(t, "state") {
			forge(layout.SecretState(v, "a", 1), versionState{Disabled: rapid.Bool().Draw(t, "disabled"), Reads: number.Draw(t, "reads")})
		}
		if rapid.Bool().Draw(t, "meta") {
			forge(layout.VaultMeta(v), vaultMeta{OrgID: owner.OrgID, OwnerID: owner.ID, KEKID: "vault-" + w, Fingerprint: rapid.String().Draw(t, "fingerprint")})
		}
		n := number.Draw(t, "n")
		for _, read := range []func() (Read, error){
			func() (Read, error) { return r.read(v, "a") },
			func() (Read, error) { return r.ReadVersion(r.t.Context(), owner, v, "a", n) },
		} {
			got, err := read()
			if err == nil && (values[got.Secret.Value] != v+"a" || got.Secret.Value != "a"+string(rune('0'+got.Secret.Version))) {
				t.Errorf("Read = %+v", got)
			}
		}
		r.snapshot(v, "a") // must not panic
		_, _ = r.Put(r.t.Context(), owner, v, "a", api.PutSecret{Value: ptr("new")}, PutOptions{})
		for key, row := range rows {
			if strings.Contains(key, ":version:") && r.rows()[key] != row {
				t.Errorf("a Put changed %s", key)
			}
		}
	})
}

func TestACanaryIsNowhereButInTheAnswer(t *testing.T) {
	const canary = "canary-9c41b7d2-canary"
	r := newRig(t)
	v := r.vault()
	sealed, key := r.sealed()
	var errs []error
	try := func(_ any, err error) { errs = append(errs, err) }
	put := func(vaultID, path string, req api.PutSecret, opt PutOptions) {
		if req.Value == nil {
			req.Value = ptr(canary)
		}
		try(r.Put(t.Context(), owner, vaultID, path, req, opt))
	}
	put(v, "a", api.PutSecret{}, PutOptions{})
	put(v, "a", api.PutSecret{MaxAccessCount: ptr(1)}, PutOptions{})
	put(sealed, "a", api.PutSecret{Value: ptr(blob(t, key, canary))}, PutOptions{})
	r.wantValue(v, "a", canary)
	if got, err := r.ReadVersion(t.Context(), owner, v, "a", 1); err != nil || got.Secret.Value != canary {
		t.Fatal(err)
	}

	put(sealed, "a", api.PutSecret{}, PutOptions{})
	put(v, "a", api.PutSecret{}, PutOptions{DeclaredFingerprint: canary})
	put(v, "a", api.PutSecret{}, PutOptions{IfMatch: 9})
	put(v, canary+".", api.PutSecret{}, PutOptions{})
	put(v, "a", api.PutSecret{Type: canary}, PutOptions{})
	put(v, "a", api.PutSecret{Metadata: json.RawMessage(canary)}, PutOptions{})
	put(v, "a", api.PutSecret{Value: ptr(canary + "\xff")}, PutOptions{})
	put(v, "a", api.PutSecret{Value: ptr(strings.Repeat(canary, MaxValue/8))}, PutOptions{})
	put(canary, "a", api.PutSecret{}, PutOptions{})
	r.kms.itemErr = fault.New(fault.Internal, "broken")
	put(v, "a", api.PutSecret{}, PutOptions{})
	try(r.ReadVersion(t.Context(), owner, v, "a", 1))
	r.kms.itemErr = nil
	try(r.read(v, "a"))
	try(r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: canary}))
	row := r.rows()[layout.SecretVersion(v, "a", 1)]
	r.set(layout.SecretVersion(v, "a", 1), row[:len(row)-1])
	try(r.ReadVersion(t.Context(), owner, v, "a", 1))

	failed := 0
	for _, err := range errs {
		for ; err != nil; err = errors.Unwrap(err) {
			failed++
			if strings.Contains(err.Error(), "canary") {
				t.Errorf("the error shows it: %v", err)
			}
		}
	}
	if failed < 13 {
		t.Errorf("only %d errors", failed)
	}
	for key, row := range r.rows() {
		if strings.Contains(key+row, "canary") {
			t.Errorf("the row %s shows it", key)
		}
	}
	if strings.Contains(r.log.String(), "canary") {
		t.Error("the log shows it")
	}
}

func TestEveryAnswerSurvivesARestart(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "one")
	r.put(v, "a", "two")
	before := r.snapshot(v, "a")
	r.restart()
	if diff := cmp.Diff(before, r.snapshot(v, "a")); diff != "" {
		t.Error(diff)
	}
}
