package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
)

// readyTime is how long the answer to a probe may take: more than /readyz takes to
// find that a part of the server does not answer.
const readyTime = 6 * time.Second

func (a *app) serverReadyCmd(file *string) *cobra.Command {
	return &cobra.Command{
		Use: "ready", Short: "Ask the server of a configuration whether it can do its work",
		Long: `Ask the server that runs with this configuration, on this machine, whether it can do its
work: its store and its key process answer, and it is not about to end. The exit code is 0
when it is so, and else 1; for probes of containers and for scripts.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.loadSettings(*file)
			if err != nil {
				return cli.Usagef("the configuration is wrong:\n%w", err)
			}
			if err := s.askReady(cmd.Context()); err != nil {
				return err
			}
			if a.JSON {
				return a.PrintJSON(struct {
					Ready bool `json:"ready"`
				}{true})
			}
			_, err = fmt.Fprintln(a.Out, "ready")
			return err
		},
	}
}

// askReady is nil when the server of s, on this machine, is ready. What is wrong
// with one that answers, its log knows.
func (s serverSettings) askReady(ctx context.Context) error {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return cli.Usagef("addr: write HOST:PORT, such as 127.0.0.1:7420 or :443")
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	trust, err := s.ownCertificate()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url(net.JoinHostPort(host, port))+"/readyz", nil)
	if err != nil {
		return err
	}
	transport := &http.Transport{TLSClientConfig: trust, DisableKeepAlives: true}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return errors.New("not ready: the server does not answer")
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: the server answers %d", resp.StatusCode)
	}
	return nil
}

// ownCertificate trusts the certificate of s, by its own name, and no other: the
// address here is not the name in it. nil: the server has no TLS.
func (s serverSettings) ownCertificate() (*tls.Config, error) {
	if s.TLS.Cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(s.TLS.Cert, s.TLS.Key)
	if err != nil {
		return nil, err
	}
	own := pair.Leaf
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: true, // the next line is stricter
		VerifyConnection: func(c tls.ConnectionState) error {
			if !isOwn(c.PeerCertificates, own) {
				return errors.New("another certificate than tls.cert")
			}
			return nil
		},
	}, nil
}

func isOwn(shown []*x509.Certificate, own *x509.Certificate) bool {
	return len(shown) > 0 && own != nil && shown[0].Equal(own)
}
