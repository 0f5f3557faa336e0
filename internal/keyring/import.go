package keyring

import (
	"context"
	"time"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
)

// Importer is a Root that takes up key material from elsewhere. A token is none:
// its KEKs are made inside it.
type Importer interface {
	// ImportKEK is MakeKEK of raw, 32 bytes that stay the caller's to wipe. It
	// fails with fault.Invalid for material that the root itself uses.
	ImportKEK(ctx context.Context, name Name, raw []byte) (stored []byte, err error)
}

// Import is Rotate with a new primary that was made elsewhere: raw, 32 bytes that
// stay the caller's to wipe. It fails with fault.Invalid when root is no
// Importer, and for material that can be guessed or that a version of this KEK
// has or had.
func (r *Keyring) Import(ctx context.Context, root Root, raw []byte, now time.Time) (*Keyring, error) {
	to, ok := root.(Importer)
	switch {
	case !ok:
		return nil, fault.New(fault.Invalid, "this KMS takes no key material from elsewhere: its KEKs are made inside a token; rotate the KEK instead")
	case len(raw) != aead.KeySize || guessable(raw):
		return nil, fault.New(fault.Invalid, "this is no key material: send %d bytes of a random generator, such as openssl rand", aead.KeySize)
	}
	number, err := r.VersionOf(raw)
	if err == nil && number != 0 {
		err = fault.New(fault.Invalid, "this key material is version %d of the KEK already; send fresh material, or rotate the KEK", number)
	}
	if err != nil {
		return nil, err
	}
	return r.next(ctx, root, now, func(v *version) (err error) {
		if v.Stored, err = to.ImportKEK(ctx, Name{r.id, v.Number}, raw); err == nil {
			v.Proof, err = r.prove(v.Number, raw)
		}
		return err
	})
}

// guessable reports whether raw, 32 bytes, is none that a random generator gives:
// few different bytes, one step from each to the next, or text. Of random bytes
// it is true once in 2^45.
func guessable(raw []byte) bool {
	seen, steps, text := map[byte]bool{}, map[byte]bool{}, true
	for i, b := range raw {
		seen[b] = true
		text = text && ' ' <= b && b <= '~'
		if i > 0 {
			steps[b-raw[i-1]] = true
		}
	}
	return len(seen) < 16 || len(steps) == 1 || text
}

// VersionOf returns the version that has or had raw, 32 bytes, as its material;
// 0: none, but for one that was made here and is destroyed or lost.
func (r *Keyring) VersionOf(raw []byte) (uint32, error) {
	key, err := aead.NewKey(raw)
	if err != nil {
		return 0, err
	}
	defer key.Wipe()
	for _, v := range r.versions {
		proof := v.Proof
		if proof == nil && v.kek != nil {
			if proof, err = v.kek.Wrap(zeros[:], proofAAD(r.id, v.Number)); err != nil {
				return 0, fault.Wrap(fault.Unavailable, err, "the root key did not use a KEK; try again")
			}
		}
		if _, err := key.Open(proof, proofAAD(r.id, v.Number)); err == nil {
			return v.Number, nil
		}
	}
	return 0, nil
}

// zeros is what a proof is made of.
var zeros [aead.KeySize]byte

// proofAAD is the AAD of a proof (60 bytes), zeros that the material of a version
// sealed: who has the material opens it.
func proofAAD(id string, number uint32) []byte {
	return aead.AAD("keyfold/kek-proof/v1", id, decimal(number))
}

func (r *Keyring) prove(number uint32, raw []byte) ([]byte, error) {
	key, err := aead.NewKey(raw)
	if err != nil {
		return nil, err
	}
	defer key.Wipe()
	return key.Seal(zeros[:], proofAAD(r.id, number))
}
