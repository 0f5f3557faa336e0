package httpx

import (
	"context"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/throttle"
)

// keyRows answer who called.
func keyRows() []Row {
	who := NoBody(200, func(_ context.Context, c *Call) (string, error) { return c.Principal.Ref(), nil })
	return []Row{
		{Method: "GET", Pattern: "/threads", Keys: true, Handler: who},
		{Method: "POST", Pattern: "/threads", Keys: true, MaxBody: 1000, OptionalBody: true, Handler: who},
		{Method: "POST", Pattern: "/messages", Keys: true, MaxBody: 1000, FreeForm: true, Handler: who},
		{Method: "POST", Pattern: "/lines", Keys: true, MaxBody: 1000, Lines: true, Handler: who},
		{Method: "POST", Pattern: "/sign", AsKey: true, Handler: who},
		{Method: "GET", Pattern: "/vaults", Handler: who},
		{Method: "GET", Pattern: "/open", Who: Public, Optional: true, Handler: who},
	}
}

func keyMux(endUsers EndUsers) *Mux {
	return New(Config{Rows: keyRows(), EndUsers: endUsers, Authenticate: func(_ context.Context, bearer string) (access.Principal, error) {
		if bearer == "good" {
			return access.Principal{Kind: access.User, ID: "u1", OrgID: "o1"}, nil
		}
		return access.Principal{Kind: access.OrgKey, ID: "k1", OrgID: "o1", Role: access.Role(bearer)}, nil
	}})
}

func TestAnOrgsKeyCallsForTheUserWhomItNames(t *testing.T) {
	m := keyMux(func(_ context.Context, key access.Principal, user, signature, author string) (access.Principal, error) {
		if key.Role != access.Backend {
			return access.Principal{}, fault.New(fault.Unauthenticated, "the signature is wrong")
		}
		return access.Principal{Kind: access.EndUser, ID: strings.Join([]string{user, signature, author}, "|"), OrgID: key.OrgID}, nil
	})
	for _, c := range []struct {
		call, body string
		header     []string
		status     int
		want       string
	}{
		{"GET /threads", "", []string{"X-User-ID", "7", "X-User-Signature", "s"}, 200, "end_user:7|s|"},
		{"GET /threads?author=8", "", nil, 200, "end_user:||8"},
		{"GET /threads?author=8&author=9", "", nil, 400, "two authors"},
		{"GET /threads?author=%zz", "", nil, 400, "malformed"},
		{"POST /threads", `{"author":"8"}`, nil, 200, "end_user:||8"},
		{"POST /threads?author=8", `{"author":"8","title":"t"}`, nil, 200, "end_user:||8"},
		{"POST /threads?author=8", `{"title":"t"}`, nil, 200, "end_user:||8"},
		{"POST /threads?author=8", ``, nil, 200, "end_user:||8"},
		{"POST /lines?author=8", "{\"author\":\"9\"}\n{}\n", nil, 200, "end_user:||8"},
		{"POST /threads?author=8", `{"author":"9"}`, nil, 400, "two authors"},
		{"POST /threads", `{"author":["` + canary + `"]}`, nil, 400, `(member \"author\")`},
		{"POST /threads", `{"author":"8","author":"9"}`, nil, 400, "twice"},
		{"POST /threads", `{"author":"8`, nil, 400, "too early"},
		{"POST /messages", `{"author":"8","body":{"a":1,"a":2,"s":"\ud800"}}`, nil, 200, "end_user:||8"},
		{"POST /messages", `{"author":"8","body":{"author":"9"}}`, nil, 200, "end_user:||8"},
		{"GET /threads", "", []string{"Authorization", "Bearer frontend"}, 401, "signature"},
		{"POST /sign", "", nil, 200, "org_key:k1"},
		{"GET /open", "", nil, 200, `":"`},
		{"GET /open", "", []string{"Authorization", "Bearer good"}, 200, "user:u1"},
		{"GET /vaults", "", nil, 403, "threads and messages alone"},
		{"GET /vaults", "", []string{"X-User-ID", "7"}, 403, "threads and messages alone"},
		{"GET /vaults", "", []string{"Authorization", "Bearer good", "X-User-ID", "7"}, 200, "user:u1"},
		{"GET /threads?author=7", "", []string{"Authorization", "Bearer good", "X-User-ID", "7"}, 200, "user:u1"},
	} {
		method, target, _ := strings.Cut(c.call, " ")
		w := do(m, method, target, c.body, append([]string{"Authorization", "Bearer backend"}, c.header...)...)
		if w.Code != c.status || !strings.Contains(w.Body.String(), c.want) || strings.Contains(w.Body.String(), canary) {
			t.Errorf("%s %s %v = %d %s, want %d %s", c.call, c.body, c.header, w.Code, w.Body, c.status, c.want)
		}
	}
}

