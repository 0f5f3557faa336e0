package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

const listSecrets = "see which there are: keyfold secret list VAULT"

func (a *app) secretCmd() *cobra.Command {
	return cli.Group("secret", "Secrets and their versions",
		a.secretPutCmd(), a.secretGetCmd(), a.secretListCmd(), a.secretVersionsCmd(),
		a.secretDisableCmd(), a.secretDeleteCmd(), a.secretGenerateCmd(), a.secretImportCmd())
}

func (a *app) secretListCmd() *cobra.Command {
	return &cobra.Command{
		Use: "list [VAULT] [PREFIX]", Short: "List secrets, without values", Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			vault, prefix, err := a.vaultAndPrefix(args)
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			secrets, err := c.List(cmd.Context(), vault, prefix)
			if err != nil {
				return onNotFound(err, listVaults)
			}
			rows, listed := [][]string{{"PATH", "TYPE", "VERSION", "CREATED", "EXPIRES"}}, []api.ListedSecret{}
			for _, s := range secrets {
				listed = append(listed, api.ListedSecret{SecretMetadata: s})
				rows = append(rows, []string{s.Path, s.Type, strconv.Itoa(s.Version), cli.When(s.CreatedAt), whenOrNever(s.ExpiresAt)})
			}
			return a.Table(api.Secrets{Secrets: listed}, rows)
		},
	}
}

func (a *app) secretVersionsCmd() *cobra.Command {
	return &cobra.Command{
		Use: "versions [VAULT] PATH", Short: "List the versions of a secret, newest first", Args: a.vaultArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			vault, path := a.vaultAndPath(args)
			versions, err := c.Versions(ctx, vault, path)
			if err != nil {
				return onNotFound(err, listSecrets)
			}
			rows := [][]string{{"VERSION", "TYPE", "CREATED", "EXPIRES", "STATE"}}
			for _, v := range versions {
				rows = append(rows, []string{strconv.Itoa(v.Version), v.Type, cli.When(v.CreatedAt), whenOrNever(v.ExpiresAt), versionState(v)})
			}
			return a.Table(api.Versions{Versions: append([]api.VersionMetadata{}, versions...)}, rows)
		}),
	}
}

func versionState(v api.VersionMetadata) string {
	if v.IsDisabled {
		return "disabled"
	}
	return "enabled"
}

func (a *app) secretDisableCmd() *cobra.Command {
	var version int
	cmd := &cobra.Command{
		Use: "disable [VAULT] PATH --version N", Short: "Make a version unreadable, for good", Args: a.vaultArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			vault, path := a.vaultAndPath(args)
			if version < 1 {
				return cli.Advise(cli.Usagef("say which version: --version N"), "the versions are listed by: keyfold secret versions VAULT PATH")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := c.Disable(cmd.Context(), vault, path, version); err != nil {
				return onNotFound(err, "see which there are: keyfold secret versions VAULT PATH")
			}
			return a.Answer(disabled{path, version, true}, "disabled %s version %d", path, version)
		},
	}
	cmd.Flags().IntVar(&version, "version", 0, "the version to disable")
	return cmd
}

// disabled is what disabling prints with --json.
type disabled struct {
	Path     string `json:"path"`
	Version  int    `json:"version"`
	Disabled bool   `json:"is_disabled"`
}

func (a *app) secretDeleteCmd() *cobra.Command {
	return &cobra.Command{
		Use: "delete [VAULT] PATH", Short: "Make all versions of a secret unreadable", Args: a.vaultArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			vault, path := a.vaultAndPath(args)
			if err := c.Delete(ctx, vault, path); err != nil {
				return onNotFound(err, listSecrets)
			}
			return a.Answer(deletedPath{Path: path, Deleted: true}, "deleted %s", path)
		}),
	}
}

// deletedPath is what the deletion of a secret prints with --json.
type deletedPath struct {
	Path    string `json:"path"`
	Deleted bool   `json:"deleted"`
}

func (a *app) secretGenerateCmd() *cobra.Command {
	length := 32
	req := api.GenerateSecret{Length: &length}
	cmd := &cobra.Command{
		Use: "generate [VAULT] PATH", Short: "Let the server make the next version at random", Args: a.vaultArgs(1),
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			vault, path := a.vaultAndPath(args)
			m, err := c.Generate(ctx, vault, path, req)
			if err != nil {
				return onNotFound(err, listVaults)
			}
			return a.Answer(m, "%s", versionLine(m))
		}),
	}
	f := cmd.Flags()
	f.IntVar(&length, "length", length, "characters, 8 to 1024")
	f.StringVar(&req.Charset, "charset", "", "hex, base64, alphanumeric or ascii (hex)")
	f.StringVar(&req.Type, "type", "", "type of the secret (kept from the version before)")
	return cmd
}

func versionLine(m api.SecretMetadata) string { return fmt.Sprintf("%s version %d", m.Path, m.Version) }
