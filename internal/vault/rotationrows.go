package vault

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// What one batch of a rotation re-encrypts at most, and how many scans it makes
// to find so much.
const (
	rotationBatch = 100
	rotationBytes = 8 << 20
	rotationScans = 50
)

// find is what one batch has met: rows to re-encrypt, and what cannot be.
type find struct {
	rows   []oldRow
	items  []kmsapi.ReencryptItem
	raw    [][]byte // the attributes that they get
	size   int
	failed []string
	last   string // key of the last row that was looked at
	end    bool   // there is no row after it
}

// page re-encrypts the next versions under the old key.
func (w reencrypting) page(ctx context.Context, v vault) (job.Step, error) {
	f := find{last: w.at.After}
	for range rotationScans {
		if err := w.scan(ctx, &f); err != nil {
			return job.Step{}, err
		}
		if f.end || len(f.items) >= rotationBatch || f.size >= rotationBytes {
			break
		}
	}
	s, err := w.reencrypt(ctx, v, f)
	switch {
	case w.at.Phase == draining && (fault.Of(err).Type == kmsapi.TypeCMEKSessionGone || errors.Is(err, fault.Unavailable)):
		// Writes under the old key must not wait until somebody brings the keys, or
		// the process that holds them is back.
		return w.shut(v, false, place{Passes: w.at.Passes})
	case fault.Of(err).Type == kmsapi.TypeCMEKSessionGone:
		return s, fmt.Errorf("%w: %w", job.ErrInterrupted, errKeysGone)
	case err != nil:
		return s, err
	}
	s.Anew, s.Ahead = w.at.After == "", !f.end
	next := w.at
	next.After, next.Done = f.last, next.Done+len(f.items)
	if f.end {
		left := len(s.Failed)
		if !s.Anew {
			left += w.Job.Failed
		}
		next = w.passed(next, left)
	}
	return s.At(next)
}

var errKeysGone = fault.New(fault.NotFound, "the key process does not hold the keys any more; send the same request again, with both keys")

// scan looks at the next rows and keeps those of the old key.
func (w reencrypting) scan(ctx context.Context, f *find) error {
	all := store.Prefix(layout.VaultVersions(w.args.Vault))
	if f.last != "" {
		all.Start = f.last + "\x00"
	}
	opt := store.ScanOptions{Limit: rotationBatch - len(f.items), MaxBytes: rotationBytes - f.size}
	recs, err := w.store.Scan(ctx, all, opt)
	if err != nil {
		return readFault(err)
	}
	size := 0
	for _, rec := range recs {
		size += len(rec.Value)
		f.last = rec.Key
		if err := w.look(f, rec); err != nil {
			return err
		}
	}
	f.end = !opt.Full(len(recs), size)
	return nil
}

// look adds rec to f when it is under the old key. One that does not parse may
// be: it is named.
func (w reencrypting) look(f *find, rec store.Record) error {
	path, n, ok := parseVersionKey(w.args.Vault, rec.Key)
	r, err := decodeVersion(rec.Value)
	switch {
	case !ok || err != nil:
		f.failed = append(f.failed, secretName(path, n))
		return nil
	case r.Fingerprint != w.args.Old:
		return nil
	}
	now := r.attributes
	now.Fingerprint = w.args.New
	raw, err := json.Marshal(now)
	if err != nil {
		return fmt.Errorf("encoding attributes: %w", err)
	}
	f.size += len(rec.Value)
	f.raw = append(f.raw, raw)
	f.rows = append(f.rows, oldRow{rec, r, path, n})
	f.items = append(f.items, kmsapi.ReencryptItem{
		Envelope: r.envelope, Path: path,
		AAD: secretAAD(w.args.Vault, path, n, r.raw), NewAAD: secretAAD(w.args.Vault, path, n, raw),
	})
	return nil
}

func secretName(path string, n int) string { return fmt.Sprintf("secret %s, version %d", path, n) }

// reencrypt returns the batch that brings f under the new key, in one KMS call.
// Each row is written on the condition that it is as it was read.
func (w reencrypting) reencrypt(ctx context.Context, v vault, f find) (job.Step, error) {
	s := job.Step{Processed: len(f.items) + len(f.failed), Failed: f.failed}
	if len(f.items) == 0 {
		return s, nil
	}
	res, err := w.kms.Reencrypt(ctx, w.args.Session, f.items)
	if err == nil && len(res) != len(f.items) {
		err = errAnswers
	}
	for i := 0; i < len(res) && err == nil; i++ {
		err = f.replace(&s, v, i, res[i])
	}
	return s, err
}

// replace puts row i with res into s, or names it as failed.
func (f find) replace(s *job.Step, v vault, i int, res kmsapi.ReencryptResult) error {
	o := f.rows[i]
	switch {
	case errors.Is(res.Err, fault.Unopenable), errors.Is(res.Err, fault.Damaged), errors.Is(res.Err, fault.NotFound):
		s.Failed = append(s.Failed, secretName(o.path, o.n))
		return nil
	case errors.Is(res.Err, fault.Conflict): // the KEK is worn out
		return fault.Wrap(fault.Unavailable, res.Err, "%s", fault.Of(res.Err).Message)
	case res.Err != nil:
		return res.Err
	case res.Opened != kmsapi.OpenedOld && res.Opened != kmsapi.OpenedNew,
		len(res.Envelope.Ciphertext) != len(o.envelope.Ciphertext),
		res.Envelope.KEKID != o.envelope.KEKID, len(res.Envelope.WrappedDEK) != len(o.envelope.WrappedDEK):
		return errAnswers
	case res.Envelope.KEKVersion < max(o.envelope.KEKVersion, v.KEKVersion):
		return errOldKEK // RotationKind says why
	}
	row, err := encodeVersion(f.raw[i], res.Envelope)
	if err != nil {
		return err
	}
	s.Batch.RequireRevision(o.Key, o.Revision)
	s.Batch.Put(o.Key, row)
	return nil
}

// count is how many versions are under the old key.
func (w reencrypting) count(ctx context.Context) (n int, err error) {
	err = w.eachVersion(ctx, w.args.Vault, func(_ string, _ int, r versionRow, damaged bool) {
		if damaged || r.Fingerprint == w.args.Old {
			n++
		}
	})
	return n, err
}

// eachVersion calls see with every version row of a vault, whatever became of
// the version. It holds some pages in memory, not the vault.
func (s *Service) eachVersion(ctx context.Context, vaultID string, see func(path string, n int, r versionRow, damaged bool)) error {
	all := store.Prefix(layout.VaultVersions(vaultID))
	opt := store.ScanOptions{Limit: 1000, MaxBytes: rotationBytes}
	for {
		recs, err := s.store.Scan(ctx, all, opt)
		if err != nil {
			return readFault(err)
		}
		size := 0
		for _, rec := range recs {
			size += len(rec.Value)
			all.Start = rec.Key + "\x00"
			path, n, ok := parseVersionKey(vaultID, rec.Key)
			r, err := decodeVersion(rec.Value)
			see(path, n, r, !ok || err != nil)
		}
		if !opt.Full(len(recs), size) {
			return nil
		}
	}
}