func TestAnOrgsKeyIsNobodyWhereNoEndUsersAreKnown(t *testing.T) {
	checkProblem(t, do(keyMux(nil), "GET", "/threads", "", "Authorization", "Bearer backend", "X-User-ID", "7"), 403, "threads and messages alone")
}

func TestAnOrgsKeyOnARowThatIsNotForItIsToldOfBeforeItIsAnswered(t *testing.T) {
	m := keyMux(nil)
	var told []string
	var failure error
	m.forbidden = func(_ context.Context, c *Call) error {
		told = append(told, c.Principal.Ref()+" "+c.Route())
		return failure
	}
	call := func(bearer, target string) *httptest.ResponseRecorder {
		return do(m, "GET", target, "", "Authorization", "Bearer "+bearer)
	}
	checkProblem(t, call("backend", "/vaults"), 403, "threads and messages alone")
	call("good", "/vaults")
	call("backend", "/open")
	failure = fault.New(fault.Unavailable, "cannot be recorded")
	checkProblem(t, call("backend", "/vaults"), 503, "cannot be recorded")
	if want := []string{"org_key:k1 GET /vaults", "org_key:k1 GET /vaults"}; !slices.Equal(told, want) {
		t.Errorf("told of %v, want %v", told, want)
	}
}

func TestAnIdentityThatIsSentTwiceIsRefused(t *testing.T) {
	m := keyMux(func(context.Context, access.Principal, string, string, string) (access.Principal, error) {
		t.Error("somebody was looked for")
		return access.Principal{}, nil
	})
	for _, name := range []string{"X-User-Id", "X-User-Signature"} {
		r := httptest.NewRequest("GET", "/threads", nil)
		r.Header.Set("Authorization", "Bearer backend")
		r.Header[name] = []string{"7", "8"}
		checkProblem(t, serve(m, r), 400, "once")
	}
}

func TestAnEndUserHasTheAddressOfTheCall(t *testing.T) {
	var got access.Principal
	m := keyMux(func(_ context.Context, key access.Principal, _, _, _ string) (access.Principal, error) {
		return access.Principal{Kind: access.EndUser, ID: "7", OrgID: key.OrgID}, nil
	})
	m.routes.add(&Row{Method: "GET", Pattern: "/look", Keys: true, Handler: Empty(func(_ context.Context, c *Call) error {
		got = c.Principal
		return nil
	})})
	do(m, "GET", "/look", "", "Authorization", "Bearer backend", "X-Request-Id", "r1")
	if got.Addr.String() != "192.0.2.1" || got.RequestID != "r1" {
		t.Errorf("the end user is %+v", got)
	}
}

func TestARowMayPutTheTypeOfAProblemIntoItsError(t *testing.T) {
	fail := NoBody(200, func(_ context.Context, c *Call) (string, error) {
		return "", fault.New(fault.Invalid, "ask again").WithType(c.Header("X-Type"))
	})
	m := New(Config{Rows: []Row{{Method: "GET", Pattern: "/a", Who: Public, Handler: fail, ErrorIsType: true}, {Method: "GET", Pattern: "/b", Who: Public, Handler: fail}}})
	for target, want := range map[string]string{"/a": `"error":"pending"`, "/b": `"error":"ask again"`} {
		if w := do(m, "GET", target, "", "X-Type", "pending"); !strings.Contains(w.Body.String(), want) || !strings.Contains(w.Body.String(), `"type":"pending"`) {
			t.Errorf("%s: %s", target, w.Body)
		}
	}
	if w := do(m, "GET", "/a", ""); !strings.Contains(w.Body.String(), `"error":"ask again"`) {
		t.Error(w.Body)
	}
}

