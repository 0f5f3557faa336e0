package vault

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
)

// Limits of a secret, in bytes.
const (
	MaxValue    = 8 << 20  // of the value as UTF-8
	MaxMetadata = 16 << 10 // of metadata as sent, and of rotation_policy
)

// newDraft checks req and returns what it asks to store.
func newDraft(req api.PutSecret) (d draft, err error) {
	if d.value, err = checkValue(req.Value); err != nil {
		return d, err
	}
	if d.Type, err = checkType(req.Type, "generic"); err != nil {
		return d, err
	}
	if d.Metadata, err = checkObject("metadata", req.Metadata); err != nil {
		return d, err
	}
	if d.RotationPolicy, err = checkObject("rotation_policy", req.RotationPolicy); err != nil {
		return d, err
	}
	if d.ExpiresAt, err = checkExpiry(req.ExpiresAt); err != nil {
		return d, err
	}
	d.MaxAccessCount, err = checkMaxAccess(req.MaxAccessCount)
	return d, err
}

func checkValue(value *string) (string, error) {
	switch {
	case value == nil:
		return "", invalid("value is missing; send a string, which may be empty")
	case len(*value) > MaxValue:
		return "", fault.New(fault.TooLarge, "the value has %d bytes; the limit is %d", len(*value), MaxValue)
	case !utf8.ValidString(*value):
		return "", invalid("the value is not valid UTF-8; send binary data as base64")
	}
	return *value, nil
}

func checkType(t, absent string) (string, error) {
	if t == "" {
		return absent, nil
	}
	if !slices.Contains(api.SecretTypes, t) {
		return "", fault.New(fault.Invalid, "unknown type; use one of %s", strings.Join(api.SecretTypes, ", "))
	}
	return t, nil
}

// checkObject returns raw's text when it is a JSON object, and "" when it is
// absent or null.
func checkObject(name string, raw json.RawMessage) (string, error) {
	text := jsontext.Value(raw)
	switch {
	case len(raw) > MaxMetadata:
		return "", fault.New(fault.Invalid, "%s has %d bytes; the limit is %d", name, len(raw), MaxMetadata)
	case len(raw) == 0 || text.Kind() == 'n' && text.IsValid():
		return "", nil
	case text.Kind() != '{' || !text.IsValid():
		return "", fault.New(fault.Invalid, "%s must be a JSON object without repeated names, like {\"team\": \"payments\"}", name)
	}
	return string(raw), nil
}

// checkExpiry returns t in UTC. A time that is past already is taken: the
// version is expired from the start.
func checkExpiry(t *time.Time) (*time.Time, error) {
	if t == nil {
		return nil, nil
	}
	u := t.UTC()
	if u.IsZero() || u.Year() < 1 || u.Year() > 9999 { // the zero time is what a program sends that set none
		return nil, invalid("expires_at must be a time like 2030-01-31T12:00:00Z; leave it out for none")
	}
	return &u, nil
}

// checkMaxAccess returns 0 for no limit.
func checkMaxAccess(n *int) (int, error) {
	if n == nil {
		return 0, nil
	}
	if *n < 1 || *n > math.MaxInt32 {
		return 0, fault.New(fault.Invalid, "max_access_count must be 1 to %d; leave it out for no limit", math.MaxInt32)
	}
	return *n, nil
}
