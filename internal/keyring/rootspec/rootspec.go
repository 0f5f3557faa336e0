// Package rootspec opens the root key that an operator names: a text on the
// command line, in a configuration file or in the environment.
//
//	file:PATH        a root key file that only its owner reads
//	fd:N             the text of a root key file, read once from the open file descriptor N (0, or 3 and up)
//	credential:NAME  the same from the systemd credential NAME
//	pkcs11:...       a token, as a PKCS#11 URI (RFC 7512):
//	                 pkcs11:token=LABEL;serial=HEX;slot-id=N?module-path=PATH&pin-source=SOURCE&x-pool=N
//
// Of a token at least one of token, serial and slot-id is needed; module-path
// and pin-source are needed; pin-source is file:PATH, fd:N or credential:NAME.
// x-pool is how many sessions are open, 2 unless told otherwise. Keys and PINs
// themselves are never part of a text: others can read arguments and the
// environment of a process.
//
// In the environment KEYFOLD_KMS_ROOT holds such a text, or KEYFOLD_KMS_ROOT_FILE
// the path of a root key file.
//
// The package keeps nothing. Its errors are for the operator at start and name
// paths; no *fault.Error is among them, so that no edge sends them.
package rootspec

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/keyring/pkcs11root"
)

// The names of the environment's variables.
const (
	Env     = "KEYFOLD_KMS_ROOT"
	EnvFile = "KEYFOLD_KMS_ROOT_FILE"
)

// ErrNone says that neither the text nor the environment names a root.
var ErrNone = errors.New("no root key is named; give file:PATH, fd:N, credential:NAME or pkcs11:..., or set " + Env + " or " + EnvFile)

// Spec names a root.
type Spec struct {
	source source             // of a root key file's text, unless token is set
	token  *pkcs11root.Config // without its PIN
	pin    source
}

// Parse takes a Spec from text, or from the environment where text is empty.
// It touches no file. getenv is os.Getenv; it is kept for credential:NAME.
func Parse(text string, getenv func(string) string) (Spec, error) {
	if text == "" {
		var err error
		if text, err = fromEnv(getenv); err != nil {
			return Spec{}, err
		}
	}
	if rest, ok := strings.CutPrefix(text, "pkcs11:"); ok {
		return parseURI(rest, getenv)
	}
	s, err := parseSource(text, getenv)
	if err != nil {
		return Spec{}, fmt.Errorf("root key: %w, or a token as a pkcs11: URI", err)
	}
	return Spec{source: s}, nil
}

func fromEnv(getenv func(string) string) (string, error) {
	text, path := getenv(Env), getenv(EnvFile)
	switch {
	case text != "" && path != "":
		return "", fmt.Errorf("%s and %s are both set; unset one", Env, EnvFile)
	case path != "":
		return "file:" + path, nil
	case text == "":
		return "", ErrNone
	}
	return text, nil
}

// Open opens the root. A root key file that is not there is fs.ErrNotExist.
func (s Spec) Open(ctx context.Context) (keyring.Root, error) {
	if s.token != nil {
		cfg := *s.token
		cfg.PIN = s.pin.pin()
		return pkcs11root.Open(ctx, cfg)
	}
	if s.source.kind == "file" {
		return opened(keyring.OpenFileRoot(s.source.name))
	}
	text, err := s.source.read("root key")
	if err != nil {
		return nil, err
	}
	defer clear(text)
	return opened(keyring.ParseFileRoot(text, "root key of "+s.source.String()))
}

// Create makes a new root key file and opens it, as keyring.CreateFileRoot says.
// Other roots are not made here: they must be there.
func (s Spec) Create() (keyring.Root, error) {
	if s.token != nil || s.source.kind != "file" {
		return nil, errors.New("only a root of the form file:PATH can be made; make a token with its own tool, and what fd: or credential: give with the secret store that they come from")
	}
	return opened(keyring.CreateFileRoot(s.source.name))
}

// Open is Parse and Open.
func Open(ctx context.Context, text string, getenv func(string) string) (keyring.Root, error) {
	s, err := Parse(text, getenv)
	if err != nil {
		return nil, err
	}
	return s.Open(ctx)
}

// opened keeps a nil *FileRoot from becoming a Root that is not nil.
func opened(r *keyring.FileRoot, err error) (keyring.Root, error) {
	if err != nil {
		return nil, err
	}
	return r, nil
}
