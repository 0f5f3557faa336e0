package cmek

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
)

// A key check is the lower-case hex of
//
//	HMAC-SHA256(key: HKDF-SHA256(secret: the key, no salt, info: "keyfold/cmek/check/v1"), 32 bytes; message: the vault's ID)

const checkInfo = "keyfold/cmek/check/v1"

// Check returns the key check of k for a vault, 64 lower-case hex digits, or ""
// after Wipe. Only somebody with the key can make it, and it opens nothing; so
// a vault that keeps it lets a client refuse a mistyped key before it writes.
func (k *Key) Check(vaultID string) string {
	mac, err := k.derive(nil, checkInfo, sha256.Size)
	if err != nil {
		return ""
	}
	defer clear(mac)
	h := hmac.New(sha256.New, mac)
	h.Write([]byte(vaultID))
	return hex.EncodeToString(h.Sum(nil))
}

// ValidCheck reports whether s has the shape of a key check: 64 lower-case hex digits.
func ValidCheck(s string) bool { return ValidFingerprint(s) }

// CheckMatches reports, in constant time, whether check is k's for the vault. A
// wiped key matches nothing.
func CheckMatches(k *Key, vaultID, check string) bool {
	return ValidCheck(check) && hmac.Equal([]byte(k.Check(vaultID)), []byte(check))
}
