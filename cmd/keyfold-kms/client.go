package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsclient"
)

// runsOnStore runs do when it is known where the key store is.
func (a *app) runsOnStore(cmd *cobra.Command, do func(context.Context) error) error {
	if err := a.needStore(); err != nil {
		return err
	}
	return do(cmd.Context())
}

// asks runs do with a client of the running process.
func (a *app) asks(cmd *cobra.Command, do func(context.Context, *kmsclient.Client) error) error {
	if err := a.needEndpoint(); err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	return a.clientAdvice(do(cmd.Context(), c))
}

func (a *app) client() (*kmsclient.Client, error) {
	endpoint, onTCP, err := clientEndpoints(a.set.Endpoint)
	if err != nil {
		return nil, err
	}
	cfg := kmsclient.Config{Endpoint: endpoint}
	if onTCP {
		files := a.set.Client
		if files.Cert == "" || files.Key == "" || files.CA == "" {
			return nil, cli.Usagef("a key process on TCP wants mutual TLS: --cert FILE --key FILE --ca FILE")
		}
		if cfg.TLS, err = kmsclient.LoadTLS(files.Cert, files.Key, files.CA); err != nil {
			return nil, err
		}
	}
	return kmsclient.New(cfg)
}

// clientEndpoints is a list of endpoints as the client wants it. onTCP: one of them is.
func clientEndpoints(list string) (urls string, onTCP bool, err error) {
	addresses := kmsclient.Endpoints(list)
	for i, address := range addresses {
		tcp := false
		if addresses[i], tcp, err = clientEndpoint(address); err != nil {
			return "", false, err
		}
		onTCP = onTCP || tcp
	}
	return strings.Join(addresses, ","), onTCP, nil
}

// clientEndpoint is endpoint, in any of the forms that serve takes, as the
// client wants it.
func clientEndpoint(endpoint string) (url string, onTCP bool, err error) {
	if path, ok := strings.CutPrefix(endpoint, "unix://"); ok {
		endpoint = path
	}
	rest, isURL := strings.CutPrefix(endpoint, "https://")
	if isURL || !strings.Contains(endpoint, "/") {
		return "https://" + rest, true, nil
	}
	path, err := filepath.Abs(endpoint)
	return "unix://" + path, false, err
}

// clientAdvice helps against what any call can meet.
func (a *app) clientAdvice(err error) error {
	err = onCode(err, fault.Unavailable, fmt.Sprintf("is a key process running on %s? start one with: keyfold-kms serve; or name another with --endpoint", a.set.Endpoint))
	return onCode(err, fault.Forbidden, `give your user or certificate its role in the list of callers, such as "uid:1000 admin", and start the key process again`)
}
