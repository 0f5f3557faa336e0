package main

import (
	"context"
	"sync"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/cli"
)

// app is one run of the command line.
type app struct {
	cli.App
	getenv func(string) string

	// Global flags.
	url, apiKey string
	cmekKeyFile string // of the commands that have --cmek-key-file
	kms         customerKMS

	signedIn bool // the credential is what login has saved

	keyOnce sync.Once // guards the making of key and keyErr
	key     *cmek.Key
	keyErr  error

	atEnd func() // closes the client's connections; nil: none were made
}

// run runs args and returns the exit code.
func (a *app) run(ctx context.Context, args []string) int {
	a.Explain = a.explain
	code := a.Run(ctx, a.root(), args)
	if a.atEnd != nil {
		a.atEnd()
	}
	return code
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "keyfold",
		Short: "Secrets and conversations, encrypted under keys that their keeper cannot use alone",
		Long: `Keyfold keeps secrets in vaults and messages in threads, encrypted.

Try it:            keyfold dev
Run it:            keyfold server
Sign in:           keyfold login, which keeps it in KEYFOLD_CONFIG_DIR
Where and who:     KEYFOLD_URL, KEYFOLD_API_KEY; without them, the development
                   server of ./keyfold-data (KEYFOLD_DATA) when there is one, and
                   else where you have signed in
Default vault:     KEYFOLD_VAULT, used where VAULT is left out
The CMEK key:      --cmek-key-file, KEYFOLD_CMEK_KEY (base64), KEYFOLD_CMEK_KEY_FILE
                   or ONECLAW_CMEK_KEY, the first that is set
Exit codes:        0 done, 1 failed, 2 wrong usage`,
		PersistentPreRun: func(*cobra.Command, []string) {
			if a.apiKey != "" {
				a.Note("warning: --api-key can be seen in the list of processes; set KEYFOLD_API_KEY instead")
			}
		},
	}
	f := root.PersistentFlags()
	f.StringVar(&a.url, "url", "", "server, such as http://127.0.0.1:7420 (env KEYFOLD_URL)")
	f.StringVar(&a.apiKey, "api-key", "", "API key; prefer the environment, arguments can be seen by others (env KEYFOLD_API_KEY)")
	root.AddCommand(a.devCmd(), a.serverCmd(), a.signupCmd(), a.loginCmd(), a.whoamiCmd(), a.logoutCmd(), a.vaultCmd(), a.secretCmd(), a.cmekCmd(),
		a.shareCmd(), a.runCmd(), a.agentCmd(), a.policyCmd(), a.keyCmd(), a.signingKeyCmd(), a.memberCmd(),
		a.passwordCmd(), a.totpCmd(), a.passkeyCmd(), a.auditCmd(),
		a.threadCmd(), a.messageCmd(), a.adminCmd(), a.storeCmd())
	return root
}
