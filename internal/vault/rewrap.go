package vault

import (
	"context"
	"errors"
	"strings"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// RewrapJob is the name of the kind that RewrapKind returns.
const RewrapJob = "vault-rewrap"

// RewrapArgs are the arguments of a RewrapJob.
type RewrapArgs struct {
	Vault  string `json:"vault"`  // ID; "": all vaults
	Rotate bool   `json:"rotate"` // make a new primary first
}

// RewrapKind is the job that brings the wrapped DEKs of secrets under the
// primary of their vault's KEK and then releases the older versions. Its units
// are versions of secrets: old, disabled and deleted ones too. Values are not
// touched. One that does not open is left as it is and named, and its vault's
// KEK is not released.
//
// # Why nothing under an older version is left, or appears
//
// For each vault the job first learns the primary p and commits it into the
// vault's meta row, as KEKVersion. Every write of a version row requires the
// meta row as it read it, and refuses an envelope under a version less than its
// KEKVersion (Service.seal). So a write that read an older meta row was
// committed before the meta row changed, or is refused and starts again; what
// comes after is under p or later. Only then does the job scan the vault's
// version rows. All that are under an older version lie there already; they keep
// their keys, and nothing but a rewrap changes their version, so a scan in key
// order, page by page, meets each of them. When it is through without a failure,
// no row under a version less than p exists, nor can appear: only now the KEK is
// released below p. A copy of the store from before is not covered by this.
func (s *Service) RewrapKind() job.Kind {
	return job.Kind{
		Name: RewrapJob,
		Count: func(ctx context.Context, j job.Job) (int, error) {
			w, err := s.rewrapping(j)
			if err != nil {
				return 0, err
			}
			return w.count(ctx)
		},
		Step: func(ctx context.Context, j job.Job) (job.Step, error) {
			w, err := s.rewrapping(j)
			if err != nil {
				return job.Step{}, err
			}
			return w.step(ctx)
		},
	}
}

// position is the cursor of a RewrapJob, as JSON. Empty: before the first vault.
type position struct {
	Phase   phase  `json:"phase"`
	Vault   string `json:"vault"`
	KEK     string `json:"kek,omitzero"`     // of the vault
	Version uint32 `json:"version,omitzero"` // of the KEK; see phase
	After   string `json:"after,omitzero"`   // key of the last version row that is done
	Failed  bool   `json:"failed,omitzero"`  // a row of this vault was
}

// phase is what comes next at a position.
type phase string

const (
	rotating  phase = "rotate"  // rotate the vault's KEK, if Version is still its primary
	rows      phase = "rows"    // rewrap the version rows after After under Version or later
	releasing phase = "release" // release the KEK below Version; the vault is done
	passed    phase = "passed"  // the vault is done; on to the next
)

// rewrapping is a RewrapJob at work.
type rewrapping struct {
	*Service
	args RewrapArgs
	at   position
}

func (s *Service) rewrapping(j job.Job) (rewrapping, error) {
	w := rewrapping{Service: s}
	return w, j.Decode(&w.args, &w.at)
}

func (w rewrapping) step(ctx context.Context) (job.Step, error) {
	switch w.at.Phase {
	case rotating:
		return w.rotate(ctx)
	case rows:
		return w.page(ctx)
	case releasing:
		if err := w.kms.ReleaseKEK(ctx, w.at.KEK, w.at.Version); err != nil {
			return job.Step{}, err
		}
	}
	return w.next(ctx)
}

// next begins with the vault after w.at.Vault.
func (w rewrapping) next(ctx context.Context) (job.Step, error) {
	id, err := w.nextVault(ctx, w.at.Vault)
	if err != nil || id == "" {
		return job.Step{Done: true}, err
	}
	return w.with(ctx, id, func(v vault) (job.Step, error) {
		primary, err := w.primary(ctx, v.KEKID)
		if err != nil || !w.args.Rotate {
			return w.enter(v, primary, err)
		}
		// The primary goes into the cursor before the rotation, so that a crash
		// after the rotation does not rotate again.
		return job.Step{}.At(position{Phase: rotating, Vault: id, KEK: v.KEKID, Version: primary})
	})
}

// rotate makes a new primary, unless a crash came after it was made.
func (w rewrapping) rotate(ctx context.Context) (job.Step, error) {
	return w.with(ctx, w.at.Vault, func(v vault) (job.Step, error) {
		r, err := w.kms.RotateKEK(ctx, kmsapi.Rotate{KEKID: v.KEKID, IfVersion: w.at.Version})
		if err == nil && r.KEKVersion <= w.at.Version {
			err = errOldKEK
		}
		return w.enter(v, r.KEKVersion, err)
	})
}

// with does do with a vault. It passes one that was deleted, and skips one that
// is damaged or of which do says fault.NotFound: its KEK is not in the KMS.
func (w rewrapping) with(ctx context.Context, vaultID string, do func(vault) (job.Step, error)) (job.Step, error) {
	v, err := w.load(ctx, vaultID)
	if err == nil && v.rev == 0 {
		return job.Step{}.At(position{Phase: passed, Vault: vaultID})
	}
	var s job.Step
	if err == nil {
		s, err = do(v)
	}
	if errors.Is(err, fault.Damaged) || errors.Is(err, fault.NotFound) {
		return w.skip(vaultID)
	}
	return s, err
}

// skip passes a vault that is damaged, or whose KEK the KMS does not have.
func (w rewrapping) skip(vaultID string) (job.Step, error) {
	return job.Step{Processed: 1, Failed: []string{"vault " + vaultID}}.At(position{Phase: passed, Vault: vaultID})
}

// nextVault returns the vault to do after the vault after; "" when there is none.
func (w rewrapping) nextVault(ctx context.Context, after string) (string, error) {
	if w.args.Vault == "" {
		return w.vaultAfter(ctx, after)
	}
	if after != "" {
		return "", nil
	}
	return w.args.Vault, w.Exists(ctx, w.args.Vault)
}

// vaultAfter returns the first vault after the vault after that has any row.
func (s *Service) vaultAfter(ctx context.Context, after string) (string, error) {
	all := store.Prefix(layout.Vaults())
	if after != "" {
		all.Start = store.Prefix(layout.VaultRows(after)).End
	}
	recs, err := s.store.Scan(ctx, all, store.ScanOptions{Limit: 1})
	if err != nil {
		return "", readFault(err)
	}
	if len(recs) == 0 {
		return "", nil
	}
	id, _, _ := strings.Cut(strings.TrimPrefix(recs[0].Key, layout.Vaults()), ":")
	return id, nil
}

// count adds up how many versions the secrets say that they have.
func (w rewrapping) count(ctx context.Context) (int, error) {
	n := 0
	for id, err := w.nextVault(ctx, ""); ; id, err = w.nextVault(ctx, id) {
		if err != nil || id == "" {
			return n, err
		}
		for rec, err := range store.All(ctx, w.store, store.Prefix(layout.SecretHead(id, ""))) {
			if err != nil {
				return n, readFault(err)
			}
			if h, err := decodeRow[secretHead](rec.Key, rec.Value); err == nil {
				n += h.Version
			}
		}
	}
}

// primary asks the KMS for a seal of nothing, which tells the primary. Unlike
// CreateKEK it makes no KEK where the KMS has lost one.
func (s *Service) primary(ctx context.Context, kekID string) (uint32, error) {
	res, err := s.kms.Seal(ctx, []kmsapi.SealItem{{KEKID: kekID, AAD: aead.AAD("keyfold/nothing/v1", kekID)}})
	if err != nil {
		return 0, err
	}
	if len(res) != 1 {
		return 0, errAnswers
	}
	return res[0].Envelope.KEKVersion, res[0].Err
}

// enter makes primary, unless it came with err, the least version that a write
// to v may use, on the condition that v is as it was read, and goes to its rows.
func (w rewrapping) enter(v vault, primary uint32, err error) (s job.Step, _ error) {
	if err != nil {
		return s, err
	}
	if v.KEKVersion > primary {
		return w.skip(v.id) // the KMS knows fewer versions than rows were written under
	}
	if v.KEKVersion < primary {
		v.KEKVersion = primary
		key := layout.VaultMeta(v.id)
		s.Batch.RequireRevision(key, v.rev)
		if err := put(&s.Batch, key, v.vaultMeta); err != nil {
			return s, err
		}
	}
	return s.At(position{Phase: rows, Vault: v.id, KEK: v.KEKID, Version: primary})
}
