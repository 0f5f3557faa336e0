package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

// maxInput bounds what is read as one value, in bytes. The server's limit is
// lower and its answer says what it is; this keeps a wrong file from filling
// the memory first.
const maxInput = 64 << 20

// putFlags are the flags of secret put.
type putFlags struct {
	file, value, expires string
	metadata             []string
	opt                  client.PutOptions
}

func (a *app) secretPutCmd() *cobra.Command {
	var p putFlags
	cmd := &cobra.Command{
		Use: "put [VAULT] PATH", Short: "Write the next version of a secret; the value comes from stdin, --file or --value",
		Long: `Write the next version of a secret. The value is the exact bytes of stdin, of
--file or of --value. In a sealed vault it is sealed here with the CMEK key. When
a key is given and the vault is not sealed, nothing is sent but with --unsealed.`,
		Example: `  printf %s "$TOKEN" | keyfold secret put VAULT api-keys/stripe --type api_key
  keyfold secret put VAULT tls/server-key --file server.key --type private_key`,
		Args: a.vaultArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := p.parse(cmd); err != nil {
				return err
			}
			value, err := a.valueToPut(cmd, p)
			if err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			vault, path := a.vaultAndPath(args)
			m, err := c.Put(cmd.Context(), vault, path, value, p.opt)
			if err != nil {
				return onNotFound(err, listVaults)
			}
			return a.Answer(m, "%s", versionLine(m))
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.opt.Type, "type", "", "one of "+strings.Join(api.SecretTypes, ", ")+" (generic)")
	f.StringVar(&p.file, "file", "", "read the value from this file")
	f.StringVar(&p.value, "value", "", "the value itself; arguments can be seen by others, prefer stdin")
	f.StringVar(&p.expires, "expires", "", "when it expires: "+timeForms)
	f.IntVar(&p.opt.MaxAccessCount, "max-reads", 0, "how often it can be read (no limit)")
	f.IntVar(&p.opt.IfMatch, "if-version", 0, "write only if this is the newest version")
	f.StringArrayVar(&p.metadata, "metadata", nil, "NAME=TEXT, listed without the value; may be repeated")
	_ = cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(api.SecretTypes, cobra.ShellCompDirectiveNoFileComp))
	a.keyFlag(cmd)
	unsealedFlag(cmd, &p.opt.AllowUnsealed)
	return cmd
}

func (p *putFlags) parse(cmd *cobra.Command) error {
	if p.file != "" && cmd.Flags().Changed("value") {
		return cli.Usagef("--file and --value are two values; give one")
	}
	for _, m := range p.metadata {
		name, text, ok := strings.Cut(m, "=")
		if !ok || name == "" {
			return cli.Usagef("--metadata wants NAME=TEXT")
		}
		if p.opt.Metadata == nil {
			p.opt.Metadata = map[string]any{}
		}
		p.opt.Metadata[name] = text
	}
	var err error
	p.opt.ExpiresAt, err = parseExpiry("expires", p.expires, time.Now())
	return err
}

func (a *app) valueToPut(cmd *cobra.Command, p putFlags) ([]byte, error) {
	switch {
	case cmd.Flags().Changed("value"):
		a.Note("warning: --value can be seen in the list of processes and in the shell's history; prefer stdin or --file")
		return []byte(p.value), nil
	case p.file != "":
		f, err := os.Open(p.file)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return readAll(f, maxInput)
	}
	return a.readStdin("the value")
}

// readStdin reads all of stdin, and tells a person at a terminal so.
func (a *app) readStdin(what string) ([]byte, error) {
	if cli.IsTerminal(a.In) {
		fmt.Fprintf(a.Err, "reading %s from the terminal; end it with Ctrl-D\n", what)
	}
	return readAll(a.In, maxInput)
}

func readAll(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("the value is over %d bytes", limit)
	}
	return data, err
}
