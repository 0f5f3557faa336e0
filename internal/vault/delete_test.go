package vault

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// rowsOf is every row that names the vault.
func (r *rig) rowsOf(vaultID string) []string {
	r.t.Helper()
	var out []string
	for key := range r.rows() {
		if strings.Contains(key, vaultID) {
			out = append(out, key)
		}
	}
	return out
}

// fill makes a vault whose purge takes several commits.
func (r *rig) fill() string {
	r.t.Helper()
	v := r.vault()
	for i := range purgeBatch + 3 {
		r.put(v, fmt.Sprintf("p/%d", i), "x")
	}
	r.limited(v, "a", 2)
	r.wantValue(v, "a", "limited")
	return v
}

func TestADeletedVaultIsNotFoundAndLeavesNoRow(t *testing.T) {
	r := newRig(t)
	other := r.fill()
	before := r.rows()
	v := r.fill()
	if err := r.Delete(t.Context(), owner, v); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, r.rows()); diff != "" {
		t.Errorf("not only the vault's rows are gone, or not all: %s", diff)
	}
	for name, do := range r.verbs() {
		if a, b := answer(do(owner, v, "a")), answer(do(owner, noVault, "a")); a != b {
			t.Errorf("%s: %s, of a vault that never was: %s", name, a, b)
		}
	}
	r.wantValue(other, "a", "limited")
	if list, err := r.List(t.Context(), owner); err != nil || len(list.Vaults) != 1 {
		t.Errorf("List = %v, %v", list, err)
	}
}

func TestADeleteThatCrashesAnywhereIsAllOrFinishedByRecover(t *testing.T) {
	crash := errors.New("power cut")
	for _, persisted := range []bool{false, true} {
		for step := range 6 { // commits: the deletion, three batches, the mark, one more
			r := newRig(t)
			before := r.rows()
			v := r.fill()
			whole := r.rows()
			fail := func() error {
				if step--; step < 0 {
					return crash
				}
				return nil
			}
			if persisted {
				r.hooks.afterCommit = fail
			} else {
				r.hooks.beforeCommit = func(*store.Batch) error { return fail() }
			}
			err := r.Delete(t.Context(), owner, v)
			r.hooks.afterCommit, r.hooks.beforeCommit = nil, nil
			_, gone := r.Get(t.Context(), owner, v)
			if err == nil {
				want(t, "Get after Delete", gone, fault.NotFound)
			}
			r.restart()
			wanted := before
			if gone == nil {
				wanted = whole
			}
			if diff := cmp.Diff(wanted, r.rows()); diff != "" {
				t.Errorf("persisted %v, step %d: %s", persisted, step, diff)
			}
		}
	}
}

func TestAPurgeThatFailsIsLoggedAndLeftToRecover(t *testing.T) {
	r := newRig(t)
	v := r.fill()
	calls := 0
	r.hooks.beforeCommit = func(*store.Batch) error {
		if calls++; calls > 1 {
			return errors.New("disk full")
		}
		return nil
	}
	if err := r.Delete(t.Context(), owner, v); err != nil {
		t.Errorf("the vault is gone, so Delete is done: %v", err)
	}
	if !strings.Contains(r.log.String(), v) {
		t.Errorf("the log does not name the vault: %s", r.log)
	}
	want(t, "Recover on a full disk", r.Recover(t.Context()), fault.Internal)
	r.hooks.beforeCommit = nil
	r.restart()
	if rows := r.rowsOf(v); len(rows) != 0 {
		t.Errorf("rows: %q", rows)
	}
}

// Every change is tried with the vault's deletion between its last look and
// its commit: it must find no vault, and leave no row.
func TestAChangeThatMeetsADeleteLeavesNoRow(t *testing.T) {
	verbs := newRig(t).verbs()
	verbs["secret Read of a limited secret"] = nil
	for name := range verbs {
		r := newRig(t)
		v := r.vault()
		switch name {
		case "DisableCMEK":
			if _, err := r.EnableCMEK(t.Context(), owner, v, strings.Repeat("a", 64)); err != nil {
				t.Fatal(err)
			}
		case "secret Read of a limited secret":
			r.limited(v, "a", 9)
		default:
			r.put(v, "a", "x")
		}
		do := r.verbs()[strings.TrimSuffix(name, " of a limited secret")]
		met := false
		r.hooks.beforeCommit = func(*store.Batch) error {
			r.hooks.beforeCommit = nil
			met = true
			return r.Delete(t.Context(), owner, v)
		}
		err := do(owner, v, "a")
		r.hooks.beforeCommit = nil
		if !met {
			continue // a verb that only reads
		}
		if a, b := answer(err), answer(do(owner, noVault, "a")); a != b {
			t.Errorf("%s: %s, of a vault that never was: %s", name, a, b)
		}
		if rows := r.rowsOf(v); len(rows) != 0 {
			t.Errorf("%s left rows: %q", name, rows)
		}
	}
}

func TestAReadThatMeetsADeleteFindsNoVault(t *testing.T) {
	for _, verb := range []string{"secret Read", "secret ReadVersion", "secret Versions"} {
		r := newRig(t)
		v := r.vault()
		r.put(v, "a", "x")
		r.hooks.sawRead = func(key string) {
			if key == layout.SecretVersion(v, "a", 1) {
				r.hooks.sawRead = nil
				if err := r.Delete(t.Context(), owner, v); err != nil {
					t.Error(err)
				}
			}
		}
		err := r.verbs()[verb](owner, v, "a")
		if a, b := answer(err), answer(r.verbs()[verb](owner, noVault, "a")); a != b {
			t.Errorf("%s: %s, of a vault that never was: %s", verb, a, b)
		}
	}
}

func TestWritersWhoMeetADeleteLeaveNothing(t *testing.T) {
	r := newRig(t)
	for range 20 {
		v := r.vault()
		r.limited(v, "limited", 1000)
		var wg sync.WaitGroup
		for w := range 8 {
			wg.Go(func() {
				path := fmt.Sprintf("p/%d", w%3)
				for {
					_, err := r.Put(t.Context(), owner, v, path, api.PutSecret{Value: ptr("x")}, PutOptions{})
					if err == nil {
						_, err = r.Read(t.Context(), owner, v, "limited")
					}
					if err != nil {
						want(t, "a writer", err, fault.NotFound)
						return
					}
				}
			})
		}
		wg.Go(func() {
			for len(r.rowsOf(v)) < 40 {
			}
			if err := r.Delete(t.Context(), owner, v); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if rows := r.rowsOf(v); len(rows) != 0 {
			t.Fatalf("rows: %q", rows)
		}
	}
}
