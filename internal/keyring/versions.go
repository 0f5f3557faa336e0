package keyring

import "time"

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

// Versions describes all versions, from 1 upwards; the last one is the primary.
func (r *Keyring) Versions() []VersionInfo {
	infos := make([]VersionInfo, len(r.versions))
	for i, v := range r.versions {
		infos[i] = VersionInfo{Version: v.Number, State: string(v.State), Created: v.Created, Imported: v.Proof != nil, Lost: v.lost()}
	}
	return infos
}
