//go:build cgo && !windows

package pkcs11root

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/keyring"
)

// losses are ways to lose a token, each with the way back.
var losses = map[string]func(h *hsm, r *Root) (back func()){
	"all sessions are closed": func(h *hsm, r *Root) func() {
		h.must(r.mod.lib.(*library).CloseAllSessions(r.conn.slot))
		return nil
	},
	"one session is closed": func(h *hsm, r *Root) func() {
		h.must(r.mod.lib.CloseSession(r.conn.all[1]))
		return nil
	},
	"it is logged out": func(h *hsm, r *Root) func() {
		h.must(r.mod.lib.(*library).Logout(r.conn.all[0]))
		return nil
	},
	"the library is started again": func(h *hsm, r *Root) func() {
		h.must(r.mod.lib.Finalize())
		h.must(r.mod.lib.Initialize())
		return nil
	},
	"the token is removed": func(h *hsm, r *Root) func() {
		h.must(os.Rename(h.Dir, h.Dir+"-away"))
		return func() { h.must(os.Rename(h.Dir+"-away", h.Dir)) }
	},
}

func TestALostTokenIsTakenUpAgain(t *testing.T) {
	h := newHSM(t)
	for name, lose := range losses {
		for _, call := range []string{"Wrap", "Unwrap", "LoadKEK", "LoadKEK of nothing", "DestroyKEK", "DestroyKEK of nothing", "MakeKEK", "Check"} {
			r := h.open()
			k, stored := h.kek(r, kekA)
			w := h.wrap(k)
			_, doomed := h.kek(r, kekA)
			calls := map[string]func() error{
				"Wrap":                  func() error { _, err := k.Wrap(dek, aad); return err },
				"Unwrap":                func() error { _, err := k.Unwrap(w, aad); return err },
				"LoadKEK":               func() error { _, err := r.LoadKEK(ctx, kekA, stored); return err },
				"LoadKEK of nothing":    func() error { _, err := r.LoadKEK(ctx, kekA, nil); return err },
				"DestroyKEK":            func() error { return r.DestroyKEK(ctx, kekA, doomed) },
				"DestroyKEK of nothing": func() error { return r.DestroyKEK(ctx, kekA, nil) },
				"MakeKEK":               func() error { _, err := r.MakeKEK(ctx, kekA); return err },
				"Check":                 func() error { return r.Check(ctx) },
			}
			back := lose(h, r)
			what := name + ", then " + call
			if back != nil {
				for range 2 { // the second finds no connection at all
					h.mustBeAway(what, calls[call]())
				}
				back()
			}
			err := calls[call]()
			if call == "LoadKEK of nothing" && errors.Is(err, aead.ErrOpen) {
				err = nil
			}
			if err != nil {
				t.Errorf("%s: %v (%v)", what, err, errors.Unwrap(err))
			}
			h.must(r.Check(ctx))
			h.mustUnwrap(k, w)
			if _, err := r.LoadKEK(ctx, kekA, doomed); (err == nil) == (call == "DestroyKEK") {
				t.Errorf("%s: a KEK that was to be destroyed: %v", what, err)
			}
			r.Wipe()
		}
	}
}

func TestCallersInFlightSurviveALossTogether(t *testing.T) {
	h := newHSM(t)
	h.config.Sessions = 4
	r := h.open()
	k, _ := h.kek(r, kekA)
	w := h.wrap(k)
	for range 10 {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for range 50 {
					if got, err := k.Unwrap(w, aad); err != nil || !bytes.Equal(got, dek) {
						t.Errorf("a caller hears of it: %v (%v)", err, errors.Unwrap(err))
						return
					}
				}
			})
		}
		r.mod.use.Lock() // a token that acts between two calls; what it does within one is SoftHSM's to survive
		r.mod.lib.(*library).CloseAllSessions(r.conn.slot)
		r.mod.use.Unlock()
		wg.Wait()
	}
}

func TestATokenThatIsAwayIsAskedOnceInAWhile(t *testing.T) {
	h, s := newHSM(t), &spy{}
	r := h.openOver(s.over)
	k, _ := h.kek(r, kekA)
	back := losses["the token is removed"](h, r)
	r.pause = time.Hour
	r.tried = time.Time{}
	before := s.calls["slots"]
	for range 100 {
		_, err := k.Wrap(dek, aad)
		h.mustBeAway("removed", err)
	}
	if n := s.calls["slots"] - before; n > 2 {
		t.Errorf("100 calls look for the token %d times", n)
	}
	back()
	r.pause = 0
	h.wrap(k)
}

