package share

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"math"
	"net/mail"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/vault"
)

// linkBytes is how many random bytes a link holds.
const linkBytes = 32

var errPeople = fault.New(fault.Forbidden, "only people share secrets; sign in as a user")

// Create shares the secret of that ID, by the rules of api.CreateShare. Errors:
// NotFound (no such secret in the org, or no such recipient), Forbidden (p may
// not share it, or is no user), Invalid, Conflict (type share_sealed; or
// MaxShares are reached).
func (s *Service) Create(ctx context.Context, p access.Principal, secretID string, req api.CreateShare) (api.CreatedShare, error) {
	if p.Kind != access.User { // the gate says so, too, and records it
		if !isID(secretID) { // a text of the caller's, perhaps a key that went astray
			secretID = ""
		}
		err := s.Gate.Check(ctx, p, access.SecretShare, access.Resource{OrgID: p.OrgID, Type: "secret", ID: secretID})
		return api.CreatedShare{}, cmp.Or(err, error(errPeople))
	}
	at, err := s.Vault.Locate(ctx, p.OrgID, secretID)
	if err != nil {
		return api.CreatedShare{}, err
	}
	r := row{
		ID: uuid.Must(uuid.NewV7()).String(), OrgID: p.OrgID, Maker: p.ID, CreatedAt: s.Now().UTC().Truncate(time.Microsecond),
		VaultID: at.VaultID, OwnerID: at.OwnerID, SecretID: secretID, Path: at.Path, RecipientType: req.RecipientType,
	}
	if err := s.Gate.Check(ctx, p, access.SecretShare, r.secret()); err != nil {
		return api.CreatedShare{}, err
	}
	if err := s.describe(ctx, &r, req, at); err != nil {
		return api.CreatedShare{}, err
	}
	text := r.ID
	if r.Kind == "" {
		text += "." + r.newLink()
	}
	if err := s.record(ctx, p, "share.create", r, access.Allowed, ""); err != nil {
		return api.CreatedShare{}, err
	}
	out := api.CreatedShare{
		ID: r.ID, ShareURL: s.PublicURL + "/v1/share/" + text, RecipientType: r.RecipientType, RecipientEmail: r.Email,
		ExpiresAt: r.ExpiresAt, MaxAccessCount: r.maxCount(),
	}
	idem.Secret(ctx, out)
	if err := s.insert(ctx, r); err != nil {
		return api.CreatedShare{}, err
	}
	return out, nil
}

// newLink makes the secret of a link, and keeps its hash.
func (r *row) newLink() string {
	raw := make([]byte, linkBytes)
	rand.Read(raw) // never fails: see crypto/rand
	text := base64.RawURLEncoding.EncodeToString(raw)
	r.Link = hashLink(text)
	return text
}

