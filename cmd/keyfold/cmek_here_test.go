package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/keyfoldtest"
)

func TestARotationHereThatMeetsTheServersSaysHowToCancelThat(t *testing.T) {
	s := keyfoldtest.Start(t)
	sh := newShell(t, s)
	files := []string{filepath.Join(t.TempDir(), "old.key"), filepath.Join(t.TempDir(), "new.key")}
	for _, file := range files {
		if err := cmek.WriteKeyFile(file, cmek.Generate(), cmek.KeyFileInfo{}); err != nil {
			t.Fatal(err)
		}
	}
	vault := sh.run("vault", "create", "v")
	sh.run("cmek", "enable", vault, "--cmek-key-file", files[0])
	sh.run("secret", "put", vault, "a", "--value", "v", "--cmek-key-file", files[0])
	s.HoldRotations(true)
	rotate := []string{"cmek", "rotate", vault, "--old-key-file", files[0], "--new-key-file", files[1]}
	sh.run(append(rotate, "--detach")...)
	code, _, stderr := sh.try("", append(rotate, "--client-side")...)
	if code != 1 || !strings.Contains(stderr, "keyfold: the server is rotating the vault's key (") || !strings.Contains(stderr, "hint: see which there are: keyfold cmek rotations VAULT; cancel one: keyfold cmek rotation cancel VAULT ROTATION") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

func TestAnInterruptedRotationHereIsFinishedByTheSameCommand(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"Ctrl-C": syscall.SIGINT, "kill -9": syscall.SIGKILL} {
		t.Run(name, func(t *testing.T) {
			s := keyfoldtest.Start(t)
			sh := newShell(t, s)
			old, fresh := cmek.Generate(), cmek.Generate()
			files := []string{filepath.Join(t.TempDir(), "old.key"), filepath.Join(t.TempDir(), "new.key")}
			for i, k := range []*cmek.Key{old, fresh} {
				if err := cmek.WriteKeyFile(files[i], k, cmek.KeyFileInfo{}); err != nil {
					t.Fatal(err)
				}
			}
			vault := sh.run("vault", "create", "v")
			sh.run("cmek", "enable", vault, "--cmek-key-file", files[0])
			c, err := client.New(s.URL, s.APIKey, client.WithCMEKKey(old, fresh))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			for i := range 150 {
				if _, err := c.Put(t.Context(), vault, fmt.Sprint("s", i), []byte(fmt.Sprint("v", i)), client.PutOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			then, interrupt := interrupts()
			sh.env["KEYFOLD_URL"] = newProxy(t, s, 40, then)
			rotate := []string{"cmek", "rotate", vault, "--client-side", "--old-key-file", files[0], "--new-key-file", files[1]}
			cmd, output := sh.start(rotate...)
			interrupt(t, cmd, signal)
			if code := cmd.ProcessState.ExitCode(); signal == syscall.SIGINT && (code != 1 || !strings.Contains(output.String(), "interrupted after") || !strings.Contains(output.String(), "hint: run the same command again")) {
				t.Errorf("exit %d: %s", code, output)
			}
			sh.env["KEYFOLD_URL"] = s.URL
			if out := sh.run(append(rotate, "--resume")...); strings.HasPrefix(out, "Re-encrypted  150") || strings.HasPrefix(out, "Re-encrypted  0") {
				t.Errorf("the interrupt came too early or too late: %s", out)
			}
			if out := sh.run(rotate...); !strings.HasPrefix(out, "Re-encrypted  0") {
				t.Errorf("the third run: %s", out)
			}
			for i := range 150 {
				if got, err := c.GetVersion(t.Context(), vault, fmt.Sprint("s", i), 1); err != nil || string(got.Value) != fmt.Sprint("v", i) || got.CMEKFingerprint != fresh.Fingerprint() {
					t.Fatalf("s%d: %v", i, err)
				}
			}
			for _, k := range []*cmek.Key{old, fresh} {
				if raw := string(k.Bytes()); strings.Contains(sh.all.String(), raw) || strings.Contains(output.String(), raw) {
					t.Error("a key was printed")
				}
			}
		})
	}
}
