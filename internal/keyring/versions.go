package keyring

import (
	"encoding/json"
	"errors"
	"time"
)

// VersionInfo describes one version of a KEK. It holds no material.
type VersionInfo struct {
	Version uint32    `json:"version"`
	State   string    `json:"state"` // enabled, decrypt-only or destroyed
	Created time.Time `json:"created"`
	// Imported: its material was made elsewhere, where it may still be.
	Imported bool `json:"imported,omitzero"`
	// Lost: the root did not have this version when the keyring was loaded, as
	// after the restore of a backup from before the version was destroyed. What is
	// under it does not open; all else goes on.
	Lost bool `json:"lost,omitzero"`
}

// Describe returns what a row that Marshal wrote says of its versions. No key is
// used: nothing proves that the row is as it was written, and which version is
// lost is not known.
func Describe(row []byte) ([]VersionInfo, error) {
	var r Keyring
	if len(row) < sealSize || json.Unmarshal(row[sealSize:], &r.versions) != nil {
		return nil, damaged(errors.New("row does not parse")) // the JSON error may quote the row
	}
	if err := check(r.versions); err != nil {
		return nil, damaged(err)
	}
	infos := r.Versions()
	for i := range infos {
		infos[i].Lost = false
	}
	return infos, nil
}

// DescribeUse is Describe of a row that MarshalUse wrote; of no bytes, the zero Use.
func DescribeUse(row []byte) (Use, error) {
	var b useBody
	if len(row) > 0 && (len(row) < sealSize || json.Unmarshal(row[sealSize:], &b) != nil) {
		return Use{}, damaged(errors.New("row of a KEK's use does not parse"))
	}
	return b.Use, nil
}

// Versions describes all versions, from 1 upwards; the last one is the primary.
func (r *Keyring) Versions() []VersionInfo {
	infos := make([]VersionInfo, len(r.versions))
	for i, v := range r.versions {
		infos[i] = VersionInfo{Version: v.Number, State: string(v.State), Created: v.Created, Imported: v.Proof != nil, Lost: v.lost()}
	}
	return infos
}
