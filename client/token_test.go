package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
)

// issuer is a TokenSource: each token lives that long, each takes a second to get.
type issuer struct {
	life  time.Duration
	err   error
	asked int
}

func (i *issuer) token(ctx context.Context) (Token, error) {
	i.asked++
	time.Sleep(time.Second)
	if err := errors.Join(ctx.Err(), i.err); err != nil {
		return Token{}, err
	}
	return Token{Access: fmt.Sprint("t", i.asked), Expires: time.Now().Add(i.life)}, nil
}

func sourced(t *testing.T, source TokenSource, answers ...any) (*Client, *fake) {
	t.Helper()
	f := &fake{answers: answers}
	c, err := New("http://keyfold.test", "", WithTransport(f), WithTokenSource(source))
	if err != nil {
		t.Fatal(err)
	}
	return c, f
}

func TestATokenIsRenewedAMinuteBeforeItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for life, renewedAfter := range map[time.Duration]time.Duration{
			time.Hour: 59 * time.Minute, 3 * time.Minute: 2 * time.Minute, 2 * time.Minute: time.Minute, time.Minute: 30 * time.Second,
		} {
			i := &issuer{life: life}
			c, _ := sourced(t, i.token)
			got := func() string { b, err := c.bearer(t.Context()); return fmt.Sprint(b, err) }
			first := got()
			time.Sleep(renewedAfter - time.Nanosecond)
			before := got()
			time.Sleep(time.Nanosecond)
			if at := got(); first != "t1<nil>" || before != first || at != "t2<nil>" {
				t.Errorf("life %v: %s, %s, %s", life, first, before, at)
			}
		}
	})
}

func TestOneRenewalServesAllWhoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: time.Hour}
		c, _ := sourced(t, i.token)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if b, err := c.bearer(t.Context()); b != "t1" || err != nil {
					t.Errorf("%s, %v", b, err)
				}
			})
		}
		wg.Wait()
		if i.asked != 1 {
			t.Errorf("asked %d times", i.asked)
		}
	})
}

func TestARenewalOutlivesTheCallerThatBeganIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: time.Hour}
		c, _ := sourced(t, i.token)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := c.bearer(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if b, err := c.bearer(t.Context()); b != "t1" || err != nil || i.asked != 1 {
			t.Errorf("%s, %v, asked %d times", b, err, i.asked)
		}
	})
}

func TestATokenThatCannotBeRenewedIsUsedToItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: time.Hour}
		c, _ := sourced(t, i.token)
		c.bearer(t.Context())
		i.err = errors.New("down")
		time.Sleep(59*time.Minute + time.Second)
		if b, err := c.bearer(t.Context()); b != "t1" || err != nil {
			t.Errorf("before its end: %s, %v", b, err)
		}
		time.Sleep(time.Minute)
		if b, err := c.bearer(t.Context()); b != "" || !errors.Is(err, i.err) {
			t.Errorf("after its end: %s, %v", b, err)
		}
		asked := i.asked
		for range 100 { // at once: a refused credential must not become a flood
			c.bearer(t.Context())
		}
		if i.asked != asked {
			t.Errorf("asked %d times more", i.asked-asked)
		}
		i.err = nil
		time.Sleep(renewPause)
		if b, err := c.bearer(t.Context()); b == "" || err != nil {
			t.Errorf("when the source is back: %s, %v", b, err)
		}
	})
}

func TestA401RenewsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: time.Hour}
		c, f := sourced(t, i.token, answer(401, `{"detail": "dead"}`))
		for range 3 {
			if _, err := c.ListVaults(t.Context()); !IsUnauthenticated(err) {
				t.Error(err)
			}
		}
		if i.asked != 1 || len(f.calls) != 3 {
			t.Errorf("asked %d times, called %d times", i.asked, len(f.calls))
		}
	})
}

func TestATokenThatIsOverOnArrivalIsSentOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		i := &issuer{life: -time.Hour} // clocks differ
		c, _ := sourced(t, i.token)
		if b, err := c.bearer(t.Context()); b != "t1" || err != nil || i.asked != 1 {
			t.Errorf("%s, %v, asked %d times", b, err, i.asked)
		}
	})
}

const session = `{"access_token": "a2", "token_type": "Bearer", "expires_in": 900, "refresh_token": "r2"}`

