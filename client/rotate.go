package client

import (
	"context"
	"crypto/ecdh"
	"crypto/hpke"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
)

// RotateOptions are of RotateCMEK and StartCMEKRotation.
type RotateOptions struct {
	// AcceptFailed completes the rotation in spite of versions that open with
	// neither key; they stay as they are.
	AcceptFailed bool

	// InHeaders sends the keys as they are, in headers, which every proxy and
	// the server see. Otherwise they are sealed to a key of the key process.
	InHeaders bool

	// OnProgress is told the job as it stands, now and then. May be nil.
	OnProgress func(api.CMEKRotationJob)
}

// RotationError says that a rotation ended and was not completed. The vault's
// key is still the old one; what was re-encrypted is not done again.
type RotationError struct{ Job api.CMEKRotationJob }

// Error tells the job's status and what it says of why.
func (e *RotationError) Error() string {
	s := fmt.Sprintf("client: the rotation %s was not completed but %s", e.Job.ID, e.Job.Status)
	if e.Job.Error != "" {
		s += ": " + printable(e.Job.Error)
	}
	return s
}

// RotateCMEK lets the server re-encrypt every version of a vault that is under
// old, and make fresh the vault's key, and returns when that has ended: with a
// *RotationError when it was not completed. The same call takes an interrupted
// or failed rotation up again. A server that restarts meanwhile gets the keys
// once more.
//
// When ctx ends the job goes on by itself. Whoever reads the vault needs both
// keys until it has ended.
func (c *Client) RotateCMEK(ctx context.Context, vaultID string, old, fresh *cmek.Key, opt RotateOptions) (api.CMEKRotationJob, error) {
	job, err := c.StartCMEKRotation(ctx, vaultID, old, fresh, opt)
	if err != nil {
		return job, err
	}
	w := rotationWait{c: c, resumes: maxResumes, answers: maxLost}
	for err == nil && job.Status != "completed" {
		if opt.OnProgress != nil {
			opt.OnProgress(job)
		}
		switch {
		case job.Status == "interrupted" && w.resumes > 0:
			w.resumes--
			job, err = w.after(ctx, job, func() (api.CMEKRotationJob, error) { return c.StartCMEKRotation(ctx, vaultID, old, fresh, opt) })
		case job.Ended():
			return job, &RotationError{job}
		default:
			job, err = w.after(ctx, job, func() (api.CMEKRotationJob, error) { return c.CMEKRotation(ctx, vaultID, job.ID) })
		}
	}
	if err == nil && opt.OnProgress != nil {
		opt.OnProgress(job)
	}
	c.doubt(vaultID)
	return job, err
}

// How often in a row, without any progress, a rotation is taken up again, and
// the server may give no answer.
const (
	maxResumes = 10
	maxLost    = 60
	firstPoll  = 50 * time.Millisecond
	lastPoll   = time.Second
)

// rotationWait bounds how long RotateCMEK believes in a job.
type rotationWait struct {
	c                *Client
	resumes, answers int
	pause            time.Duration
}

// after makes the call after a pause, and answers the job as it was known when
// the server gives no answer, for a while.
func (w *rotationWait) after(ctx context.Context, known api.CMEKRotationJob, call func() (api.CMEKRotationJob, error)) (api.CMEKRotationJob, error) {
	w.pause = min(max(2*w.pause, firstPoll), lastPoll)
	if err := w.c.wait(ctx, w.pause); err != nil {
		return known, err
	}
	job, err := call()
	switch {
	case err == nil:
		if w.answers = maxLost; job.Processed > known.Processed {
			w.resumes = maxResumes
		}
		return job, nil
	case ctx.Err() != nil:
		return known, ctx.Err()
	case w.answers > 0 && (IsUnavailable(err) || statusOf(err) == 0):
		w.answers--
		if known.Status == "interrupted" {
			w.resumes++ // which nobody heard of
		}
		return known, nil
	}
	return known, err
}

// StartCMEKRotation starts what RotateCMEK does, or takes it up, and returns
// without waiting. Nothing is sent unless old is the vault's key.
//
// The keys are sealed to a public key that the server says is its key process's:
// no proxy and no log has them then. It is no proof against whoever can answer in the
// server's name; RotateCMEKHere is. Where that key is gone by then, another one
// is asked for, once.
func (c *Client) StartCMEKRotation(ctx context.Context, vaultID string, old, fresh *cmek.Key, opt RotateOptions) (job api.CMEKRotationJob, err error) {
	status, err := c.rotatable(ctx, vaultID, LocalKey(old), fresh.Fingerprint())
	if err != nil {
		return job, err
	}
	switch status.Fingerprint {
	case old.Fingerprint():
	case fresh.Fingerprint():
		return job, ErrRotated
	default:
		return job, &wrongOldKey{status.Fingerprint, old.Fingerprint()}
	}
	req := api.RotateCMEK{NewFingerprint: fresh.Fingerprint(), AcceptFailed: opt.AcceptFailed}
	if status.KeyCheck != "" {
		req.NewKeyCheck = fresh.Check(vaultID)
	}
	job, err = c.sendRotation(ctx, vaultID, old, fresh, req, opt.InHeaders)
	if hasType(err, api.ProblemCMEKRotationKeyGone) {
		job, err = c.sendRotation(ctx, vaultID, old, fresh, req, opt.InHeaders)
	}
	return job, err
}