func TestATokenInitialisedAgainIsNotTakenForTheOldOne(t *testing.T) {
	h := newHSM(t)
	r := h.open()
	k, stored := h.kek(r, kekA)
	h.must(os.Rename(h.Dir, h.Dir+"-old"))
	h.must(os.Mkdir(h.Dir, 0o700))
	h.InitToken(h, "keyfold")
	for range 2 {
		_, err := k.Wrap(dek, aad)
		h.mustBeAway("wrap", err)
		if !errors.Is(err, errReplaced) || !strings.Contains(err.Error(), "put the former one back") {
			t.Errorf("%v (%v)", err, errors.Unwrap(err))
		}
		_, err = r.LoadKEK(ctx, kekA, stored)
		h.mustBeAway("load", err)
		h.mustBeAway("destroy", r.DestroyKEK(ctx, kekA, stored))
		h.mustBeAway("check", r.Check(ctx))
	}
	h.must(os.RemoveAll(h.Dir))
	h.must(os.Rename(h.Dir+"-old", h.Dir))
	h.wrap(k)
}

func TestTwoRootsShareALibraryAndEachGoesByItself(t *testing.T) {
	h := newHSM(t)
	h.InitToken(h, "second")
	one := h.open()
	h.config.Token = "second"
	two := h.open()
	k1, s1 := h.kek(one, kekA)
	k2, s2 := h.kek(two, kekA)
	w1, w2 := h.wrap(k1), h.wrap(k2)
	if _, err := one.LoadKEK(ctx, kekA, s2); !errors.Is(err, aead.ErrOpen) {
		t.Errorf("one token loads the other's KEK: %v", err)
	}
	if _, err := two.LoadKEK(ctx, kekA, s1); !errors.Is(err, aead.ErrOpen) {
		t.Errorf("one token loads the other's KEK: %v", err)
	}
	back := losses["the token is removed"](h, one) // both of them
	h.mustBeAway("one", one.Check(ctx))
	h.mustBeAway("two", two.Check(ctx))
	back()
	h.mustUnwrap(k1, w1)
	h.mustUnwrap(k2, w2)
	h.mustUnwrap(k1, w1)
	one.Wipe()
	one.Wipe()
	if _, err := k1.Wrap(dek, aad); !errors.Is(err, errWiped) {
		t.Errorf("a wiped root: %v", err)
	}
	h.mustUnwrap(k2, w2)
}

func TestADestroyedKEKIsGoneFromTheToken(t *testing.T) {
	h := newHSM(t)
	r := h.open()
	other := h.open()
	k, stored := h.kek(r, kekA)
	w := h.wrap(k)
	kept, _ := h.kek(r, keyring.Name{KEKID: "a", Version: 2})
	h.must(r.DestroyKEK(ctx, keyring.Name{KEKID: "b", Version: 1}, stored)) // names nothing
	h.mustUnwrap(k, w)
	for range 2 {
		h.must(r.DestroyKEK(ctx, kekA, stored))
	}
	h.must(other.DestroyKEK(ctx, kekA, stored))
	if _, err := r.LoadKEK(ctx, kekA, stored); !errors.Is(err, aead.ErrOpen) {
		t.Errorf("it loads: %v", err)
	}
	if got, err := k.Unwrap(w, aad); got != nil || err == nil {
		t.Error("a KEK that was loaded before unwraps still")
	}
	h.wrap(kept)
	h.must(r.Check(ctx))
}

// Who is not logged in sees no KEK, and must not take it for lost.
func TestAKEKThatAnotherProcessMadeIsFoundAlsoAfterALogout(t *testing.T) {
	h := newHSM(t)
	r, other := h.open(), h.open()
	_, stored := h.kek(other, kekA)
	losses["it is logged out"](h, r)
	if _, err := r.LoadKEK(ctx, kekA, stored); err != nil {
		t.Error(err)
	}
}

