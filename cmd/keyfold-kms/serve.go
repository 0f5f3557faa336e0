package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsnode"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"github.com/keyfold/keyfold/internal/tracing"
)

// closeTime is how long calls that are under way may take after a signal.
const closeTime = 10 * time.Second

func (a *app) serveCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use: "serve", Short: "Run the key process until SIGTERM or Ctrl-C",
		Long: `Run the key process until SIGTERM or Ctrl-C, which let the calls under way finish.
Over a store that several key processes can serve it goes on for a second more, in which
/readyz says that it is closing, and callers who have another one go there.

KEYFOLD_KMS_CALLERS lists who may call, with commas, like callers in the configuration
file: "uid:1000 crypto+shred+list, uid:0 crypto+admin". KEYFOLD_KMS_LOG is debug, info, warn or
error, and ",json" after it for JSON. A certificate that changes is taken up by itself.
It uses half of the machine's processors, since its caller is as a rule on the same;
GOMAXPROCS sets another number.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.runsOnStore(cmd, a.serve) },
	}
	cmd.Flags().Bool("allow-kek-import", false, "let callers of the role admin import material of the threads' KEK, which whatever it passes through then knows (env KEYFOLD_KMS_ALLOW_KEK_IMPORT)")
	return cmd
}

// serve runs a node until ctx ends, and returns nil when it closed in order.
func (a *app) serve(ctx context.Context) (err error) {
	if a.getenv("GOMAXPROCS") == "" {
		shareProcessors()
	}
	root, missing, err := a.openRoot(ctx)
	if err != nil {
		return err
	}
	defer root.Wipe()
	log := tracing.Logger(a.set.Log.Logger(a.Err))
	tracer, err := tracing.New("keyfold-kms", cli.Version(), a.getenv, log)
	if err != nil {
		return cli.Usagef("%w", err)
	}
	defer func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = tracer.Close(ending) // the log has it
	}()
	cfg := a.nodeConfig(root, missing)
	cfg.Log, cfg.Tracer = log, tracer
	node, err := kmsnode.Open(ctx, cfg)
	if err != nil {
		return onCode(err, fault.Conflict, "end that process, or ask it: keyfold-kms status "+a.storeFlags())
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTime)
		defer cancel()
		err = errors.Join(err, node.Close(closing))
	}()
	if err := a.announce(node.Status()); err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- node.Serve() }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		a.Note("closing")
		node.Drain(context.WithoutCancel(ctx))
		return nil
	}
}

// shareProcessors leaves half of the processors to the server, which as a rule
// runs on the same machine. It calls with one batch at a time, and after each of
// them a processor more would spin in search of work: that costs more than it
// gives, as long as one processor keeps up (bench/RESULTS.md).
func shareProcessors() { runtime.GOMAXPROCS(max(1, runtime.GOMAXPROCS(0)/2)) }

func (a *app) nodeConfig(root keyring.Root, missing []string) kmsnode.Config {
	callers := make([]kmsserver.Caller, len(a.set.Callers))
	for i, c := range a.set.Callers {
		callers[i] = kmsserver.Caller(c)
	}
	return kmsnode.Config{
		DataDir: a.set.DataDir, Store: a.store, Root: root, AuditDir: a.set.AuditDir, Endpoint: a.set.Endpoint, Callers: callers,
		TLS:       &kmsserver.TLSFiles{Cert: a.set.TLS.Cert, Key: a.set.TLS.Key, CA: a.set.TLS.CA},
		ImportKEK: a.set.AllowKEKImport, Memory: missing, Version: cli.Version(),
		OnFailure: func(err error) {
			os.Exit(a.Fail(cli.Advise(fmt.Errorf("the key process cannot go on: %w", err),
				"look for its cause above; then start it again, which recovers what was stored")))
		},
	}
}

// announce says what runs where, and what to know of it.
func (a *app) announce(s kmsapi.Status) error {
	if a.JSON {
		return a.PrintJSON(struct {
			Endpoint string `json:"endpoint"`
			AuditDir string `json:"audit_dir"`
			kmsapi.Status
		}{a.set.Endpoint, a.set.AuditDir, s})
	}
	for _, sentence := range s.Memory {
		a.Note("warning: %s", sentence)
	}
	if a.set.AllowKEKImport {
		a.Note("warning: allow_kek_import is on: the key over the threads' keys can be one that was made elsewhere, and is known there")
	}
	if !pkcs11Built {
		a.Note("this program was built without cgo and has no PKCS#11: the root key can be a file, not a token")
	}
	callers := "the user who runs it, in every role"
	for i, c := range a.set.Callers {
		if i == 0 {
			callers = c.String()
		} else {
			callers += ", " + c.String()
		}
	}
	_, err := fmt.Fprintf(a.Out, "keyfold-kms listens on %s\n  root key  %s\n  callers   %s\n  audit     %s, record %d, key %s\n",
		a.set.Endpoint, a.set.Root, callers, a.set.AuditDir, s.AuditSeq, s.AuditKey)
	return err
}
