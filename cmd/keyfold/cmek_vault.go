package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
)

func (a *app) cmekEnableCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "enable [VAULT]", Short: "Seal a vault: from now on its values need the CMEK key", Args: a.vaultArgs(0),
		Long: `Seal a vault. Only the key's fingerprint is sent; the key stays here. Values
written from now on are sealed with it by the client. Values written before stay
as they are: write them again to seal them.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			vault := a.vault(args)
			k, err := a.needKey(cmd.Context())
			if err != nil {
				return err
			}
			defer k.Wipe()
			c, err := a.connect()
			if err != nil {
				return err
			}
			v, err := c.EnableCMEK(cmd.Context(), vault, k.Fingerprint())
			if err != nil {
				return onNotFound(err, listVaults)
			}
			a.warnOfLoss()
			return a.printVault(v)
		},
	}
	a.keyFlag(cmd)
	return cmd
}

func (a *app) cmekDisableCmd() *cobra.Command {
	return &cobra.Command{
		Use: "disable [VAULT]", Short: "Stop sealing a vault: values written from now on are not sealed by the client", Args: a.vaultArgs(0),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			vault := a.vault(args)
			v, err := c.DisableCMEK(ctx, vault)
			if err != nil {
				return onNotFound(err, listVaults)
			}
			a.Note("warning: values written before still need their key: keep it")
			return a.printVault(v)
		}),
	}
}

func (a *app) cmekStatusCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "status [VAULT]", Short: "Show whether a vault is sealed, and whether the key at hand fits", Args: a.vaultArgs(0),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			vault := a.vault(args)
			v, err := c.GetVault(ctx, vault)
			if err != nil {
				return onNotFound(err, listVaults)
			}
			s := sealState{VaultID: v.ID, Enabled: v.CMEKEnabled, Fingerprint: v.CMEKFingerprint}
			k, err := a.cmekKey(ctx, "")
			if err != nil {
				return err
			}
			if k != nil {
				s.KeyAtHand = k.Fingerprint()
				k.Wipe()
			}
			return a.printSealState(s, v)
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
}

func (a *app) printSealState(s sealState, v api.Vault) error {
	rows := [][]string{{"Vault", s.VaultID}, {"CMEK", cmekState(v)}}
	if s.Enabled {
		rows = append(rows, []string{"Fingerprint", s.Fingerprint})
	}
	return a.Table(s, append(rows, []string{"Key at hand", s.atHand()}))
}

func (s sealState) atHand() string {
	switch {
	case s.KeyAtHand == "":
		return "none"
	case !s.Enabled:
		return s.KeyAtHand
	case s.KeyAtHand == s.Fingerprint:
		return "fits"
	}
	return "does not fit: " + s.KeyAtHand
}
