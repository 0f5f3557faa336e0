package kmsclient

import (
	"context"
	"net/http"
	"net/url"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// The admin's calls on customers' keys. To seal and open with one, package
// client/kmskey calls.

type newCMEKKey struct {
	Name string `json:"name,omitzero"`
	Key  []byte `json:"key,omitzero"`
}

// CreateCMEKKey is kms.Service.CreateCMEKKey. It is not sent again once a byte
// may have left.
func (c *Client) CreateCMEKKey(ctx context.Context, name string) (kmsapi.CMEKKey, error) {
	return call[kmsapi.CMEKKey](ctx, c, post("/cmek_keys", once), newCMEKKey{Name: name})
}

// ImportCMEKKey is kms.Service.ImportCMEKKey. It is not sent again once a byte
// may have left.
func (c *Client) ImportCMEKKey(ctx context.Context, name string, raw []byte) (kmsapi.CMEKKey, error) {
	return call[kmsapi.CMEKKey](ctx, c, post("/cmek_keys", once), newCMEKKey{name, raw})
}

// CMEKKeys is kms.Service.CMEKKeys.
func (c *Client) CMEKKeys(ctx context.Context, after string) (kmsapi.CMEKKeys, error) {
	v := url.Values{}
	if after != "" {
		v.Set("after", after)
	}
	return call[kmsapi.CMEKKeys](ctx, c, get("/cmek_keys", v), nil)
}

type cmekGrant struct {
	Fingerprint string `json:"fingerprint"`
	Caller      string `json:"caller"`
}

// GrantCMEKKey is kms.Service.GrantCMEKKey.
func (c *Client) GrantCMEKKey(ctx context.Context, fingerprint, caller string) error {
	return c.tell(ctx, post("/cmek_grant", again), cmekGrant{fingerprint, caller})
}

// RevokeCMEKKey is kms.Service.RevokeCMEKKey.
func (c *Client) RevokeCMEKKey(ctx context.Context, fingerprint, caller string) error {
	return c.tell(ctx, post("/cmek_revoke", again), cmekGrant{fingerprint, caller})
}

// DeleteCMEKKey is kms.Service.DeleteCMEKKey. It is not sent again once a byte
// may have left.
func (c *Client) DeleteCMEKKey(ctx context.Context, fingerprint string) error {
	if !isID(fingerprint) {
		return fault.New(fault.NotFound, "there is no customer's key of this fingerprint")
	}
	return c.tell(ctx, request{method: http.MethodDelete, path: "/cmek_keys/" + fingerprint, repeat: once}, nil)
}
