package vault

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
)

// Jobs is what Rotations need of the runner of jobs, which knows RotationKind.
type Jobs interface {
	StartWith(ctx context.Context, kind string, args any, rows func(id string) (store.Batch, error)) (job.Job, error)
	Again(ctx context.Context, id string, args any) (job.Job, error)
	Get(ctx context.Context, id string) (job.Job, error)
	List(ctx context.Context) ([]job.Job, error)
	Cancel(ctx context.Context, id string) (job.Job, error)
}

// Rotations starts, shows and cancels the CMEK rotations of a Service's vaults.
// All of it is for who may enable CMEK, but Status.
type Rotations struct {
	*Service
	jobs Jobs
}

// NewRotations returns the Rotations of s.
func NewRotations(s *Service, jobs Jobs) *Rotations { return &Rotations{s, jobs} }

// RotationKeys are the two raw keys of a rotation, 32 bytes each.
type RotationKeys struct{ Old, New []byte }

func (k RotationKeys) wipe() {
	clear(k.Old)
	clear(k.New)
}

// Rotate begins to re-encrypt a vault's versions under another key, which is then
// the vault's, or goes on with the rotation to that key which was interrupted. The
// keys are in req.SealedKeys or in keys, which it wipes; it keeps neither. What it
// answers runs, or has ended already.
//
// fault.Invalid: CMEK is off, or req or a key is wrong, types cmek_old_key,
// cmek_new_key and cmek_key_check among others. fault.Conflict, type
// cmek_rotating: a rotation to another key has begun. fault.TooMany: 10 rotations
// of the org hold keys; a request that takes one up needs room for its keys, too.
// The KMS counts, so that a restart of the server forgets none, and one of the KMS
// all, with their keys.
func (r *Rotations) Rotate(ctx context.Context, p access.Principal, vaultID string, req api.RotateCMEK, keys RotationKeys) (api.CMEKRotationJob, error) {
	defer keys.wipe()
	v, err := r.gate(ctx, target{p: p, action: access.VaultCMEK, vault: vaultID, as: "vault.cmek_rotate"})
	if err != nil {
		return api.CMEKRotationJob{}, err
	}
	req.NewFingerprint = strings.ToLower(req.NewFingerprint)
	if err := v.checkRotate(req, keys); err != nil {
		return api.CMEKRotationJob{}, err
	}
	a := rotationArgs{
		Vault: v.id, Old: v.Fingerprint, New: req.NewFingerprint, KeyCheck: req.NewKeyCheck, AcceptFailed: req.AcceptFailed,
		Org: v.OrgID, ByKind: p.Kind, By: p.ID,
	}
	if a.Session, err = r.openSession(ctx, a, req.SealedKeys, keys); err != nil {
		return api.CMEKRotationJob{}, err
	}
	b := beginning{Rotations: r, args: a}
	if err := r.retry(ctx, func() error { return b.try(ctx) }); err != nil {
		r.closeSession(ctx, a.Session)
		return api.CMEKRotationJob{}, err
	}
	r.closeSession(ctx, b.unused)
	if b.as != "" {
		err = reencrypting{Service: r.Service, Job: b.job, args: a}.record(ctx, b.as)
	}
	return wireRotation(b.job, b.args), err
}

func (v vault) checkRotate(req api.RotateCMEK, keys RotationKeys) error {
	switch {
	case v.Fingerprint == "":
		return errNoCMEK
	case !cmek.ValidFingerprint(req.NewFingerprint):
		return invalid("new_fingerprint must be 64 hex digits, the SHA-256 of the new key; `keyfold cmek fingerprint` prints it")
	case req.NewFingerprint == v.Fingerprint:
		return invalid("new_fingerprint is that of the vault's key already; if the rotation was completed there is nothing to do, else make another key")
	case req.NewKeyCheck != "" && !cmek.ValidCheck(req.NewKeyCheck):
		return errKeyCheck
	case req.SealedKeys != nil && len(keys.Old)+len(keys.New) > 0:
		return fault.New(fault.Invalid, "send the keys once: in sealed_keys, or in the headers %s and %s", api.HeaderCMEKOldKey, api.HeaderCMEKNewKey)
	case req.SealedKeys == nil && len(keys.Old) != cmek.KeySize:
		return fault.New(fault.Invalid, "the old key is missing; send both keys in sealed_keys, or as base64 of 32 bytes in the headers %s and %s", api.HeaderCMEKOldKey, api.HeaderCMEKNewKey).
			WithType(api.ProblemCMEKOldKey)
	case req.SealedKeys == nil && len(keys.New) != cmek.KeySize:
		return fault.New(fault.Invalid, "the new key is missing; send it as base64 of 32 bytes in the header %s", api.HeaderCMEKNewKey).WithType(api.ProblemCMEKNewKey)
	}
	return nil
}

// shareRetry is how long to wait when the org's share of the KMS is used up, which
// lasts until a rotation of it ends or a one-time key expires.
const shareRetry = time.Minute

