package client

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// events is a page of n events, and what comes after it.
func events(n int, more string) any {
	list := strings.TrimSuffix(strings.Repeat(`{"id": "e"},`, n), ",")
	return answer(200, fmt.Sprintf(`{"events": [%s]%s}`, list, more))
}

func TestEventsAreListedOverManyPages(t *testing.T) {
	const next = `, "next_to": "2026-01-02T00:00:00Z", "next_offset": 2`
	for name, c := range map[string]struct {
		pages []any
		want  int
		fails error
		sent  []string
	}{
		"one page":                        {[]any{events(3, "")}, 3, nil, []string{"limit=1000"}},
		"a full one":                      {[]any{events(1000, ""), events(7, "")}, 1007, nil, []string{"limit=1000", "limit=500&offset=1000"}},
		"no more than asked":              {[]any{events(1000, ""), events(500, "")}, 1500, nil, []string{"limit=1000", "limit=500&offset=1000"}},
		"an empty one that goes on":       {[]any{events(0, next), events(1, "")}, 1, nil, []string{"limit=1000", "limit=1000&offset=2&to=2026-01-02T00%3A00%3A00Z"}},
		"one that goes on where it began": {[]any{events(0, next), events(0, next)}, 0, errNoProgress, []string{"limit=1000", "limit=1000&offset=2&to=2026-01-02T00%3A00%3A00Z"}},
	} {
		f := &fake{answers: c.pages}
		cl, _ := newFake(t, f)
		got, err := cl.AuditEvents(t.Context(), AuditQuery{}, 1500)
		var sent []string
		for _, r := range f.calls {
			sent = append(sent, r.URL.RawQuery)
		}
		if !errors.Is(err, c.fails) || len(got) != c.want || cmp.Diff(c.sent, sent) != "" {
			t.Errorf("%s: %d events, %v, %s", name, len(got), err, cmp.Diff(c.sent, sent))
		}
	}
}

func TestAnExportComesAsItIsOrAsAnError(t *testing.T) {
	f := &fake{answers: []any{answer(200, "{}\n"), answer(403, `{"detail": "owners and admins alone"}`)}}
	c, _ := newFake(t, f)
	r, err := c.ExportAudit(t.Context(), AuditQuery{From: time.Unix(1, 2).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if text, err := io.ReadAll(r); string(text) != "{}\n" || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if got := f.calls[0]; got.URL.RawQuery != "from=1970-01-01T00%3A00%3A01.000000002Z" || got.Header.Get("Authorization") != "Bearer 1ck_canary-api-key" {
		t.Errorf("%s", got.URL)
	}
	if _, err := c.ExportAudit(t.Context(), AuditQuery{}); !IsForbidden(err) || !strings.Contains(err.Error(), "owners and admins alone") {
		t.Error(err)
	}
}
