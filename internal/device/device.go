// Package device owns the sign-in of a device that has no browser (RFC 8628),
// such as a command line: it shows a short user code, a person who is signed in
// elsewhere looks at what asks and approves it, and the device, which polled
// meanwhile, gets a session of that person's.
//
// A device code is 32 random bytes. The user code is derived from it, so that
// one record does for both: a challenge of package token, kept under the hash
// of the user code, with the hash of the device code in it. Neither code is
// stored. Of many polls at once one gets the session, and no code is good
// twice. Whoever ends his sessions ends what he approved, too, unless the device
// has its session by then; that one ends with the others.
//
// It trusts its gate about who may approve: a person with a credential that is
// not limited, since the session will not be. What a device says of itself, its
// client ID, is shown to the person and proves nothing. Approvals and polls are
// on stable storage when they are answered; a crash after a poll took the
// approval and before it was answered costs the device another round.
package device

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/netip"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/identity"
	"github.com/keyfold/keyfold/internal/token"
)

// The life of a code, and how often it may be polled.
const (
	CodeTTL  = 10 * time.Minute
	Interval = 5 // seconds, and as many more each time that a poll comes too soon
)

// Challenges keeps what is half done; a *token.Service does. What is not there
// is fault.Unauthenticated.
type Challenges interface {
	PutChallengeAs(ctx context.Context, text string, c token.Challenge) error // fault.Conflict: the text is in use
	LookChallenge(ctx context.Context, kind, text string) (token.Challenge, error)
	TakeChallenge(ctx context.Context, kind, text string) (token.Challenge, error)
	ChangeChallenge(ctx context.Context, kind, text string, change func(*token.Challenge) error) error
}

// People is what this package needs of package identity.
type People interface {
	// Proved is the time of what p, a user, approves now, for SignedIn.
	// Unauthenticated: p's credential is dead by now.
	Proved(ctx context.Context, p access.Principal) (time.Time, error)
	// SignedIn begins a session of the user's and records it; the token of
	// identity.MethodDevice lives 86,400 seconds. Unauthenticated: he is no more,
	// or his sessions were ended after proved.
	SignedIn(ctx context.Context, from identity.From, userID, method string, proved time.Time) (api.Token, error)
	// Recipient finds a user of the org by ID.
	Recipient(ctx context.Context, orgID string, kind access.Kind, idOrEmail string) (id, email string, err error)
}

// Guesses slows down who asks for codes that are not there; a
// *throttle.Backoff does.
type Guesses interface {
	Wait(key string) time.Duration // 0, and an attempt is counted; or how long there may be none
	Undo(key string)               // takes back the latest attempt
}

// Config is what a Service stands on.
type Config struct {
	Challenges Challenges
	People     People
	Gate       access.Gate
	Recorder   access.Recorder
	Guesses    Guesses
	PublicURL  string           // what the address of the page begins with that takes user codes: "https://keys.example.com"
	Now        func() time.Time // nil: time.Now
}

// Service signs devices in. It may be used by many goroutines.
type Service struct{ Config }

// New returns a Service.
func New(c Config) *Service {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Service{c}
}

const (
	kind         = "device" // of the challenges
	codePrefix   = "1dc_"
	codeLen      = len(codePrefix) + 43
	userLetters  = 8
	userAlphabet = "BCDFGHJKLMNPQRSTVWXZ" // no vowels, so no words; nothing that looks like another
)

// newCode makes a device code.
func newCode() string {
	raw := make([]byte, 32)
	rand.Read(raw) // never fails: see crypto/rand
	return codePrefix + base64.RawURLEncoding.EncodeToString(raw)
}

// userCode is the user code of a device code: the first letters that HKDF gives,
// each as likely as the others. It is "" in one of 10^15 cases.
func userCode(code string) string {
	stream, err := hkdf.Expand(sha256.New, []byte(code), "keyfold/device/user-code/v1", 32)
	if err != nil {
		return ""
	}
	var out []byte
	for _, b := range stream {
		if n := len(userAlphabet); int(b) < 256/n*n && len(out) < userLetters {
			out = append(out, userAlphabet[int(b)%n])
		}
	}
	if len(out) < userLetters {
		return ""
	}
	return string(out)
}

// parseUserCode reads a user code as people type it.
func parseUserCode(text string) (string, bool) {
	code := strings.ToUpper(strings.NewReplacer("-", "", " ", "").Replace(text))
	return code, len(code) == userLetters && strings.Trim(code, userAlphabet) == ""
}

// show is a user code as people see it.
func show(code string) string { return code[:userLetters/2] + "-" + code[userLetters/2:] }

// hash names a device code.
func hash(code string) string {
	sum := sha256.Sum256([]byte(code))
	return hex.EncodeToString(sum[:])
}

// pending is the Data of a challenge, as JSON.
type pending struct {
	Device   string     `json:"device"` // hash of the device code
	ClientID string     `json:"client_id"`
	Addr     netip.Addr `json:"addr,omitzero"` // of the device
	Created  time.Time  `json:"created"`
	Interval int        `json:"interval"` // seconds
	Polled   time.Time  `json:"polled,omitzero"`
	Denied   bool       `json:"denied,omitzero"`
	User     string     `json:"user,omitzero"` // who approved
	Approved time.Time  `json:"approved,omitzero"`
	Org      string     `json:"org,omitzero"`
}

func (p pending) decided() bool { return p.Denied || p.User != "" }

// The answers to a poll that gets no session, all of status 400.
var (
	errPending = answer(api.DevicePending, "nobody has approved this yet; ask again after the interval")
	errSlow    = answer(api.DeviceSlowDown, "this asks too often; wait 5 seconds longer between two polls from now on")
	errExpired = answer(api.DeviceExpired, "this code is over, used or unknown; ask for a new one")
	errDenied  = answer(api.DeviceDenied, "the user has denied this sign-in")
	errGrant   = answer(api.DeviceGrantErr, "grant_type must be "+api.DeviceGrant)
)

func answer(code, message string) error {
	return fault.New(fault.Invalid, "%s", message).WithType(code)
}

// errNoCode is the answer to a user code that is not to be decided.
var errNoCode = fault.New(fault.NotFound, "there is no such code to decide on; look at the device, and mind that a code is good for 10 minutes and once")