func hashLink(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// maxCount is MaxCount as the wire has it.
func (r row) maxCount() *int {
	if r.MaxCount == 0 {
		return nil
	}
	return &r.MaxCount
}

// describe checks req and takes it over into r.
func (s *Service) describe(ctx context.Context, r *row, req api.CreateShare, at vault.Located) (err error) {
	if err := r.limit(req, s.Now()); err != nil {
		return err
	}
	if err := r.seal(req, at.Fingerprint); err != nil {
		return err
	}
	if err := s.address(ctx, r, req); err != nil {
		return err
	}
	if req.Passphrase == "" {
		return nil
	}
	if len(req.Passphrase) < MinPassphrase || len(req.Passphrase) > MaxPassphrase {
		return fault.New(fault.Invalid, "the passphrase must have %d to %d bytes; leave it out for none", MinPassphrase, MaxPassphrase)
	}
	if r.Passphrase, err = s.Passwords.Hash(ctx, req.Passphrase); err != nil {
		return busy(err)
	}
	return nil
}

// limit takes over what bounds the use of a share.
func (r *row) limit(req api.CreateShare, now time.Time) (err error) {
	switch {
	case req.ExpiresAt == nil || req.ExpiresAt.UTC().Year() < 1 || req.ExpiresAt.UTC().Year() > 9999:
		return fault.New(fault.Invalid, "expires_at must be a time like 2030-01-31T12:00:00Z")
	case !now.Before(*req.ExpiresAt):
		return fault.New(fault.Invalid, "expires_at must be in the future")
	case req.MaxAccessCount != nil && (*req.MaxAccessCount < 1 || *req.MaxAccessCount > math.MaxInt32):
		return fault.New(fault.Invalid, "max_access_count must be 1 to %d; leave it out for no limit", math.MaxInt32)
	case slices.ContainsFunc(req.Permissions, func(s string) bool { return s != "read" }):
		return fault.New(fault.Invalid, `a share gives "read" alone; leave permissions out`)
	}
	r.ExpiresAt = req.ExpiresAt.UTC()
	if req.MaxAccessCount != nil {
		r.MaxCount = *req.MaxAccessCount
	}
	r.Addresses, err = parseAddresses(req.IPAllowlist)
	return err
}

func parseAddresses(list []string) ([]netip.Prefix, error) {
	if len(list) > MaxAddresses {
		return nil, fault.New(fault.Invalid, "ip_allowlist may have %d entries; use wider ranges", MaxAddresses)
	}
	var out []netip.Prefix
	for i, text := range list {
		p, err := netip.ParsePrefix(text)
		if a, alone := netip.ParseAddr(text); alone == nil && a.Zone() == "" {
			a = a.Unmap()
			p, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil || p.Addr().Is4In6() {
			return nil, fault.New(fault.Invalid, "entry %s of ip_allowlist is no address and no range; write 192.0.2.7 or 192.0.2.0/24", strconv.Itoa(i+1))
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

// seal takes over which CMEK key the recipient has. sealed is the fingerprint
// of the newest version.
func (r *row) seal(req api.CreateShare, sealed string) error {
	switch {
	case !req.RecipientHasKey && req.CMEKFingerprint != "":
		return fault.New(fault.Invalid, "cmek_fingerprint goes with recipient_has_key true")
	case req.RecipientHasKey:
		r.Fingerprint = strings.ToLower(req.CMEKFingerprint)
		if !cmek.ValidFingerprint(r.Fingerprint) {
			return fault.New(fault.Invalid, "with recipient_has_key send cmek_fingerprint, the 64 hex digits of the key that the recipient has")
		}
	}
	if sealed != "" && sealed != r.Fingerprint {
		return vault.ErrShareSealed
	}
	return nil
}

// address takes over whom the share is for.
func (s *Service) address(ctx context.Context, r *row, req api.CreateShare) (err error) {
	switch req.RecipientType {
	case api.ShareUser, api.ShareAgent:
		r.Kind = access.Kind(req.RecipientType)
		who := req.RecipientID
		if who == "" && r.Kind == access.User {
			who = req.Email
		}
		if who == "" {
			return fault.New(fault.Invalid, "say whom to share with: recipient_id, the ID of the %s", req.RecipientType)
		}
		r.RecipientID, r.Email, err = s.People.Recipient(ctx, r.OrgID, r.Kind, who)
		return err
	case api.ShareCreator:
		r.Kind, r.RecipientID = access.User, r.Maker
		return nil
	case api.ShareEmail:
		if a, err := mail.ParseAddress(req.Email); err != nil || a.Address != req.Email || len(req.Email) > 254 {
			return fault.New(fault.Invalid, "email must be an address such as name@example.com")
		}
		r.Email = req.Email
		return nil
	case api.ShareLink:
		return nil
	}
	return fault.New(fault.Invalid, "recipient_type must be user, agent, external_email, anyone_with_link or creator")
}

// insert stores a new share, after it made room for it.
func (s *Service) insert(ctx context.Context, r row) error {
	s.sweep(idem.Apart(ctx))
	made, err := s.Store.Scan(ctx, store.Prefix(layout.ShareBy(r.OrgID, r.Maker, "")), store.ScanOptions{Limit: MaxShares})
	if err != nil {
		return store.Fault(err)
	}
	if len(made) >= MaxShares {
		return fault.New(fault.Conflict, "you have %d shares; revoke some that are over", MaxShares)
	}
	b := new(store.Batch)
	b.RequireAbsent(layout.Share(r.ID))
	if err := put(b, r); err != nil {
		return err
	}
	for _, key := range r.index() {
		b.Put(key, nil)
	}
	// The answer of the call is sealed, and a rewrap may begin.
	return store.Fault(s.retry(ctx, func() error { return s.commit(ctx, b) }))
}

// swept is how many old shares one new share removes at most: more than one, so
// that they get fewer.
const swept = 4

// sweep removes some shares that expired long ago. What fails is tried again
// by the next share.
func (s *Service) sweep(ctx context.Context) {
	old := store.Range{Start: layout.ShareEnds(), End: layout.ShareEnd(s.Now().Add(-Kept).Unix(), "")}
	recs, err := s.Store.Scan(ctx, old, store.ScanOptions{Limit: swept})
	if err != nil {
		return
	}
	for _, rec := range recs {
		id := rec.Key[strings.LastIndexByte(rec.Key, ':')+1:]
		r, rev, err := s.get(ctx, id)
		if err == nil {
			err = s.remove(ctx, r, rev)
		}
		if err != nil {
			s.Log.Warn("an old share was not removed", "share", id, "error", err)
		}
	}
}

// busy names what went wrong with a hash.
func busy(err error) error {
	return fault.Wrap(fault.Unavailable, err, "too many passphrases are being checked; try again in a second")
}
