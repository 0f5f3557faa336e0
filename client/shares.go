package client

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
)

// CreateShare shares a secret, by the ID that its metadata has. A sealed secret
// is shared with who has the key (api.CreateShare.RecipientHasKey).
func (c *Client) CreateShare(ctx context.Context, secretID string, req api.CreateShare) (api.CreatedShare, error) {
	out, err := askAt[api.CreatedShare](ctx, c, "POST", req, "secrets", secretID, "share")
	out.ShareURL = c.absolute(out.ShareURL)
	return out, err
}

// SentShares returns the shares that the caller has made, newest first.
func (c *Client) SentShares(ctx context.Context) ([]api.Share, error) {
	return c.shares(ctx, "/v1/shares/outbound")
}

// ReceivedShares returns the shares made for the caller, newest first.
func (c *Client) ReceivedShares(ctx context.Context) ([]api.Share, error) {
	return c.shares(ctx, "/v1/shares/inbound")
}

func (c *Client) shares(ctx context.Context, path string) ([]api.Share, error) {
	out, err := ask[api.Shares](ctx, c, call{method: "GET", path: path})
	return out.Shares, err
}

// RevokeShare ends a share.
func (c *Client) RevokeShare(ctx context.Context, id string) error {
	return c.on(ctx, "DELETE", "share", id)
}

// AcceptShare says that a share made for the caller was seen.
func (c *Client) AcceptShare(ctx context.Context, id string) error {
	return c.on(ctx, "POST", "shares", id, "accept")
}

// DeclineShare ends a share made for the caller.
func (c *Client) DeclineShare(ctx context.Context, id string) error {
	return c.on(ctx, "POST", "shares", id, "decline")
}

// SharedSecret is what a share hands out.
type SharedSecret struct {
	api.SharedSecret        // its Value is empty
	Value            []byte // the bytes, opened where they were sealed
}

// String names the secret without its value.
func (s SharedSecret) String() string { return fmt.Sprintf("%s by share %s [redacted]", s.Path, s.ID) }

// GoString is String: %#v must not print the value either.
func (s SharedSecret) GoString() string { return s.String() }

// OpenShare reads the secret of a share, which counts. share is the share's ID or
// its link; passphrase is empty when there is none. A client without a credential
// can open what anybody with the link may.
//
// The bytes are those of the value as it is stored: of a value that is not text,
// in a vault that is not sealed, its base64.
func (c *Client) OpenShare(ctx context.Context, share, passphrase string) (*SharedSecret, error) {
	path, err := escape("share", share[strings.LastIndexByte(share, '/')+1:])
	if err != nil {
		return nil, err
	}
	cl := call{method: http.MethodGet, path: path, counts: true, out: new(api.SharedSecret)}
	if passphrase != "" {
		cl.method, cl.counts, cl.in = http.MethodPost, false, api.OpenShare{Passphrase: passphrase}
	}
	if _, err := c.do(ctx, cl); err != nil {
		return nil, err
	}
	s := SharedSecret{SharedSecret: *cl.out.(*api.SharedSecret)}
	s.SharedSecret.Value = ""
	s.Value, err = c.decode(ctx, cmek.Context{VaultID: s.VaultID, Path: s.Path}, &api.Secret{Path: s.Path, Version: s.Version, Value: cl.out.(*api.SharedSecret).Value, CMEKEncrypted: s.CMEKEncrypted}, strings.ToLower(s.CMEKFingerprint))
	if err != nil {
		return nil, err
	}
	return &s, nil
}
