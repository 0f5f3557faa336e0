package kms

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
)

func TestListDescribesEveryKeyAndRefusesADamagedOne(t *testing.T) {
	r := newRig(t)
	s := r.start()
	r.createKEK(s, "v")
	r.createDEK(s, "t1")
	r.createDEK(s, "t2")
	ring, err := keyring.Parse(ctx, r.root, "v", r.get(layout.KEK("v")).Value)
	r.must(err)
	rotated, err := ring.Rotate(ctx, r.root, day.AddDate(0, 1, 0))
	r.must(err)
	r.put(layout.KEK("v"), rotated.Marshal())

	first := keyring.VersionInfo{Version: 1, State: "enabled", Created: day}
	old, second := first, keyring.VersionInfo{Version: 2, State: "enabled", Created: day.AddDate(0, 1, 0)}
	old.State = "decrypt-only"
	want := Keys{DEKs: 2, KEKs: []KEKVersions{
		{ID: kmsapi.ThreadsKEK, Versions: []keyring.VersionInfo{first}},
		{ID: "v", Versions: []keyring.VersionInfo{old, second}},
	}}
	got, err := s.List(ctx)
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v, %s", err, diff)
	}
	r.put(layout.KEK("w"), rotated.Marshal())
	if got, err := s.List(ctx); len(got.KEKs) != 0 || !errors.Is(err, fault.Damaged) {
		t.Errorf("with a row under another ID: %v, %v", got, err)
	}
}
