package policy

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// newPolicy checks req and returns whom it is for and what it says.
func newPolicy(req api.CreatePolicy) (who grantee, p policy, err error) {
	who = grantee{access.Kind(req.PrincipalType), strings.ToLower(req.PrincipalID)}
	if !who.valid() {
		return who, p, fault.New(fault.Invalid, "principal_type must be user or agent, and principal_id the UUID of one")
	}
	if err := access.CheckPattern(req.SecretPathPattern); err != nil {
		return who, p, err
	}
	if len(req.Permissions) == 0 {
		return who, p, errPermissions
	}
	p.Pattern = req.SecretPathPattern
	p, err = p.update(api.UpdatePolicy{
		Permissions: req.Permissions, Conditions: req.Conditions, ExpiresAt: req.ExpiresAt,
		Effect: req.Effect, Priority: &req.Priority, AttributeConditions: req.AttributeConditions,
	})
	return who, p, err
}

var errPermissions = fault.New(fault.Invalid, "permissions must be one or more of %s", strings.Join(api.PolicyPermissions, ", "))

// update returns p with what req names.
func (p policy) update(req api.UpdatePolicy) (_ policy, err error) {
	if req.Permissions != nil {
		if len(req.Permissions) == 0 {
			return p, errPermissions // and not "keep them": whoever means to take all away must not hear that it is done
		}
		if p.Permissions, err = checkPermissions(req.Permissions); err != nil {
			return p, err
		}
	}
	if !isEmpty(req.AttributeConditions, "null", "{}", "[]") {
		return p, fault.New(fault.Invalid, "attribute_conditions are not evaluated here, and a policy must not look more limited than it is; use conditions")
	}
	if !isEmpty(req.Conditions, "null") {
		if p.Conditions, err = checkConditions(req.Conditions); err != nil {
			return p, err
		}
	}
	if req.ExpiresAt != nil {
		if p.ExpiresAt, err = checkExpiry(*req.ExpiresAt); err != nil {
			return p, err
		}
	}
	switch req.Effect {
	case "":
	case "allow", "deny":
		p.Deny = req.Effect == "deny"
	default:
		return p, fault.New(fault.Invalid, "effect must be allow or deny")
	}
	if req.Priority != nil {
		p.Priority = *req.Priority
	}
	if p.Priority < 0 || p.Priority > math.MaxInt32 {
		return p, fault.New(fault.Invalid, "priority must be 0 to %d", math.MaxInt32)
	}
	return p, nil
}

// checkPermissions returns each once, in their usual order.
func checkPermissions(names []string) (out []access.Permission, err error) {
	for _, name := range names {
		if !slices.Contains(access.Permissions, access.Permission(name)) {
			return nil, errPermissions
		}
	}
	for _, perm := range access.Permissions {
		if slices.Contains(names, string(perm)) {
			out = append(out, perm)
		}
	}
	return out, nil
}

// checkConditions returns raw's text, "" when it is an empty object.
func checkConditions(raw json.RawMessage) (string, error) {
	if isEmpty(raw, "{}") {
		return "", nil
	}
	return string(raw), access.CheckConditions(raw)
}

// isEmpty reports whether raw is absent, or one of texts.
func isEmpty(raw json.RawMessage, texts ...string) bool {
	if len(raw) == 0 {
		return true
	}
	text := jsontext.Value(raw).Clone()
	return text.Compact() == nil && slices.Contains(texts, string(text))
}

// checkExpiry returns t in UTC. A time that is past is taken: the policy counts
// for nothing from the start.
func checkExpiry(t time.Time) (*time.Time, error) {
	t = t.UTC()
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 { // the zero time is what a program sends that set none
		return nil, fault.New(fault.Invalid, "expires_at must be a time like 2030-01-31T12:00:00Z; leave it out for none")
	}
	return &t, nil
}

// changes is what the record of an update holds of req; nothing of what is
// invalid.
func changes(req api.UpdatePolicy) map[string]string {
	if _, err := (policy{}).update(req); err != nil {
		return nil
	}
	out := map[string]string{}
	if len(req.Permissions) > 0 {
		out["permissions"] = strings.Join(req.Permissions, " ")
	}
	if req.Effect != "" {
		out["effect"] = req.Effect
	}
	return out
}

// facts are what the record of p's making holds; nothing of what is invalid.
func (p policy) facts(who grantee, invalid error) map[string]string {
	if invalid != nil {
		return nil
	}
	effect := "allow"
	if p.Deny {
		effect = "deny"
	}
	return map[string]string{"principal": who.String(), "pattern": p.Pattern, "permissions": strings.Trim(fmt.Sprint(p.Permissions), "[]"), "effect": effect}
}
