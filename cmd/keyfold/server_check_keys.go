package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/breakglass"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

func (s serverSettings) checkData(f *findings) {
	switch {
	case s.Data == "" && s.Store != "" && !s.embedded() && s.BreakGlass.Root == "":
		return // nothing is in it
	case s.Data == "":
		f.errorf("data: not set; name the directory of the data, such as /var/lib/keyfold (env KEYFOLD_DATA)")
		return
	}
	info, err := os.Stat(s.Data)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if at := firstThere(s.Data); syscall.Access(at, wAccess) != nil {
			f.errorf("data: %s cannot be made in %s; make it, for the user who runs the server", s.Data, at)
		}
		return
	case err != nil:
		f.errorf("data: %v; run this as the user who runs the server", err)
		return
	case !info.IsDir():
		f.errorf("data: %s is not a directory; name another", s.Data)
		return
	case syscall.Access(s.Data, wAccess) != nil:
		f.errorf("data: %s cannot be written to; run this as the user who runs the server, or have it owned by that one", s.Data)
	case info.Mode().Perm()&0o022 != 0:
		f.errorf("data: others can put files into %s; run: chmod 700 %q", s.Data, s.Data)
	case info.Mode().Perm()&0o055 != 0:
		f.warnf("data: others can look into %s; run: chmod 700 %q", s.Data, s.Data)
	}
	if s.embedded() {
		s.checkRootKey(f)
	}
}

// checkStore reads the name of the store. It opens none.
func (s serverSettings) checkStore(f *findings) {
	spec, err := storespec.Parse(string(s.Store))
	switch {
	case err != nil:
		f.errorf("store: %v (env KEYFOLD_STORE)", err)
	case spec.Shared() && s.embedded():
		f.warnf("store: the data is in a database, and the keys to it are in %s alone, where the key process inside this server has them; a second server needs a keyfold-kms that both name in kms.url", s.Data)
	}
}

// wAccess asks access(2) for writing and for using the names in a directory.
const wAccess = 2 | 1

// firstThere is path, or the first directory above it that is there.
func firstThere(path string) string {
	for path, _ = filepath.Abs(path); ; path = filepath.Dir(path) {
		if _, err := os.Stat(path); err == nil || path == filepath.Dir(path) {
			return path
		}
	}
}

// checkRootKey looks at the root key of a key process inside the server, which
// its first start makes.
func (s serverSettings) checkRootKey(f *findings) {
	root, err := keyring.OpenFileRoot(filepath.Join(s.Data, "root.key"))
	switch _, noKeys := os.Stat(filepath.Join(s.Data, "kms")); {
	case err == nil:
		root.Wipe()
	case !errors.Is(err, fs.ErrNotExist):
		f.errorf("data: %v", err)
	case noKeys == nil:
		f.warnf("data: %s has keys, but root.key is missing; restore it from its backup, unless no server has started there yet", s.Data)
	}
}

func (s serverSettings) checkKMS(f *findings) {
	switch {
	case s.KMS.URL == "":
		f.errorf("kms.url: not set; say where the keys are: unix:///PATH or https://HOST:PORT of a keyfold-kms, several separated by commas, or embedded, inside the server (env KEYFOLD_KMS)")
		return
	case s.embedded():
		f.warnf("kms.url: embedded: the key process is inside the server, so who reads the data directory or the server's memory has all keys but the CMEK keys; run a keyfold-kms and name it")
	}
	files := []string{s.KMS.Cert, s.KMS.Key, s.KMS.CA}
	if !s.kmsHasTLS() && slices.ContainsFunc(files, func(path string) bool { return path != "" }) {
		f.warnf("kms: kms.cert, kms.key and kms.ca are for a key process at https://, which this one is not, and are not used; unset them")
	}
	if s.embedded() {
		return
	}
	if s.kmsHasTLS() && slices.Contains(files, "") {
		f.errorf("kms: a key process at https:// wants mutual TLS; set kms.cert, kms.key and kms.ca")
		return
	}
	c, err := s.kmsClient()
	if err != nil {
		f.errorf("kms: %v", withCause(err))
		return
	}
	c.Close()
	if s.kmsHasTLS() {
		f.keepsOut("kms.key", s.KMS.Key)
	}
}

