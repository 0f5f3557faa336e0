package vault

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// rewrapBatch and rewrapBytes bound the version rows of one commit.
const (
	rewrapBatch = 100
	rewrapBytes = 8 << 20
)

// page rewraps the next version rows of the vault. A vault that was deleted
// meanwhile has fewer and fewer.
func (w rewrapping) page(ctx context.Context) (job.Step, error) {
	all := store.Prefix(layout.VaultVersions(w.at.Vault))
	if w.at.After != "" {
		all.Start = w.at.After + "\x00"
	}
	opt := store.ScanOptions{Limit: rewrapBatch, MaxBytes: rewrapBytes}
	recs, err := w.store.Scan(ctx, all, opt)
	if err != nil {
		return job.Step{}, readFault(err)
	}
	s, err := w.rewrapRows(ctx, recs)
	if err != nil {
		return job.Step{}, err
	}
	size, next := 0, w.at
	for _, rec := range recs {
		size += len(rec.Value)
		next.After = rec.Key
	}
	next.Failed = next.Failed || len(s.Failed) > 0
	switch {
	case opt.Full(len(recs), size):
	case next.Failed:
		next = position{Phase: passed, Vault: next.Vault}
	default:
		next.Phase, next.After = releasing, ""
	}
	return s.At(next)
}

// rewrapRows returns the batch that brings recs under the primary, in one KMS
// call. Each row is written on the condition that it is as it was read, so that
// none comes back that was purged.
func (w rewrapping) rewrapRows(ctx context.Context, recs []store.Record) (job.Step, error) {
	s := job.Step{Processed: len(recs)}
	var old []oldRow
	var items []kmsapi.RewrapItem
	for _, rec := range recs {
		path, n, ok := parseVersionKey(w.at.Vault, rec.Key)
		r, err := decodeVersion(rec.Value)
		switch {
		case !ok || err != nil:
			s.Failed = append(s.Failed, versionName(w.at.Vault, path, n))
		case r.envelope.KEKVersion < w.at.Version:
			old = append(old, oldRow{rec, r, path, n})
			items = append(items, kmsapi.RewrapItem{
				KEKID: r.envelope.KEKID, KEKVersion: r.envelope.KEKVersion, WrappedDEK: r.envelope.WrappedDEK,
				AAD: secretAAD(w.at.Vault, path, n, r.raw),
			})
		}
	}
	if len(items) == 0 {
		return s, nil
	}
	res, err := w.kms.Rewrap(ctx, items)
	if err == nil && len(res) != len(items) {
		err = errAnswers
	}
	for i := 0; i < len(res) && err == nil; i++ {
		err = w.replace(&s, old[i], res[i])
	}
	return s, err
}

// oldRow is a version row under an older version of its KEK.
type oldRow struct {
	store.Record
	versionRow
	path string
	n    int
}

// replace puts o with res into s, or names it as failed. Its error says nothing
// of the row.
func (w rewrapping) replace(s *job.Step, o oldRow, res kmsapi.RewrapResult) error {
	switch {
	case errors.Is(res.Err, fault.Unavailable), errors.Is(res.Err, fault.Timeout):
		return res.Err
	case res.Err != nil:
		s.Failed = append(s.Failed, versionName(w.at.Vault, o.path, o.n))
		return nil
	case res.KEKID != o.envelope.KEKID || len(res.WrappedDEK) != len(o.envelope.WrappedDEK):
		return errAnswers
	case res.KEKVersion < w.at.Version:
		return errOldKEK
	}
	o.envelope.KEKVersion, o.envelope.WrappedDEK = res.KEKVersion, res.WrappedDEK
	row, err := encodeVersion(o.raw, o.envelope)
	if err != nil {
		return err
	}
	s.Batch.RequireRevision(o.Key, o.Revision)
	s.Batch.Put(o.Key, row)
	return nil
}

func versionName(vaultID, path string, n int) string {
	return fmt.Sprintf("vault %s, secret %s, version %d", vaultID, path, n)
}

// parseVersionKey takes the key of a version row apart; ok is false when it is
// not one of ours, and path is then what the key ends with.
func parseVersionKey(vaultID, key string) (path string, n int, ok bool) {
	rest := strings.TrimPrefix(key, layout.VaultVersions(vaultID))
	colon := strings.LastIndexByte(rest, ':')
	if colon < 0 {
		return rest, 0, false
	}
	path = rest[:colon]
	n, err := strconv.Atoi(rest[colon+1:])
	if err != nil || layout.SecretVersion(vaultID, path, n) != key {
		return rest, 0, false
	}
	return path, n, true
}
