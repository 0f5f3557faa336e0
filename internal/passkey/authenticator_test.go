package passkey

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"github.com/keyfold/keyfold/api"
)

// device is an authenticator in software, with the browser around it. Its
// fields are what a hostile one would change.
type device struct {
	t       *testing.T
	key     crypto.Signer
	id      []byte
	handle  string // the user's, as it was registered
	origin  string
	rpID    string
	counter uint32
	flags   byte // but for "attested credential data"
	typ     string
	cross   bool
}

const (
	userPresent  = 1
	userVerified = 4
	eligible     = 8 // for backup
	backedUp     = 16
	attested     = 64
)

func newDevice(t *testing.T, key crypto.Signer) *device {
	id := make([]byte, 32)
	rand.Read(id)
	return &device{t: t, key: key, id: id, origin: "https://keys.example.com", rpID: "keys.example.com", flags: userPresent | userVerified}
}

func p256(t *testing.T) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ed(t *testing.T) crypto.Signer {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// options is what the page reads out of a challenge.
type options struct {
	PublicKey struct {
		Challenge string `json:"challenge"`
		RPID      string `json:"rpId"`
		RP        struct {
			ID string `json:"id"`
		} `json:"rp"`
		User struct {
			ID   string `json:"id"`
			Name string `json:"name"`
		} `json:"user"`
		UserVerification string `json:"userVerification"`
		Selection        struct {
			ResidentKey      string `json:"residentKey"`
			UserVerification string `json:"userVerification"`
		} `json:"authenticatorSelection"`
		Attestation        string `json:"attestation"`
		ExcludeCredentials []struct {
			ID string `json:"id"`
		} `json:"excludeCredentials"`
		AllowCredentials []any `json:"allowCredentials"`
	} `json:"publicKey"`
}

func read(t *testing.T, c api.PasskeyChallenge) (o options) {
	t.Helper()
	if err := json.Unmarshal(c.Options, &o); err != nil {
		t.Fatal(err)
	}
	return o
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func (d *device) clientData(typ, challenge string) []byte {
	if d.typ != "" {
		typ = d.typ
	}
	data, _ := json.Marshal(map[string]any{"type": typ, "challenge": challenge, "origin": d.origin, "crossOrigin": d.cross})
	return data
}

func (d *device) authData(flags byte) []byte {
	hash := sha256.Sum256([]byte(d.rpID))
	return binary.BigEndian.AppendUint32(append(hash[:], flags), d.counter)
}

// cose is the public key as credentials have it.
func (d *device) cose() []byte {
	var key map[int]any
	switch pub := d.key.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := pub.Bytes()
		if err != nil {
			d.t.Fatal(err)
		}
		key = map[int]any{1: 2, 3: -7, -1: 1, -2: point[1:33], -3: point[33:]}
	case ed25519.PublicKey:
		key = map[int]any{1: 1, 3: -8, -1: 6, -2: []byte(pub)}
	}
	return d.cbor(key)
}

func (d *device) cbor(v any) []byte {
	mode, err := cbor.CTAP2EncOptions().EncMode()
	if err != nil {
		d.t.Fatal(err)
	}
	raw, err := mode.Marshal(v)
	if err != nil {
		d.t.Fatal(err)
	}
	return raw
}

// create answers a registration.
func (d *device) create(c api.PasskeyChallenge) api.FinishPasskey {
	o := read(d.t, c)
	handle, err := base64.RawURLEncoding.DecodeString(o.PublicKey.User.ID)
	if err != nil {
		d.t.Fatal(err)
	}
	d.handle = string(handle)
	auth := append(d.authData(d.flags|attested), make([]byte, 16)...)
	auth = append(binary.BigEndian.AppendUint16(auth, uint16(len(d.id))), d.id...)
	auth = append(auth, d.cose()...)
	return d.answer(c, map[string]any{
		"clientDataJSON":    b64(d.clientData("webauthn.create", o.PublicKey.Challenge)),
		"attestationObject": b64(d.cbor(map[string]any{"fmt": "none", "attStmt": map[string]any{}, "authData": auth})),
	})
}

// get answers a sign-in.
func (d *device) get(c api.PasskeyChallenge) api.FinishPasskey {
	client, auth := d.clientData("webauthn.get", read(d.t, c).PublicKey.Challenge), d.authData(d.flags)
	hash := sha256.Sum256(client)
	return d.answer(c, map[string]any{
		"clientDataJSON": b64(client), "authenticatorData": b64(auth), "signature": b64(d.sign(append(auth, hash[:]...))),
		"userHandle": b64([]byte(d.handle)),
	})
}

func (d *device) sign(data []byte) []byte {
	opts := crypto.SignerOpts(crypto.Hash(0))
	if _, ok := d.key.(*ecdsa.PrivateKey); ok {
		sum := sha256.Sum256(data)
		data, opts = sum[:], crypto.SHA256
	}
	sig, err := d.key.Sign(rand.Reader, data, opts)
	if err != nil {
		d.t.Fatal(err)
	}
	return sig
}

func (d *device) answer(c api.PasskeyChallenge, response map[string]any) api.FinishPasskey {
	raw, err := json.Marshal(map[string]any{
		"id": b64(d.id), "rawId": b64(d.id), "type": "public-key", "response": response, "clientExtensionResults": map[string]any{},
	})
	if err != nil {
		d.t.Fatal(err)
	}
	return api.FinishPasskey{ChallengeID: c.ChallengeID, Credential: raw}
}

// edit changes one member of an answer's response: a byte of it, or all.
func edit(t *testing.T, a api.FinishPasskey, member string, change func([]byte) []byte) api.FinishPasskey {
	t.Helper()
	var body map[string]any
	if err := json.Unmarshal(a.Credential, &body); err != nil {
		t.Fatal(err)
	}
	response := body["response"].(map[string]any)
	raw, err := base64.RawURLEncoding.DecodeString(response[member].(string))
	if err != nil {
		t.Fatal(err)
	}
	response[member] = b64(change(raw))
	a.Credential, _ = json.Marshal(body)
	return a
}
