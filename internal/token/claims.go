package token

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/golang-jwt/jwt/v5"

	"github.com/keyfold/keyfold/internal/access"
)

// Limits of access tokens.
const (
	MaxTTL  = 24 * time.Hour
	MaxText = 16 << 10         // bytes of a token's text
	Leeway  = 30 * time.Second // by which the clocks of servers may differ
)

// Claims is what an access token says.
type Claims struct {
	Kind   access.Kind // User or Agent
	ID     string      // of the user or agent
	OrgID  string
	Scopes []string // path globs; of a user empty is no limit, of an agent no access
	Vaults []string // IDs; empty: any

	// Session names the session of a user that ends with the token: see
	// SessionOf and Revoke. "": none.
	Session string

	// JTI names the token; Issue makes it.
	JTI string
	// IssuedAt is exact to the nanosecond. A sign-in gives the time before it
	// read the account's row, so that a token does not outlive a change of
	// password in between. Zero: now.
	IssuedAt time.Time
	Expires  time.Time // whole seconds, after now and at most MaxTTL later
}

// wire is an access token's claims as JSON:
//
//	{"sub":"agent:<uuid>","org":"<uuid>","scopes":["prod/**"],"vault_ids":[],
//	 "intents_api_enabled":false,"exp":1790003600,"iat":1790000000,"jti":"GNdF..."}
//
// Of an agent scopes, vault_ids and intents_api_enabled are always there, of a
// user scopes and vault_ids where they are not empty, and the sid, the hex name
// of his session, where there is one. The jti is the base64url
// form of 24 bytes: the time of issue in nanoseconds since 1970, big-endian,
// and 16 random bytes. The header is {"alg":"EdDSA","kid":"...","typ":"JWT"}
// and nothing else.
type wire struct {
	Subject   string   `json:"sub"`
	Org       string   `json:"org"`
	Scopes    []string `json:"scopes,omitzero"`
	Vaults    []string `json:"vault_ids,omitzero"`
	Intents   *bool    `json:"intents_api_enabled,omitzero"`
	Expires   *int64   `json:"exp"`
	IssuedAt  *int64   `json:"iat"`
	Session   string   `json:"sid,omitzero"`
	NotBefore *int64   `json:"nbf,omitzero"` // never issued; held to, if there
	JTI       string   `json:"jti"`
}

// UnmarshalJSON is stricter than the standard library: no unknown member, none
// twice, none in other letters.
func (w *wire) UnmarshalJSON(b []byte) error {
	type plain wire
	return json.Unmarshal(b, (*plain)(w), json.RejectUnknownMembers(true))
}

// IssueTime returns the IssuedAt of the token with this JTI; ok is false when it
// is no token's.
func IssueTime(jti string) (t time.Time, ok bool) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(jti)
	if err != nil || len(raw) != 24 {
		return t, false
	}
	return time.Unix(0, int64(binary.BigEndian.Uint64(raw))), true
}

// newWire returns c with a jti of its own.
func newWire(c Claims) wire {
	exp, iat := c.Expires.Unix(), c.IssuedAt.Unix()
	w := wire{
		Subject: string(c.Kind) + ":" + c.ID, Org: c.OrgID, Scopes: c.Scopes, Vaults: c.Vaults,
		Expires: &exp, IssuedAt: &iat, JTI: newJTI(c.IssuedAt), Session: c.Session,
	}
	if c.Kind == access.Agent {
		w.Scopes, w.Vaults, w.Intents = append([]string{}, c.Scopes...), append([]string{}, c.Vaults...), new(bool)
	}
	return w
}

func newJTI(issued time.Time) string {
	var raw [24]byte
	binary.BigEndian.PutUint64(raw[:], uint64(issued.UnixNano()))
	rand.Read(raw[8:])
	return base64.RawURLEncoding.EncodeToString(raw[:])
}

// claims returns what w says; ok is false when it is nothing that we issue.
func (w wire) claims() (c Claims, ok bool) {
	kind, id, _ := strings.Cut(w.Subject, ":")
	issued, ok := IssueTime(w.JTI)
	if !ok || w.Expires == nil || w.IssuedAt == nil {
		return Claims{}, false
	}
	c = Claims{
		Kind: access.Kind(kind), ID: id, OrgID: w.Org, Scopes: w.Scopes, Vaults: w.Vaults, JTI: w.JTI, Session: w.Session,
		IssuedAt: issued, Expires: time.Unix(*w.Expires, 0),
	}
	return c, c.sensible() && c.IssuedAt.Unix() == *w.IssuedAt && (w.NotBefore == nil || *w.NotBefore <= *w.Expires)
}

// sensible reports whether c is about a user or an agent of an org, for a time
// that a token may live, and a sign-in may take.
func (c Claims) sensible() bool {
	d := c.Expires.Sub(c.IssuedAt)
	return (c.Kind == access.User || c.Kind == access.Agent) && c.ID != "" && c.OrgID != "" && -Leeway < d && d <= MaxTTL+time.Hour
}

// alive reports whether now is between issue and end, to within Leeway.
func (c Claims) alive(now time.Time) bool {
	return now.Before(c.Expires.Add(Leeway)) && !now.Before(c.IssuedAt.Add(-Leeway))
}

// The claims as package jwt reads them.

func (w *wire) GetExpirationTime() (*jwt.NumericDate, error) { return date(w.Expires), nil }
func (w *wire) GetIssuedAt() (*jwt.NumericDate, error)       { return date(w.IssuedAt), nil }
func (w *wire) GetNotBefore() (*jwt.NumericDate, error)      { return date(w.NotBefore), nil }
func (w *wire) GetIssuer() (string, error)                   { return "", nil }
func (w *wire) GetSubject() (string, error)                  { return w.Subject, nil }
func (w *wire) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

func date(seconds *int64) *jwt.NumericDate {
	if seconds == nil {
		return nil
	}
	return jwt.NewNumericDate(time.Unix(*seconds, 0))
}
