package vault

import (
	"context"
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
		for step := range 6 { // commits: the deletion, three batches, the last with the mark, and two more
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
// its commit, with the purge done and with the purge still to come: it must
// find no vault, and leave no row.
func TestAChangeThatMeetsADeleteLeavesNoRow(t *testing.T) {
	changes := []string{
		"Delete", "EnableCMEK", "DisableCMEK", "secret Put", "secret Put of a new path", "secret Generate",
		"secret DeleteSecret", "secret Disable", "secret Read of a limited secret",
	}
	for _, name := range changes {
		for _, purged := range []bool{true, false} {
			r := newRig(t)
			v, path := r.vault(), "a"
			switch name {
			case "DisableCMEK":
				if _, err := r.EnableCMEK(t.Context(), owner, v, api.EnableCMEK{Fingerprint: strings.Repeat("a", 64)}); err != nil {
					t.Fatal(err)
				}
			case "secret Put of a new path":
				path = "new"
			case "secret Read of a limited secret":
				r.limited(v, "a", 9)
			default:
				r.put(v, "a", "x")
			}
			verb, _, _ := strings.Cut(name, " of ")
			met := false
			r.hooks.beforeCommit = func(*store.Batch) error {
				met = true
				r.hooks.beforeCommit = nil
				if !purged {
					r.hooks.afterCommit = func() error { // the mark is set; then nothing goes on
						r.hooks.afterCommit = nil
						r.hooks.beforeCommit = failing(errors.New("stuck"))
						return nil
					}
				}
				err := r.Delete(t.Context(), owner, v)
				r.hooks.beforeCommit = nil
				return err
			}
			err := r.verbs()[verb](owner, v, path)
			if a, b := answer(err), answer(r.verbs()[verb](owner, noVault, path)); !met || a != b {
				t.Errorf("%s, purged %v: %s, of a vault that never was: %s", name, purged, a, b)
			}
			r.restart()
			if rows := r.rowsOf(v); len(rows) != 0 {
				t.Errorf("%s, purged %v, left rows: %q", name, purged, rows)
			}
		}
	}
}

func TestAPurgeGoesOnWhenTheCallerGivesUp(t *testing.T) {
	r := newRig(t)
	v := r.fill()
	ctx, giveUp := context.WithCancel(t.Context())
	r.hooks.afterCommit = func() error { giveUp(); return nil }
	if err := r.Delete(ctx, owner, v); err != nil {
		t.Fatal(err)
	}
	if rows := r.rowsOf(v); len(rows) != 0 {
		t.Errorf("rows: %q", rows)
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

func TestAPutThatMeetsAPurgeFindsNoVault(t *testing.T) {
	r := newRig(t)
	v := r.vault()
	r.put(v, "a", "x")
	r.hooks.sawRead = func(key string) {
		if key == layout.SecretHead(v, "a") { // meta and head are gone, the version is still there
			r.hooks.sawRead = nil
			r.unset(layout.VaultMeta(v))
			r.unset(layout.SecretHead(v, "a"))
		}
	}
	err := r.verbs()["secret Put"](owner, v, "a")
	if a, b := answer(err), answer(r.verbs()["secret Put"](owner, noVault, "a")); a != b {
		t.Errorf("%s, of a vault that never was: %s", a, b)
	}
}

func TestWritersWhoMeetADeleteLeaveNothing(t *testing.T) {
	r := newRig(t)
	for range 8 {
		v := r.vault()
		r.limited(v, "limited", 1<<30)
		var all, atWork sync.WaitGroup
		for w := range 8 {
			atWork.Add(1)
			all.Go(func() {
				path, ready := fmt.Sprintf("p/%d", w%3), sync.OnceFunc(atWork.Done)
				defer ready()
				for i := 0; ; i++ {
					_, err := r.Put(t.Context(), owner, v, path, api.PutSecret{Value: ptr("x")}, PutOptions{})
					if err == nil {
						_, err = r.Read(t.Context(), owner, v, "limited")
					}
					if i == 2 {
						ready()
					}
					if err != nil {
						want(t, "a writer", err, fault.NotFound)
						return
					}
				}
			})
		}
		atWork.Wait()
		if err := r.Delete(t.Context(), owner, v); err != nil {
			t.Error(err)
		}
		all.Wait()
		if rows := r.rowsOf(v); len(rows) != 0 {
			t.Fatalf("rows: %q", rows)
		}
	}
}
