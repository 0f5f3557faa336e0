package httpx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// answered serves one request of a row on its own.
func answered(row Row, change func(*Config), body string) *httptest.ResponseRecorder {
	row.Pattern, row.Method = "/x", "POST"
	cfg := Config{Rows: []Row{row}}
	if row.Who == Principal {
		cfg.Authenticate = func(context.Context, string) (access.Principal, error) { return access.Principal{ID: "u"}, nil }
	}
	if change != nil {
		change(&cfg)
	}
	return do(New(cfg), "POST", "/x", body)
}

// recorder gives text in small pieces and keeps the slices that it was given.
type recorder struct {
	io.Reader
	given [][]byte
}

func (r *recorder) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.given = append(r.given, p[:n])
	return n, err
}

func TestABodyThatOutgrowsItsBufferLeavesNoCopy(t *testing.T) {
	text := strings.Repeat(canary, 20<<10)
	in := &recorder{Reader: strings.NewReader(text)}
	b, err := fill(bytes.NewBuffer(make([]byte, 0, 64)), in)
	if err != nil || b.String() != text {
		t.Fatalf("read %d bytes of %d, %v", b.Len(), len(text), err)
	}
	kept, at, outgrown := b.Bytes(), 0, 0
	for _, p := range in.given {
		if len(p) > 0 && &p[0] != &kept[at] {
			outgrown++
			if strings.Trim(string(p), "\x00") != "" {
				t.Errorf("%d bytes are left in a buffer that was too small", len(p))
			}
		}
		at += len(p)
	}
	if outgrown < 10 {
		t.Errorf("the buffer grew %d times", outgrown)
	}
	putBuffer(b)
	if bytes.Contains(kept, []byte(canary)) {
		t.Error("a buffer goes back with a body in it")
	}
}

func TestAnAnswerIsWipedHoweverTheCallEnds(t *testing.T) {
	for name, end := range map[string]func(c *Call, out []byte) error{
		"sent":         func(c *Call, out []byte) error { c.Send(200, JSON, out); return nil },
		"failed":       func(*Call, []byte) error { return fault.New(fault.Invalid, "no") },
		"panicked":     func(*Call, []byte) error { panic("lost") },
		"outgrew":      func(c *Call, out []byte) error { c.Send(200, JSON, append(out, make([]byte, 1<<20)...)); return nil },
		"sent another": func(c *Call, _ []byte) error { c.Send(200, JSON, []byte("{}")); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			var room []byte
			answered(Row{MaxBody: 100, Handler: func(_ context.Context, c *Call) error {
				room = append(c.Room(100), canary...)
				return end(c, room)
			}}, nil, "{}")
			if bytes.Contains(room, []byte(canary)) {
				t.Error("it is still there")
			}
		})
	}
}

func TestARawHandlerSeesTheBodyAsItCame(t *testing.T) {
	row := Row{MaxBody: 100, Handler: func(_ context.Context, c *Call) error {
		c.Send(200, ContentType{"x/y"}, append(c.Room(10), c.Bytes()...))
		return nil
	}}
	for _, body := range []string{"", "\x00\xff", strings.Repeat("x", 100)} {
		if w := answered(row, nil, body); w.Code != 200 || w.Body.String() != body || w.Header().Get("Content-Type") != "x/y" {
			t.Errorf("%q became %d %v %q", body, w.Code, w.Header(), w.Body)
		}
	}
}

func TestAStrictRowRefusesWhatItsTypeDoesNotHave(t *testing.T) {
	row := Row{MaxBody: 100, Strict: true, Handler: Body(200, func(_ context.Context, _ *Call, v in) (in, error) { return v, nil })}
	if w := answered(row, nil, `{"name":"a","n":1}`); w.Code != 200 {
		t.Errorf("known members: %d %s", w.Code, w.Body)
	}
	for _, body := range []string{`{"nam":"a"}`, `{"name":"a","Name":"b"}`, `{"name":"a","x":{}}`} {
		checkProblem(t, answered(row, nil, body), 400, "does not know")
	}
	checkProblem(t, answered(row, nil, " null "), 400, "send a JSON object")
}