func TestAWrongPINIsTriedOnce(t *testing.T) {
	h, s := newHSM(t), &spy{}
	good := h.config.PIN
	h.config.PIN = func() ([]byte, error) { return []byte("wrong-pin-555"), nil }
	r, err := open(h.config, s.over)
	if r != nil || !errors.Is(err, errPIN) || s.calls["login"] != 1 || strings.Contains(err.Error(), "555") {
		t.Errorf("at start: %v after %d logins", err, s.calls["login"])
	}
	h.config.PIN = good
	s = &spy{}
	r = h.openOver(s.over)
	k, _ := h.kek(r, kekA)
	r.cfg.PIN = func() ([]byte, error) { return []byte("wrong-pin-555"), nil }
	losses["all sessions are closed"](h, r)
	for range 5 {
		_, err := k.Wrap(dek, aad)
		h.mustBeAway("a PIN changed while running", err)
		if !strings.Contains(err.Error(), "correct it and start") {
			t.Error(err)
		}
	}
	if s.calls["login"] != 2 {
		t.Errorf("%d logins: the token locks after a few", s.calls["login"])
	}
}

func TestAPINIsWipedAndIsInNoErrorNorLog(t *testing.T) {
	h := newHSM(t)
	var given [][]byte
	h.config.PIN = func() ([]byte, error) {
		given = append(given, []byte(h.PIN))
		return given[len(given)-1], nil
	}
	r := h.open()
	k, _ := h.kek(r, kekA)
	losses["it is logged out"](h, r)
	h.wrap(k)
	if len(given) != 2 || !bytes.Equal(bytes.Join(given, nil), make([]byte, 2*len(h.PIN))) {
		t.Errorf("%d PINs, not all wiped", len(given))
	}
	var out strings.Builder
	log := slog.New(slog.NewJSONHandler(&out, nil))
	back := losses["the token is removed"](h, r)
	_, err := k.Wrap(dek, aad)
	back()
	for _, v := range []any{r, *r, k, r.conn, err, errors.Unwrap(err)} {
		log.Info("x", "v", v)
		fmt.Fprintf(&out, "%v %+v %#v %s", v, v, v, v)
	}
	for _, secret := range []string{h.PIN, hex.EncodeToString([]byte(h.PIN)), strings.Trim(fmt.Sprint([]byte(h.PIN)), "[]")} {
		if strings.Contains(out.String(), secret) {
			t.Error("the PIN is printed")
		}
	}
}

func TestOpenSaysWhatToDo(t *testing.T) {
	h := newHSM(t)
	slot := uint(987654321)
	for want, change := range map[string]func(*Config){
		"needs a token":                     func(c *Config) { c.Token = "" },
		"a PIN":                             func(c *Config) { c.PIN = nil },
		"correct module-path":               func(c *Config) { c.Module = "/nonexistent/lib.so" },
		"is not a PKCS#11 library":          func(c *Config) { c.Module = "libm.so.6" },
		"has: [token=keyfold serial=":       func(c *Config) { c.Token = "other" },
		"correct token, serial or slot-id":  func(c *Config) { c.Serial = "1" },
		"has no such token":                 func(c *Config) { c.Slot = &slot },
		"read the PIN of token \"keyfold\"": func(c *Config) { c.PIN = func() ([]byte, error) { return nil, os.ErrPermission } },
	} {
		cfg := h.config
		change(&cfg)
		if r, err := Open(ctx, cfg); err == nil || r != nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v, %v", want, r, err)
		}
	}
	h.InitToken(h, "keyfold")
	if _, err := Open(ctx, h.config); err == nil || !strings.Contains(err.Error(), "name one by its serial") {
		t.Errorf("two tokens of one label: %v", err)
	}
	t.Setenv("SOFTHSM2_CONF", "/nonexistent/softhsm2.conf")
	if _, err := Open(ctx, h.config); err == nil || !strings.Contains(err.Error(), "SOFTHSM2_CONF") {
		t.Errorf("SoftHSM without its configuration: %v", err)
	}
}

func TestAllOfThisWorksForAnOrdinaryUser(t *testing.T) {
	if os.Getuid() != 0 {
		return // it just did
	}
	newHSM(t) // or skips
	dir, err := os.MkdirTemp("", "keyfold-nobody-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "pkcs11root.test")
	if err := errors.Join(os.WriteFile(binary, self, 0o755), os.Chown(dir, 65534, 65534)); err != nil {
		t.Fatal(err)
	}
	c, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(c, binary, "-test.v", "-test.short", "-test.run", "TestAKEKIsMade|TestALostToken|TestAWrongPIN|TestOpenSays|TestAPIN")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "TMPDIR="+dir, "HOME="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || bytes.Count(out, []byte("--- PASS")) != 5 {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}
