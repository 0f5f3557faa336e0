package client

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// Token is what signing in gives. It is a credential: keep it as you keep a key.
type Token struct {
	Access  string    // a JWT
	Refresh string    // gets the next Token, once; empty: there is none
	Expires time.Time // of Access
}

// String tells when the token ends and not what it is.
func (t Token) String() string {
	return "token until " + t.Expires.Format(time.RFC3339) + " [redacted]"
}

// GoString is String: %#v must not print the token either.
func (t Token) GoString() string { return t.String() }

// A TokenSource returns a token that is not about to expire. A client asks its
// source before its first call, and again when 60 seconds are left of what it got
// (half of the life, of a token that lives under two minutes); of many calls at
// once, one asks. It never asks because of a 401.
type TokenSource func(ctx context.Context) (Token, error)

// WithTokenSource gives the client tokens in place of an API key.
func WithTokenSource(source TokenSource) Option {
	return func(c *Client) { c.tokens = &tokens{source: source} }
}

// WithToken gives the client a token that it got by signing in, in place of an
// API key. The client renews it by its refresh token and keeps the next one to
// itself, so do not give the same Token to two clients.
func WithToken(t Token) Option {
	return func(c *Client) {
		last := t
		c.tokens = &tokens{token: t, renewAt: renewAt(time.Now(), t)}
		c.tokens.source = func(ctx context.Context) (Token, error) { // never twice at once
			if last.Refresh == "" {
				return last, nil
			}
			next, err := c.Refresh(ctx, last.Refresh)
			if err == nil {
				last = next
			}
			return next, err
		}
	}
}

// agentKeyPrefix begins the API keys of agents, which are exchanged for tokens.
const agentKeyPrefix = "ocv_"

// withAgentKey is WithTokenSource where apiKey is that of an agent.
func withAgentKey(apiKey string) Option {
	return func(c *Client) {
		if strings.HasPrefix(apiKey, agentKeyPrefix) {
			c.apiKey = ""
			WithTokenSource(func(ctx context.Context) (Token, error) { return c.AgentToken(ctx, apiKey) })(c)
		}
	}
}

const (
	renewBefore = time.Minute
	renewTime   = 30 * time.Second // what a renewal may take
	renewPause  = 10 * time.Second // after a failed one
)

// tokens keeps the token of a client and renews it.
type tokens struct {
	source TokenSource

	mu       sync.Mutex // guards what follows
	token    Token
	renewAt  time.Time     // zero: there was no token yet
	failed   error         // of the last renewal
	retryAt  time.Time     // not before, after a failure
	renewing chan struct{} // closed at the end of the renewal that is under way; nil: none
}

// renewAt is when a token that was got at now is to be renewed.
func renewAt(now time.Time, t Token) time.Time {
	return t.Expires.Add(-min(renewBefore, t.Expires.Sub(now)/2))
}

// get returns a live token. A token that could not be renewed is used to its end.
func (t *tokens) get(ctx context.Context) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Before(t.renewAt) || now.Before(t.retryAt) {
		return t.answer(now)
	}
	if t.renewing == nil {
		t.renewing = make(chan struct{})
		go t.renew(context.WithoutCancel(ctx), t.renewing)
	}
	if err := t.await(ctx, t.renewing); err != nil {
		return "", err
	}
	return t.answer(time.Now())
}

// await lets go of mu until the renewal has ended, or ctx has.
func (t *tokens) await(ctx context.Context, ended <-chan struct{}) error {
	t.mu.Unlock()
	defer t.mu.Lock()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("client: waiting for a token: %w", ctx.Err())
	}
}

// answer is what the last renewal has left. The caller holds mu.
func (t *tokens) answer(now time.Time) (string, error) {
	if t.failed != nil && !now.Before(t.token.Expires) {
		return "", t.failed
	}
	return t.token.Access, nil
}

// refresh is the refresh token at hand; empty: none.
func (t *tokens) refresh() string {
	if t == nil {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.token.Refresh
}

// renew asks the source. The caller that began it may leave: a refresh token
// that was redeemed must not be lost with the answer.
func (t *tokens) renew(ctx context.Context, ended chan<- struct{}) {
	ctx, cancel := context.WithTimeout(ctx, renewTime)
	defer cancel()
	token, err := t.source(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.failed = err; err != nil {
		t.retryAt = now.Add(renewPause)
	} else {
		t.token, t.renewAt = token, renewAt(now, token)
	}
	t.renewing = nil
	close(ended)
}
