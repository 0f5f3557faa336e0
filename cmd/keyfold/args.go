package main

import (
	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
)

// vaultArgs accepts [VAULT] and then want more arguments; VAULT may be left
// out when KEYFOLD_VAULT is set.
func (a *app) vaultArgs(want int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		_, err := a.pickVault(args, want)
		return err
	}
}

// pickVault takes the vault off args, or off the environment.
func (a *app) pickVault(args []string, want int) (string, error) {
	fallback := a.getenv("KEYFOLD_VAULT")
	switch {
	case len(args) == want+1:
		return args[0], nil
	case len(args) == want && fallback != "":
		return fallback, nil
	case len(args) == want:
		return "", errNoVault
	}
	return "", cli.Usagef("wrong number of arguments: %d", len(args))
}

var errNoVault = cli.Advise(cli.Usagef("VAULT is missing"), "export KEYFOLD_VAULT=ID; the IDs are listed by: keyfold vault list")

// vault is the vault of arguments that vaultArgs(0) has accepted.
func (a *app) vault(args []string) string {
	vault, _ := a.pickVault(args, 0)
	return vault
}

// vaultAndPath splits arguments that vaultArgs(1) has accepted.
func (a *app) vaultAndPath(args []string) (vault, path string) {
	vault, _ = a.pickVault(args, 1)
	return vault, args[len(args)-1]
}

// vaultAndPrefix splits [VAULT] [PREFIX]. One argument is the vault, unless
// there is a default vault and the argument is no ID of one.
func (a *app) vaultAndPrefix(args []string) (vault, prefix string, err error) {
	fallback := a.getenv("KEYFOLD_VAULT")
	switch {
	case len(args) == 2:
		return args[0], args[1], nil
	case len(args) == 1 && fallback != "" && uuid.Validate(args[0]) != nil:
		return fallback, args[0], nil
	case len(args) == 1:
		return args[0], "", nil
	case fallback != "":
		return fallback, "", nil
	}
	return "", "", errNoVault
}