// sendRotation sends req with the keys, sealed to a key that it asks for, or in headers.
func (c *Client) sendRotation(ctx context.Context, vaultID string, old, fresh *cmek.Key, req api.RotateCMEK, inHeaders bool) (job api.CMEKRotationJob, err error) {
	var header http.Header
	if inHeaders {
		header, err = c.keyHeaders(old, fresh)
	} else {
		req.SealedKeys, err = c.sealKeys(ctx, vaultID, old, fresh)
	}
	if err != nil {
		return job, err
	}
	path, err := escape("vaults", vaultID, "cmek-rotate")
	if err != nil {
		return job, err
	}
	_, err = c.do(ctx, call{method: "POST", path: path, header: header, in: req, out: &job})
	c.doubt(vaultID) // writes are to be sealed with the new key from now on
	return job, err
}

// rotatable returns the state of a vault that old may be the key of.
func (c *Client) rotatable(ctx context.Context, vaultID string, old CMEK, fresh string) (api.CMEKStatus, error) {
	if old.Fingerprint() == fresh {
		return api.CMEKStatus{}, errors.New("client: the old and the new key are the same")
	}
	status, err := c.cmekStatus(ctx, vaultID, url.Values{"keys": {"false"}})
	if err != nil {
		return status, err
	}
	if !status.Enabled {
		return status, errors.New("client: the vault is not sealed; there is no key to rotate. Seal it with the new key")
	}
	status.Fingerprint = strings.ToLower(status.Fingerprint)
	if status.Fingerprint == old.Fingerprint() {
		err = checkKey(ctx, old, vaultID, status.KeyCheck)
	}
	return status, err
}

// ErrRotated says that the vault is sealed with the new key already. Nothing was
// sent. What is still under the old key, if anything, RotateCMEKHere re-encrypts.
var ErrRotated = errors.New("client: the vault is sealed with the new key already")

type wrongOldKey struct{ vault, given string }

func (e *wrongOldKey) Error() string {
	return fmt.Sprintf("client: the vault is sealed with the key %s; the old key that was given is %s. Nothing was sent; give the vault's key as the old one", e.vault, e.given)
}

// rotationSuite is the only one that a CMEKRotationKey may name: RFC 9180, KEM
// 0x0010, KDF 0x0001, AEAD 0x0002.
const rotationSuite = "DHKEM(P-256, HKDF-SHA256), HKDF-SHA256, AES-256-GCM"

// sealKeys seals both keys to a public key for one use.
func (c *Client) sealKeys(ctx context.Context, vaultID string, old, fresh *cmek.Key) (*api.SealedCMEKKeys, error) {
	path, err := escape("vaults", vaultID, "cmek-rotate-key")
	if err != nil {
		return nil, err
	}
	to, err := ask[api.CMEKRotationKey](ctx, c, call{method: "GET", path: path, counts: true})
	if err != nil {
		return nil, err
	}
	if to.Suite != rotationSuite {
		return nil, errors.New("client: the server wants the keys sealed in a way that this client does not know; update the client. Nothing was sent")
	}
	point, err := ecdh.P256().NewPublicKey(to.PublicKey)
	if err != nil {
		return nil, errors.New("client: the server's public key for the rotation is none; nothing was sent")
	}
	public, err := hpke.NewDHKEMPublicKey(point)
	if err != nil {
		return nil, err
	}
	info := "keyfold/cmek-rotation/v1\n" + vaultID + "\n" + old.Fingerprint() + "\n" + fresh.Fingerprint()
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info))
	if err != nil {
		return nil, err
	}
	keys := append(old.Bytes(), fresh.Bytes()...)
	defer clear(keys)
	if len(keys) != 2*cmek.KeySize {
		return nil, errWiped
	}
	sealed, err := sender.Seal(nil, keys)
	return &api.SealedCMEKKeys{KeyID: to.KeyID, Enc: enc, Ciphertext: sealed}, err
}

var errWiped = errors.New("client: a key was wiped")

// keyHeaders are the keys as they are, for a server that others cannot listen to.
func (c *Client) keyHeaders(old, fresh *cmek.Key) (http.Header, error) {
	if !c.private() {
		return nil, errors.New("client: keys in headers need https, or a server on this machine; nothing was sent. Use https, or send them sealed, which is the default")
	}
	h := http.Header{}
	for name, k := range map[string]*cmek.Key{api.HeaderCMEKOldKey: old, api.HeaderCMEKNewKey: fresh} {
		raw := k.Bytes()
		if raw == nil {
			return nil, errWiped
		}
		h.Set(name, base64.StdEncoding.EncodeToString(raw))
		clear(raw)
	}
	return h, nil
}

// private reports whether the connection to the server cannot be listened to.
func (c *Client) private() bool {
	u, err := url.Parse(c.base)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(u.Hostname())
	return u.Scheme == "https" || u.Hostname() == "localhost" || err == nil && ip.IsLoopback()
}

// CMEKRotation returns a rotation of a vault as it stands.
func (c *Client) CMEKRotation(ctx context.Context, vaultID, jobID string) (api.CMEKRotationJob, error) {
	return askAt[api.CMEKRotationJob](ctx, c, "GET", nil, "vaults", vaultID, "cmek-rotate", jobID)
}

// CancelCMEKRotation stops a rotation between two batches. What was
// re-encrypted stays so and is named by its fingerprint; the vault's key is the
// old one.
func (c *Client) CancelCMEKRotation(ctx context.Context, vaultID, jobID string) (api.CMEKRotationJob, error) {
	return askAt[api.CMEKRotationJob](ctx, c, "DELETE", nil, "vaults", vaultID, "cmek-rotate", jobID)
}

// CMEKRotations returns the rotations of a vault, newest first.
func (c *Client) CMEKRotations(ctx context.Context, vaultID string) ([]api.CMEKRotationJob, error) {
	out, err := askAt[api.CMEKRotations](ctx, c, "GET", nil, "vaults", vaultID, "cmek-rotations")
	return out.Rotations, err
}
