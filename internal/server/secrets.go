package server

import (
	"context"
	"math"
	"strconv"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/vault"
)

// secrets answers the calls on the secrets of a vault.
type secrets struct{ service *vault.Service }

func (h secrets) list(ctx context.Context, c *httpx.Call) (api.Secrets, error) {
	q, err := c.Query()
	if err != nil {
		return api.Secrets{}, err
	}
	details, err := flag(q, "details")
	if err != nil {
		return api.Secrets{}, err
	}
	return h.service.ListSecrets(ctx, c.Principal, c.Param("vault"), q.Get("prefix"), details)
}

func (h secrets) put(ctx context.Context, c *httpx.Call, req api.PutSecret) (api.SecretMetadata, error) {
	opt, err := putOptions(c)
	if err != nil {
		return api.SecretMetadata{}, err
	}
	return h.service.Put(ctx, c.Principal, c.Param("vault"), c.Param("path"), req, opt)
}

// putOptions reads the headers that a write depends on.
func putOptions(c *httpx.Call) (opt vault.PutOptions, err error) {
	if opt.DeclaredFingerprint, err = c.Guard(api.HeaderCMEKFingerprint); err != nil {
		return opt, err
	}
	match, err := c.Guard("If-Match")
	if err != nil {
		return opt, err
	}
	if opt.IfMatch, err = parseIfMatch(match); err != nil {
		return opt, err
	}
	if len(c.Request().Header["If-None-Match"]) > 0 {
		return opt, errIfNoneMatch
	}
	return opt, nil
}

func (h secrets) get(ctx context.Context, c *httpx.Call) (api.Secret, error) {
	return named(c)(h.service.Read(ctx, c.Principal, c.Param("vault"), c.Param("path")))
}

// ahead is httpx.Row.Ahead for get.
func (h secrets) ahead(ctx context.Context, c *httpx.Call) context.Context {
	return h.service.Ahead(ctx, c.Param("vault"), c.Param("path"))
}

func (h secrets) delete(ctx context.Context, c *httpx.Call) error {
	return h.service.DeleteSecret(ctx, c.Principal, c.Param("vault"), c.Param("path"))
}

func (h secrets) versions(ctx context.Context, c *httpx.Call) (api.Versions, error) {
	q, err := c.Query()
	if err != nil {
		return api.Versions{}, err
	}
	details, err := flag(q, "details")
	if err != nil {
		return api.Versions{}, err
	}
	return h.service.Versions(ctx, c.Principal, c.Param("vault"), c.Param("path"), details)
}

func (h secrets) version(ctx context.Context, c *httpx.Call) (api.Secret, error) {
	path, n, err := splitVersion(c.Param("path"))
	if err != nil {
		return api.Secret{}, err
	}
	return named(c)(h.service.ReadVersion(ctx, c.Principal, c.Param("vault"), path, n))
}

func (h secrets) disable(ctx context.Context, c *httpx.Call) error {
	path, n, err := splitVersion(c.Param("path"))
	if err != nil {
		return err
	}
	return h.service.DisableVersion(ctx, c.Principal, c.Param("vault"), path, n)
}

func (h secrets) generate(ctx context.Context, c *httpx.Call, req api.GenerateSecret) (api.SecretMetadata, error) {
	return h.service.Generate(ctx, c.Principal, c.Param("vault"), c.Param("path"), req)
}

// named returns the body of a read, and names the key of a sealed version in a
// header, since the body is strict.
func named(c *httpx.Call) func(vault.Read, error) (api.Secret, error) {
	return func(r vault.Read, err error) (api.Secret, error) {
		if r.CMEKFingerprint != "" {
			c.SetHeader(api.HeaderCMEKFingerprint, r.CMEKFingerprint)
		}
		return r.Secret, err
	}
}

// splitVersion takes "db/credentials/3" apart. It knows nothing of paths: what
// is before the last slash is the vault's to judge.
func splitVersion(s string) (path string, n int, err error) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", 0, errVersion
	}
	n, ok := parseVersion(s[i+1:])
	if !ok {
		return "", 0, errVersion
	}
	return s[:i], n, nil
}

// parseIfMatch reads the version out of `"3"`; 0 when there is no header.
func parseIfMatch(header string) (int, error) {
	if header == "" {
		return 0, nil
	}
	s, opened := strings.CutPrefix(header, `"`)
	s, closed := strings.CutSuffix(s, `"`)
	n, ok := parseVersion(s)
	if !opened || !closed || !ok {
		return 0, errIfMatch
	}
	return n, nil
}

// parseVersion accepts the one way to write a version: 1 to the greatest int32, in plain digits.
func parseVersion(s string) (int, bool) {
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 1 && n <= math.MaxInt32 && strconv.Itoa(n) == s
}

var (
	errVersion     = fault.New(fault.Invalid, "end the URL's path with /<version>, a number from 1: .../db/credentials/3")
	errIfNoneMatch = fault.New(fault.Invalid, "If-None-Match is not supported here; a write is made conditional by If-Match")
	errIfMatch     = fault.New(fault.Invalid, `send the version that you expect to be the newest in If-Match, in quotes: If-Match: "3"`)
)
