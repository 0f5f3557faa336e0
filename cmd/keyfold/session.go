package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

const (
	signIn    = "sign in: keyfold login"
	userAgent = "keyfold-cli/1"
)

// agentKeyPrefix begins the API keys of agents.
const agentKeyPrefix = "ocv_"

// renewBefore is how much of a saved token's life is left when it is renewed.
const renewBefore = time.Minute

// caller is a server and who calls it.
type caller struct {
	url, key string
	dir      string // where the credential is saved, in place of key; empty: it is not
	from     string // where the credential is from, for people
	agent    bool
}

// caller takes the server off --url, KEYFOLD_URL, the development server of the
// data directory and config.json, the first that names one, and the credential
// off --api-key, KEYFOLD_API_KEY, config.json if it is for that server, and the
// development server if it is that one, by devKey.
func (a *app) caller(devKey func(devFile) string) (caller, error) {
	url, key := a.serverURL(), first(a.apiKey, a.getenv("KEYFOLD_API_KEY"))
	if url != "" && key != "" {
		return a.withKey(url, key), nil
	}
	saved, err := a.savedCredential()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return caller{}, err
	}
	switch {
	case key != "" && saved.URL == "":
		return caller{}, cli.Advise(errors.New("there is an API key and no server to send it to"), "export KEYFOLD_URL=http://127.0.0.1:7420")
	case key != "":
		return a.withKey(saved.URL, key), nil
	case url != "" && url != saved.URL:
		return caller{}, cli.Advise(errors.New("there is a server and no API key"), signIn+" --url "+url+"; or export KEYFOLD_API_KEY=1ck_...")
	case url != "":
		return a.withSaved(saved)
	}
	return a.unnamed(saved, devKey)
}

// unnamed is caller where neither flags nor environment say anything.
func (a *app) unnamed(saved credential, devKey func(devFile) string) (caller, error) {
	dev, err := a.devServer()
	switch {
	case errors.Is(err, fs.ErrNotExist) && saved.URL != "":
		return a.withSaved(saved)
	case errors.Is(err, fs.ErrNotExist):
		return caller{}, cli.Advise(fmt.Errorf("no server is given, and no development server has left %s", a.devPath()),
			"start one with: keyfold dev; or "+signIn+" --url URL; or set KEYFOLD_URL and KEYFOLD_API_KEY")
	case err != nil:
		return caller{}, err
	case saved.URL == dev.URL && devKey(dev) == dev.APIKey: // an operator's calls keep the operator's key
		return a.withSaved(saved)
	}
	return caller{url: dev.URL, key: devKey(dev), from: "the development server's " + devFileName}, nil
}

func (a *app) withKey(url, key string) caller {
	from := "KEYFOLD_API_KEY"
	if a.apiKey != "" {
		from = "--api-key"
	}
	return caller{url: url, key: key, from: from, agent: strings.HasPrefix(key, agentKeyPrefix)}
}

func (a *app) withSaved(c credential) (caller, error) {
	dir, err := a.configDir()
	return caller{url: c.URL, dir: dir, from: "keyfold login", agent: strings.HasPrefix(c.APIKey, agentKeyPrefix)}, err
}

// serverURL is what flags or environment name.
func (a *app) serverURL() string {
	return strings.TrimRight(first(a.url, a.getenv("KEYFOLD_URL")), "/")
}

// client returns a client of the caller's.
func (a *app) client(who caller) (*client.Client, error) {
	options := []client.Option{client.WithKeySource(a.cmekKey), client.WithUserAgent(userAgent)}
	if who.dir != "" {
		a.signedIn = true
		saved, err := readCredential(who.dir)
		if err != nil {
			return nil, err
		}
		if who.key = saved.APIKey; who.key == "" || who.agent {
			who.key = ""
			options = append(options, client.WithTokenSource(a.savedToken(who)))
		}
	}
	c, err := client.New(who.url, who.key, options...)
	if err == nil {
		a.atEnd = c.Close
	}
	return c, err
}

// savedToken returns the saved token, renewed when it is about to end. Of
// commands that run at once, one renews it and the others wait for that: a
// refresh token works once. A command that is killed after the server has
// answered and before the next one is saved leaves a sign-in that has ended.
func (a *app) savedToken(who caller) client.TokenSource {
	return func(ctx context.Context) (client.Token, error) {
		saved, err := readCredential(who.dir)
		if err == nil && saved.URL == who.url && time.Until(saved.Expires) > renewBefore {
			return saved.token(), nil
		}
		var t client.Token
		var renewed bool
		err = changeCredential(who.dir, func(c credential) (credential, error) {
			if c.URL != who.url {
				return c, cli.Advise(errors.New("you have signed out, or in elsewhere, meanwhile"), signIn)
			}
			if t = c.token(); time.Until(c.Expires) > renewBefore {
				return c, nil
			}
			if t, err = renew(ctx, c); err != nil {
				return c, err
			}
			renewed = t != c.token()
			c.setToken(t)
			return c, nil
		})
		if err != nil && renewed { // it serves this command at least
			a.Note("warning: the renewed sign-in cannot be saved: %v", err)
			return t, nil
		}
		return t, err
	}
}

// renew gets the next token. One that cannot be renewed is used to its end.
func renew(ctx context.Context, c credential) (client.Token, error) {
	switch {
	case c.APIKey == "" && c.Refresh == "" && time.Now().Before(c.Expires):
		return c.token(), nil
	case c.APIKey == "" && c.Refresh == "":
		return client.Token{}, cli.Advise(errors.New("your sign-in has ended"), signIn)
	}
	anybody, err := client.New(c.URL, "", client.WithUserAgent(userAgent))
	if err != nil {
		return client.Token{}, err
	}
	defer anybody.Close()
	next := func() (client.Token, error) { return anybody.Refresh(ctx, c.Refresh) }
	if c.APIKey != "" {
		next = func() (client.Token, error) { return anybody.AgentToken(ctx, c.APIKey) }
	}
	t, err := next()
	if client.IsUnauthenticated(err) {
		return t, cli.Advise(fmt.Errorf("your sign-in has ended: %w", err), signIn)
	}
	return t, err
}
