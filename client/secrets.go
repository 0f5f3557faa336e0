package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
)

// Secret is one version of a secret with its value.
type Secret struct {
	api.SecretMetadata
	CreatedBy       string // "user:<uuid>" or "agent:<uuid>"
	Value           []byte // the exact bytes that were put, opened where they were sealed
	CMEKEncrypted   bool   // the version was sealed by a client, and is opened here: the server holds a blob
	CMEKFingerprint string // of the key that opened it; empty when it was not sealed or the server did not say
}

// String names the version without its value.
func (s Secret) String() string { return fmt.Sprintf("%s version %d [redacted]", s.Path, s.Version) }

// GoString is String: %#v must not print the value either.
func (s Secret) GoString() string { return s.String() }

// PutOptions are the attributes of a new version. The zero value is a generic
// secret that neither expires nor counts its reads.
type PutOptions struct {
	Type           string         // one of api.SecretTypes; "generic" when empty
	Metadata       map[string]any // stored in the clear, listed without the value
	ExpiresAt      time.Time      // not readable from then on; zero: never
	MaxAccessCount int            // not readable after so many reads; 0: no limit
	IfMatch        int            // write only if this is the newest version (IsConflict otherwise); 0: always
	AllowUnsealed  bool           // write to a vault that is not sealed though the client has a CMEK key (ErrNotSealed otherwise)
}

// Put writes value as the next version of the secret at path, sealed when the
// vault is sealed. A client that has a CMEK key refuses a vault that is not,
// unless opt allows it.
func (c *Client) Put(ctx context.Context, vaultID, path string, value []byte, opt PutOptions) (api.SecretMetadata, error) {
	url, err := secretPath(vaultID, "secrets", path)
	if err != nil {
		return api.SecretMetadata{}, err
	}
	for doubts, closings := 0, 0; ; {
		m, err := c.putOnce(ctx, cmek.Context{VaultID: vaultID, Path: path}, url, value, opt)
		switch {
		case hasType(err, api.ProblemCMEKRotationClosing) && closings < maxClosings:
			if closings > 0 && c.wait(ctx, closingPause) != nil { // the first time it may be that the new key is here
				return m, err
			}
			doubts, closings = 0, closings+1
		case contradicts(err) && doubts == 0:
			doubts++
		default:
			return m, err
		}
		c.doubt(vaultID)
	}
}

// A rotation that is about to end refuses the old key, and has ended, or has
// been given up, within this many pauses.
const (
	maxClosings  = 60
	closingPause = time.Second
)

func (c *Client) putOnce(ctx context.Context, at cmek.Context, url string, value []byte, opt PutOptions) (m api.SecretMetadata, err error) {
	state, err := c.state(ctx, at.VaultID)
	if err != nil {
		return m, err
	}
	if state.fingerprint == "" && !opt.AllowUnsealed {
		if err := c.mayBeOpen(ctx); err != nil {
			return m, err
		}
	}
	w, err := c.encode(ctx, at, state, value, opt.Metadata)
	if err != nil {
		return m, err
	}
	req := api.PutSecret{Type: opt.Type, Value: &w.text, Metadata: w.metadata}
	if !opt.ExpiresAt.IsZero() {
		req.ExpiresAt = &opt.ExpiresAt
	}
	if opt.MaxAccessCount != 0 {
		req.MaxAccessCount = &opt.MaxAccessCount
	}
	if opt.IfMatch != 0 {
		if w.header == nil {
			w.header = http.Header{}
		}
		w.header.Set("If-Match", strconv.Quote(strconv.Itoa(opt.IfMatch)))
	}
	return ask[api.SecretMetadata](ctx, c, call{method: "PUT", path: url, header: w.header, in: req})
}

// Get returns the newest version of a secret and its value. A read counts
// where the version has a limit of reads, so one that may have reached the
// server is not made again.
func (c *Client) Get(ctx context.Context, vaultID, path string) (*Secret, error) {
	url, err := secretPath(vaultID, "secrets", path)
	if err != nil {
		return nil, err
	}
	return c.read(ctx, cmek.Context{VaultID: vaultID, Path: path}, url)
}

