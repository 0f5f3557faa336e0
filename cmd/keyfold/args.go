package main

import (
	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

// vaultArgs accepts [VAULT] and then want more arguments; VAULT may be left
// out when KEYFOLD_VAULT is set.
func (a *app) vaultArgs(want int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		_, _, err := a.splitVault(args, want)
		return err
	}
}

// splitVault takes the vault off args, or off the environment.
func (a *app) splitVault(args []string, want int) (vault string, rest []string, err error) {
	fallback := a.getenv("KEYFOLD_VAULT")
	switch {
	case len(args) == want+1:
		return args[0], args[1:], nil
	case len(args) == want && fallback != "":
		return fallback, args, nil
	case len(args) == want:
		return "", nil, advise(usagef("VAULT is missing"), "export KEYFOLD_VAULT=ID; the IDs are listed by: keyfold vault list")
	}
	return "", nil, usagef("wrong number of arguments: %d", len(args))
}

// vaultAndPath is splitVault of arguments that vaultArgs(1) has accepted.
func (a *app) vaultAndPath(args []string) (vault, path string) {
	vault, rest, err := a.splitVault(args, 1)
	if err != nil {
		return "", ""
	}
	return vault, rest[0]
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
	return "", "", advise(usagef("VAULT is missing"), "export KEYFOLD_VAULT=ID; the IDs are listed by: keyfold vault list")
}
