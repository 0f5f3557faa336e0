// Package passkey owns passkeys (WebAuthn): public keys of users' devices, by
// which they sign in without a password.
//
// A passkey is discoverable and verifies its user, so it is both factors at
// once: who signs in by one is asked for no other. Attestation is not asked
// for, since no decision would hang on the make of a device. The checks of the
// ceremonies are go-webauthn's: origin, relying party, challenge, presence,
// verification, signature. Beyond them, this package sees to it that a
// challenge is good once whatever came of it, that a credential is one user's,
// and that a counter only grows: a passkey whose counter went back may have
// been copied; it is marked and signs nobody in any more.
//
// A sign-in that fails is one fault.Unauthenticated, whatever the cause. What
// fails of a known passkey is in the trail with its reason; what names no known
// one is in the operator's.
//
// It trusts the store: whoever can write to it can add a passkey. A session
// begins only after the counter that was shown is on stable storage.
package passkey

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/token"
)

// MaxPasskeys is how many passkeys a user may have.
const MaxPasskeys = 20

// Challenges keeps what is half done; a *token.Service does. What is not there
// is fault.Unauthenticated.
type Challenges interface {
	PutChallenge(ctx context.Context, c token.Challenge) (text string, err error)
	TakeChallenge(ctx context.Context, kind, text string) (token.Challenge, error)
}

// People is what this package needs of package identity.
type People interface {
	// SignedIn begins a session of the user's and records it. Unauthenticated: he
	// is no more, or his sessions were ended after proved (zero: now).
	SignedIn(ctx context.Context, from identity.From, userID, method string, proved time.Time) (api.Token, error)
	// Recipient finds a user of the org by ID.
	Recipient(ctx context.Context, orgID string, kind access.Kind, idOrEmail string) (id, email string, err error)
}

// Config is what a Service stands on.
type Config struct {
	Store      store.Store
	Gate       access.Gate
	Recorder   access.Recorder
	Challenges Challenges
	People     People
	RPID       string   // the domain that passkeys are for: "keys.example.com". Another one later, and all of them are worthless
	RPName     string   // what people are shown; "": Keyfold
	Origins    []string // whose pages may use them: "https://keys.example.com"
	Now        func() time.Time
}

// Service registers passkeys and signs in by them. It may be used by many
// goroutines, and many servers may share one store.
type Service struct {
	Config
	web *webauthn.WebAuthn
}

// New returns a Service. The error says what is wrong with RPID or Origins.
func New(c Config) (*Service, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.RPName == "" {
		c.RPName = "Keyfold"
	}
	if c.RPID == "" {
		return nil, fault.New(fault.Invalid, "passkeys need the domain that they are for, such as keys.example.com")
	}
	yes := true
	web, err := webauthn.New(&webauthn.Config{
		RPID: c.RPID, RPDisplayName: c.RPName, RPOrigins: c.Origins,
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey: protocol.ResidentKeyRequirementRequired, RequireResidentKey: &yes, UserVerification: protocol.VerificationRequired,
		},
	})
	if err != nil {
		return nil, fault.New(fault.Invalid, "passkeys: %v", err)
	}
	return &Service{c, web}, nil
}

// row is a passkey, kept as JSON under layout.Passkey.
type row struct {
	ID         string     `json:"id"` // UUID
	User       string     `json:"user"`
	Org        string     `json:"org"`
	Name       string     `json:"name"`
	Created    time.Time  `json:"created"`
	LastUsed   *time.Time `json:"last_used,omitzero"`
	Credential []byte     `json:"credential"`      // its ID, which the device chose
	PublicKey  []byte     `json:"public_key"`      // COSE
	Eligible   bool       `json:"eligible"`        // for backup: the device said so, and must say so again each time
	Counter    uint32     `json:"counter"`         // as the device last showed it; devices that do not count show 0
	Cloned     bool       `json:"cloned,omitzero"` // the counter once went back
}

func (r row) wire() api.Passkey {
	return api.Passkey{ID: r.ID, Name: r.Name, CreatedAt: r.Created, LastUsedAt: r.LastUsed, CloneWarning: r.Cloned}
}

// account is a user with some passkeys, as go-webauthn wants it. The user handle
// on the devices is the user's ID.
type account struct {
	id, email string
	rows      []row
}

func (a account) WebAuthnID() []byte          { return []byte(a.id) }
func (a account) WebAuthnName() string        { return a.email }
func (a account) WebAuthnDisplayName() string { return a.email }
func (a account) WebAuthnCredentials() []webauthn.Credential {
	out := make([]webauthn.Credential, 0, len(a.rows))
	for _, r := range a.rows {
		out = append(out, webauthn.Credential{
			ID: r.Credential, PublicKey: r.PublicKey, Flags: webauthn.CredentialFlags{BackupEligible: r.Eligible},
			Authenticator: webauthn.Authenticator{SignCount: r.Counter},
		})
	}
	return out
}

func hashCredential(id []byte) string {
	sum := sha256.Sum256(id)
	return hex.EncodeToString(sum[:])
}

func decode(value []byte) (r row, err error) {
	if err := json.Unmarshal(value, &r, json.RejectUnknownMembers(true)); err != nil {
		return row{}, fault.Wrap(fault.Damaged, err, "what is stored of a passkey is damaged; delete it and register it again")
	}
	return r, nil
}

func put(b *store.Batch, r row) error {
	value, err := json.Marshal(r)
	if err != nil {
		return fault.Wrap(fault.Internal, err, "a passkey does not encode")
	}
	b.Put(layout.Passkey(r.User, r.ID), value)
	return nil
}

// cause is what the log may know of a failed ceremony: its kind, and nothing of
// what was sent.
func cause(err error) error {
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		return fmt.Errorf("webauthn: %s", e.Type)
	}
	return errors.New("webauthn")
}