// GetVersion returns version n of a secret and its value.
func (c *Client) GetVersion(ctx context.Context, vaultID, path string, n int) (*Secret, error) {
	url, err := secretPath(vaultID, "secret-version", path)
	if err != nil {
		return nil, err
	}
	return c.read(ctx, cmek.Context{VaultID: vaultID, Path: path}, url+"/"+strconv.Itoa(n))
}

func (c *Client) read(ctx context.Context, at cmek.Context, url string) (*Secret, error) {
	var s api.Secret
	header, err := c.do(ctx, call{method: "GET", path: url, counts: true, out: &s})
	if err != nil {
		return nil, err
	}
	fingerprint := strings.ToLower(header.Get(api.HeaderCMEKFingerprint))
	value, err := c.decode(ctx, at, &s, fingerprint)
	if err != nil {
		return nil, err
	}
	return &Secret{
		SecretMetadata: api.SecretMetadata{
			ID: s.ID, Path: s.Path, Type: s.Type, Version: s.Version,
			CreatedAt: s.CreatedAt, Metadata: s.Metadata, ExpiresAt: s.ExpiresAt,
		},
		CreatedBy: s.CreatedBy, Value: value,
		CMEKEncrypted: s.CMEKEncrypted, CMEKFingerprint: fingerprint,
	}, nil
}

// List returns the newest version of every secret whose path begins with
// prefix, without values, by path.
func (c *Client) List(ctx context.Context, vaultID, prefix string) ([]api.SecretMetadata, error) {
	path, err := escape("vaults", vaultID, "secrets")
	if err != nil {
		return nil, err
	}
	query := url.Values{}
	set(query, "prefix", prefix)
	out, err := ask[api.Secrets](ctx, c, call{method: "GET", path: path, query: query})
	var all []api.SecretMetadata
	for _, s := range out.Secrets {
		all = append(all, s.SecretMetadata)
	}
	return all, err
}

// Versions returns all versions of a secret, newest first, without values.
func (c *Client) Versions(ctx context.Context, vaultID, path string) ([]api.VersionMetadata, error) {
	url, err := secretPath(vaultID, "secret-versions", path)
	if err != nil {
		return nil, err
	}
	out, err := ask[api.Versions](ctx, c, call{method: "GET", path: url})
	return out.Versions, err
}

// Disable makes version n unreadable, for good.
func (c *Client) Disable(ctx context.Context, vaultID, path string, n int) error {
	url, err := secretPath(vaultID, "secret-version-disable", path)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, call{method: "POST", path: url + "/" + strconv.Itoa(n)})
	return err
}

// Delete makes all versions of a secret unreadable. The path can be written
// again.
func (c *Client) Delete(ctx context.Context, vaultID, path string) error {
	url, err := secretPath(vaultID, "secrets", path)
	if err != nil {
		return err
	}
	_, err = c.do(ctx, call{method: "DELETE", path: url})
	return err
}

// Generate lets the server make the next version's value at random; the secret
// must exist. A sealed vault refuses: the server has no key. So does the client
// when the newest version is marked as base64 (see Values above): the server
// carries its metadata over, and the new value would be misread.
func (c *Client) Generate(ctx context.Context, vaultID, path string, req api.GenerateSecret) (api.SecretMetadata, error) {
	var m api.SecretMetadata
	url, err := secretPath(vaultID, "secret-rotate", path)
	if err != nil {
		return m, err
	}
	secrets, err := c.List(ctx, vaultID, path)
	if err != nil {
		return m, err
	}
	for _, s := range secrets {
		if s.Path == path && encodingOf(s.Metadata) == encodingBase64 {
			return m, fmt.Errorf("client: the newest version of %s is no text; put a text there first", path)
		}
	}
	_, err = c.do(ctx, call{method: "POST", path: url, in: req, out: &m})
	return m, err
}

// secretPath is the URL path of a route of a secret; each segment of its path
// is escaped, slashes stay.
func secretPath(vaultID, route, path string) (string, error) {
	if path == "" {
		return "", errors.New("client: the secret's path is empty")
	}
	return escape(append([]string{"vaults", vaultID, route}, strings.Split(path, "/")...)...)
}
