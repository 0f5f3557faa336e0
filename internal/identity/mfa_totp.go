package identity

import (
	"crypto/fips140"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// A second factor is RFC 6238's: HMAC-SHA-1 of the number of the 30-second step
// since 1970, of which six digits are shown. Apps know nothing else reliably;
// HMAC with SHA-1 is sound, though FIPS 140 no longer lists it. The code of the
// step before or after counts too, for clocks that are off, and each step once.
const (
	totpStep       = 30 // seconds
	totpDigits     = 6
	totpSecretSize = 20 // bytes
	totpWindow     = 1  // steps before and after
)

// Recovery codes are 80 random bits each, in base32, as "abcd-efgh-ijkl-mnop".
const (
	recoveryCodes = 10
	recoverySize  = 10 // bytes
)

// totpCode is the code of a step.
func totpCode(secret []byte, step int64) string {
	var sum []byte
	fips140.WithoutEnforcement(func() {
		m := hmac.New(sha1.New, secret)
		m.Write(binary.BigEndian.AppendUint64(nil, uint64(step)))
		sum = m.Sum(nil)
	})
	n := binary.BigEndian.Uint32(sum[sum[len(sum)-1]&15:]) & (1<<31 - 1)
	return fmt.Sprintf("%0*d", totpDigits, n%1_000_000)
}

// matchTOTP returns the step, after last, whose code this is now.
func matchTOTP(secret []byte, code string, now time.Time, last int64) (step int64, ok bool) {
	current := now.Unix() / totpStep
	for s := current - totpWindow; s <= current+totpWindow; s++ {
		if subtle.ConstantTimeCompare([]byte(totpCode(secret, s)), []byte(code)) == 1 && s > last {
			step, ok = s, true
		}
	}
	return step, ok
}

var base32NoPad = base32.StdEncoding.WithPadding(base32.NoPadding)

// totpURI is what an app reads from a QR code.
func totpURI(secret, email string) string {
	const issuer = "Keyfold"
	q := url.Values{"secret": {secret}, "issuer": {issuer}, "algorithm": {"SHA1"}, "digits": {fmt.Sprint(totpDigits)}, "period": {fmt.Sprint(totpStep)}}
	return "otpauth://totp/" + url.PathEscape(issuer+":"+email) + "?" + q.Encode()
}

// newRecoveryCodes makes codes, and what is stored of them.
func newRecoveryCodes() (codes, hashes []string) {
	for range recoveryCodes {
		raw := make([]byte, recoverySize)
		rand.Read(raw) // never fails: see crypto/rand
		c := strings.ToLower(base32NoPad.EncodeToString(raw))
		codes = append(codes, c[:4]+"-"+c[4:8]+"-"+c[8:12]+"-"+c[12:])
		hashes = append(hashes, hash(c))
	}
	return codes, hashes
}

// plainCode is a code as it was made, without what people type into it.
func plainCode(code string) string {
	return strings.ToLower(strings.NewReplacer(" ", "", "-", "").Replace(code))
}
