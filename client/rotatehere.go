package client

import (
	"context"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
)

// RotateHereOptions are of RotateCMEKHere.
type RotateHereOptions struct {
	// All re-encrypts every version that can be read; otherwise only the newest
	// of each secret, and older ones stay under the old key.
	All bool

	// ReadLimited re-encrypts versions with a limit of reads too. It costs each
	// one read; a version that has one left is not touched.
	ReadLimited bool

	Concurrency int                   // calls at once; 0: 8
	OnProgress  func(done, total int) // versions; never called by two at once. May be nil
}

// RotatedHere is what RotateCMEKHere did.
type RotatedHere struct {
	Reencrypted int           // versions that are under the new key now, and were under the old one when the call began
	Kept        []KeptVersion // the others that were under the old one then
}

// KeptVersion is a version that is not under the new key: it stays under the old one,
// or somebody has given it another.
type KeptVersion struct {
	api.CMEKVersion
	Why string // one of the Kept reasons, or the CMEKVersion state of one that nobody can read any more
	Err error  // of KeptFailed: what went wrong
}

// Why a version is kept that can be read.
const (
	KeptOlder   = "older"        // not the newest, without RotateHereOptions.All
	KeptLimited = "read_limited" // without RotateHereOptions.ReadLimited, or it has one read left
	KeptFailed  = "failed"       // it does not open, or is not to be had
	KeptOther   = "other_key"    // it is under neither key by now
)

// RotateCMEKHere gives a vault the key fresh in place of old and re-encrypts
// what is under old, here: no key is sent. The keys may live elsewhere.
//
// First the vault changes its key, in one step, so that nothing is ever written
// in the clear or under old again. Then each version is read, opened, sealed
// with fresh and put back in its place, if it still is under old: its number,
// type, metadata, expiry and limit of reads stay, a write of somebody else is
// never lost, and another client may do the same at once. Each read is in the
// audit trail. Whoever reads the vault needs both keys until the end, and for
// what is kept for longer.
//
// When it fails, or ctx ends, the same call goes on where it was. Versions under
// other keys are not touched; see CMEKStatus.
func (c *Client) RotateCMEKHere(ctx context.Context, vaultID string, old, fresh CMEK, opt RotateHereOptions) (RotatedHere, error) {
	status, err := c.rotatable(ctx, vaultID, old, fresh.Fingerprint())
	if err != nil {
		return RotatedHere{}, err
	}
	if err := c.replaceKey(ctx, vaultID, status, old, fresh); err != nil {
		return RotatedHere{}, err
	}
	h := rotationHere{c: c, vault: vaultID, old: old, fresh: fresh, opt: opt, blobVersion: max(status.BlobVersion, 1)}
	left, err := h.plan(ctx)
	if err != nil {
		return RotatedHere{}, err
	}
	if err = h.run(ctx, left); err == nil {
		err = h.settle(ctx)
	}
	return h.out, err
}

// ErrRotating is the answer of RotateCMEKHere while the server rotates the
// vault's key, or has a rotation that was interrupted. Nothing was changed.
var ErrRotating = errors.New("client: the server is rotating the vault's key")

// replaceKey makes fresh the vault's key, unless it is.
func (c *Client) replaceKey(ctx context.Context, vaultID string, status api.CMEKStatus, old, fresh CMEK) error {
	switch {
	case status.Rotation != nil:
		return fmt.Errorf("%w (%s); cancel that first, or wait for its end", ErrRotating, status.Rotation.ID)
	case status.Fingerprint == fresh.Fingerprint():
		return checkKey(ctx, fresh, vaultID, status.KeyCheck)
	case status.Fingerprint != old.Fingerprint():
		return &wrongOldKey{status.Fingerprint, old.Fingerprint()}
	}
	for _, k := range []CMEK{old, fresh} {
		if err := trial(ctx, k, vaultID); err != nil {
			return fmt.Errorf("client: the key %s cannot be used: %w; nothing was changed", k.Fingerprint(), err)
		}
	}
	_, err := c.EnableCMEKWith(ctx, vaultID, fresh, EnableOptions{
		Bound: status.BlobVersion == 2, NoKeyCheck: status.KeyCheck == "", Replaces: old.Fingerprint(),
	})
	return err
}

