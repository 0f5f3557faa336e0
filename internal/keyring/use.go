package keyring

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/keyfold/keyfold/internal/aead"
)

// Use is what is counted of a KEK beside its keyring. Its row in the store:
//
//	seal (60 bytes) | body (JSON)
//
//	{"kek_version":2,"wraps":{"1":8192,"2":4096},"released":2}
//
// The seal is as in the keyring's row, with AAD of its own kind, by the version
// "kek_version", which was the primary. A KEK without the row has the zero Use.
type Use struct {
	Wraps    map[uint32]int64 `json:"wraps"`    // by version: made or reserved so far, those of these rows included
	Released uint32           `json:"released"` // envelopes hold nothing under the versions below
}

type useBody struct {
	KEKVersion uint32 `json:"kek_version"`
	Use
}

// ErrNewer says that a row was sealed by a version that this keyring does not
// know: it is older than the row, or the row was changed.
var ErrNewer = errors.New("the row of a KEK's use is of a newer keyring")

// useAAD is the AAD of the seal of a use row.
func useAAD(id string) []byte { return aead.AAD("keyfold/kek-use/v1", id) }

// MarshalUse returns the row of u, sealed by the primary. It costs one wrap.
func (r *Keyring) MarshalUse(u Use) ([]byte, error) {
	body, err := json.Marshal(useBody{r.Primary(), u})
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	seal, err := r.versions[r.Primary()-1].kek.Wrap(sum[:], useAAD(r.id))
	return append(seal, body...), err
}

// ParseUse returns what MarshalUse of this keyring, or of an earlier one, wrote;
// of no bytes, the zero Use. So it does of a row that is by a lost version, which
// cannot be read: of the versions after that one nothing was counted yet, and
// what was released is to be said again. It fails with ErrNewer, with fault.Damaged, or with
// another error when the root cannot be reached.
func (r *Keyring) ParseUse(row []byte) (Use, error) {
	var b useBody
	if len(row) == 0 {
		return b.Use, nil
	}
	if len(row) < sealSize || json.Unmarshal(row[sealSize:], &b) != nil {
		return Use{}, damaged(errors.New("row of a KEK's use does not parse"))
	}
	if b.KEKVersion > r.Primary() {
		return Use{}, ErrNewer
	}
	if b.KEKVersion == 0 || r.versions[b.KEKVersion-1].State == destroyed {
		return Use{}, damaged(errors.New("row of a KEK's use is by no version that is left"))
	}
	if r.versions[b.KEKVersion-1].lost() {
		return Use{}, nil
	}
	sum, err := r.versions[b.KEKVersion-1].kek.Unwrap(row[:sealSize], useAAD(r.id))
	if errors.Is(err, aead.ErrOpen) {
		return Use{}, damaged(err)
	} else if err != nil {
		return Use{}, err
	}
	if want := sha256.Sum256(row[sealSize:]); !slices.Equal(sum, want[:]) {
		return Use{}, damaged(errors.New("row of a KEK's use is not the sealed one"))
	}
	return b.Use, nil
}

// Add returns u with n more wraps of a version.
func (u Use) Add(version uint32, n int64) Use {
	u.Wraps = maps.Clone(u.Wraps)
	if u.Wraps == nil {
		u.Wraps = map[uint32]int64{}
	}
	u.Wraps[version] += n
	return u
}
