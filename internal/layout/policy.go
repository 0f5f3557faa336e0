package layout

import "strings"

// Of policies:
//
//	vault:<vault>:policies:<kind>:<principal>      all policies of one principal on the vault
//	vault:<vault>:policy:<policy>                  index: "<kind>:<principal>", whose row holds the policy
//	grantee:<kind>:<principal>:<vault>             index: the vaults on which a principal has policies (empty value)
//
// <kind> is "user" or "agent", <principal> a UUID. The first two are rows of
// the vault, and go with it; the purge of a vault takes the third along.

// VaultPolicies is the key of a principal's policies on a vault.
func VaultPolicies(vault, kind, principal string) string {
	return AllVaultPolicies(vault) + kind + ":" + principal
}

// AllVaultPolicies begins the keys of all principals' policies on a vault.
func AllVaultPolicies(vault string) string { return VaultRows(vault) + "policies:" }

// VaultPolicy is the index entry of a policy; with an empty policy it begins all of the vault's.
func VaultPolicy(vault, policy string) string { return VaultRows(vault) + "policy:" + policy }

// Grantee is the index entry of a principal's policies on a vault; with an empty vault it begins all of his.
func Grantee(kind, principal, vault string) string {
	return "grantee:" + kind + ":" + principal + ":" + vault
}

// GranteeOf returns the index entry that goes with a key of VaultPolicies, and
// whether key is one.
func GranteeOf(vault, key string) (string, bool) {
	grantee, ok := strings.CutPrefix(key, AllVaultPolicies(vault))
	return "grantee:" + grantee + ":" + vault, ok
}
