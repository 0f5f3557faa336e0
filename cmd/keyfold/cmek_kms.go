package main

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/client/kmskey"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/cli"
)

// customerKMS is a keyfold-kms that keeps CMEK keys, as flags name it, and who
// asks it. It is connected to once, when a value needs it.
type customerKMS struct {
	endpoint, cert, key, ca string
	once                    sync.Once // guards the making of kms and err
	kms                     *kmskey.KMS
	err                     error
}

// kmsPrefix begins what stands in the place of a key file for a key in a key
// process; its fingerprint follows.
const kmsPrefix = "kms:"

var errNotHere = errors.New("the CMEK key is in a key process, and this needs the key itself")

// kmsFlags gives cmd the flags of a key process.
func (a *app) kmsFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.kms.endpoint, "cmek-kms", "", "key process that has the CMEK keys: https://HOST:PORT or unix:///PATH, or several on one store, with commas (env KEYFOLD_CMEK_KMS)")
	f.StringVar(&a.kms.cert, "cmek-kms-cert", "", "certificate to show it, PEM (env KEYFOLD_CMEK_KMS_CERT)")
	f.StringVar(&a.kms.key, "cmek-kms-key", "", "its key, PEM (env KEYFOLD_CMEK_KMS_KEY)")
	f.StringVar(&a.kms.ca, "cmek-kms-ca", "", "CA of the key process's certificate, PEM (env KEYFOLD_CMEK_KMS_CA)")
	for _, name := range []string{"cmek-kms-cert", "cmek-kms-key", "cmek-kms-ca"} {
		_ = cmd.MarkFlagFilename(name)
	}
}

// kmsEndpoint is where the key process is; empty: none is given.
func (a *app) kmsEndpoint() string { return first(a.kms.endpoint, a.getenv("KEYFOLD_CMEK_KMS")) }

// keyKMS returns the key process, or nil when none is given.
func (a *app) keyKMS() (*kmskey.KMS, error) {
	if a.kmsEndpoint() == "" {
		return nil, nil
	}
	a.kms.once.Do(func() {
		a.kms.kms, a.kms.err = kmskey.New(kmskey.Config{
			Endpoint: a.kmsEndpoint(),
			Cert:     first(a.kms.cert, a.getenv("KEYFOLD_CMEK_KMS_CERT")),
			Key:      first(a.kms.key, a.getenv("KEYFOLD_CMEK_KMS_KEY")),
			CA:       first(a.kms.ca, a.getenv("KEYFOLD_CMEK_KMS_CA")),
		})
		if a.kms.err != nil {
			a.kms.err = cli.Advise(a.kms.err, "--cmek-kms https://HOST:PORT --cmek-kms-cert FILE --cmek-kms-key FILE --cmek-kms-ca FILE, or KEYFOLD_CMEK_KMS and KEYFOLD_CMEK_KMS_CERT, _KEY and _CA")
		}
	})
	return a.kms.kms, a.kms.err
}

// kmsKeyName is the fingerprint of kms:FINGERPRINT, where flag or environment
// have that for a key file.
func (a *app) kmsKeyName() string {
	file := a.cmekKeyFile
	if file == "" && a.getenv("KEYFOLD_CMEK_KEY") == "" {
		file = a.getenv("KEYFOLD_CMEK_KEY_FILE")
	}
	name, _ := strings.CutPrefix(file, kmsPrefix)
	if name == file {
		return ""
	}
	return strings.ToLower(name)
}

// delegatedKey is the key with this fingerprint in the key process, or nil: none
// is given, or the key at hand is the one. A name goes before the fingerprint.
func (a *app) delegatedKey(fingerprint string) (client.CMEK, error) {
	name := a.kmsKeyName()
	kms, err := a.keyKMS()
	switch {
	case err != nil:
		return nil, err
	case name != "":
		return namedKey(kms, name)
	case kms == nil:
		return nil, nil
	}
	if k, err := a.keyAtHand(); err != nil || k != nil && k.Fingerprint() == fingerprint {
		return nil, err
	}
	return kms.Key(fingerprint), nil
}

func namedKey(kms *kmskey.KMS, fingerprint string) (client.CMEK, error) {
	switch {
	case !cmek.ValidFingerprint(fingerprint):
		return nil, cli.Usagef("%sFINGERPRINT wants a fingerprint of 64 hex digits; keyfold-kms cmek list shows them", kmsPrefix)
	case kms == nil:
		return nil, cli.Usagef("%sFINGERPRINT names a key in a key process: say which, --cmek-kms https://HOST:PORT", kmsPrefix)
	}
	return kms.Key(fingerprint), nil
}

// needCMEK is the key that a vault is to have. One in a key process has sealed
// something for that vault when it comes: so the caller may use it.
func (a *app) needCMEK(ctx context.Context, vault string) (client.CMEK, error) {
	k, err := a.delegatedKey("")
	switch {
	case err != nil:
		return nil, err
	case k == nil:
		local, err := a.needKey(ctx)
		return client.LocalKey(local), err
	case k.Fingerprint() == "":
		return nil, cli.Usagef("say which key of the key process: --cmek-key-file %sFINGERPRINT", kmsPrefix)
	}
	_, err = k.Seal(ctx, cmek.Context{VaultID: vault, Path: "trial"}, 1, []byte("trial"))
	return k, err
}

// rotationKey is a key of a rotation; raw is nil where it is in a key process.
type rotationKey struct {
	client.CMEK
	raw *cmek.Key
}

func (a *app) rotationKey(file string) (rotationKey, error) {
	if name, ok := strings.CutPrefix(file, kmsPrefix); ok {
		kms, err := a.keyKMS()
		if err != nil {
			return rotationKey{}, err
		}
		k, err := namedKey(kms, strings.ToLower(name))
		return rotationKey{CMEK: k}, err
	}
	raw, err := cmek.ReadKeyFile(file)
	return rotationKey{client.LocalKey(raw), raw}, err
}

// Wipe wipes the key where it is here.
func (k rotationKey) Wipe() {
	if k.raw != nil {
		k.raw.Wipe()
	}
}

// kmsHint helps against what a key process answers.
func kmsHint(err error) string {
	switch {
	case errors.Is(err, kmskey.ErrDenied):
		return "ask the owner of the key process for a grant: keyfold-kms cmek grant KEY --caller cert:NAME"
	case errors.Is(err, kmskey.ErrAway):
		return "is it running, and is it the one of your CA? look at --cmek-kms or KEYFOLD_CMEK_KMS"
	case errors.Is(err, errNotHere):
		return "give the key file: --cmek-key-file FILE; a key that was made in a key process has none"
	}
	return ""
}
