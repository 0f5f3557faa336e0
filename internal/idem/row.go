package idem

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

// A row lies under layout.Idem, in the commit of what its request changed:
//
//	<request> <until> <status> <kind> <location> <ref>
//	<body>
//
// request is 32 hex digits of HMAC-SHA256 over all that makes the request what it is;
// until is in nanoseconds since 1970: from then on nobody works on it any more; status
// is that of the answer, which is one of a success, 0 where it is not known; location and ref are "-" where there
// is none. kind says what is kept of the answer's body: see kind.
type row struct {
	request  string
	until    time.Time
	status   int
	kind     kind
	location string
	ref      string
	body     []byte
	day      int64 // where it was found
}

// kind is one letter.
type kind byte

const (
	unknown kind = '?' // the answer is not known
	empty   kind = '-' // it has no body
	clearly kind = 'c' // the body follows
	echoed  kind = 'e' // the body follows, and says no more than the request did
	sealed  kind = 's' // the body lies in a row of the server's own secrets
	derived kind = 'd' // it is made anew
	lost    kind = 'l' // it was too large
)

const noContent = http.StatusNoContent

func (r row) encode() []byte {
	if r.kind == 0 {
		r.kind = unknown
	}
	b := make([]byte, 0, len(r.body)+96)
	b = fmt.Appendf(b, "%s %d %d %c %s %s\n", r.request, r.until.UnixNano(), r.status, r.kind, orDash(r.location), orDash(r.ref))
	return append(b, r.body...)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

var errDamaged = fault.New(fault.Damaged, "what is kept of an earlier request with this Idempotency-Key is damaged; look whether it took effect")

func parse(value []byte) (*row, error) {
	head, body, ok := strings.Cut(string(value), "\n")
	f := strings.Split(head, " ")
	if !ok || len(f) != 6 || len(f[3]) != 1 || !strings.Contains("?-cesdl", f[3]) {
		return nil, errDamaged
	}
	until, err := strconv.ParseInt(f[1], 10, 64)
	status, err2 := strconv.Atoi(f[2])
	if err != nil || err2 != nil || status != 0 && (status < 200 || status > 299) {
		return nil, errDamaged
	}
	r := &row{request: f[0], until: time.Unix(0, until), status: status, kind: kind(f[3][0]), body: []byte(body)}
	r.location, r.ref = strings.TrimPrefix(f[4], "-"), strings.TrimPrefix(f[5], "-")
	return r, nil
}
