package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/cmek/keybackup"
	"github.com/keyfold/keyfold/cmek/keyshare"
	"github.com/keyfold/keyfold/internal/cli"
)

// maxBackup bounds a backup or a share as it is read, in bytes.
const maxBackup = 16 << 10

func (a *app) cmekExportCmd() *cobra.Command {
	var out, vault string
	var passphrase bool
	cmd := &cobra.Command{
		Use: "export --passphrase", Short: "Write the CMEK key under a passphrase, for a place that is not trusted with the key", Args: cobra.NoArgs,
		Long: `Write the CMEK key under a passphrase. You are asked for it, twice; it is typed
unseen, or is a line of stdin. Whoever gets the file can try as many passphrases as
they like: take six random words or more, and keep them elsewhere than the file.
keyfold cmek import makes a key file of it again.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" && a.JSON {
				return cli.Advise(cli.Usagef("--json needs --out: a backup is printed as a file only"), "keyfold cmek export --passphrase --json --out FILE")
			}
			k, err := a.needKey(cmd.Context())
			if err != nil {
				return err
			}
			defer k.Wipe()
			words, err := a.newSecret(cmd.Context(), "Passphrase")
			if err != nil {
				return err
			}
			text, err := keybackup.Seal(k, strings.TrimSpace(words), keyFileInfo(vault))
			if err != nil {
				return err
			}
			if out == "" {
				_, err = a.Out.Write(text)
				return err
			}
			if err := cli.CreateFile(out, cli.Bytes(text)); err != nil {
				return err
			}
			return a.Answer(keyMade{k.Fingerprint(), out}, "%s has the key %s, under the passphrase", out, k.Fingerprint())
		},
	}
	a.keyFlag(cmd)
	f := cmd.Flags()
	f.BoolVar(&passphrase, "passphrase", false, "under a passphrase, which is asked for")
	f.StringVar(&out, "out", "", "write to this file, mode 0600; an existing file is not replaced (stdout)")
	vaultComment(cmd, &vault)
	_ = cmd.MarkFlagRequired("passphrase")
	return cmd
}

func (a *app) cmekImportCmd() *cobra.Command {
	var out, vault string
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Make a key file of a backup that is under a passphrase", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := readBackup(args[0])
			if err != nil {
				return err
			}
			if !keybackup.Is(text) {
				return cli.Advise(fmt.Errorf("%s: %w", args[0], keybackup.ErrNotBackup), "shares are put together with: keyfold cmek combine SHARE...")
			}
			words, err := a.askSecret(cmd.Context(), "Passphrase")
			if err != nil {
				return err
			}
			k, err := keybackup.Open(text, strings.TrimSpace(words))
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			defer k.Wipe()
			return a.saveKey(k, out, vault)
		},
	}
	keyOut(cmd, &out, &vault)
	return cmd
}

func (a *app) cmekSplitCmd() *cobra.Command {
	var prefix, vault string
	var threshold, n int
	cmd := &cobra.Command{
		Use: "split", Short: "Split the CMEK key into shares, of which some make it again", Args: cobra.NoArgs,
		Long: `Split the CMEK key into shares, one file for each person who is to keep one. Any
--threshold of them make the key again with keyfold cmek combine; fewer do not.
The key file stays as it is.`,
		Example: "  keyfold cmek split --threshold 2 --shares 3 --out prod",
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := a.needKey(cmd.Context())
			if err != nil {
				return err
			}
			defer k.Wipe()
			shares, err := keyshare.Split(k, threshold, n)
			if err != nil {
				return err
			}
			files, err := writeShares(shares, prefix, keyFileInfo(vault))
			if err != nil {
				return err
			}
			return a.printShares(shares, files)
		},
	}
	a.keyFlag(cmd)
	f := cmd.Flags()
	f.IntVar(&threshold, "threshold", 0, "how many shares make the key again, 2 or more")
	f.IntVar(&n, "shares", 0, "how many shares there are, "+strconv.Itoa(keyshare.MaxShares)+" at most")
	f.StringVar(&prefix, "out", "", "begin of the files' names: OUT-1-of-3.share and so on, mode 0600; no file is replaced")
	vaultComment(cmd, &vault)
	for _, flag := range []string{"threshold", "shares", "out"} {
		_ = cmd.MarkFlagRequired(flag)
	}
	return cmd
}

// writeShares writes every share or leaves none.
func writeShares(shares []*keyshare.Share, prefix string, info cmek.KeyFileInfo) (files []string, err error) {
	defer func() {
		if err != nil {
			for _, f := range files {
				err = errors.Join(err, os.Remove(f))
			}
		}
	}()
	for _, s := range shares {
		text, err := s.Marshal(info)
		if err != nil {
			return files, err
		}
		file := fmt.Sprintf("%s-%d-of-%d.share", prefix, s.Index(), s.Shares())
		err = cli.CreateFile(file, cli.Bytes(text))
		clear(text)
		s.Wipe()
		if err != nil {
			return files, err
		}
		files = append(files, file)
	}
	return files, nil
}

// keySplit is what split prints with --json.
type keySplit struct {
	Fingerprint string   `json:"fingerprint"`
	Threshold   int      `json:"threshold"`
	Set         string   `json:"set"`
	Files       []string `json:"files"`
}

func (a *app) printShares(shares []*keyshare.Share, files []string) error {
	s := shares[0]
	rows := [][]string{{"Key", s.Fingerprint()}, {"Needed", fmt.Sprintf("any %d of %d", s.Threshold(), s.Shares())}, {"Set", s.SetID()}}
	for _, f := range files {
		rows = append(rows, []string{"Share", f})
	}
	a.Note("give each share to another person, and delete the files here; whoever holds %d of them holds the key", s.Threshold())
	return a.Table(keySplit{s.Fingerprint(), s.Threshold(), s.SetID(), files}, rows)
}

func (a *app) cmekCombineCmd() *cobra.Command {
	var out, vault string
	cmd := &cobra.Command{
		Use: "combine SHARE...", Short: "Make a key file of enough shares", Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var shares []*keyshare.Share
			for _, file := range args {
				s, err := readShare(file)
				if err != nil {
					return err
				}
				defer s.Wipe()
				shares = append(shares, s)
			}
			k, err := keyshare.Combine(shares)
			if err != nil {
				return err
			}
			defer k.Wipe()
			return a.saveKey(k, out, vault)
		},
	}
	keyOut(cmd, &out, &vault)
	return cmd
}

func readShare(file string) (*keyshare.Share, error) {
	text, err := readBackup(file)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	s, err := keyshare.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

func readBackup(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := readAll(f, maxBackup)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return text, nil
}

func keyOut(cmd *cobra.Command, out, vault *string) {
	cmd.Flags().StringVar(out, "out", "", "write to this file, mode 0600; an existing file is not replaced (stdout)")
	vaultComment(cmd, vault)
}

func vaultComment(cmd *cobra.Command, vault *string) {
	cmd.Flags().StringVar(vault, "vault", "", "ID of the vault that the key is for, as a comment in the file")
}

func keyFileInfo(vault string) cmek.KeyFileInfo {
	return cmek.KeyFileInfo{VaultID: vault, Created: time.Now()}
}

// saveKey writes k's key file to out, or to stdout.
func (a *app) saveKey(k *cmek.Key, out, vault string) error {
	if out == "" {
		return a.printKeyFile(k, keyFileInfo(vault))
	}
	if err := cmek.WriteKeyFile(out, k, keyFileInfo(vault)); err != nil {
		if errors.Is(err, os.ErrExist) {
			return cli.Advise(err, "choose another name for --out")
		}
		return err
	}
	return a.Answer(keyMade{k.Fingerprint(), out}, "%s has the key %s", out, k.Fingerprint())
}

// newSecret asks for what is typed for the first time: twice.
func (a *app) newSecret(ctx context.Context, what string) (string, error) {
	text, err := a.askSecret(ctx, what)
	if err != nil || !cli.IsTerminal(a.In) {
		return text, err
	}
	again, err := a.askSecret(ctx, what+" again")
	if err == nil && again != text {
		err = errors.New("the two are not the same; nothing was done")
	}
	return text, err
}
