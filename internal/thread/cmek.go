package thread

import (
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// A thread under a customer's key names it, for good, by its fingerprint. Bodies of
// its messages are blobs of version 2 as JSON strings, bound to the thread:
// cmek.Context{VaultID: "thread:" + thread ID, Path: "message"} over the body's JSON.
// The server sees their shape and nothing more. Threads came after blobs of version
// 1, so no client needs these, nor the older form, which any hex text has.

// checkFingerprint tests that of a new thread of p's, and returns it as it is kept;
// "": the thread is not under a customer's key.
func checkFingerprint(p access.Principal, fingerprint string) (string, error) {
	fingerprint = strings.ToLower(fingerprint)
	switch {
	case fingerprint == "":
		return "", nil
	case !p.Plan.AllowsCMEK():
		return "", fault.New(fault.Forbidden, "customer-managed keys need the business or enterprise plan; the operator gives the org one: keyfold admin plan ORG PLAN")
	case !cmek.ValidFingerprint(fingerprint):
		return "", fault.New(fault.Invalid, "cmek_fingerprint must be 64 hex digits, the SHA-256 of the key; `keyfold cmek fingerprint` prints it")
	}
	return fingerprint, nil
}

// checkBlob tests a body, which is JSON, of a message of m; nil: none is sent.
func (m meta) checkBlob(body []byte) error {
	if m.CMEK == "" || body == nil {
		return nil
	}
	var value string
	if err := json.Unmarshal(body, &value); err == nil {
		if info, err := cmek.Inspect(value); err == nil && info.Version == 2 {
			return nil
		}
	}
	return fault.New(fault.Invalid, "this thread takes only bodies sealed with its CMEK key: send the blob of version 2, bound to the thread, as a JSON string").
		WithType(api.ProblemCMEKBlobRequired)
}
