package layout

// Sealed is the key of a small secret of the server's own:
//
//	sealed:<kind>:<owner>:<name>     envelope of the KMS, as JSON
//
// kind is one word of ours; owner and name are escaped.
func Sealed(kind, owner, name string) string {
	return AllSealed() + kind + ":" + escape(owner) + ":" + escape(name)
}

// AllSealed begins the keys of all of the server's own secrets.
func AllSealed() string { return "sealed:" }
