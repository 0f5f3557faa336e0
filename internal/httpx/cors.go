package httpx

import (
	"net/http"
	"slices"
)

// What a browser's script may send and see. The published SDKs need the
// headers of the lines after the first; they never use cookies, so
// credentials stay off.
const (
	corsMethods = "GET, POST, PUT, PATCH, DELETE"
	corsHeaders = "Authorization, Content-Type, If-Match, X-API-Key, X-Request-Id, X-Keyfold-Cmek-Fingerprint, X-Share-Passphrase, " +
		"X-User-ID, X-User-Signature, X-Identity, Last-Event-ID, " +
		"X-Cmek-Old-Key, X-Cmek-New-Key, DPoP, X-1Claw-Runtime-Id, " +
		"Idempotency-Key, X-Payment, X-Auth-Confirm, X-Platform-Connection"
	corsExposed = "Location, Retry-After, Idempotency-Replayed, X-Keyfold-Cmek-Fingerprint, X-Request-Id"
	corsMaxAge  = "600"
)

// cors holds the origins whose pages may call.
type cors struct {
	origins []string
	any     bool
}

func newCORS(origins []string) cors {
	return cors{origins: origins, any: slices.Contains(origins, "*")}
}

// apply sets the CORS headers of the answer to r and reports whether r is a
// preflight, which is then fully answered by them. A request of an origin that
// is not configured gets no such header: its browser refuses, and anything but
// a browser was never bound by this.
func (c cors) apply(w http.ResponseWriter, r *http.Request) (preflight bool) {
	if len(c.origins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || !c.any && !slices.Contains(c.origins, origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		h.Set("Access-Control-Expose-Headers", corsExposed)
		return false
	}
	h.Set("Access-Control-Allow-Methods", corsMethods)
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", corsMaxAge)
	return true
}