// kmsClient is a client of an external key process.
func (s serverSettings) kmsClient() (*kmsclient.Client, error) {
	c := kmsclient.Config{Endpoint: s.KMS.URL, Retry: 100 * time.Millisecond}
	if s.kmsHasTLS() {
		var err error
		if c.TLS, err = kmsclient.LoadTLS(s.KMS.Cert, s.KMS.Key, s.KMS.CA); err != nil {
			return nil, err
		}
	}
	return kmsclient.New(c)
}

// callTime is how long a check waits for the key process.
const callTime = 3 * time.Second

// callKMS asks the key process whether it can work for this server. One that is
// away is no mistake in the configuration: a server starts and waits for it.
func (s serverSettings) callKMS(ctx context.Context, f *findings) {
	if s.KMS.URL == "" || s.embedded() {
		return
	}
	c, err := s.kmsClient()
	if err != nil {
		return // told already
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	err = withCause(c.Health(ctx))
	switch {
	case errors.Is(err, fault.Unavailable):
		f.warnf("kms.url: %v; until it answers, nothing that needs a key is done", err)
	case err != nil:
		f.errorf("kms.url: %v", err)
	case errors.Is(c.ShredDEK(ctx, ""), fault.Forbidden): // the ID of no DEK: with the role it is a wrong request
		f.warnf("kms.url: the key process lets this server destroy no DEKs: purges keep the threads that they are for, and rotations of DEKs the old ones; give its name there the role shred unless that is what you want")
	case errors.Is(c.MayListKEKs(ctx), fault.Forbidden):
		f.warnf("kms.url: the key process does not tell this server of its keys: the dashboard shows no KEKs; give its name there the role list unless that is what you want")
	}
}

// lookInside looks into the store, of a configuration that is good: whether a server
// opens it, and whether the keys are those to it.
func (s serverSettings) lookInside(ctx context.Context, f *findings) {
	var keys allinone.KMS
	if !s.embedded() {
		c, err := s.kmsClient()
		if err != nil {
			f.errorf("kms: %v", withCause(err))
			return
		}
		defer c.Close()
		keys = c
	}
	err := allinone.Check(ctx, s.config(), keys)
	switch {
	case errors.Is(err, fault.Conflict):
		f.notef("store: it is in use and was not looked into: %v", err)
	case errors.Is(err, fs.ErrNotExist) && s.store().Shared():
		f.notef("store: %s has no tables of Keyfold yet; the first start makes them", s.storePlace())
	case errors.Is(err, fs.ErrNotExist): // as with any new directory
	case err != nil:
		f.errorf("store: %v", err)
	}
}

// withCause shows the operator what a fault keeps for the log.
func withCause(err error) error {
	if err == nil {
		return nil
	}
	if cause := fault.Of(err).Unwrap(); cause != nil {
		return fmt.Errorf("%w (%v)", err, cause)
	}
	return err
}

func (s serverSettings) checkBreakGlass(ctx context.Context, f *findings) {
	switch b := s.BreakGlass; {
	case b.Root == "" && b.Keyring == "":
		return
	case b.Root == "" || b.Keyring == "":
		f.errorf("breakglass: breakglass.root and breakglass.keyring go together; set both, or neither")
		return
	case s.KMS.URL == "" || s.embedded():
		f.errorf("breakglass: it is for a server whose key process is a process of its own; unset both, or set kms.url to that")
		return
	}
	r, err := breakglass.Open(ctx, breakglass.Config{RootFile: s.BreakGlass.Root, KeyringFile: s.BreakGlass.Keyring, Audit: unrecorded{}})
	if err != nil {
		f.errorf("breakglass: %v; name the key process's root key file, and what keyfold-kms export-breakglass has written", err)
		return
	}
	r.Close()
	f.warnf("breakglass: the server can read all messages without the key process; unset it where that need not be")
}

// unrecorded is the audit of a break-glass that is opened to see whether it can
// be, and closed.
type unrecorded struct{}

func (unrecorded) Record(context.Context, ...audit.Event) error { return nil }