func TestARefreshTokenIsRedeemedOnceAndTheNextIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{answers: []any{answer(200, session), answer(200, "{}"), answer(200, strings.ReplaceAll(session, "2", "3")), answer(200, "{}")}}
		c, err := New("http://keyfold.test", "", WithTransport(f), WithToken(Token{Access: "a1", Refresh: "r1", Expires: time.Now()}))
		if err != nil {
			t.Fatal(err)
		}
		c.ListVaults(t.Context())
		time.Sleep(15 * time.Minute)
		c.ListVaults(t.Context())
		var sent []string
		for i, r := range f.calls {
			sent = append(sent, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization")+" "+strings.TrimSpace(f.bodies[i]))
		}
		want := []string{
			`POST /v1/auth/refresh  {"refresh_token":"r1"}`, `GET /v1/vaults Bearer a2 `,
			`POST /v1/auth/refresh  {"refresh_token":"r2"}`, `GET /v1/vaults Bearer a3 `,
		}
		if d := cmp.Diff(want, sent); d != "" {
			t.Error(d)
		}
	})
}

func TestAnAgentsKeyIsExchangedAndNeverSentAsABearer(t *testing.T) {
	f := &fake{answers: []any{answer(200, `{"access_token": "a", "expires_in": 3600, "agent_id": "x"}`), answer(200, "{}")}}
	c, err := New("http://keyfold.test", "ocv_canary", WithTransport(f))
	if err != nil {
		t.Fatal(err)
	}
	c.ListVaults(t.Context())
	c.ListVaults(t.Context())
	if len(f.calls) != 3 || f.calls[0].URL.Path != "/v1/auth/agent-token" || f.bodies[0] != `{"api_key":"ocv_canary"}`+"\n" {
		t.Fatalf("%d calls, the first with %s", len(f.calls), f.bodies[0])
	}
	for i, want := range []string{"", "Bearer a", "Bearer a"} {
		if got := f.calls[i].Header.Get("Authorization"); got != want {
			t.Errorf("call %d: %q", i, got)
		}
	}
}

func TestASecondFactorIsAsked(t *testing.T) {
	f := &fake{answers: []any{answer(200, `{"access_token": "", "expires_in": 300, "mfa_required": true, "mfa_token": "m"}`), answer(200, session)}}
	c, _ := newFake(t, f)
	_, err := c.SignIn(t.Context(), "a@b.example", "pw")
	challenge, ok := errors.AsType[*MFARequired](err)
	if !ok {
		t.Fatal(err)
	}
	tok, err := c.VerifyMFA(t.Context(), challenge, "123456")
	if err != nil || tok.Access != "a2" || tok.Refresh != "r2" || f.bodies[1] != `{"mfa_token":"m","code":"123456"}`+"\n" {
		t.Errorf("%#v, %v, %s", tok, err, f.bodies[1])
	}
	for _, r := range f.calls {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("%s went with a credential", r.URL)
		}
	}
}

func TestADeviceWaitsAsLongAsItIsTold(t *testing.T) {
	problem := func(kind string) *http.Response { return answer(400, fmt.Sprintf(`{"type": %q, "detail": "d"}`, kind)) }
	for last, want := range map[string]error{api.DeviceDenied: ErrDeviceDenied, api.DeviceExpired: ErrDeviceExpired, "": nil} {
		f := &fake{answers: []any{problem(api.DevicePending), problem(api.DeviceSlowDown), problem(api.DevicePending), problem(last)}}
		if last == "" {
			f.answers[3] = answer(200, session)
		}
		c, pauses := newFake(t, f)
		tok, err := c.AwaitDevice(t.Context(), api.DeviceCode{DeviceCode: "d", Interval: 5})
		if !errors.Is(err, want) || (tok.Access == "a2") != (want == nil) {
			t.Errorf("%q: %v, %v", last, tok, err)
		}
		if d := cmp.Diff([]time.Duration{5e9, 5e9, 10e9, 10e9}, *pauses); d != "" {
			t.Error(d)
		}
	}
}

func TestATokenPrintsItselfRedacted(t *testing.T) {
	tok := Token{Access: "canary", Refresh: "canary"}
	s := SharedSecret{Value: []byte("canary")}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{tok, &tok, s, &s, &MFARequired{"canary"}} {
			if text := fmt.Sprintf(format, v); strings.Contains(text, "canary") {
				t.Errorf("%s of %T: %s", format, v, text)
			}
		}
	}
}
