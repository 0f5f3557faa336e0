// Package share owns shares: a secret handed to somebody who could not read it
// otherwise, until a time, so many times, behind a passphrase, from some
// addresses.
//
// There are two kinds. A share for a user, an agent or its own maker is opened
// by that principal's own credentials and by nothing else; it shows in their
// inbound list. A share for an outside address or for anyone with the link is
// opened by the link: the share's ID, a dot, and 32 random bytes in base64url,
// of which the SHA-256 alone is stored. Its maker may open either kind.
//
// A share follows the newest version of its secret. It is worth no more than
// its maker: he must be allowed to share the secret when he makes it, and each
// time it is opened he must still be, decided anew with the address that it is
// opened from. A share is a grant of its own, so the policies of who opens it
// are not asked; the ceiling of his credential is.
//
// What does not open a share is one fault.NotFound: no such share, the wrong
// link or principal, expired, used up, revoked, declined, its secret gone, its
// maker's right gone. Who has shown that the share is his is told more: that
// it wants a passphrase, that it does not open from his address, that the value
// is sealed by now.
//
// It trusts the store, and package vault to open the value. Everything answered
// without error is on stable storage: the value goes out only after its access
// was counted and recorded. A crash in between uses up an access and gives
// nothing out.
package share

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/vault"
)

// Limits.
const (
	MaxShares     = 1000                // that one user may have made and not removed
	MaxAddresses  = 100                 // in an allow list
	MinPassphrase = 4                   // bytes
	MaxPassphrase = 256                 // bytes
	MaxTries      = 20                  // wrong passphrases in a row; then the share is over
	Kept          = 30 * 24 * time.Hour // how long a share is listed after it expired
)

// Vault is what this package needs of package vault.
type Vault interface {
	// Locate finds a secret by its ID, before any gate.
	Locate(ctx context.Context, orgID, secretID string) (vault.Located, error)
	// ReadShared opens the newest version and calls count before it answers.
	ReadShared(ctx context.Context, sh vault.Shared, count func() error) (vault.Read, error)
}

// People is what this package needs of package identity. All errors are
// fault.NotFound where there is nobody.
type People interface {
	// Member returns a user as he stands now, without a ceiling.
	Member(ctx context.Context, userID string) (access.Principal, error)
	// Recipient finds a user of the org by ID or email, or an agent by ID; email
	// is "" of an agent.
	Recipient(ctx context.Context, orgID string, kind access.Kind, idOrEmail string) (id, email string, err error)
}

// Passwords hashes passphrases; a *password.Hasher does.
type Passwords interface {
	Hash(ctx context.Context, text string) (hash string, err error)
	Verify(ctx context.Context, hash, text string) (ok, stale bool, err error)
}

// Config is what a Service stands on.
type Config struct {
	Store     store.Store
	Gate      access.Gate
	Recorder  access.Recorder
	Vault     Vault
	People    People
	Passwords Passwords
	PublicURL string           // what the link of a share begins with: "https://keys.example.com"; "": the link is a path
	Now       func() time.Time // nil: time.Now
	Log       *slog.Logger     // nil: slog.Default
}

// Service makes, opens, lists and ends shares. It may be used by many
// goroutines, and many servers may share one store.
type Service struct{ Config }

// New returns a Service. It reads nothing yet.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return &Service{c}
}

// row is a share, kept as JSON under layout.Share.
type row struct {
	ID          string    `json:"id"` // UUID
	OrgID       string    `json:"org"`
	Maker       string    `json:"maker"` // ID of a user
	CreatedAt   time.Time `json:"created_at"`
	ExpiresAt   time.Time `json:"expires_at"`
	VaultID     string    `json:"vault"`
	OwnerID     string    `json:"owner"` // of the vault
	SecretID    string    `json:"secret"`
	Path        string    `json:"path"`
	Fingerprint string    `json:"cmek_fingerprint,omitzero"` // of the CMEK key that the recipient has

	RecipientType string         `json:"recipient_type"`            // as in package api
	Kind          access.Kind    `json:"kind,omitzero"`             // of the principal it is for; "": it has a link
	RecipientID   string         `json:"recipient,omitzero"`        // of that principal
	Email         string         `json:"email,omitzero"`            // of the user, or the note of an external_email
	Link          string         `json:"link,omitzero"`             // hex SHA-256 of the link's secret
	Passphrase    string         `json:"passphrase,omitzero"`       // PHC string
	Addresses     []netip.Prefix `json:"ip_allowlist,omitzero"`     // empty: from anywhere
	MaxCount      int            `json:"max_access_count,omitzero"` // 0: no limit

	Count    int  `json:"count,omitzero"` // times that the value was given out
	Tries    int  `json:"tries,omitzero"` // passphrases since the last right one, those being checked among them
	Accepted bool `json:"accepted,omitzero"`
}

// over says why the share no longer opens; "" when it does.
func (r row) over(now time.Time) string {
	switch {
	case !now.Before(r.ExpiresAt):
		return "expired"
	case r.MaxCount > 0 && r.Count >= r.MaxCount:
		return "used_up"
	case r.Tries >= MaxTries:
		return "wrong_passphrases"
	}
	return ""
}

// secret is the resource that the gate decides about.
func (r row) secret() access.Resource {
	return access.Resource{OrgID: r.OrgID, OwnerID: r.OwnerID, VaultID: r.VaultID, Path: r.Path, Type: "secret", ID: r.SecretID}
}

// isFor reports whether p is the principal that the share is for.
func (r row) isFor(p access.Principal) bool {
	return r.Kind != "" && p.Kind == r.Kind && p.ID == r.RecipientID && p.OrgID == r.OrgID
}

// madeBy reports whether p is who made the share.
func (r row) madeBy(p access.Principal) bool {
	return p.Kind == access.User && p.ID == r.Maker && p.OrgID == r.OrgID
}

// record appends what p, who may be nobody, did with the share to the trail.
func (s *Service) record(ctx context.Context, p access.Principal, action string, r row, outcome access.Outcome, reason string) error {
	e := access.Event{
		OrgID: r.OrgID, ActorType: string(p.Kind), ActorID: p.ID, Action: action, ResourceType: "share", ResourceID: r.ID,
		Outcome: outcome, Addr: p.Addr, RequestID: p.RequestID,
		Details: map[string]string{"vault_id": r.VaultID, "path": r.Path, "secret_id": r.SecretID, "recipient_type": r.RecipientType},
	}
	if p.ID == "" || p.OrgID != r.OrgID {
		e.ActorType, e.ActorID = "anonymous", ""
	}
	if reason != "" {
		e.Details["reason"] = reason
	}
	if err := s.Recorder.Record(ctx, e); err != nil {
		return recordFault(err)
	}
	return nil
}