// trial seals with k and opens that: a vault must not get a key that cannot be used.
func trial(ctx context.Context, k CMEK, vaultID string) error {
	at, text := cmek.Context{VaultID: vaultID, Path: "trial"}, []byte("trial")
	value, err := k.Seal(ctx, at, 1, text)
	if err != nil {
		return err
	}
	got, err := k.Open(ctx, at, value)
	if err == nil && subtle.ConstantTimeCompare(got, text) == 0 {
		err = cmek.ErrDecrypt
	}
	return err
}

// rotationHere is one RotateCMEKHere.
type rotationHere struct {
	c           *Client
	vault       string
	old, fresh  CMEK
	opt         RotateHereOptions
	blobVersion int

	mu     sync.Mutex
	done   int               // of what is to do; owned by mu
	faster []api.CMEKVersion // that somebody else has re-encrypted meanwhile; owned by mu
	out    RotatedHere       // owned by mu
}

// plan returns what is to do, and notes what is kept.
func (h *rotationHere) plan(ctx context.Context) (left []api.CMEKVersion, err error) {
	all, err := h.under(ctx, h.old)
	for _, v := range all {
		if why := h.keeps(v); why != "" {
			h.out.Kept = append(h.out.Kept, KeptVersion{CMEKVersion: v, Why: why})
		} else {
			left = append(left, v)
		}
	}
	return left, err
}

// under lists the versions under a key.
func (h *rotationHere) under(ctx context.Context, k CMEK) (all []api.CMEKVersion, err error) {
	path, err := escape("vaults", h.vault, "cmek-versions")
	if err != nil {
		return nil, err
	}
	query := url.Values{"fingerprint": {k.Fingerprint()}}
	for {
		var page api.CMEKVersions
		if _, err := h.c.do(ctx, call{method: "GET", path: path, query: query, out: &page}); err != nil {
			return nil, err
		}
		all = append(all, page.Versions...)
		switch page.NextCursor {
		case "":
			return all, nil
		case query.Get("cursor"):
			return nil, errNoProgress
		}
		query.Set("cursor", page.NextCursor)
	}
}

// settle says which key those are under that somebody else was faster with. It reads
// no value, which could count.
func (h *rotationHere) settle(ctx context.Context) error {
	if len(h.faster) == 0 {
		return nil
	}
	all, err := h.under(ctx, h.fresh)
	if err != nil {
		return err
	}
	type place struct {
		path    string
		version int
	}
	fresh := map[place]bool{}
	for _, v := range all {
		fresh[place{v.Path, v.Version}] = true
	}
	for _, v := range h.faster {
		if fresh[place{v.Path, v.Version}] {
			h.out.Reencrypted++
		} else {
			h.out.Kept = append(h.out.Kept, KeptVersion{CMEKVersion: v, Why: KeptOther})
		}
	}
	return nil
}

// keeps is why v is kept, or nothing.
func (h *rotationHere) keeps(v api.CMEKVersion) string {
	switch {
	case v.State != api.CMEKReadable:
		return v.State
	case !v.Newest && !h.opt.All:
		return KeptOlder
	case v.MaxAccessCount > 0 && (!h.opt.ReadLimited || v.Reads+1 >= v.MaxAccessCount):
		return KeptLimited
	}
	return ""
}

// defaultConcurrency is how many calls are under way at once.
const defaultConcurrency = 8

// run re-encrypts what is left until the first error that would meet all of it.
func (h *rotationHere) run(ctx context.Context, left []api.CMEKVersion) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	workers := h.opt.Concurrency
	if workers <= 0 {
		workers = defaultConcurrency
	}
	work := make(chan api.CMEKVersion)
	var wg sync.WaitGroup
	for range min(workers, len(left)) {
		wg.Go(func() {
			for v := range work {
				if err := h.one(ctx, v, len(left)); err != nil {
					stop(err)
				}
			}
		})
	}
	for i := 0; i < len(left) && ctx.Err() == nil; i++ {
		select {
		case work <- left[i]:
		case <-ctx.Done():
		}
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}