// openSession gives the KMS the keys, which says whether they are those of a, and
// the key check the new one's: every client would refuse the key after a wrong one.
func (r *Rotations) openSession(ctx context.Context, a rotationArgs, sealed *api.SealedCMEKKeys, keys RotationKeys) (string, error) {
	o := kmsapi.OpenCMEKRotation{Owner: a.Org, Vault: a.Vault, OldFingerprint: a.Old, NewFingerprint: a.New, NewKeyCheck: a.KeyCheck, Old: keys.Old, New: keys.New}
	if sealed != nil {
		o.Sealed = kmsapi.SealedKeys{KeyID: sealed.KeyID, Enc: sealed.Enc, Ciphertext: sealed.Ciphertext}
	}
	session, err := r.kms.OpenCMEKRotation(ctx, o)
	switch {
	case err == nil, errors.Is(err, fault.Invalid), fault.Of(err).Type == kmsapi.TypeCMEKFull:
		return session, err
	case errors.Is(err, fault.TooMany):
		return "", fault.Of(err).WithRetryAfter(shareRetry)
	case givenUp(err):
		return "", fault.Wrap(fault.Unavailable, err, "the key process is not reachable, nothing was begun; try again")
	}
	return "", fault.Wrap(fault.Internal, err, "the key process could not take the keys, nothing was begun; the log has the request ID")
}

// closeSession has the KMS wipe keys that nobody will use. A session that is not
// closed ends by itself.
func (r *Rotations) closeSession(ctx context.Context, session string) {
	if session == "" {
		return
	}
	if err := r.kms.CloseCMEKRotation(context.WithoutCancel(ctx), session); err != nil {
		r.log.Warn("the key process was not told that keys are not needed; it wipes them after 10 minutes", "error", err)
	}
}

// beginning is a Rotate that has its keys in the KMS.
type beginning struct {
	*Rotations
	args   rotationArgs
	job    job.Job
	as     string // for the trail; "": nothing was begun
	unused string // the session that is of no use any more
}

// try begins the rotation or takes it up, if the vault is as it reads it.
func (b *beginning) try(ctx context.Context) (err error) {
	b.as = ""
	v, err := b.reload(ctx, b.args.Vault)
	switch {
	case err != nil:
		return err
	case v.Fingerprint != b.args.Old:
		return underWay("the vault's CMEK key was changed meanwhile; read the vault and begin again")
	case v.Rotation == nil:
		return b.start(ctx, v)
	case v.Rotation.Fingerprint != b.args.New:
		return underWay("a rotation to another key has begun; wait for its end, or cancel it first")
	}
	j, was, err := b.rotation(ctx, v.id, v.Rotation.Job)
	if errors.Is(err, fault.NotFound) || err == nil && j.Status != job.Running && j.Status != job.Interrupted {
		return b.start(ctx, v) // the vault's row was put back, or was damaged when the job ended
	}
	if err != nil {
		return err
	}
	if b.same(was) && b.lives(ctx, j, was) {
		b.job, b.unused, b.args = j, b.args.Session, was
		return nil
	}
	return b.resume(ctx, j, was)
}

// start commits the job and, in the vault's meta row, that writes may bring both
// keys.
func (b *beginning) start(ctx context.Context, v vault) (err error) {
	b.as = "cmek.rotate_start"
	b.job, err = b.jobs.StartWith(ctx, RotationJob, b.args, func(id string) (s store.Batch, err error) {
		v.Rotation = &rotation{Job: id, Fingerprint: b.args.New}
		return s, v.putMeta(&s)
	})
	return err
}

// resume lets the job go on with the new session.
func (b *beginning) resume(ctx context.Context, j job.Job, was rotationArgs) (err error) {
	a := b.args
	a.KeyCheck = cmp.Or(a.KeyCheck, was.KeyCheck)
	b.as, b.unused = "cmek.rotate_resume", was.Session
	b.job, err = b.jobs.Again(ctx, j.ID, a)
	if errors.Is(err, fault.Conflict) {
		return store.ErrConflict // it ended meanwhile; look anew
	}
	return err
}

// same reports whether was does what b is to do.
func (b *beginning) same(was rotationArgs) bool {
	return was.AcceptFailed == b.args.AcceptFailed && (b.args.KeyCheck == "" || b.args.KeyCheck == was.KeyCheck)
}

// lives reports whether j runs and has its keys.
func (r *Rotations) lives(ctx context.Context, j job.Job, a rotationArgs) bool {
	if j.Status != job.Running {
		return false
	}
	alive, err := r.alive(ctx, a.Session)
	return alive && err == nil
}

// aliveIn is how long an answer waits for the KMS to say whether it has the keys.
const aliveIn = 2 * time.Second

// alive reports whether the KMS holds the keys of a session. After an error that
// is not known.
func (r *Rotations) alive(ctx context.Context, session string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, aliveIn)
	defer cancel()
	return r.kms.CMEKRotationAlive(ctx, session)
}

// Key returns a public key to which the keys of one rotation may be sealed.
// fault.Invalid when CMEK is off. fault.TooMany: 100 that the org asked for wait
// to be used.
func (r *Rotations) Key(ctx context.Context, p access.Principal, vaultID string) (api.CMEKRotationKey, error) {
	v, err := r.gate(ctx, target{p: p, action: access.VaultCMEK, vault: vaultID, as: "vault.cmek_rotate_key"})
	switch {
	case err != nil:
		return api.CMEKRotationKey{}, err
	case v.Fingerprint == "":
		return api.CMEKRotationKey{}, errNoCMEK
	}
	k, err := r.kms.CMEKRotationKey(ctx, v.OrgID)
	if errors.Is(err, fault.TooMany) {
		return api.CMEKRotationKey{}, fault.Of(err).WithRetryAfter(shareRetry)
	}
	if err != nil {
		return api.CMEKRotationKey{}, fault.Wrap(fault.Unavailable, err, "the key process made no key; try again")
	}
	return api.CMEKRotationKey{KeyID: k.KeyID, Suite: k.Suite, PublicKey: k.PublicKey, ExpiresAt: k.Expires}, nil
}
