package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/config"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/store/storespec"
	"github.com/keyfold/keyfold/internal/throttle"
	"github.com/keyfold/keyfold/internal/tracing"
	"github.com/keyfold/keyfold/web"
)

type devFlags struct {
	rate            float64 // calls a second; 0: no limit
	addr, data, kms string
	store           string
	cors            []string // origins
	encryption      string
	keep            bool
}

func (a *app) devCmd() *cobra.Command {
	var d devFlags
	cmd := &cobra.Command{
		Use: "dev", Short: "Run all of Keyfold in one process, for trying it",
		Long: `Run all of Keyfold in one process, for trying it: server, key process and store.
What is missing in the data directory is made: root key, org, owner, API key. The
API key is the same at every start; it is in DIR/dev.json while the server runs.

The key process is inside this one (--kms embedded), a keyfold-kms that is started
with it on the same keys (external), or one that runs already, at unix:///PATH or
at https://HOST:PORT with KEYFOLD_KMS_CERT, KEYFOLD_KMS_KEY and KEYFOLD_KMS_CA, the
PEM files of mutual TLS. KEYFOLD_BREAKGLASS_ROOT and KEYFOLD_BREAKGLASS_KEYRING name
the files with which messages can be read while that one is away; without them they
cannot.

The store of the server is in the data directory too, or where --store says; the keys
to it stay in the data directory.

KEYFOLD_ADDR, KEYFOLD_DATA and KEYFOLD_LOG (debug, info, warn or error; "info,json"
for JSON) set what the flags do not, as KEYFOLD_KEK_MAX_AGE, KEYFOLD_DEK_MAX_AGE and
KEYFOLD_CMEK_MAX_AGE do.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runs(cmd.Context(), func(ctx context.Context, onFailure func(error)) error { return a.dev(ctx, d, onFailure) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.addr, "addr", first(a.getenv("KEYFOLD_ADDR"), "127.0.0.1:7420"), "where to listen (env KEYFOLD_ADDR)")
	f.StringVar(&d.data, "data", first(a.getenv("KEYFOLD_DATA"), defaultData), "data directory (env KEYFOLD_DATA)")
	f.StringVar(&d.store, "store", "", "the server's store where it is not in DIR/server: pebble:DIR or postgres://USER@HOST/DATABASE; one with a password belongs in KEYFOLD_STORE, or the file that KEYFOLD_STORE_FILE names")
	f.StringVar(&d.kms, "kms", first(a.getenv("KEYFOLD_KMS"), allinone.Embedded), "key process: embedded, external, unix:///PATH or https://HOST:PORT (env KEYFOLD_KMS)")
	f.Float64Var(&d.rate, "rate", 5000, "calls a second of one key, and of one address; 0: no limit")
	f.StringSliceVar(&d.cors, "cors", nil, "let pages of these origins call the server, such as http://localhost:5173")
	f.StringVar(&d.encryption, "encryption", first(a.getenv("KEYFOLD_ENCRYPTION"), "on"), "on, or off to have messages of new threads stored in clear (env KEYFOLD_ENCRYPTION)")
	f.BoolVar(&d.keep, "keep", false, "leave DIR/dev.json at the end")
	return cmd
}

// dev serves until ctx ends, and then returns nil when everything was closed
// in order. It tells onFailure when a store cannot go on.
func (a *app) dev(ctx context.Context, d devFlags, onFailure func(error)) (err error) {
	var logging cli.Log
	if logging.UnmarshalText([]byte(first(a.getenv("KEYFOLD_LOG"), "warn"))) != nil {
		return cli.Usagef("KEYFOLD_LOG wants debug, info, warn or error, and ,json after it for JSON")
	}
	var encrypts encryption
	if err := encrypts.UnmarshalText([]byte(d.encryption)); err != nil {
		return cli.Usagef("--encryption: %w", err)
	}
	log := tracing.Logger(logging.Logger(a.Err))
	tracer, err := a.tracer(log)
	if err != nil {
		return err
	}
	defer endTraces(tracer)
	cfg, err := a.kmsConfig(d)
	if err != nil {
		return err
	}
	if cfg.Store, err = a.devStore(d); err != nil {
		return err
	}
	ln, err := listen(d.addr, "take another address: keyfold dev --addr 127.0.0.1:0")
	if err != nil {
		return err
	}
	defer ln.Close() // a second close, after the node's, does nothing
	if d.kms == external {
		keys, err := startKMS(ctx, d.data, strings.TrimPrefix(cfg.KMSURL, unixScheme), a.Err, log)
		if err != nil {
			return err
		}
		defer keys.stop() // after the node's end
	}
	cfg.DataDir, cfg.Version, cfg.Log, cfg.Tracer, cfg.OnFailure = d.data, cli.Version(), log, tracer, onFailure
	// Generous, so that the test suites of real clients run.
	cfg.SignUp, cfg.DefaultPlan, cfg.PublicURL = identity.SignUpOpen, access.Enterprise, "http://"+devHost(ln.Addr())
	cfg.CORSOrigins, cfg.Plain, cfg.Dev, cfg.Dashboard = d.cors, bool(!encrypts), true, web.FS()
	cfg.Retention = defaultRetention
	if cfg.MaxAge, err = a.maxAgeOfDev(); err != nil {
		return err
	}
	cfg.Limits = httpx.Limits{Principal: throttle.Rate{PerSecond: d.rate}, Address: throttle.Rate{PerSecond: d.rate}}
	node, err := allinone.Open(ctx, cfg)
	if err != nil {
		return inUse(err, "another development server", d.data, "end that one, or take another directory: keyfold dev --data DIR")
	}
	defer func() { err = errors.Join(err, closeNode(node)) }()
	// What a killed server left would send commands to where nobody answers.
	os.Remove(filepath.Join(d.data, devFileName))
	dev, err := a.devOwner(ctx, node.Identity, d.data)
	if err != nil {
		return err
	}
	dev.URL = "http://" + reachable(ln.Addr())
	if !d.keep {
		defer os.Remove(filepath.Join(d.data, devFileName))
	}
	return a.serve(ctx, node, ln, 0, func() error { return a.announce(ctx, d, dev) })
}

// devStore is the store of flags and environment; none: in the data directory.
func (a *app) devStore(d devFlags) (storespec.Spec, error) {
	var given struct {
		Store config.Secret `env:"KEYFOLD_STORE"`
	}
	if err := config.Load(&given, "", a.getenv); err != nil {
		return storespec.Spec{}, cli.Usagef("%w", err)
	}
	spec, err := storespec.Parse(first(d.store, string(given.Store)))
	if err != nil {
		return spec, cli.Usagef("--store or KEYFOLD_STORE: %w", err)
	}
	return spec, nil
}

// announce leaves dev.json and prints the banner, once the server answers.
func (a *app) announce(ctx context.Context, d devFlags, dev devFile) error {
	c, err := client.New(dev.URL, dev.APIKey)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Health(ctx); err != nil {
		return err
	}
	if err := writeDevFile(filepath.Join(d.data, devFileName), dev); err != nil {
		return err
	}
	return a.banner(d, dev)
}

// reachable is the address that a client on this machine dials.
func reachable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// devHost is what a page on this machine calls the server: passkeys are for
// names, not for addresses.
func devHost(addr net.Addr) string {
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return "localhost"
	}
	return net.JoinHostPort("localhost", port)
}

// maxAgeOfDev is the policy of keys' ages, which the environment may set.
func (a *app) maxAgeOfDev() (api.KeyAges, error) {
	s := defaultSettings()
	err := config.Load(&s.MaxAge, "", a.getenv)
	return s.maxAge(), err
}
