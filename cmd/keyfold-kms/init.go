package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/kmsnode"
	"github.com/keyfold/keyfold/internal/kmsserver"
)

type initFlags struct {
	tls    bool
	names  []string
	agents []string
}

func (a *app) initCmd() *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use: "init", Short: "Make a root key, an empty key store and a configuration",
		Long: `Make a root key, an empty key store and a configuration file, each with mode 0600.
The configuration goes to --config, or to kms.yaml beside the data directory. What is
there already is left alone.

With --tls the configuration is for TCP (--endpoint HOST:PORT, or 127.0.0.1:7421), and
development certificates are made in tls/ beside the data directory: for this process,
for the callers keyfold-server (crypto+shred+list) and keyfold-admin (crypto+admin), and for
each --agent, of the role cmek.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runsOnStore(cmd, f.run(a)) },
	}
	cmd.Flags().BoolVar(&f.tls, "tls", false, "listen on TCP, with development certificates")
	cmd.Flags().StringSliceVar(&f.names, "name", nil, "with --tls: DNS names or IP addresses of this machine, beside localhost")
	cmd.Flags().StringSliceVar(&f.agents, "agent", nil, "with --tls: names of agents who seal and open with CMEK keys that are granted to them")
	return cmd
}

func (f *initFlags) run(a *app) func(context.Context) error {
	return func(ctx context.Context) error {
		if a.configFile == "" {
			a.configFile = kmsnode.ConfigFile(a.set.DataDir)
		}
		if err := f.endpoint(a); err != nil {
			return err
		}
		if err := a.makeStore(ctx); err != nil {
			return err
		}
		if f.tls {
			if err := a.makeTLS(f.names, f.agents); err != nil {
				return err
			}
		}
		wrote, err := a.writeConfig()
		if err != nil {
			return err
		}
		return a.made(wrote)
	}
}

// endpoint makes the endpoint one on TCP with --tls, and refuses one without.
func (f *initFlags) endpoint(a *app) error {
	_, onTCP, err := clientEndpoint(a.set.Endpoint)
	switch {
	case err != nil:
		return err
	case onTCP && !f.tls && a.set.TLS.Cert == "":
		return cli.Usagef("an endpoint on TCP wants certificates: --tls makes some for development")
	case len(f.agents) > 0 && !f.tls:
		return cli.Usagef("--agent makes certificates: say --tls, too")
	case f.tls && !onTCP && a.set.Endpoint != kmsnode.Endpoint(a.set.DataDir):
		return cli.Usagef("--tls wants an --endpoint HOST:PORT")
	case f.tls && !onTCP:
		a.set.Endpoint = "127.0.0.1:7421"
	}
	return nil
}

// makeStore makes what the keys need. A root key that is there without a store,
// as an init that was cut off leaves it, gets one.
func (a *app) makeStore(ctx context.Context) error {
	if err := kmsnode.Vacant(ctx, a.on(nil)); err != nil {
		return cli.Advise(err, "look at the keys that are there with: "+a.storeInEnv()+"keyfold-kms keys "+a.storeFlags())
	}
	root, err := a.makeRoot(ctx)
	if err != nil {
		return err
	}
	defer root.Wipe()
	return kmsnode.Init(ctx, a.on(root))
}

// makeTLS makes certificates and the settings that name them.
func (a *app) makeTLS(names, agents []string) error {
	dir, err := filepath.Abs(filepath.Join(filepath.Dir(filepath.Clean(a.set.DataDir)), "tls"))
	if err != nil {
		return err
	}
	if err := kmsserver.MakeTLS(dir, names...); err != nil {
		return err
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	a.set.TLS.Cert, a.set.TLS.Key, a.set.TLS.CA = in("server.crt"), in("server.key"), in("ca.crt")
	a.set.Client.Cert, a.set.Client.Key, a.set.Client.CA = in("keyfold-admin.crt"), in("keyfold-admin.key"), in("ca.crt")
	a.set.Callers = []caller{
		{Name: "keyfold-server", Roles: kmsserver.Crypto | kmsserver.Shred | kmsserver.List},
		{Name: "keyfold-admin", Roles: kmsserver.Crypto | kmsserver.Admin},
	}
	for _, name := range agents {
		if err := kmsserver.AddTLS(dir, name); err != nil {
			return err
		}
		a.set.Callers = append(a.set.Callers, caller{Name: name, Roles: kmsserver.CMEK})
	}
	return nil
}

// writeConfig writes the configuration, unless there is one, and reports
// whether it did.
func (a *app) writeConfig() (bool, error) {
	text, err := a.configText()
	if err != nil {
		return false, err
	}
	f, err := os.OpenFile(a.configFile, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("write the configuration: %w", err)
	}
	_, err = f.WriteString(text)
	return true, errors.Join(err, f.Sync(), f.Close())
}

// storeText is the store for the configuration: nothing where it is in the data
// directory.
func (a *app) storeText() (string, error) {
	switch {
	case a.store.HasPassword():
		return elsewhere, nil
	case a.store.Dir() == "":
		return string(a.set.Store), nil
	}
	abs, err := a.store.Absolute()
	return abs.String(), err
}

func (a *app) configText() (string, error) {
	var b strings.Builder
	b.WriteString("# The configuration of keyfold-kms. Flags and KEYFOLD_KMS_* in the environment go before it.\n")
	root := a.set.Root
	if path, ok := strings.CutPrefix(root, "file:"); ok {
		path, err := absolute(path)
		if err != nil {
			return "", err
		}
		root = "file:" + path
	}
	paths := []string{a.set.DataDir, a.set.AuditDir, a.set.Endpoint}
	for i, path := range paths {
		if _, onTCP, _ := clientEndpoint(path); i == 2 && (onTCP || strings.Contains(path, "://")) {
			continue // no path
		}
		var err error
		if paths[i], err = absolute(path); err != nil {
			return "", err
		}
	}
	set := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&b, "%s: %s\n", name, strconv.Quote(value))
		}
	}
	set("data_dir", paths[0])
	store, err := a.storeText()
	if err != nil {
		return "", err
	}
	set("store", store)
	if a.store.HasPassword() {
		b.WriteString("# The URL of the store has a password and is not written here: set KEYFOLD_KMS_STORE, or KEYFOLD_KMS_STORE_FILE.\n")
	}
	set("root", root)
	set("audit_dir", paths[1])
	set("endpoint", paths[2])
	b.WriteString("\n# Who may call: \"uid:NUMBER ROLES\" on a Unix socket, \"cert:NAME ROLES\" on TCP; ROLES is\n# one of crypto, shred, list, admin and cmek, or some: a server's are crypto+shred+list. Without a list it is the user who runs the process.\n")
	if len(a.set.Callers) > 0 {
		b.WriteString("callers:\n")
	}
	for _, c := range a.set.Callers {
		fmt.Fprintf(&b, "  - %s\n", strconv.Quote(c.String()))
	}
	pem := func(what, name, cert, key, ca string) {
		if cert+key+ca != "" {
			fmt.Fprintf(&b, "\n# %s\n%s:\n  cert: %q\n  key: %q\n  ca: %q\n", what, name, cert, key, ca)
		}
	}
	pem("What this process shows, and the CA of its callers.", "tls", a.set.TLS.Cert, a.set.TLS.Key, a.set.TLS.CA)
	pem("What the commands of keyfold-kms show to this process.", "client", a.set.Client.Cert, a.set.Client.Key, a.set.Client.CA)
	return b.String(), nil
}

// made says what there is now and what to do next.
func (a *app) made(wroteConfig bool) error {
	if a.JSON {
		return a.PrintJSON(map[string]string{"root": a.set.Root, "data_dir": a.set.DataDir, "store": a.storePlace(), "audit_dir": a.set.AuditDir, "config": a.configFile})
	}
	if path, ok := strings.CutPrefix(a.set.Root, "file:"); ok {
		fmt.Fprintf(a.Out, "root key   %s (keep a copy where only you can read it: nothing else opens the keys)\n", path)
	} else {
		fmt.Fprintf(a.Out, "root key   %s\n", a.set.Root)
	}
	fmt.Fprintf(a.Out, "key store  %s\naudit      %s\n", a.storePlace(), a.set.AuditDir)
	if !wroteConfig {
		a.Note("%s was there already and is as it was; look whether it names these", a.configFile)
	}
	_, err := fmt.Fprintf(a.Out, "settings   %s\nstart      %skeyfold-kms serve --config %s\n", a.configFile, a.storeInEnv(), a.configFile)
	return err
}
