package main

import (
	"path/filepath"
	"strings"

	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/cli"
)

const (
	external   = "external" // the --kms of a keyfold-kms that dev runs itself
	unixScheme = "unix://"
)

// kmsConfig reads flags and environment as to the key process.
func (a *app) kmsConfig(d devFlags) (cfg allinone.Config, err error) {
	cfg.KMSURL = d.kms
	cfg.BreakGlass = allinone.BreakGlass{RootFile: a.getenv("KEYFOLD_BREAKGLASS_ROOT"), KeyringFile: a.getenv("KEYFOLD_BREAKGLASS_KEYRING")}
	switch scheme, _, _ := strings.Cut(d.kms, "://"); {
	case kmsHasTLS(d.kms):
		cfg.KMSTLS = allinone.TLSFiles{Cert: a.getenv("KEYFOLD_KMS_CERT"), Key: a.getenv("KEYFOLD_KMS_KEY"), CA: a.getenv("KEYFOLD_KMS_CA")}
		if cfg.KMSTLS.Cert == "" || cfg.KMSTLS.Key == "" || cfg.KMSTLS.CA == "" {
			return cfg, cli.Usagef("a key process at https:// wants mutual TLS: set KEYFOLD_KMS_CERT, KEYFOLD_KMS_KEY and KEYFOLD_KMS_CA")
		}
	case scheme == allinone.Embedded, scheme == "unix":
	case scheme == external:
		socket, err := filepath.Abs(filepath.Join(d.data, "kms.sock"))
		if err != nil {
			return cfg, err
		}
		cfg.KMSURL = unixScheme + socket
	default:
		return cfg, cli.Usagef("--kms is embedded, external, unix:///PATH or https://HOST:PORT, not %q", d.kms)
	}
	return cfg, nil
}

// keysAt says where the keys are, for people.
func (d devFlags) keysAt() string {
	switch d.kms {
	case allinone.Embedded:
		return "embedded: the key process is inside this one"
	case external:
		return "external: keyfold-kms, a process of its own, on " + filepath.Join(d.data, "kms.sock")
	}
	return "external: the key process at " + d.kms
}

// imports says whether key material may be imported.
func (d devFlags) imports() string {
	if d.kms == allinone.Embedded || d.kms == external {
		return "KEK import is allowed"
	}
	return "KEK import is the key process's to allow"
}

// warning says what trying it means.
func (d devFlags) warning() string {
	if d.encryption == "off" {
		return "ENCRYPTION IS OFF: messages of new threads are stored in clear."
	}
	if d.kms == allinone.Embedded || d.kms == external {
		return "For trying it only: whoever can read the data directory has all keys but the CMEK keys."
	}
	return "For trying it only."
}
