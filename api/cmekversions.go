package api

// CMEKVersion is a version of a secret that is sealed under a CMEK key, without
// its value.
type CMEKVersion struct {
	Path           string `json:"path"`
	Version        int    `json:"version"`
	Newest         bool   `json:"newest"` // of its secret, deleted ones included
	State          string `json:"state"`  // one of the CMEKVersion states
	MaxAccessCount int    `json:"max_access_count,omitzero"`
	Reads          int    `json:"reads,omitzero"` // counted where there is a limit
}

// The states of a CMEKVersion. Whatever is not readable never is again.
const (
	CMEKReadable = "readable"
	CMEKDisabled = "disabled"
	CMEKDeleted  = "deleted"
	CMEKExpired  = "expired"
	CMEKReadOut  = "read_out" // read as often as max_access_count allows
)

// CMEKVersions is a page of GET /v1/vaults/{id}/cmek-versions?fingerprint=F, in
// the order of paths, then versions. A page may be short, even empty; only one
// without NextCursor is the last.
type CMEKVersions struct {
	Versions   []CMEKVersion `json:"versions"`
	NextCursor string        `json:"next_cursor,omitzero"` // for the query's cursor
}

// ReencryptVersion is the body of PUT /v1/vaults/{id}/secret-version/{path}/{n}:
// the value of that version, sealed anew by the client. All else of the version
// stays. The call is refused when the version is not under OldFingerprint (412,
// so that two clients may do the same work), or when NewFingerprint is not the
// vault's (409).
type ReencryptVersion struct {
	Value          string `json:"value"`           // a blob
	OldFingerprint string `json:"old_fingerprint"` // of the key that the version is under
	NewFingerprint string `json:"new_fingerprint"` // of the key that Value is under
}
