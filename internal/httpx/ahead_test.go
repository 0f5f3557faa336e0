package httpx

import (
	"context"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyfold/keyfold/internal/access"
)

func TestWhatARowReadsAheadIsForWhoCallsAndForItsHandlerAMomentLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type word struct{}
		var took time.Duration
		var heard [3]any // by the Authenticator, the handler, and the Authenticator again
		hear := func(ctx context.Context) any { return ctx.Value(word{}) }
		m := New(Config{
			Rows: []Row{{
				Method: "GET", Pattern: "/things/{id}",
				Ahead: func(ctx context.Context, c *Call) context.Context {
					return context.WithValue(ctx, word{}, c.Param("id"))
				},
				Handler: NoBody(200, func(ctx context.Context, c *Call) (string, error) {
					heard[1] = hear(ctx)
					_, err := c.Again(ctx)
					return "", err
				}),
			}, {Method: "GET", Pattern: "/others", Handler: NoBody(200, func(ctx context.Context, c *Call) (any, error) { return hear(ctx), nil })}},
			Authenticate: func(ctx context.Context, _ string) (access.Principal, error) {
				heard[0], heard[2] = heard[2], hear(ctx)
				time.Sleep(took)
				return access.Principal{Kind: access.User, ID: "u", OrgID: "o"}, nil
			},
		})
		call := func(path string) string {
			r, w := httptest.NewRequest("GET", path, nil), httptest.NewRecorder()
			r.Header.Set("Authorization", "Bearer x")
			m.ServeHTTP(w, r)
			return w.Body.String()
		}
		for _, c := range []struct {
			took time.Duration
			want [3]any
		}{{aheadTime, [3]any{"7", "7", nil}}, {aheadTime + 1, [3]any{"7", nil, nil}}} {
			took = c.took
			if call("/things/7"); heard != c.want {
				t.Errorf("after %v: %v, want %v", took, heard, c.want)
			}
		}
		if got := call("/others"); got != "null" || heard[2] != nil {
			t.Errorf("on another row %s and %v", got, heard[2])
		}
	})
}

func TestARowThatMayWaitReadsNothingAhead(t *testing.T) {
	ahead := func(ctx context.Context, c *Call) context.Context { return ctx }
	for what, row := range map[string]Row{"for a body": {MaxBody: 1}, "for an end user": {Keys: true}, "for nobody": {Who: Public}, "": {}} {
		row.Method, row.Pattern, row.Ahead, row.Handler = "GET", "/things", ahead, rows()[0].Handler
		func() {
			defer func() {
				if refused := recover() != nil; refused != (what != "") {
					t.Errorf("a row that waits %s: refused %t", what, refused)
				}
			}()
			New(Config{Rows: []Row{row}})
		}()
	}
}