func TestAnAdminKeyIsForTheRowsOfAdminsAlone(t *testing.T) {
	var told []string
	m := keyMux(nil)
	m.caller = func(*Call) (access.Principal, error) {
		return access.Principal{Kind: access.Operator, ID: "a1", OrgID: "o"}, nil
	}
	m.forbidden = func(_ context.Context, c *Call) error {
		told = append(told, c.Principal.Ref()+" "+c.Route())
		return nil
	}
	m.routes.add(&Row{Method: "GET", Pattern: "/admin/jobs", Admin: true, Handler: Empty(func(context.Context, *Call) error { return nil })})
	for _, path := range []string{"/vaults", "/threads"} {
		checkProblem(t, do(m, "GET", path, "", "Authorization", "Bearer admin"), 403, "an admin key is for /admin alone")
	}
	if w := do(m, "GET", "/admin/jobs", "", "Authorization", "Bearer admin"); w.Code != 204 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if want := []string{"operator:a1 GET /vaults", "operator:a1 GET /threads"}; !slices.Equal(told, want) {
		t.Errorf("told of %v, want %v", told, want)
	}
}

// Nobody is asked about it, on its own row; on others everybody is. Whoever shows it is
// one caller, wherever he calls from.
func TestACredentialOfARowsOwnOpensThatRowAlone(t *testing.T) {
	var asked []string
	handler := Empty(func(_ context.Context, c *Call) error {
		if p := c.Principal; p.ID != "own" || !p.Addr.IsValid() || p.RequestID != c.RequestID() {
			t.Errorf("%+v", p)
		}
		return nil
	})
	m := New(Config{
		Rows: []Row{
			{Method: "GET", Pattern: "/own", Handler: handler, Own: func(bearer string) (access.Principal, bool) {
				return access.Principal{Kind: access.Scraper, ID: "own"}, bearer == "own"
			}},
			{Method: "GET", Pattern: "/other", Handler: handler},
		},
		Authenticate: func(_ context.Context, bearer string) (access.Principal, error) {
			asked = append(asked, bearer)
			return access.Principal{}, fault.New(fault.Unauthenticated, "this key is not known")
		},
		Limits: Limits{Principal: throttle.Rate{PerSecond: 1, Burst: 2}},
		Now:    func() time.Time { return time.Unix(1, 0) },
	})
	for _, c := range []struct {
		path, bearer string
		want         int
	}{{"/own", "own", 204}, {"/other", "own", 401}, {"/own", "another", 401}, {"/own", "", 401}, {"/own", "own", 204}, {"/own", "own", 429}} {
		if w := do(m, "GET", c.path, "", "Authorization", "Bearer "+c.bearer); w.Code != c.want {
			t.Errorf("%s with %q = %d %s, want %d", c.path, c.bearer, w.Code, w.Body, c.want)
		}
	}
	if want := []string{"own", "another"}; !slices.Equal(asked, want) {
		t.Errorf("asked about %q, want %q", asked, want)
	}
}

func TestAPathMaySendItsProblemsAsPlainJSON(t *testing.T) {
	fail := NoBody(200, func(context.Context, *Call) (string, error) { return "", fault.New(fault.Invalid, "ask again") })
	m := New(Config{Rows: []Row{
		{Method: "GET", Pattern: "/a", Who: Public, Handler: fail, PlainProblems: true}, {Method: "GET", Pattern: "/b", Who: Public, Handler: fail},
		{Method: "GET", Pattern: "/c", Handler: fail, PlainProblems: true},
	}})
	for call, want := range map[string]string{
		"GET /a": "application/json", "PUT /a": "application/json", "GET /c": "application/json", "GET /b": "application/problem+json", "PUT /b": "application/problem+json",
	} {
		method, path, _ := strings.Cut(call, " ")
		if w := do(m, method, path, ""); w.Code < 400 || w.Header().Get("Content-Type") != want || !strings.Contains(w.Body.String(), `"error":"`) {
			t.Errorf("%s = %d %s %s", call, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
	}
}
