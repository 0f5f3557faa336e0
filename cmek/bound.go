package cmek

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"

	"github.com/keyfold/keyfold/internal/aead"
)

// A bound blob is, in bytes:
//
//	0x02 | salt (32, random) | commitment (32) | nonce (12, random) | ciphertext (as long as the plaintext) | tag (16)
//
// commitment (32) | sealing key (32) = HKDF-SHA256(secret: the key, salt: salt, info: "keyfold/cmek/v2"), 64 bytes.
// The sealing key is of this blob alone: AES-256-GCM, whose AAD names vault,
// path and key. The commitment is compared before the open: AES-GCM by itself
// lets somebody who knows two keys make a ciphertext that opens under both.

const (
	saltSize       = 32
	commitmentSize = sha256.Size
	boundKind      = "keyfold/cmek/v2"
)

// Context is where a bound value lives. Both members are needed, and are bound
// byte by byte: take them as the server's answers spell them.
type Context struct {
	VaultID string
	Path    string // of the secret, without the version
}

// MessageContext is where the bodies of a thread's messages live: as in a vault whose
// ID is the thread's after "thread:", at the path "message". No vault has such an ID.
func MessageContext(threadID string) Context {
	return Context{VaultID: "thread:" + threadID, Path: "message"}
}

// EncryptBound returns the blob of plaintext, which may be empty, in bytes:
// version 2, which opens under k, in c's vault and at c's path, only. It fails
// when the key was wiped, and with ErrNeedsContext when c lacks a member.
func EncryptBound(k *Key, c Context, plaintext []byte) ([]byte, error) {
	return k.seal(c, shape{version: boundVersion}, plaintext)
}

// EncryptBoundValue returns what EncryptBound does as the text to send: FormBase64.
func EncryptBoundValue(k *Key, c Context, plaintext []byte) (string, error) {
	return k.sealValue(c, shape{FormBase64, boundVersion}, plaintext)
}

// DecryptAt returns the plaintext of a blob in bytes, of either version, that
// was read from c. Bytes without the shape of a blob are ErrTooShort or
// ErrUnknownVersion, a bound blob without a whole c is ErrNeedsContext, and
// every blob that does not open is ErrDecrypt: also a bound one of another
// vault, path or key.
func DecryptAt(k *Key, c Context, blob []byte) ([]byte, error) {
	version, body, err := parseBlob(blob)
	if err != nil {
		return nil, err
	}
	return k.open(c, version, body)
}

// DecryptValueAt is DecryptAt for the text of a value, in either form. Text
// without the shape of one can be ErrBadEncoding too.
func DecryptValueAt(k *Key, c Context, value string) ([]byte, error) {
	s, body, err := parseValue(value)
	if err != nil {
		return nil, err
	}
	return k.open(c, s.version, body)
}

// ReencryptValueAt opens value, which was read from c, under old and returns it
// encrypted under fresh, with new random bytes, in the form and of the version
// that it came in, so that whoever wrote it can still read it. Errors are those
// of DecryptValueAt and EncryptBound.
func ReencryptValueAt(old, fresh *Key, c Context, value string) (string, error) {
	s, body, err := parseValue(value)
	if err != nil {
		return "", err
	}
	plaintext, err := old.open(c, s.version, body)
	if err != nil {
		return "", err
	}
	defer clear(plaintext)
	return fresh.sealValue(c, s, plaintext)
}

// seal returns the blob of plaintext in s's version.
func (k *Key) seal(c Context, s shape, plaintext []byte) ([]byte, error) {
	blob, sealer, aad := []byte{s.version}, k.m.aead, []byte(nil)
	if s.version == boundVersion {
		salt := aead.GenerateRaw()
		commitment, bound, err := k.bind(c, salt)
		if err != nil {
			return nil, err
		}
		defer bound.Wipe()
		blob = append(append(blob, salt...), commitment...)
		sealer, aad = bound, k.boundAAD(c)
	}
	sealed, err := sealer.Seal(plaintext, aad)
	if err != nil {
		return nil, errWiped
	}
	return append(blob, sealed...), nil
}

func (k *Key) sealValue(c Context, s shape, plaintext []byte) (string, error) {
	blob, err := k.seal(c, s, plaintext)
	if err != nil {
		return "", err
	}
	return formatBlob(s.form, blob), nil
}

// open opens the body that parseBlob or parseValue returned.
func (k *Key) open(c Context, version byte, body []byte) ([]byte, error) {
	sealer, aad := k.m.aead, []byte(nil)
	if version == boundVersion {
		salt, rest := body[:saltSize], body[saltSize:]
		commitment, bound, err := k.bind(c, salt)
		if err == errWiped {
			return nil, ErrDecrypt // as a wiped key answers in version 1
		} else if err != nil {
			return nil, err
		}
		defer bound.Wipe()
		if subtle.ConstantTimeCompare(commitment, rest[:commitmentSize]) != 1 {
			return nil, ErrDecrypt
		}
		sealer, aad, body = bound, k.boundAAD(c), rest[commitmentSize:]
	}
	plaintext, err := sealer.Open(body, aad)
	if err != nil {
		return nil, ErrDecrypt
	}
	return plaintext, nil
}

// bind derives what a bound blob with this salt needs: the commitment to k and
// the blob's sealing key, which the caller wipes.
func (k *Key) bind(c Context, salt []byte) (commitment []byte, sealer *aead.Key, err error) {
	if c.VaultID == "" || c.Path == "" {
		return nil, nil, ErrNeedsContext
	}
	both, err := k.derive(salt, boundKind, commitmentSize+aead.KeySize)
	if err != nil {
		return nil, nil, err
	}
	defer clear(both[commitmentSize:])
	sealer, err = aead.NewKey(both[commitmentSize:])
	return both[:commitmentSize:commitmentSize], sealer, err
}

// derive returns HKDF-SHA256 of the raw key, size bytes; errWiped when there is none.
func (k *Key) derive(salt []byte, info string, size int) (out []byte, err error) {
	raw := k.Bytes()
	if len(raw) == 0 {
		return nil, errWiped
	}
	defer clear(raw)
	aead.Erasing(func() { out, err = hkdf.Key(sha256.New, raw, salt, info, size) })
	return out, err
}

// boundAAD is the AAD of version 2: see aead.AAD for the encoding.
func (k *Key) boundAAD(c Context) []byte {
	return aead.AAD(boundKind, c.VaultID, c.Path, k.m.fingerprint)
}
