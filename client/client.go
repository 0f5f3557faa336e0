// Package client is the Go client of a Keyfold server. Given a CMEK key it
// seals values before they leave the process and opens them when they return;
// the server sees blobs and fingerprints only.
//
// # Values
//
// A value is bytes everywhere, up to about 6 MB (the server takes a body of
// 8 MiB). In a sealed vault the blob holds the raw bytes. In a vault that is
// not sealed the wire carries text, so a value that is not valid UTF-8 travels
// as standard base64, marked by the metadata member
//
//	{"keyfold_encoding": "base64"}
//
// which [Client.Put] adds and [Client.Get] undoes. Callers cannot set that
// member themselves.
//
// # Sealed vaults
//
// Before the first write to a vault the client asks whether it is sealed, and
// remembers the answer: a sealed vault until the server contradicts, an open
// one for a minute. A write to a sealed vault needs the key whose fingerprint
// the vault has and declares it; without that key the write fails with a
// [*KeyError] and the value never leaves. A vault that this client has seen
// sealed is never written in the clear again, unless the same client disabled
// CMEK ([ErrUnsealed]).
//
// A client that has a CMEK key does not write in the clear at all, whatever the
// server says of the vault ([ErrNotSealed]), unless PutOptions.AllowUnsealed is
// set. Without a key, or with AllowUnsealed, the server is believed: a value for
// a vault that was sealed less than a minute ago can leave in the clear, and is
// then refused by the server.
//
// # Threads under a key
//
// A thread may be made under a CMEK key ([api.CreateThread]). Before the first
// call on messages of a thread the client asks once whether it is, and with which
// key. Bodies are then sealed before they are sent, bound to the thread, and
// opened on every read; without the key both fail with a [*KeyError]. That a thread
// is under no key is the server's word, unless the client was made with
// [WithSealedThreads]. A blob that was moved from another thread does not open; one
// of the same thread opens under another message's ID, author and time, which are
// the server's word.
//
// # Trust
//
// The client trusts its transport (use https beyond loopback) for the API key
// and for values in vaults that are not sealed. Values of sealed vaults it
// trusts to nobody: a blob that was changed, or sealed with another key, does
// not open. A blob of version 1 is not bound to its path: a server can answer
// with another one sealed under the same key. In a vault of bound blobs
// ([EnableOptions].Bound) a blob opens at its path only; which version a write
// brings is the server's word.
//
// # Rotation
//
// While a vault's key is rotated, and afterwards, versions are under different
// keys: give the client both, and each value uses the one that it needs. A write
// is sealed with the new key as soon as the client has seen the rotation.
// [Client.RotateCMEK] lets the server re-encrypt; [Client.RotateCMEKHere]
// does it here and sends no key.
//
// A Client keeps nothing on disk. It is safe for concurrent use.
package client

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/keyfold/keyfold/cmek"
)

// Client calls one server with one credential.
type Client struct {
	base   string // scheme, host and path, no trailing slash
	apiKey string
	tokens *tokens // in place of apiKey; nil: apiKey is sent itself
	agent  string
	keys   KeySource
	http   *http.Client
	wait   waiter

	maxAnswer int64 // bytes of a response body

	mu     sync.Mutex
	sealed map[string]vaultState // by vault ID; owned by mu

	sealedThreads bool              // see WithSealedThreads
	threads       map[string]string // fingerprint of the key by thread ID, empty: none; owned by mu
}

// Option changes a Client that New makes.
type Option func(*Client)

// WithCMEKKey gives the client CMEK keys; each value uses the one whose
// fingerprint fits.
func WithCMEKKey(keys ...*cmek.Key) Option {
	local := make([]CMEK, len(keys))
	for i, k := range keys {
		local[i] = LocalKey(k)
	}
	return WithCMEK(local...)
}

// WithCMEK is WithCMEKKey for keys that may live elsewhere.
func WithCMEK(keys ...CMEK) Option { return WithKeySource(fixedKeys(keys)) }

// WithKeySource gives the client CMEK keys through a function, which is asked
// for each value that is sealed, opened or about to be sent in the clear.
func WithKeySource(source KeySource) Option {
	return func(c *Client) { c.keys = source }
}

// WithTransport replaces the HTTP transport, for a Unix socket or client
// certificates. NewTransport is what is used otherwise.
func WithTransport(rt http.RoundTripper) Option {
	return func(c *Client) { c.http.Transport = rt }
}

// WithUserAgent replaces the User-Agent header.
func WithUserAgent(agent string) Option {
	return func(c *Client) { c.agent = agent }
}

// New returns a client of the server at serverURL, such as
// "http://127.0.0.1:7420". It sends apiKey ("1ck_...") with every call; the key
// of an agent ("ocv_...") it exchanges for short-lived tokens and sends those. The
// key may be empty: see WithToken, and the calls that sign in, which need none.
// New makes no call itself.
func New(serverURL, apiKey string, options ...Option) (*Client, error) {
	base, err := parseBase(serverURL)
	if err != nil {
		return nil, err
	}
	if strings.ContainsFunc(apiKey, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("client: the API key holds a space or another character that no key has")
	}
	c := &Client{
		base: base, apiKey: apiKey, agent: "keyfold-go/1", keys: fixedKeys(nil),
		http: &http.Client{CheckRedirect: noRedirect}, wait: sleep,
		maxAnswer: maxAnswer, sealed: map[string]vaultState{}, threads: map[string]string{},
	}
	for _, option := range append([]Option{withAgentKey(apiKey)}, options...) {
		option(c)
	}
	if c.http.Transport == nil {
		c.http.Transport = NewTransport()
	}
	return c, nil
}

// String tells the server and not the key.
func (c *Client) String() string { return "client of " + c.base }

// GoString is String: %#v must not print the key either.
func (c *Client) GoString() string { return c.String() }

// Close ends idle connections. The client can be used again afterwards.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func parseBase(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "":
		return "", fmt.Errorf("client: a server's URL looks like http://127.0.0.1:7420")
	case u.User != nil || u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("client: a server's URL holds no user, query or fragment")
	}
	return strings.TrimRight(u.String(), "/"), nil
}
