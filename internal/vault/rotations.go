package vault

import (
	"cmp"
	"context"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
)

var errKeysUnknown = fault.New(fault.Unavailable, "the key process does not say whether it still holds the keys; the rotation goes on by itself if it does: look again, and if this stays so send the same request again, with both keys")

var errNoRotation = fault.New(fault.NotFound, "this vault has no such rotation; list its rotations to see which there are")

// rotation returns a rotation of the vault's.
func (r *Rotations) rotation(ctx context.Context, vaultID, id string) (job.Job, rotationArgs, error) {
	j, err := r.jobs.Get(ctx, id)
	if err != nil && !isNotFound(err) {
		return j, rotationArgs{}, err
	}
	if err == nil {
		if a, ok := rotationOf(j); ok && a.Vault == vaultID {
			return j, a, nil
		}
	}
	return job.Job{}, rotationArgs{}, errNoRotation
}

func isNotFound(err error) bool { return fault.Of(err).Code == fault.NotFound }

// rotationOf returns what j, if it is a rotation, does.
func rotationOf(j job.Job) (a rotationArgs, ok bool) {
	return a, j.Kind == RotationJob && j.Decode(&a, new(place)) == nil
}

// Rotation returns one rotation of the vault's. fault.NotFound: it has no such,
// or not any more.
func (r *Rotations) Rotation(ctx context.Context, p access.Principal, vaultID, id string) (api.CMEKRotationJob, error) {
	v, err := r.gate(ctx, target{p: p, action: access.VaultCMEK, vault: vaultID, as: "vault.cmek_rotation"})
	if err != nil {
		return api.CMEKRotationJob{}, err
	}
	j, a, err := r.rotation(ctx, v.id, id)
	if err == nil {
		j, err = r.present(ctx, j, a)
	}
	if err != nil {
		return api.CMEKRotationJob{}, err
	}
	return wireRotation(j, a), nil
}

// ListRotations returns the rotations of the vault, the newest first: those of
// the last thousand or so jobs of the whole server that ended, and those that did
// not.
func (r *Rotations) ListRotations(ctx context.Context, p access.Principal, vaultID string) (api.CMEKRotations, error) {
	out := api.CMEKRotations{Rotations: []api.CMEKRotationJob{}}
	v, err := r.gate(ctx, target{p: p, action: access.VaultCMEK, vault: vaultID, as: "vault.cmek_rotations"})
	if err != nil {
		return out, err
	}
	jobs, err := r.jobs.List(ctx)
	for _, j := range jobs {
		a, ok := rotationOf(j)
		if !ok || a.Vault != v.id {
			continue
		}
		if j, err = r.present(ctx, j, a); err != nil {
			return out, err
		}
		out.Rotations = append(out.Rotations, wireRotation(j, a))
	}
	return out, err
}

// CancelRotation ends a rotation between two batches: the vault keeps its key,
// and what is under the new one already stays so. One that has ended is answered
// as it is. fault.Conflict: it has just become complete.
func (r *Rotations) CancelRotation(ctx context.Context, p access.Principal, vaultID, id string) (api.CMEKRotationJob, error) {
	v, err := r.gate(ctx, target{p: p, action: access.VaultCMEK, vault: vaultID, as: "vault.cmek_rotate_cancel"})
	if err != nil {
		return api.CMEKRotationJob{}, err
	}
	j, a, err := r.rotation(ctx, v.id, id)
	if err != nil {
		return api.CMEKRotationJob{}, err
	}
	if j.Status == job.Running || j.Status == job.Interrupted {
		if j, err = r.jobs.Cancel(ctx, j.ID); err != nil {
			return api.CMEKRotationJob{}, err
		}
		r.closeSession(ctx, a.Session)
		if j.Status == job.Cancelled {
			err = reencrypting{Service: r.Service, Job: j, args: a}.record(ctx, "cmek.rotate_cancel")
		}
	}
	return wireRotation(j, a), err
}

// present is j as it stands: a job that has lost its keys is interrupted before it
// knows, and so is said to be one of which the KMS does not say within 2 seconds
// that it has them: running is what is known to run. One whose session was closed
// may be done with it; only if not, its vault still waits for it.
func (r *Rotations) present(ctx context.Context, j job.Job, a rotationArgs) (job.Job, error) {
	if j.Status != job.Running {
		return j, nil
	}
	why := errKeysGone
	alive, err := r.alive(ctx, a.Session)
	switch {
	case err != nil:
		why = errKeysUnknown
	case alive:
		return j, nil
	}
	v, err := r.load(ctx, a.Vault)
	if err != nil {
		return j, err
	}
	if v.Rotation != nil && v.Rotation.Job == j.ID {
		j.Status, j.Error = job.Interrupted, why.Message
		return j, nil
	}
	return r.jobs.Get(ctx, j.ID)
}

// wireRotation is j as clients see it. While it runs, versions that do not open
// are not counted as processed, since the next pass meets them again.
func wireRotation(j job.Job, a rotationArgs) api.CMEKRotationJob {
	out := api.CMEKRotationJob{
		ID: j.ID, VaultID: a.Vault, OldFingerprint: a.Old, NewFingerprint: a.New, Status: string(j.Status),
		Processed: j.Processed - j.Failed, TotalSecrets: max(j.Total, j.Processed),
		Error: j.Error, CreatedAt: j.Created, StartedAt: &j.Created,
	}
	if j.Status != job.Running && j.Status != job.Interrupted {
		out.CompletedAt = &j.Updated
	}
	if j.Status == job.Completed {
		out.Processed, out.TotalSecrets = j.Processed, j.Processed
		if j.Failed > 0 {
			out.Error = "versions that open with neither key stay under the old one"
		}
	}
	if len(j.FailedOf) > 0 {
		out.Error = strings.TrimPrefix(out.Error+": "+strings.Join(j.FailedOf, "; "), ": ")
	}
	return out
}

// Status returns the CMEK state of the vault, for who may read the vault, with or
// without the inventory of keys, which reads all rows of the vault's versions.
func (r *Rotations) Status(ctx context.Context, p access.Principal, vaultID string, inventory bool) (api.CMEKStatus, error) {
	v, err := r.gate(ctx, target{p: p, action: access.VaultRead, vault: vaultID, as: "vault.cmek_read"})
	if err != nil {
		return api.CMEKStatus{}, err
	}
	out := v.status()
	if v.Rotation != nil {
		if out.Rotation, err = r.current(ctx, v); err != nil {
			return api.CMEKStatus{}, err
		}
	}
	if inventory {
		err = r.takeInventory(ctx, v.id, &out)
	}
	return out, err
}

func (v vault) status() api.CMEKStatus {
	out := api.CMEKStatus{Enabled: v.Fingerprint != "", Fingerprint: v.Fingerprint, KeyCheck: v.KeyCheck}
	if out.Enabled {
		out.BlobVersion = cmp.Or(v.BlobVersion, 1)
	}
	if !v.Since.IsZero() {
		out.Since = &v.Since
	}
	return out
}

// current returns the rotation that v waits for; nil when there is no row of it.
// It names no version: who may read the vault need not know its paths.
func (r *Rotations) current(ctx context.Context, v vault) (*api.CMEKRotationJob, error) {
	j, a, err := r.rotation(ctx, v.id, v.Rotation.Job)
	if err == nil {
		j, err = r.present(ctx, j, a)
	}
	if isNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	j.FailedOf = nil
	out := wireRotation(j, a)
	return &out, nil
}