func TestAStreamThatBreaksIsNotTakenForWhole(t *testing.T) {
	broken := errors.New("the disk is gone")
	for name, c := range map[string]struct {
		writes []string
		err    error
		status int
		cut    bool
	}{
		"whole":               {[]string{"a", "b"}, nil, 200, false},
		"empty":               {nil, nil, 200, false},
		"fails at once":       {nil, fault.New(fault.Conflict, "not now"), 409, false},
		"fails in the midst":  {[]string{"a", strings.Repeat("b", 1<<20)}, broken, 200, true},
		"fails in the buffer": {[]string{"a", "b"}, broken, 200, true},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(Config{Rows: []Row{{Method: "GET", Pattern: "/s", Who: Public, Handler: Stream(JSON, func(_ context.Context, _ *Call, w io.Writer) error {
				for _, text := range c.writes {
					if _, err := io.WriteString(w, text); err != nil {
						return err
					}
				}
				return c.err
			})}}})
			s := httptest.NewServer(m)
			defer s.Close()
			r, err := http.Get(s.URL + "/s")
			if err != nil && c.cut {
				return // not even the head had left
			} else if err != nil {
				t.Fatal(err)
			}
			defer r.Body.Close()
			_, err = io.ReadAll(r.Body)
			if r.StatusCode != c.status || (err != nil) != c.cut {
				t.Errorf("%d, %v; want %d, cut: %v", r.StatusCode, err, c.status, c.cut)
			}
		})
	}
}

func TestACallerIsAskedOnEveryRowThatIsNotPublic(t *testing.T) {
	const special Who = 7
	asked := 0
	caller := func(cfg *Config) {
		cfg.Caller = func(c *Call) (access.Principal, error) {
			asked++
			if c.Who() == special && c.Request().Header.Get("Authorization") == "Bearer good" {
				return access.Principal{Kind: "uid", ID: "7"}, nil
			}
			return access.Principal{}, fault.New(fault.Forbidden, "not you")
		}
		cfg.Problem = func(dst []byte, err error) []byte { return fmt.Appendf(dst, "%q", err) }
	}
	who := NoBody(200, func(_ context.Context, c *Call) (string, error) { return c.Principal.Ref(), nil })
	for _, c := range []struct {
		who    Who
		status int
		body   string
	}{{special, 200, `"uid:7"`}, {Principal, 403, `"not you"`}, {Public, 200, `":"`}} {
		w := answered(Row{Who: c.who, Handler: who}, caller, "")
		if w.Code != c.status || w.Body.String() != c.body || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("who %d: %d %s, want %d %s", c.who, w.Code, w.Body, c.status, c.body)
		}
	}
	if asked != 2 {
		t.Errorf("asked %d times, want 2", asked)
	}
}

func TestOneCallersLargeBodiesTakeNoRoomOfAnothers(t *testing.T) {
	m := &Mux{large: newBudget(largeBodies), budgets: new(budgets)}
	first, second := &Call{mux: m, Principal: access.Principal{ID: "a"}}, &Call{mux: m, Principal: access.Principal{ID: "b"}}
	if err := first.takeRoom(largeBodies); err != nil {
		t.Fatal(err)
	}
	if err := (&Call{mux: m, Principal: first.Principal}).takeRoom(smallBody + 1); !errors.Is(err, fault.Unavailable) {
		t.Errorf("more than its room: %v", err)
	}
	if err := second.takeRoom(largeBodies); err != nil {
		t.Errorf("the other caller: %v", err)
	}
}

func TestTheObserverHearsOfEveryAnswer(t *testing.T) {
	var heard []string
	m := New(Config{Rows: rows(), Observe: func(row *Row, status int, _ time.Duration) {
		route := ""
		if row != nil {
			route = row.Pattern
		}
		heard = append(heard, fmt.Sprint(route, " ", status))
	}})
	for _, target := range []string{"/open", "/nowhere", "/things"} {
		do(m, "GET", target, "")
	}
	if want := []string{"/open 200", " 404", "/things 401"}; !slices.Equal(heard, want) {
		t.Errorf("heard %v, want %v", heard, want)
	}
}

func TestWhoHangsUpWhileHeIsLookedUpIsNoFailureOfOurs(t *testing.T) {
	for _, who := range []Who{Principal, Public} {
		gone, hangUp := context.WithCancel(t.Context())
		m := New(Config{
			Rows: []Row{{Method: "GET", Pattern: "/x", Who: who, Optional: who == Public, Handler: Empty(func(context.Context, *Call) error { return nil })}},
			Authenticate: func(ctx context.Context, _ string) (access.Principal, error) {
				hangUp()
				<-ctx.Done()
				return access.Principal{}, fault.Wrap(fault.Unavailable, ctx.Err(), "the request was not finished") // as stores say it
			},
		})
		r := httptest.NewRequestWithContext(gone, "GET", "/x", nil)
		r.Header.Set("Authorization", "Bearer good")
		checkProblem(t, serve(m, r), http.StatusRequestTimeout, "the request was cancelled")
	}
}
