package thread

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// ImportKEK takes none.
func (k *twinKMS) ImportKEK(context.Context, []byte) (kmsapi.Rotated, error) {
	return kmsapi.Rotated{}, fault.New(fault.Invalid, "no keys are taken here")
}

// importingKMS takes keys up, and then fails with err.
type importingKMS struct {
	*twinKMS
	took []string
	err  error
}

func (k *importingKMS) ImportKEK(_ context.Context, raw []byte) (kmsapi.Rotated, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.took) == 0 || k.took[len(k.took)-1] != string(raw) {
		k.rotations++
	}
	k.took = append(k.took, string(raw))
	return kmsapi.Rotated{KEKVersion: 1 + k.rotations}, k.err
}

func TestAnImportedKEKIsThePrimaryThatDEKsAreRewrappedUnder(t *testing.T) {
	w := newWorld(t)
	kms := &importingKMS{twinKMS: w.kms}
	s := New(Config{Store: w.store, KMS: kms, Gate: new(accesstest.Gate)})
	named, other := w.thread(t, owner, "a").ID, w.thread(t, owner, "b").ID
	for range 2 { // the answer of the first was lost
		out, err := s.RewrapDEKs(t.Context(), []string{named}, []byte("a key"))
		if err != nil || len(out) != 1 || out[0].KEKVersion != 2 || out[0].Err != nil {
			t.Errorf("%+v, %v", out, err)
		}
		if got := w.under(t); fmt.Sprint(got) != "map[1:1 2:1]" {
			t.Error(got)
		}
	}
	if out, err := s.RewrapDEKs(t.Context(), nil, []byte("another")); err != nil || len(out) != 2 || fmt.Sprint(w.under(t)) != "map[3:2]" {
		t.Errorf("%+v, %v", out, err)
	}
	if out, err := s.RewrapDEKs(t.Context(), []string{other}, nil); err != nil || len(out) != 1 || len(kms.took) != 3 {
		t.Errorf("%+v, %v, %d imports", out, err, len(kms.took))
	}
}

func TestARefusedImportRewrapsNothingAndSaysWhatToDo(t *testing.T) {
	w := newWorld(t)
	kms := &importingKMS{twinKMS: w.kms}
	s := New(Config{Store: w.store, KMS: kms, Gate: new(accesstest.Gate)})
	id := w.thread(t, owner, "a").ID
	before := w.dump(t)
	_, err := w.RewrapDEKs(t.Context(), []string{id}, []byte("a key"))
	wantCode(t, err, fault.Invalid)
	for code, want := range map[fault.Code]struct {
		code fault.Code
		text string
	}{
		fault.Invalid: {fault.Invalid, "the KMS's own words"}, fault.Forbidden: {fault.Invalid, "role admin"}, fault.Unavailable: {fault.Unavailable, "send the same call again"},
		fault.Internal: {fault.Unavailable, "send the same call again"}, fault.NotFound: {fault.Unavailable, "send the same call again"}, fault.Damaged: {fault.Unavailable, "send the same call again"},
	} {
		kms.err = fault.New(code, "the KMS's own words")
		_, err := s.RewrapDEKs(t.Context(), []string{id}, []byte("a key"))
		if !errors.Is(err, want.code) || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v", code, err)
		}
	}
	w.unchanged(t, before)
	kms.took = nil
	_, err = s.RewrapDEKs(t.Context(), make([]string, MaxRewrap+1), []byte("a key"))
	wantCode(t, err, fault.Invalid)
	if len(kms.took) != 0 {
		t.Error("a call that is too large imports")
	}
}
