package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

// credential is config.json in the user's config directory, which login writes:
// one server and what signs in there. It is sent to no other server.
//
//	{"url": "https://keyfold.example", "api_key": "1ck_..."}
//	{"url": "...", "api_key": "ocv_...", "access_token": "...", "expires_at": "..."}
//	{"url": "...", "access_token": "...", "refresh_token": "...", "expires_at": "..."}
//
// The file has mode 0600 and is written whole; who writes it holds a lock on
// config.lock beside it. A reader needs none.
type credential struct {
	URL     string    `json:"url"`                     // without a slash at its end
	APIKey  string    `json:"api_key,omitempty"`       // of a user, or of an agent
	Access  string    `json:"access_token,omitempty"`  // in place of a user's key; got with an agent's
	Refresh string    `json:"refresh_token,omitempty"` // works once
	Expires time.Time `json:"expires_at,omitzero"`     // of Access
}

const (
	configFileName = "config.json"
	lockFileName   = "config.lock"
	maxConfig      = 1 << 20 // bytes; a token names the scopes of its agent
)

func (c credential) token() client.Token {
	return client.Token{Access: c.Access, Refresh: c.Refresh, Expires: c.Expires}
}

func (c *credential) setToken(t client.Token) {
	c.Access, c.Refresh, c.Expires = t.Access, t.Refresh, t.Expires.UTC().Truncate(time.Second)
}

// configDir is where config.json is kept. It need not be there.
func (a *app) configDir() (string, error) {
	if dir := a.getenv("KEYFOLD_CONFIG_DIR"); dir != "" {
		return dir, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", cli.Advise(errors.New("there is no config directory: this user has no home"), "export KEYFOLD_CONFIG_DIR=DIR")
	}
	return filepath.Join(dir, "keyfold"), nil
}

// savedCredential reads what login has saved; without that it is fs.ErrNotExist.
func (a *app) savedCredential() (c credential, err error) {
	dir, err := a.configDir()
	if err != nil {
		return c, fs.ErrNotExist
	}
	return readCredential(dir)
}

func readCredential(dir string) (c credential, err error) {
	path := filepath.Join(dir, configFileName)
	text, err := readOwn(path, maxConfig, "chmod 600 '"+path+"'; if others may have read it, sign in again: keyfold login")
	if err != nil {
		return c, err
	}
	defer clear(text)
	if json.Unmarshal(text, &c) != nil || c.URL == "" || c.APIKey == "" && c.Access == "" { // the cause could quote it
		return c, cli.Advise(fmt.Errorf("%s is not what keyfold login writes", path), "sign in again: keyfold login")
	}
	return c, nil
}

// changeCredential has change make of the saved credential another one, which it
// saves, or none when it is zero, while no other command does. What is there is
// zero when nothing is saved, or nothing that can be read.
func changeCredential(dir string, change func(credential) (credential, error)) error {
	unlock, err := lockDir(dir)
	if err != nil {
		return err
	}
	defer unlock()
	old, _ := readCredential(dir)
	next, err := change(old)
	path := filepath.Join(dir, configFileName)
	switch {
	case err != nil || next == old && old != credential{}:
		return err
	case next == credential{}:
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	text, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return err
	}
	defer clear(text)
	return cli.ReplaceFile(path, cli.Bytes(append(text, '\n')))
}

// lockDir makes dir, for this user alone, and waits until no other command has
// its lock. The lock ends with the process too.
func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o022 != 0 || !isOurs(info) {
		return nil, cli.Advise(fmt.Errorf("%s is not used: it must be a directory that you alone can write to", dir), "chmod 700 '"+dir+"'")
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFileName), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return func() { f.Close() }, nil
}

// readOwn reads a file that belongs to this user and nobody else can read:
// whoever writes it decides where values are sent. The checks are of the file
// that was opened.
func readOwn(path string, limit int64, hint string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil && !errors.Is(err, syscall.ELOOP) {
		return nil, err
	}
	defer f.Close()
	refused := cli.Advise(fmt.Errorf("%s is not used: it must be a file of yours with mode 0600", path), hint)
	if err != nil {
		return nil, refused
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || !isOurs(info) || info.Size() > limit {
		return nil, refused
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