// one re-encrypts v, of so many, and notes how it went. Its error would meet
// the others too.
func (h *rotationHere) one(ctx context.Context, v api.CMEKVersion, of int) error {
	if v.MaxAccessCount > 0 { // its read counts, and is not to be for nothing
		ctx = context.WithoutCancel(ctx)
	}
	err := h.reencrypt(ctx, v)
	for try := 1; try < maxTries && v.MaxAccessCount == 0 && (connectionLost(err) || IsUnavailable(err)); try++ {
		if h.c.wait(ctx, pause(try, nil)) != nil {
			break
		}
		err = h.reencrypt(ctx, v) // if it was stored the first time, it is not under the old key any more
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.out.Reencrypted++
	case statusOf(err) == http.StatusPreconditionFailed:
		h.faster = append(h.faster, v)
	case errors.Is(err, errOtherKey):
		h.out.Kept = append(h.out.Kept, KeptVersion{CMEKVersion: v, Why: KeptOther})
	case isOfVersion(err):
		h.out.Kept = append(h.out.Kept, KeptVersion{CMEKVersion: v, Why: KeptFailed, Err: err})
	default:
		return err
	}
	if h.done++; h.opt.OnProgress != nil {
		h.opt.OnProgress(h.done, of)
	}
	return nil
}

// isOfVersion reports whether err says something of one version alone.
func isOfVersion(err error) bool {
	switch statusOf(err) {
	case http.StatusNotFound, http.StatusGone, http.StatusInternalServerError, http.StatusRequestEntityTooLarge:
		return true
	}
	return errors.Is(err, cmek.ErrDecrypt) || errors.Is(err, cmek.ErrNotBlob) || errors.Is(err, cmek.ErrNeedsContext)
}

var errOtherKey = errors.New("client: it is under neither key")

// reencrypt reads v and puts it back under the new key, unless it is under that.
func (h *rotationHere) reencrypt(ctx context.Context, v api.CMEKVersion) error {
	at := cmek.Context{VaultID: h.vault, Path: v.Path}
	path, err := secretPath(h.vault, "secret-version", v.Path)
	if err != nil {
		return err
	}
	path += "/" + strconv.Itoa(v.Version)
	var s api.Secret
	header, err := h.c.do(ctx, call{method: "GET", path: path, counts: v.MaxAccessCount > 0, out: &s})
	under := header.Get(api.HeaderCMEKFingerprint) // without it the server decides below
	switch {
	case err != nil || strings.EqualFold(under, h.fresh.Fingerprint()):
		return err
	case under != "" && !strings.EqualFold(under, h.old.Fingerprint()):
		return errOtherKey
	}
	value, err := h.reseal(ctx, at, s.Value)
	if err != nil {
		return fmt.Errorf("client: %s, version %d: %w", v.Path, v.Version, err)
	}
	_, err = h.c.do(ctx, call{method: "PUT", path: path, in: api.ReencryptVersion{
		Value: value, OldFingerprint: h.old.Fingerprint(), NewFingerprint: h.fresh.Fingerprint(),
	}})
	return err
}

// reseal returns value under the new key, in the form and of the version that
// it has, unless the vault wants bound blobs.
func (h *rotationHere) reseal(ctx context.Context, at cmek.Context, value string) (string, error) {
	shape, err := cmek.Inspect(value)
	if err != nil {
		return "", err
	}
	plaintext, err := h.old.Open(ctx, at, value)
	if err != nil {
		return "", err
	}
	defer clear(plaintext)
	version := max(h.blobVersion, int(shape.Version))
	sealed, err := h.fresh.Seal(ctx, at, version, plaintext)
	if err != nil || shape.Form != cmek.FormHex || version != 1 {
		return sealed, err
	}
	blob, err := base64.StdEncoding.DecodeString(sealed)
	if err != nil || len(blob) == 0 {
		return "", cmek.ErrNotBlob
	}
	return hex.EncodeToString(blob[1:]), nil // that form has no version byte
}
