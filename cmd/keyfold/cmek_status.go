package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func (a *app) cmekStatusCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status [VAULT]", Short: "Show which keys a vault's values need, whether the key at hand fits, and what to do", Args: a.vaultArgs(0),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			vault := a.vault(args)
			status, err := c.CMEKStatus(ctx, vault)
			if err != nil {
				return onNotFound(err, listVaults)
			}
			s := sealState{VaultID: vault, Enabled: status.Enabled, Fingerprint: status.Fingerprint, CMEKStatus: status}
			if err := a.lookForKey(&s); err != nil {
				return err
			}
			s.Next = s.next()
			return a.printSealState(s)
		}),
	}
	a.keyFlag(cmd)
	return cmd
}

// sealState is what status prints with --json.
type sealState struct {
	VaultID     string `json:"vault_id"`
	Enabled     bool   `json:"cmek_enabled"`
	Fingerprint string `json:"cmek_fingerprint,omitempty"`
	KeyAtHand   string `json:"key_at_hand,omitempty"` // fingerprint of the key that flag or environment give
	KeyProcess  string `json:"key_process,omitempty"` // that would be asked for the vault's key
	Next        string `json:"next"`                  // what to do, for people
	api.CMEKStatus
}

// lookForKey tells s which key is at hand for the vault. A key process is not asked.
func (a *app) lookForKey(s *sealState) error {
	delegated, err := a.delegatedKey(s.Fingerprint)
	if err != nil {
		return err
	}
	if delegated != nil {
		s.KeyAtHand, s.KeyProcess = a.kmsKeyName(), a.kmsEndpoint()
		return nil
	}
	k, err := a.keyAtHand()
	if k != nil {
		s.KeyAtHand = k.Fingerprint()
	}
	return err
}

func (a *app) printSealState(s sealState) error {
	if a.JSON {
		return a.PrintJSON(s)
	}
	rows := [][]string{{"Vault", s.VaultID}, {"CMEK", s.mode()}}
	if s.Enabled {
		rows = append(rows, []string{"Fingerprint", s.Fingerprint}, []string{"Since", when(s.Since)}, []string{"Key check", kept(s.KeyCheck)})
	}
	if j := s.Rotation; j != nil {
		rows = append(rows, []string{"Rotation", fmt.Sprintf("%s is %s, %d of %d", j.ID, j.Status, j.Processed, max(j.Processed, j.TotalSecrets))})
	}
	if s.Plain > 0 {
		rows = append(rows, []string{"Not sealed", versions(s.Plain)})
	}
	if s.Damaged > 0 {
		rows = append(rows, []string{"Damaged", versions(s.Damaged)})
	}
	if err := a.Table(s, append(rows, []string{"Key at hand", s.atHand()}, []string{"Next", s.Next})); err != nil {
		return err
	}
	if len(s.Keys) == 0 {
		return nil
	}
	fmt.Fprintln(a.Out)
	return a.Table(s, s.inventory())
}

// inventory is which key still opens what.
func (s sealState) inventory() [][]string {
	rows := [][]string{{"KEY", "VERSIONS", "NEWEST OF", "WRITTEN FROM", "TO"}}
	for _, k := range s.Keys {
		rows = append(rows, []string{k.Fingerprint, strconv.Itoa(k.Versions), strconv.Itoa(k.Newest), cli.When(k.Oldest), cli.When(k.Latest)})
	}
	return rows
}

func (s sealState) mode() string {
	switch {
	case !s.Enabled:
		return "disabled"
	case s.BlobVersion == 2:
		return "enabled, values are bound to vault and path"
	}
	return "enabled"
}

func (s sealState) atHand() string {
	switch {
	case s.misfit():
		return "does not fit: " + s.KeyAtHand
	case s.KeyProcess != "":
		return "in the key process " + s.KeyProcess + ", which was not asked"
	case s.KeyAtHand == "":
		return "none"
	case !s.Enabled:
		return s.KeyAtHand
	}
	return "fits"
}

// misfit reports that the key at hand is not the vault's.
func (s sealState) misfit() bool {
	return s.Enabled && s.KeyAtHand != "" && s.KeyAtHand != s.Fingerprint
}

// next is the one thing to do.
func (s sealState) next() string {
	others, own := s.others()
	switch j := s.Rotation; {
	case j != nil && j.Status == "interrupted":
		return "take the rotation up with the same keys: " + rotateCommand + " --resume"
	case j != nil:
		return "wait for the rotation; readers need both keys until it has ended"
	case !s.Enabled && others > 0:
		return "keep the keys below: " + stillNeed(others, "them")
	case !s.Enabled:
		return "seal the vault: keyfold cmek enable VAULT --cmek-key-file FILE"
	case s.misfit():
		return "give the vault's key, the one with the fingerprint above: --cmek-key-file FILE"
	case others > 0:
		return fmt.Sprintf("keep the other keys below, %s; or re-encrypt what opens with each: %s --client-side --all; "+
			"what a rotation with --accept-failed left opens with neither of its keys: write those secrets anew", stillNeed(others, "them"), rotateCommand)
	case own > 0:
		return "nothing; " + s.keep()
	}
	return "write secrets; " + s.keep()
}

// keep is what must not be lost.
func (s sealState) keep() string {
	if s.KeyProcess != "" {
		return "keep a backup of the key process, and its root key in another place"
	}
	return "keep the key file, and a copy of it in a second place"
}

// others is how many versions need another key than the vault's, and own how
// many need the vault's.
func (s sealState) others() (others, own int) {
	for _, k := range s.Keys {
		if s.Enabled && k.Fingerprint == s.Fingerprint {
			own += k.Versions
		} else {
			others += k.Versions
		}
	}
	return others, own
}

func versions(n int) string {
	if n == 1 {
		return "1 version"
	}
	return fmt.Sprintf("%d versions", n)
}

// stillNeed says of n versions that they need what, which is it or them.
func stillNeed(n int, what string) string {
	if n == 1 {
		return "1 version still needs " + what
	}
	return versions(n) + " still need " + what
}

func when(t *time.Time) string {
	if t == nil {
		return ""
	}
	return cli.When(*t)
}

func kept(check string) string {
	if check == "" {
		return "none"
	}
	return "kept"
}
