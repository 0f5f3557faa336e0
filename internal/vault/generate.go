package vault

import (
	"context"
	"crypto/rand"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// charsets are the alphabets of generated values.
var charsets = map[string]string{
	"hex":          "0123456789abcdef",
	"base64":       upper + lower + digits + "+/",
	"alphanumeric": upper + lower + digits,
	"ascii":        printable(),
}

const (
	upper  = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	lower  = "abcdefghijklmnopqrstuvwxyz"
	digits = "0123456789"
)

// printable is every ASCII character that shows: '!' to '~'.
func printable() string {
	var out []byte
	for c := byte('!'); c <= '~'; c++ {
		out = append(out, c)
	}
	return string(out)
}

// Generate writes a new version with a random value: 8 to 1024 characters, 32
// when absent, of the charset hex (the default), base64, alphanumeric or ascii.
// Type, unless req names one, and metadata are those of the newest version; its
// expiry and read limit are not taken over. fault.NotFound when there is no
// secret at path, or no longer; fault.Invalid on a vault with CMEK, whose key
// the server does not have.
func (s *Service) Generate(ctx context.Context, p access.Principal, vaultID, path string, req api.GenerateSecret) (api.SecretMetadata, error) {
	return s.write(ctx, target{p: p, action: access.SecretRotate, vault: vaultID, path: path}, func(v vault, h secretHead) (draft, error) {
		if v.Fingerprint != "" {
			return draft{}, invalid("this vault takes only values sealed with its CMEK key, which the server does not have; generate and seal the value on your side")
		}
		if !h.live() {
			return draft{}, errNoSecret
		}
		value, err := generate(req)
		if err != nil {
			return draft{}, err
		}
		t, err := checkType(req.Type, h.Type)
		return draft{attributes{Type: t, Metadata: h.Metadata}, value}, err
	})
}

func generate(req api.GenerateSecret) (string, error) {
	length, charset := 32, req.Charset
	if req.Length != nil {
		length = *req.Length
	}
	if charset == "" {
		charset = "hex"
	}
	alphabet, ok := charsets[charset]
	switch {
	case !ok:
		return "", invalid("unknown charset; use hex, base64, alphanumeric or ascii")
	case length < 8 || length > 1024:
		return "", fault.New(fault.Invalid, "length must be 8 to 1024 characters")
	}
	return random(alphabet, length), nil
}

// random returns n characters of alphabet, each equally likely: bytes that
// would favour the first characters are thrown away.
func random(alphabet string, n int) string {
	limit := 256 - 256%len(alphabet)
	out := make([]byte, 0, n)
	buf := make([]byte, n)
	for {
		rand.Read(buf)
		for _, b := range buf {
			if int(b) < limit {
				out = append(out, alphabet[int(b)%len(alphabet)])
			}
			if len(out) == n {
				return string(out)
			}
		}
	}
}
