package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/harden"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/tracing"
)

func (a *app) serverCmd() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "server", Short: "Run the server until SIGTERM or Ctrl-C",
		Long: `Run the server until SIGTERM or Ctrl-C, which let the requests under way finish.

What it needs is in the configuration file, in YAML, and in variables of the
environment, which win; docs/server.md lists both. It does not start with a
configuration that is wrong (exit code 2), and takes nothing in the place of what is
missing. Before the first start make the first org: keyfold server init.

  addr: 127.0.0.1:7420
  public_url: https://keys.example.com
  data: /var/lib/keyfold
  kms:
    url: unix:///run/keyfold/kms.sock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runs(cmd.Context(), func(ctx context.Context, onFailure func(error)) error { return a.server(ctx, file, onFailure) })
		},
	}
	cmd.PersistentFlags().StringVar(&file, "config", a.getenv("KEYFOLD_CONFIG"), "configuration file (env KEYFOLD_CONFIG)")
	_ = cmd.MarkPersistentFlagFilename("config", "yaml", "yml")
	cmd.AddCommand(a.serverCheckCmd(&file), a.serverInitCmd(&file), a.serverReadyCmd(&file))
	return cmd
}

// server serves until ctx ends, and then returns nil when everything was closed
// in order. It tells onFailure when a store cannot go on.
func (a *app) server(ctx context.Context, file string, onFailure func(error)) (err error) {
	s, warnings, err := a.settled(ctx, file)
	if err != nil {
		return err
	}
	log := tracing.Logger(s.Log.Logger(a.Err))
	tracer, err := a.tracer(log)
	if err != nil {
		return err
	}
	defer endTraces(tracer)
	for _, text := range append(warnings, harden.Apply()...) {
		log.WarnContext(ctx, text)
	}
	ln, err := s.listen(log)
	if err != nil {
		return err
	}
	defer ln.Close() // a second close, after the node's, does nothing
	node, err := s.open(ctx, log, tracer, onFailure)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeNode(node)) }()
	if err := s.needsInit(ctx, node.Identity, log); err != nil {
		return err
	}
	return a.serve(ctx, node, ln, time.Duration(s.Drain), func() error { return a.announceServer(s, ln.Addr()) })
}

// settled returns a configuration that a server can start with, and what is to
// be said about it nevertheless.
func (a *app) settled(ctx context.Context, file string) (s serverSettings, warnings []string, err error) {
	s, found := a.check(ctx, file)
	if err := found.err(); err != nil {
		return s, nil, cli.Advise(cli.Usagef("the configuration is wrong:\n%w", err), "mend it, and see what is left: keyfold server check")
	}
	return s, found.of(levelWarning), nil
}

// listen listens at the address of s, with TLS if it has a certificate.
func (s serverSettings) listen(log *slog.Logger) (net.Listener, error) {
	ln, err := listen(s.Addr, "end what listens there, or set another addr")
	if err != nil || s.TLS.Cert == "" {
		return ln, err
	}
	config, err := httpx.FollowTLS([]string{s.TLS.Cert, s.TLS.Key}, s.loadTLS, log)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	return tls.NewListener(ln, config), nil
}

// loadTLS reads the certificate and its key. HTTP/2 is left to proxies: it is
// one more parser of what strangers send.
func (s serverSettings) loadTLS() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(s.TLS.Cert, s.TLS.Key)
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"}}, err
}

// open assembles the server of s.
func (s serverSettings) open(ctx context.Context, log *slog.Logger, tracer *tracing.Tracer, onFailure func(error)) (*allinone.Node, error) {
	cfg := s.config()
	cfg.Log, cfg.Tracer, cfg.OnFailure = log, tracer, onFailure
	node, err := allinone.Open(ctx, cfg)
	return node, inUse(err, "another server", first(cfg.Store.String(), s.Data), "end that one, or set another data directory")
}

// needsInit warns when nobody can come in, nor ever will.
func (s serverSettings) needsInit(ctx context.Context, ids *identity.Service, log *slog.Logger) error {
	there, err := ids.HasUsers(ctx)
	if err == nil && !there && s.SignUp != string(identity.SignUpOpen) {
		log.WarnContext(ctx, "nobody has an account here and nobody can make one; end the server and run: keyfold server init --email ADDRESS")
	}
	return err
}

// announceServer says what runs where.
func (a *app) announceServer(s serverSettings, addr net.Addr) error {
	said := struct {
		URL       string `json:"url"`
		PublicURL string `json:"public_url,omitempty"`
		Data      string `json:"data"`
		Store     string `json:"store"`
		KMS       string `json:"kms"`
		SignUp    string `json:"sign_up"`
		Encrypts  string `json:"encryption"`
	}{s.url(asked(s.Addr, addr)), s.PublicURL, s.Data, s.storePlace(), s.KMS.URL, s.SignUp, s.Encryption.String()}
	if a.JSON {
		return a.PrintJSON(said)
	}
	_, err := fmt.Fprintf(a.Out, "keyfold listens on %s\n  public URL  %s\n  data        %s\n  store       %s\n  keys        %s\n  sign-up     %s\n  encryption  %s\n",
		said.URL, first(said.PublicURL, "-"), first(said.Data, "-"), said.Store, said.KMS, said.SignUp, said.Encrypts)
	return err
}

// asked is the address that was asked for, with the port that it was given.
func asked(addr string, given net.Addr) string {
	host, _, _ := net.SplitHostPort(addr)
	_, port, _ := net.SplitHostPort(given.String())
	return net.JoinHostPort(first(host, "0.0.0.0"), port)
}

func (a *app) serverCheckCmd(file *string) *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "Say what is wrong with a configuration",
		Long: `Say all that is wrong with a configuration, one line each, and what to do about it.
With an error no server starts, with a warning one does, and a note is no fault. The
exit code is 1 when there is an error. Nothing is started and nothing is changed; the
key process is asked whether it would work for this server and, once nothing else is
wrong, the store is looked into: whether it opens, and whether the keys are those to
it. A store in a directory that another process uses is not looked into. Run it as the
user who runs the server.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, found := a.check(cmd.Context(), *file)
			s.callKMS(cmd.Context(), &found)
			if found.err() == nil {
				s.lookInside(cmd.Context(), &found)
			}
			if err := a.printFindings(found); err != nil {
				return err
			}
			if n := len(found.of(levelError)); n > 0 {
				return fmt.Errorf("no server starts with this configuration: errors: %d", n)
			}
			return nil
		},
	}
}

func (a *app) printFindings(found findings) error {
	if a.JSON {
		return a.PrintJSON(struct {
			OK       bool     `json:"ok"`
			Findings findings `json:"findings"`
		}{found.err() == nil, append(findings{}, found...)})
	}
	for _, f := range found {
		if _, err := fmt.Fprintf(a.Out, "%s: %s\n", f.Level, f.Text); err != nil {
			return err
		}
	}
	if len(found) == len(found.of(levelNote)) {
		_, err := fmt.Fprintln(a.Out, "nothing is wrong")
		return err
	}
	return nil
}
