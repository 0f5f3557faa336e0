package keyring

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
)

// losing is a root that has lost some versions of every KEK, as a token has
// whose objects were destroyed.
type losing struct {
	Root
	lost map[uint32]bool
}

func (l losing) LoadKEK(ctx context.Context, n Name, stored []byte) (KEK, error) {
	if l.lost[n.Version] {
		return nil, aead.ErrOpen
	}
	return l.Root.LoadKEK(ctx, n, stored)
}

// threeVersions returns the row of a keyring with three versions, and a DEK
// wrapped under each.
func threeVersions(t *testing.T, root Root) (row []byte, wrapped [4][]byte) {
	t.Helper()
	r := newRing(t, root, "a")
	for n := uint32(1); ; n++ {
		wrapped[n], _ = wrap(t, r)
		if n == 3 {
			return r.Marshal(), wrapped
		}
		r = must(r.Rotate(ctx, root, day))(t)
	}
}

func TestAnOlderVersionThatTheRootHasNotIsLostAndTheOthersGoOn(t *testing.T) {
	root := losing{newRoot(t), map[uint32]bool{}}
	row, wrapped := threeVersions(t, root)
	root.lost[1] = true
	parsed := must(Parse(ctx, root, "a", row))(t)
	if !bytes.Equal(parsed.Marshal(), row) {
		t.Error("the row changed")
	}
	rotated := must(parsed.Rotate(ctx, root, day))(t)
	destroyed := must(rotated.Destroy(ctx, root, 2))(t)
	for name, r := range map[string]*Keyring{
		"parsed": parsed, "rotated": rotated, "destroyed": destroyed, "parsed again": must(Parse(ctx, root, "a", destroyed.Marshal()))(t),
	} {
		mustBeLost(t, r, wrapped[1])
		mustUnwrap(t, r, 3, wrapped[3])
		w, n := wrap(t, r)
		mustUnwrap(t, r, n, w)
		for _, v := range r.Versions() {
			if v.Lost != (v.Version == 1) {
				t.Errorf("%s: version %d: lost %t", name, v.Version, v.Lost)
			}
		}
		if state := r.Versions()[0].State; state != "decrypt-only" {
			t.Errorf("%s: the lost version is %s", name, state)
		}
		r.Wipe()
	}
	root.lost[1] = false
	mustUnwrap(t, must(Parse(ctx, root, "a", rotated.Marshal()))(t), 1, wrapped[1]) // the root has it again
}

func mustBeLost(t *testing.T, r *Keyring, wrapped []byte) {
	t.Helper()
	mustNotUnwrap(t, r, 1, wrapped, aad)
	_, err := r.Unwrap(1, wrapped, aad)
	if fault.Of(err).Code != fault.Damaged {
		t.Errorf("a lost version answers %v; want fault.Damaged", err)
	}
	if w, _, err := r.Rewrap(1, wrapped, aad); w != nil || fault.Of(err).Code != fault.Damaged {
		t.Errorf("a lost version rewraps: %v", err)
	}
}

func TestALostVersionCanBeDestroyed(t *testing.T) {
	root := losing{newRoot(t), map[uint32]bool{1: true}}
	row, wrapped := threeVersions(t, root.Root)
	r := must(must(Parse(ctx, root, "a", row))(t).Destroy(ctx, root, 1))(t)
	if v := r.Versions()[0]; v.Lost || v.State != "destroyed" {
		t.Errorf("%+v", v)
	}
	mustNotUnwrap(t, r, 1, wrapped[1], aad)
	mustUnwrap(t, must(Parse(ctx, root, "a", r.Marshal()))(t), 2, wrapped[2])
}

func TestAKEKWhosePrimaryIsLostIsDamaged(t *testing.T) {
	root := losing{newRoot(t), map[uint32]bool{}}
	row, _ := threeVersions(t, root)
	root.lost[3] = true
	r, err := Parse(ctx, root, "a", row)
	mustBeDamaged(t, "a lost primary", r, err)
}

// What makes a version look lost must not be in the hands of whoever writes to
// the store.
func TestNoEditOfARowMakesAVersionLost(t *testing.T) {
	root := newRoot(t)
	row, _ := threeVersions(t, root)
	for name, edit := range map[string]func(v []version){
		"material damaged": func(v []version) { v[0].Stored[5] ^= 1 },
		"material swapped": func(v []version) { v[0].Stored, v[1].Stored = v[1].Stored, v[0].Stored },
		"material removed": func(v []version) { v[0].Stored = nil },
	} {
		var versions []version
		if err := json.Unmarshal(row[sealSize:], &versions); err != nil {
			t.Fatal(err)
		}
		edit(versions)
		r, err := Parse(ctx, root, "a", append(bytes.Clone(row[:sealSize]), must(json.Marshal(versions))(t)...))
		mustBeDamaged(t, name, r, err)
	}
}

// Names that nobody vouches for do not come to the root.
func TestARowIsVerifiedBeforeItsOlderVersionsAreLoaded(t *testing.T) {
	root := newRoot(t)
	row, _ := threeVersions(t, root)
	row = bytes.Replace(row, []byte(`"version":1,"state":"decrypt-only"`), []byte(`"version":1,"state":"decrypt-only" `), 1)
	r, err := Parse(ctx, &awayRoot{Root: root, calls: 1}, "a", row)
	mustBeDamaged(t, "a row with a space more", r, err) // and the root was asked for the primary alone
}

func TestTheUseRowOfALostVersionCountsAsNone(t *testing.T) {
	root := losing{newRoot(t), map[uint32]bool{}}
	r1 := newRing(t, root, "a")
	use := must(r1.MarshalUse(Use{}.Add(1, 100)))(t)
	r2 := must(r1.Rotate(ctx, root, day))(t)
	root.lost[1] = true
	lost := must(Parse(ctx, root, "a", r2.Marshal()))(t)
	got, err := lost.ParseUse(use)
	if err != nil || len(got.Wraps) != 0 || got.Released != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	again := must(lost.MarshalUse(got.Add(2, 50)))(t)
	if got, err := lost.ParseUse(again); err != nil || got.Wraps[2] != 50 {
		t.Errorf("%+v, %v", got, err)
	}
}

// dumb is a root whose KEKs load and then are away.
type dumb struct{ Root }

type dumbKEK struct{ KEK }

func (d dumb) LoadKEK(ctx context.Context, n Name, stored []byte) (KEK, error) {
	kek, err := d.Root.LoadKEK(ctx, n, stored)
	return dumbKEK{kek}, err
}

func (dumbKEK) Unwrap(_, _ []byte) ([]byte, error) { return nil, errAway }

func TestARootThatGoesAwayBeforeTheSealIsOpenedIsNotDamage(t *testing.T) {
	root := newRoot(t)
	r, err := Parse(ctx, dumb{root}, "a", newRing(t, root, "a").Marshal())
	if r != nil || fault.Of(err).Code != fault.Unavailable || !errors.Is(err, errAway) {
		t.Errorf("%v, %v", r, err)
	}
}
