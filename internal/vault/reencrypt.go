package vault

import (
	"context"
	"strconv"
	"strings"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// Re-encryption by the client. A client that sends its CMEK keys nowhere reads
// the versions under the old one, seals their values under the vault's, and
// puts them back where they were: the same version, of the same attributes. The
// version's fingerprint is what is compared, so that any number of clients can
// do this at once, and again after a crash.

// ReencryptVersion replaces the value of version n, which is under
// req.OldFingerprint, by the same sealed under the vault's key. That it is the
// same only the client knows. All attributes stay, and nothing is replaced that
// does not open: what does not may not be made to look whole. The trail hears of
// each request with path, version and both fingerprints.
//
// fault.Forbidden when p is not a person who may enable CMEK. fault.Gone: the
// secret is deleted. fault.PreconditionFailed: the version is under another
// key, perhaps since somebody did this already. fault.Conflict (type
// cmek_key_mismatch): req.NewFingerprint is not the vault's.
func (s *Service) ReencryptVersion(ctx context.Context, p access.Principal, vaultID, path string, n int, req api.ReencryptVersion) (out api.SecretMetadata, err error) {
	if err := ValidatePath(path); err != nil {
		return out, err
	}
	t := target{p: p, action: access.VaultCMEK, vault: vaultID, path: path, as: "vault.cmek_reencrypt", facts: reencryptFacts(n, req)}
	err = s.change(ctx, t, func(v vault) error {
		tag, err := v.checkReencrypt(req)
		if err != nil {
			return err
		}
		rec, r, value, err := s.versionUnder(ctx, v, path, n, req.OldFingerprint)
		if err != nil {
			return err
		}
		if err := v.keeping(value).checkShape(req.Value); err != nil {
			return err
		}
		r.Fingerprint = tag
		row, err := s.seal(ctx, v, path, n, r.attributes, req.Value)
		if err != nil {
			return err
		}
		out = r.metadata(path, n)
		idem.Answer(ctx, out)
		b := new(store.Batch)
		b.RequireRevision(layout.VaultMeta(v.id), v.rev)
		b.RequireRevision(rec.Key, rec.Revision)
		b.Put(rec.Key, row)
		return s.commit(ctx, b)
	})
	return out, err
}

// reencryptFacts is what the record says beside the path. What is no fingerprint
// is not told: it may be anything, a key too.
func reencryptFacts(n int, req api.ReencryptVersion) map[string]string {
	facts := map[string]string{"version": strconv.Itoa(n)}
	for name, fingerprint := range map[string]string{"old_fingerprint": req.OldFingerprint, "new_fingerprint": req.NewFingerprint} {
		if cmek.ValidFingerprint(fingerprint) {
			facts[name] = fingerprint
		}
	}
	return facts
}

// checkReencrypt returns the fingerprint that the version gets.
func (v vault) checkReencrypt(req api.ReencryptVersion) (string, error) {
	switch {
	case !cmek.ValidFingerprint(req.OldFingerprint) || !cmek.ValidFingerprint(req.NewFingerprint):
		return "", invalid("old_fingerprint and new_fingerprint must be 64 lower-case hex digits each")
	case req.OldFingerprint == req.NewFingerprint:
		return "", invalid("old_fingerprint and new_fingerprint name the same key; there is nothing to do")
	case v.Fingerprint == "":
		return "", errNoCMEK
	case len(req.Value) > MaxValue:
		return "", fault.New(fault.TooLarge, "the value has %d bytes; the limit is %d", len(req.Value), MaxValue)
	}
	return v.tag(req.NewFingerprint)
}

// keeping is v, wanting a bound blob where value is one: what is bound stays so.
func (v vault) keeping(value string) vault {
	if info, err := cmek.Inspect(value); err == nil && info.Version == 2 {
		v.BlobVersion = 2
	}
	return v
}

// versionUnder returns the row of version n, proven to be what was stored, and
// its value, if that is under the CMEK key of that fingerprint.
func (s *Service) versionUnder(ctx context.Context, v vault, path string, n int, fingerprint string) (rec store.Record, r versionRow, value string, err error) {
	h, _, err := load[secretHead](ctx, s, layout.SecretHead(v.id, path))
	if err == nil {
		err = h.has(n)
	}
	if err == nil {
		rec, err = s.versionRecord(ctx, v.id, path, n)
	}
	if err == nil {
		r, err = decodeVersion(rec.Value)
	}
	if err == nil && r.Fingerprint != fingerprint {
		err = fault.New(fault.PreconditionFailed, "version %d is not under the key of old_fingerprint; read it again to see which key it is under", n)
	}
	if err == nil {
		value, err = s.open(ctx, v.id, path, n, r)
	}
	return rec, r, value, err
}

const (
	// maxCMEKVersions bounds a page of CMEKVersions; the rows that are looked at
	// for one are bounded by store.MaxScan and pageBytes.
	maxCMEKVersions = 1000
	pageBytes       = 8 << 20
)

// CMEKVersions returns the versions under the CMEK key of that fingerprint,
// from cursor on, at most limit (0: 1,000) of them. It counts as no read.
func (s *Service) CMEKVersions(ctx context.Context, p access.Principal, vaultID, fingerprint, cursor string, limit int) (api.CMEKVersions, error) {
	out := api.CMEKVersions{Versions: []api.CMEKVersion{}}
	v, err := s.gate(ctx, target{p: p, action: access.VaultCMEK, vault: vaultID, as: "vault.cmek_versions"})
	if err != nil {
		return out, err
	}
	if fingerprint = strings.ToLower(fingerprint); !cmek.ValidFingerprint(fingerprint) {
		return out, invalid("say which key: ?fingerprint=, 64 hex digits")
	}
	if limit <= 0 || limit > maxCMEKVersions {
		limit = maxCMEKVersions
	}
	all := store.Prefix(layout.VaultVersions(v.id))
	if cursor != "" {
		all.Start = all.Start + cursor + "\x00"
	}
	page := store.ScanOptions{MaxBytes: pageBytes}
	recs, err := s.store.Scan(ctx, all, page)
	if err != nil {
		return out, readFault(err)
	}
	return s.cmekPage(ctx, v.id, recs, page, fingerprint, limit)
}

// cmekPage is CMEKVersions of the rows recs, which one scan has found.
func (s *Service) cmekPage(ctx context.Context, vaultID string, recs []store.Record, scanned store.ScanOptions, fingerprint string, limit int) (api.CMEKVersions, error) {
	out := api.CMEKVersions{Versions: []api.CMEKVersion{}}
	size := 0
	for _, rec := range recs {
		size += len(rec.Value)
		path, n, ok := parseVersionKey(vaultID, rec.Key)
		r, err := decodeVersion(rec.Value)
		if !ok || err != nil || r.Fingerprint != fingerprint {
			continue // what does not parse is under no key that could be told
		}
		m, err := s.cmekVersion(ctx, vaultID, path, n, r.attributes)
		if err != nil {
			return out, err
		}
		out.Versions = append(out.Versions, m)
		if len(out.Versions) == limit {
			out.NextCursor = strings.TrimPrefix(rec.Key, layout.VaultVersions(vaultID))
			return out, nil
		}
	}
	if scanned.Full(len(recs), size) {
		out.NextCursor = strings.TrimPrefix(recs[len(recs)-1].Key, layout.VaultVersions(vaultID))
	}
	return out, nil
}

func (s *Service) cmekVersion(ctx context.Context, vaultID, path string, n int, a attributes) (api.CMEKVersion, error) {
	m := api.CMEKVersion{Path: path, Version: n, State: api.CMEKReadable, MaxAccessCount: a.MaxAccessCount}
	h, _, err := load[secretHead](ctx, s, layout.SecretHead(vaultID, path))
	if err != nil {
		return m, err
	}
	state, _, err := load[versionState](ctx, s, layout.SecretState(vaultID, path, n))
	if err != nil {
		return m, err
	}
	m.Newest, m.Reads = n == h.Version, state.Reads
	switch {
	case n <= h.DeletedThrough:
		m.State = api.CMEKDeleted
	case state.Disabled:
		m.State = api.CMEKDisabled
	case a.ExpiresAt != nil && !s.now().Before(*a.ExpiresAt):
		m.State = api.CMEKExpired
	case state.check(a.MaxAccessCount) != nil:
		m.State = api.CMEKReadOut
	}
	return m, nil
}
