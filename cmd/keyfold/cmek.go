package main

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) cmekCmd() *cobra.Command {
	return cli.Group("cmek", "The key that only you hold",
		a.cmekKeygenCmd(), a.cmekFingerprintCmd(), a.cmekEnableCmd(), a.cmekDisableCmd(), a.cmekStatusCmd(),
		a.cmekRotateCmd(), a.cmekRotationsCmd(), a.cmekRotationCmd(), a.cmekEncryptCmd(), a.cmekDecryptCmd(),
		a.cmekExportCmd(), a.cmekImportCmd(), a.cmekSplitCmd(), a.cmekCombineCmd())
}

func (a *app) cmekKeygenCmd() *cobra.Command {
	var out, vault string
	cmd := &cobra.Command{
		Use: "keygen", Short: "Make a CMEK key, here, and write its key file", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k := cmek.Generate()
			defer k.Wipe()
			if out != "" {
				a.warnOfLoss()
			}
			return a.saveKey(k, out, vault)
		},
	}
	keyOut(cmd, &out, &vault)
	return cmd
}

// keyMade is what keygen --out prints with --json.
type keyMade struct {
	Fingerprint string `json:"fingerprint"`
	File        string `json:"file"`
}

func (a *app) printKeyFile(k *cmek.Key, info cmek.KeyFileInfo) error {
	if a.JSON {
		return cli.Advise(cli.Usagef("--json needs --out: a key is printed as a key file only"), "keyfold cmek keygen --json --out FILE")
	}
	text, err := cmek.MarshalKeyFile(k, info)
	if err != nil {
		return err
	}
	defer clear(text)
	_, err = a.Out.Write(text)
	return err
}

// warnOfLoss says what a CMEK key means.
func (a *app) warnOfLoss() {
	a.Note("warning: nobody can open what this key seals without it: not the server, not its operator. Keep a copy in a second place")
}

func (a *app) cmekFingerprintCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "fingerprint [FILE]", Short: "Print the fingerprint of a CMEK key", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				a.cmekKeyFile = args[0]
			}
			k, err := a.needKey(cmd.Context())
			if err != nil {
				return err
			}
			defer k.Wipe()
			return a.Answer(keyNamed{k.Fingerprint()}, "%s", k.Fingerprint())
		},
	}
	a.keyFlag(cmd)
	return cmd
}

// keyNamed is what fingerprint prints with --json.
type keyNamed struct {
	Fingerprint string `json:"fingerprint"`
}

// placeFlags gives cmd the flags of where a bound value lives.
func placeFlags(cmd *cobra.Command, at *cmek.Context) {
	cmd.Flags().StringVar(&at.VaultID, "vault", "", "ID of the vault that the value is bound to")
	cmd.Flags().StringVar(&at.Path, "path", "", "path of the secret that the value is bound to")
	cmd.MarkFlagsRequiredTogether("vault", "path")
}

func (a *app) cmekEncryptCmd() *cobra.Command {
	var at cmek.Context
	cmd := &cobra.Command{
		Use: "encrypt", Short: "Seal stdin under the CMEK key and print the blob as text", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := a.needKey(cmd.Context())
			if err != nil {
				return err
			}
			defer k.Wipe()
			plaintext, err := a.readStdin("the plaintext")
			if err != nil {
				return err
			}
			version := 1
			if at != (cmek.Context{}) {
				version = 2
			}
			value, err := client.LocalKey(k).Seal(cmd.Context(), at, version, plaintext)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(a.Out, value)
			return err
		},
	}
	placeFlags(cmd, &at)
	a.keyFlag(cmd)
	return cmd
}

func (a *app) cmekDecryptCmd() *cobra.Command {
	var at cmek.Context
	cmd := &cobra.Command{
		Use: "decrypt", Short: "Open a blob from stdin and write its exact bytes", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := a.needKey(cmd.Context())
			if err != nil {
				return err
			}
			defer k.Wipe()
			value, err := a.readStdin("the blob")
			if err != nil {
				return err
			}
			plaintext, err := cmek.DecryptValueAt(k, at, string(bytes.TrimSpace(value)))
			if err != nil {
				return err
			}
			_, err = a.Out.Write(plaintext)
			return err
		},
	}
	placeFlags(cmd, &at)
	a.keyFlag(cmd)
	return cmd
}
