package password

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"strings"
)

// Params are how much work a hash is.
type Params struct {
	Memory uint32 // KiB; 19,456
	Passes uint32 // 2
	Lanes  uint8  // 1
}

// Bounds of the parameters in a stored hash, which must not take a server's
// memory or time because a row is damaged.
const (
	maxMemory = 1 << 20 // KiB
	maxPasses = 100
)

func (p Params) withDefaults() Params {
	return Params{cmp.Or(p.Memory, 19<<10), cmp.Or(p.Passes, 2), cmp.Or(p.Lanes, 1)}
}

func (p Params) valid() bool {
	return p.Lanes > 0 && 0 < p.Passes && p.Passes <= maxPasses && 8*uint32(p.Lanes) <= p.Memory && p.Memory <= maxMemory
}

// phc is a hash with what it was made of.
type phc struct {
	params     Params
	salt, hash []byte
}

const phcFormat = "$argon2id$v=19$m=%d,t=%d,p=%d$"

var phcBase64 = base64.RawStdEncoding.Strict()

func (x phc) String() string {
	return fmt.Sprintf(phcFormat, x.params.Memory, x.params.Passes, x.params.Lanes) +
		phcBase64.EncodeToString(x.salt) + "$" + phcBase64.EncodeToString(x.hash)
}

// parse reads what String wrote, and nothing else: what parses is written the
// same.
func parse(text string) (x phc, err error) {
	p := &x.params
	if _, err := fmt.Sscanf(text, phcFormat, &p.Memory, &p.Passes, &p.Lanes); err != nil || !p.valid() {
		return phc{}, ErrDamaged
	}
	parts := strings.Split(text, "$")
	if len(parts) != 6 {
		return phc{}, ErrDamaged
	}
	var err1, err2 error
	x.salt, err1 = phcBase64.DecodeString(parts[4])
	x.hash, err2 = phcBase64.DecodeString(parts[5])
	if cmp.Or(err1, err2) != nil || len(x.salt) != saltSize || len(x.hash) != hashSize || x.String() != text {
		return phc{}, ErrDamaged
	}
	return x, nil
}
