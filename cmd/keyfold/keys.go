package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/cli"
)

// keyFlag gives cmd the flag of the CMEK key.
func (a *app) keyFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.cmekKeyFile, "cmek-key-file", "", "file of the CMEK key, or kms:FINGERPRINT (env KEYFOLD_CMEK_KEY_FILE)")
	a.kmsFlags(cmd)
	_ = cmd.MarkFlagFilename("cmek-key-file")
}

// unsealedFlag gives cmd, which writes values, the flag that lets it write in
// the clear though there is a CMEK key.
func unsealedFlag(cmd *cobra.Command, allow *bool) {
	cmd.Flags().BoolVar(allow, "unsealed", false, "write to a vault that is not sealed, though a CMEK key is given")
}

// cmekKey is the client's KeySource: the key that flag or environment give, here
// or in a key process, or nil.
func (a *app) cmekKey(_ context.Context, fingerprint string) (client.CMEK, error) {
	if k, err := a.delegatedKey(fingerprint); k != nil || err != nil {
		return k, err
	}
	k, err := a.keyAtHand()
	return client.LocalKey(k), err
}

// keyAtHand is read once, when a value needs it, so that other commands do not
// fail for a key file that is away.
func (a *app) keyAtHand() (*cmek.Key, error) {
	a.keyOnce.Do(func() { a.key, a.keyErr = a.readKey() })
	return a.key, a.keyErr
}

func (a *app) readKey() (*cmek.Key, error) {
	file, env := a.getenv("KEYFOLD_CMEK_KEY_FILE"), a.getenv("KEYFOLD_CMEK_KEY")
	switch {
	case a.kmsKeyName() != "":
		return nil, errNotHere
	case a.cmekKeyFile != "":
		return cmek.ReadKeyFile(a.cmekKeyFile)
	case env != "":
		return parseKeyEnv("KEYFOLD_CMEK_KEY", env)
	case file != "":
		return cmek.ReadKeyFile(file)
	case a.getenv("ONECLAW_CMEK_KEY") != "":
		return parseKeyEnv("ONECLAW_CMEK_KEY", a.getenv("ONECLAW_CMEK_KEY"))
	}
	return nil, nil
}

func parseKeyEnv(name, value string) (*cmek.Key, error) {
	k, err := cmek.ParseKeyText(value)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return k, nil
}

// needKey is keyAtHand for commands that can do nothing without one.
func (a *app) needKey(context.Context) (*cmek.Key, error) {
	k, err := a.keyAtHand()
	if err == nil && k == nil {
		err = cli.Advise(errors.New("this needs a CMEK key and none is given"),
			"export KEYFOLD_CMEK_KEY_FILE=FILE; make a new key with: keyfold cmek keygen --out FILE")
	}
	return k, err
}
