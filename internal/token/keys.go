package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
)

// The life of a signing key: made, and published; after publish the one that
// signs, and the one before it no longer; after signFor followed by the next;
// gone when the last token that it can have signed has ended.
const (
	signFor = 30 * 24 * time.Hour
	publish = 10 * time.Minute                // longer than others may cache the JWKS
	verify  = MaxTTL + Leeway + 5*time.Minute // from when the next one signs; the rest is for an Issue that is under way, and clocks
)

// keyRow is an entry of the row layout.TokenKeys, a JSON array, oldest first:
//
//	[{"kid":"GH3s...","created_at":"2026-09-21T14:13:20Z","signs_from":"2026-09-21T14:13:20Z"}]
//
// The kid is the key's thumbprint. Its seed, 32 bytes, is the sealed secret
// {"tokenkey", "server", kid}.
type keyRow struct {
	ID        string    `json:"kid"`
	Created   time.Time `json:"created_at"`
	SignsFrom time.Time `json:"signs_from"`
}

func (r keyRow) secret() sealed.Name { return sealed.Name{Kind: "tokenkey", Owner: "server", ID: r.ID} }

// keys are the signing keys as they stood at one moment.
type keys struct {
	rev     store.Revision // of their row; 0: there is none
	list    []key
	failure error // why some that are not sound may yet be; nil: all were tried
}

// key is a signing key. One that does not open has its row alone, and is as good
// as gone; the others are sound.
type key struct {
	keyRow
	public  ed25519.PublicKey
	private func() ed25519.PrivateKey // no verb of fmt prints what a func returns
}

func newKey(row keyRow, seed []byte) key {
	private := ed25519.NewKeyFromSeed(seed)
	return key{row, private.Public().(ed25519.PublicKey), func() ed25519.PrivateKey { return private }}
}

func (k key) sound() bool { return k.public != nil }

// thumbprint is the name of a key by RFC 7638, over the JWK that JWKS shows.
func thumbprint(k ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(k) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// over reports whether key i verifies no more: the next sound one has signed
// for as long as tokens live.
func (k *keys) over(i int, now time.Time) bool {
	for _, next := range k.list[i+1:] {
		if next.sound() {
			return !now.Before(next.SignsFrom.Add(verify))
		}
	}
	return false
}

// find returns the sound key of an ID that verifies, or nil.
func (k *keys) find(id string, now time.Time) *key {
	for i := range k.list {
		if one := &k.list[i]; one.ID == id && one.sound() && !k.over(i, now) {
			return one
		}
	}
	return nil
}

// signer returns the newest sound key that may sign, or else the oldest sound
// one, which a server made whose clock is ahead; nil when none is sound.
func (k *keys) signer(now time.Time) (found *key) {
	for i := range k.list {
		if one := &k.list[i]; one.sound() && (found == nil || !now.Before(one.SignsFrom)) {
			found = one
		}
	}
	return found
}

// newest returns the newest sound key, or nil.
func (k *keys) newest() (found *key) {
	for i := range k.list {
		if k.list[i].sound() {
			found = &k.list[i]
		}
	}
	return found
}

// due reports whether it is time for a new key.
func (k *keys) due(now time.Time) bool {
	n := k.newest()
	return n == nil || n != &k.list[len(k.list)-1] || !now.Before(n.Created.Add(signFor))
}

// stale reports whether a key is due, or the oldest is to go.
func (k *keys) stale(now time.Time) bool { return k.due(now) || k.over(0, now) }
