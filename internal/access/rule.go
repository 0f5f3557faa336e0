package access

import (
	"slices"
	"time"
)

// Permission is what a rule is about.
type Permission string

// The permissions.
const (
	Read   Permission = "read"   // values, versions, listing, sharing
	Write  Permission = "write"  // new versions; and what Delete and Rotate are
	Delete Permission = "delete" // of a secret, or of a version
	Rotate Permission = "rotate" // a value that the server makes
)

// Permissions are all of them.
var Permissions = []Permission{Read, Write, Delete, Rotate}

// Rule is a policy as the decision sees it: what one principal may do, or may
// not, in one vault with the paths of a pattern.
type Rule struct {
	Pattern     string // see Match
	Permissions []Permission
	Deny        bool
	Priority    int       // the greater goes before the less
	Conditions  []byte    // JSON, see api.PolicyConditions; empty: none
	Expires     time.Time // from then on the rule counts no more; zero: never
}

// granted reports what the rules say: of those that apply the one of the
// highest priority wins, and at equal priority a deny beats an allow. Where
// nothing applies nothing is granted.
//
// The vault as a whole, and the list of its secrets, are granted by whatever
// grants something in it.
func granted(p Principal, perms []Permission, r Resource, rules []Rule, now time.Time) (granted bool) {
	found, highest := false, 0
	for _, rule := range rules {
		if !rule.covers(r.Path) || !rule.applies(p, perms, now) {
			continue
		}
		switch {
		case !found || rule.Priority > highest:
			found, highest, granted = true, rule.Priority, !rule.Deny
		case rule.Priority == highest && rule.Deny:
			granted = false
		}
	}
	return granted
}

func (rule Rule) covers(path string) bool {
	if path == "" {
		return !rule.Deny
	}
	return Match(rule.Pattern, path)
}

// applies reports whether the rule counts for p now, for an action that one of
// perms covers.
func (rule Rule) applies(p Principal, perms []Permission, now time.Time) bool {
	return slices.ContainsFunc(rule.Permissions, func(have Permission) bool { return slices.Contains(perms, have) }) && rule.counts(p, now)
}

// Counting returns those of rules that count for p now, without what says so:
// whoever decides about many paths has each rule's conditions judged once.
func Counting(p Principal, rules []Rule, now time.Time) (out []Rule) {
	for _, rule := range rules {
		if rule.counts(p, now) {
			rule.Expires, rule.Conditions = time.Time{}, nil
			out = append(out, rule)
		}
	}
	return out
}

// counts reports whether the rule counts for p now. Conditions of which nobody
// can say whether they hold fail closed: then an allow does not count, and a
// deny does.
func (rule Rule) counts(p Principal, now time.Time) bool {
	if !rule.Expires.IsZero() && !now.Before(rule.Expires) {
		return false
	}
	if len(rule.Conditions) == 0 {
		return true
	}
	c, err := parseConditions(rule.Conditions)
	if err != nil {
		return rule.Deny
	}
	met, known := c.hold(p, now)
	return met || !known && rule.Deny
}
