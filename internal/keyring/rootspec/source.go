package rootspec

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/keyfold/keyfold/internal/private"
	"golang.org/x/term"
)

// source is where a secret comes from.
type source struct {
	kind string // file, fd or credential
	name string // path, or the descriptor's number
	fd   int
}

func (s source) String() string { return s.kind + ":" + s.name }

const sourceForms = "file:PATH, fd:N or credential:NAME"

func parseSource(text string, getenv func(string) string) (source, error) {
	kind, name, _ := strings.Cut(text, ":")
	switch {
	case name == "":
	case kind == "file":
		return source{kind: kind, name: name}, nil
	case kind == "fd":
		n, err := strconv.Atoi(name)
		if err != nil || n < 0 || n == 1 || n == 2 || strconv.Itoa(n) != name {
			return source{}, errors.New("fd: wants the number of an open file descriptor, 0 or 3 and up")
		}
		return source{kind: kind, name: name, fd: n}, nil
	case kind == "credential":
		path, err := credentialPath(name, getenv)
		return source{kind: kind, name: path}, err
	}
	return source{}, fmt.Errorf("name it as %s", sourceForms) // without the text, which may be a secret by mistake
}

// credentialPath is where systemd puts the credential name (LoadCredential=).
func credentialPath(name string, getenv func(string) string) (string, error) {
	dir := getenv("CREDENTIALS_DIRECTORY")
	switch {
	case dir == "":
		return "", errors.New("credential: needs CREDENTIALS_DIRECTORY, which systemd sets for a unit with LoadCredential= or LoadCredentialEncrypted=")
	case !filepath.IsAbs(dir):
		return "", errors.New("CREDENTIALS_DIRECTORY is not an absolute path; leave it to systemd to set it")
	case name == "." || name == ".." || strings.ContainsAny(name, "/\\\x00"):
		return "", errors.New("credential: wants the name of a credential, which is no path")
	}
	return filepath.Join(dir, name), nil
}

// read reads the secret, at most 4 KiB; what names it in errors. The caller
// wipes the bytes.
func (s source) read(what string) ([]byte, error) {
	switch s.kind {
	case "fd":
		return readFD(s.fd, what)
	case "credential":
		return readCredential(s.name, what)
	}
	return private.Read(s.name, what+" file")
}

// readFD reads to the end of an open descriptor and closes it.
func readFD(fd int, what string) ([]byte, error) {
	if term.IsTerminal(fd) {
		return nil, fmt.Errorf("the %s does not come from a terminal, where it would be seen; redirect a file or a pipe to file descriptor %d", what, fd)
	}
	f := os.NewFile(uintptr(fd), "fd")
	if f == nil {
		return nil, fmt.Errorf("the %s: there is no file descriptor %d", what, fd)
	}
	defer f.Close()
	return private.ReadAll(f, fmt.Sprintf("%s of file descriptor %d", what, fd))
}

// pin returns what reads the PIN. A file is read for each login, so that a PIN
// may change; a descriptor can be read once, and its PIN is kept.
func (s source) pin() func() ([]byte, error) {
	if s.kind != "fd" {
		return func() ([]byte, error) { return trimmed(s.read("PIN")) }
	}
	once := sync.OnceValues(func() ([]byte, error) { return trimmed(s.read("PIN")) })
	return func() ([]byte, error) {
		pin, err := once()
		return bytes.Clone(pin), err
	}
}

// trimmed takes off the end of the line that editors put.
func trimmed(text []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	pin := bytes.TrimRight(text, "\r\n")
	if len(pin) == 0 {
		return nil, errors.New("the PIN is empty; put it there, alone")
	}
	return pin, nil
}
