package vault

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

// did is what the gate was told has taken effect, as "name path version".
func (r *rig) did() (out []string) {
	for _, d := range r.asked.WasDone() {
		out = append(out, strings.Join([]string{d.Resource.As, d.Resource.Path, d.Resource.Details["version"]}, " "))
	}
	return out
}

// The trail has the number of every version that was stored, and of none that
// was not.
func TestWhatWasStoredIsRecordedWithItsVersion(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "x")
	r.put(v, "a", "y")
	if _, err := r.Generate(t.Context(), owner, v, "a", api.GenerateSecret{}); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteSecret(t.Context(), owner, v, "a"); err != nil {
		t.Fatal(err)
	}
	if got, want := r.did(), []string{"secret.written a 1", "secret.written a 2", "secret.written a 3", "secret.deleted a 3"}; !slices.Equal(got, want) {
		t.Errorf("recorded %q, want %q", got, want)
	}
	y := "y"
	for what, do := range map[string]func() error{
		"a write that was not the newest": func() error {
			_, err := r.Put(t.Context(), owner, v, "b", api.PutSecret{Value: &y}, PutOptions{IfMatch: 7})
			return err
		},
		"a deletion of nothing": func() error { return r.DeleteSecret(t.Context(), owner, v, "a") },
		"a write that the store did not take": func() error {
			r.hooks.beforeCommit = failing(errors.New("disk full"))
			_, err := r.Put(t.Context(), owner, v, "b", api.PutSecret{Value: &y}, PutOptions{})
			return err
		},
	} {
		if err, got := do(), r.did(); err == nil || len(got) > 0 {
			t.Errorf("%s: %v, recorded %q", what, err, got)
		}
		r.hooks.beforeCommit = nil
	}
}

func TestAWriteWhoseVersionIsNotRecordedIsNotAnsweredAsDone(t *testing.T) {
	r := newRig(t)
	v, x := r.vault(), "x"
	r.hooks.beforeCommit = func(*store.Batch) error {
		r.asked.Fail = fault.New(fault.Unavailable, "the audit trail cannot be written")
		return nil
	}
	_, err := r.Put(t.Context(), owner, v, "a", api.PutSecret{Value: &x}, PutOptions{})
	want(t, "Put", err, fault.Unavailable)
}
