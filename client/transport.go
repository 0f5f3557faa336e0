package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
)

// maxAnswer bounds a response body, in bytes.
const maxAnswer = 256 << 20

var errTooLong = errors.New("client: the answer is over the limit of 256 MiB; ask for less at once")

// NewTransport returns an HTTP transport tuned for many calls to one server:
// up to 256 connections are kept alive, nothing is compressed (answers hold
// secrets), and a server that does not answer for two minutes is given up.
func NewTransport() *http.Transport {
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          256,
		MaxIdleConnsPerHost:   256,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: 2 * time.Minute,
		DisableCompression:    true,
		WriteBufferSize:       16 << 10,
		ReadBufferSize:        16 << 10,
	}
}

// call is one request: what is sent, and where its answer goes.
type call struct {
	method string
	path   string      // escaped, begins with "/v1"
	query  url.Values  // nil: none
	header http.Header // beyond the usual ones; nil: none
	counts bool        // a GET that must not be made twice
	once   bool        // a write with an Idempotency-Key, which the server does once; do sets it
	public bool        // needs no credential, and sends none
	bearer string      // do sets it
	in     any         // marshalled as the body; nil: none
	out    any         // the answer is unmarshalled into it; nil: the answer is dropped
}

type response struct {
	status int
	header http.Header
	body   []byte
}

// do makes the call, again where that is safe, and returns the answer's
// header. An answer that is not a success is an *Error.
func (c *Client) do(ctx context.Context, cl call) (http.Header, error) {
	payload, err := marshal(cl.in)
	if err != nil {
		return nil, err
	}
	if !cl.public {
		if cl.bearer, err = c.bearer(ctx); err != nil {
			return nil, err
		}
	}
	if cl.method != http.MethodGet && !cl.public {
		cl.once, cl.header = true, idempotent(cl.header)
	}
	r, err := c.send(ctx, cl, payload)
	if err != nil {
		return nil, err
	}
	if r.status < 200 || r.status > 299 {
		return nil, problem(r)
	}
	if cl.out != nil {
		if err := json.Unmarshal(r.body, cl.out); err != nil {
			// The cause could quote the body, which may hold a value.
			return nil, fmt.Errorf("client: %s answered %s %s with something that is not Keyfold's JSON; is it a Keyfold server?", c.base, cl.method, cl.path)
		}
	}
	return r.header, nil
}

// idempotent is header with a fresh Idempotency-Key, which all tries of a call send.
func idempotent(header http.Header) http.Header {
	header = header.Clone()
	if header == nil {
		header = http.Header{}
	}
	if header.Get(api.HeaderIdempotencyKey) == "" {
		header.Set(api.HeaderIdempotencyKey, rand.Text())
	}
	return header
}

// ask is do for a call that is answered with a T.
func ask[T any](ctx context.Context, c *Client, cl call) (out T, err error) {
	cl.out = &out
	_, err = c.do(ctx, cl)
	return out, err
}

// askAt is ask on the thing at "/v1" and parts, each one segment.
func askAt[T any](ctx context.Context, c *Client, method string, in any, parts ...string) (out T, err error) {
	path, err := escape(parts...)
	if err != nil {
		return out, err
	}
	return ask[T](ctx, c, call{method: method, path: path, in: in})
}

// on makes a call on the thing at "/v1" and parts, and drops the answer.
func (c *Client) on(ctx context.Context, method string, parts ...string) error {
	path, err := escape(parts...)
	if err == nil {
		_, err = c.do(ctx, call{method: method, path: path})
	}
	return err
}

// once sends the request and reads the whole answer.
func (c *Client) once(ctx context.Context, cl call, payload []byte) (*response, error) {
	req, err := http.NewRequestWithContext(ctx, cl.method, c.base+cl.path, bytes.NewReader(payload))
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	if cl.counts {
		// net/http repeats a GET by itself when a kept connection breaks, unless
		// there is a body that it cannot send again. An empty one is not sent.
		req.Body, req.GetBody = io.NopCloser(http.NoBody), nil
	}
	req.URL.RawQuery = cl.query.Encode()
	c.setHeaders(req, cl.bearer, payload != nil)
	for name, values := range cl.header {
		req.Header[name] = values
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("client: calling %s: %w", c.base, cause(err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, c.maxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("client: reading the answer to %s %s: %w", cl.method, cl.path, err)
	}
	if int64(len(body)) > c.maxAnswer {
		return nil, errTooLong
	}
	return &response{resp.StatusCode, resp.Header, body}, nil
}

// cause takes off the *url.Error, which would repeat the address.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// bearer is the credential that a call sends; empty: none.
func (c *Client) bearer(ctx context.Context) (string, error) {
	if c.tokens == nil {
		return c.apiKey, nil
	}
	return c.tokens.get(ctx)
}

func (c *Client) setHeaders(req *http.Request, bearer string, hasBody bool) {
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.agent)
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if hasBody {
		req.Header.Set("Content-Type", "application/json")
	}
}

// marshal is json.Marshal that leaves <, > and & in message bodies alone.
func marshal(v any) ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := error(nil)
	if lines, ok := v.(exportLines); ok {
		for i := 0; i < len(lines) && err == nil; i++ {
			err = enc.Encode(lines[i])
		}
	} else {
		err = enc.Encode(v)
	}
	if err != nil {
		// The cause could quote what was sent.
		return nil, fmt.Errorf("client: the request is not valid JSON: check Body and Metadata")
	}
	return b.Bytes(), nil
}

// noRedirect refuses to follow: a redirect would carry the API key to another
// address or a write to another path.
func noRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// escape joins the parts of a URL path: "/v1", then each part as one segment.
func escape(parts ...string) (string, error) {
	var b strings.Builder
	b.WriteString("/v1")
	for _, part := range parts {
		if part == "" || part == "." || part == ".." {
			return "", fmt.Errorf("client: an ID or a part of a path is empty or consists of dots")
		}
		b.WriteByte('/')
		b.WriteString(url.PathEscape(part))
	}
	return b.String(), nil
}
