package keyfoldtest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// apart starts two servers whose clocks differ by the most that docs/many-servers.md
// allows: that of ahead is before that of behind, which sets both.
func apart(t *testing.T) (behind, ahead *keyfoldtest.Server) {
	behind = keyfoldtest.Start(t, keyfoldtest.Shared())
	ahead = keyfoldtest.Beside(t, behind, keyfoldtest.Configure(func(c *allinone.Config) {
		c.Now = func() time.Time { return behind.Now().Add(5 * time.Second) }
	}))
	return behind, ahead
}

const (
	pass    = "Correct-Horse-Battery-9"
	newPass = "Correct-Horse-Battery-10"
)

func str(m map[string]any, name string) string { v, _ := m[name].(string); return v }

// person is a user with an account of his own, and a session, both from home.
type person struct {
	home            *keyfoldtest.Server
	signIn, session string
}

func newPerson(t *testing.T, s *keyfoldtest.Server, name string) person {
	in := `{"email":"` + name + `@example.com","password":"` + pass + `"}`
	return person{s, in, str(answer(t, s, "", "POST", "/v1/auth/signup", in), "access_token")}
}

// gain is a way of a user's to what counts until all of it is ended. It returns a
// call, and the body of it, that somebody who has that makes.
type gain func(t *testing.T, s *keyfoldtest.Server, p person) (key, method, path, body string)

func gains() map[string]gain {
	me := func(key string) (string, string, string, string) { return key, "GET", "/v1/auth/me", "" }
	approved := func(t *testing.T, s *keyfoldtest.Server, p person) string {
		device := answer(t, s, "", "POST", "/v1/auth/device/code", `{"client_id":"c"}`)
		answer(t, s, p.session, "POST", "/v1/auth/device/code/"+str(device, "user_code")+"/approve", "")
		return `{"device_code":"` + str(device, "device_code") + `","grant_type":"` + api.DeviceGrant + `"}`
	}
	return map[string]gain{
		"a session": func(t *testing.T, s *keyfoldtest.Server, p person) (string, string, string, string) {
			return me(str(answer(t, s, "", "POST", "/v1/auth/token", p.signIn), "access_token"))
		},
		"a refreshed session": func(t *testing.T, s *keyfoldtest.Server, p person) (string, string, string, string) {
			old := str(answer(t, s, "", "POST", "/v1/auth/token", p.signIn), "refresh_token")
			return me(str(answer(t, s, "", "POST", "/v1/auth/refresh", `{"refresh_token":"`+old+`"}`), "access_token"))
		},
		"a refresh token": func(t *testing.T, s *keyfoldtest.Server, p person) (string, string, string, string) {
			token := str(answer(t, s, "", "POST", "/v1/auth/token", p.signIn), "refresh_token")
			return "", "POST", "/v1/auth/refresh", `{"refresh_token":"` + token + `"}`
		},
		"a device's session": func(t *testing.T, s *keyfoldtest.Server, p person) (string, string, string, string) {
			return me(str(answer(t, s, "", "POST", "/v1/auth/device/token", approved(t, s, p)), "access_token"))
		},
		"an approval of a device": func(t *testing.T, s *keyfoldtest.Server, p person) (string, string, string, string) {
			return "", "POST", "/v1/auth/device/token", approved(t, s, p)
		},
		"a token of an API key": func(t *testing.T, s *keyfoldtest.Server, p person) (string, string, string, string) {
			key := str(answer(t, s, p.session, "POST", "/v1/auth/api-keys", `{"name":"k"}`), "api_key")
			return me(str(answer(t, s, "", "POST", "/v1/auth/api-key-token", `{"api_key":"`+key+`"}`), "access_token"))
		},
		"half a sign-in": func(t *testing.T, s *keyfoldtest.Server, p person) (string, string, string, string) {
			secret := str(answer(t, s, p.session, "POST", "/v1/auth/mfa/totp", `{"password":"`+pass+`"}`), "secret")
			codes := answer(t, p.home, p.session, "POST", "/v1/auth/mfa/totp/confirm", `{"code":"`+appCode(t, secret, p.home.Now())+`"}`)
			half := str(answer(t, s, "", "POST", "/v1/auth/token", p.signIn), "mfa_token")
			return "", "POST", "/v1/auth/mfa/verify", fmt.Sprintf(`{"mfa_token":%q,"code":%q}`, half, codes["recovery_codes"].([]any)[0])
		},
	}
}

// ends are the ways in which a user ends all of it.
var ends = map[string]struct{ method, path, body string }{
	"all sessions are ended": {"DELETE", "/v1/auth/tokens", ""},
	"the password is changed": {"POST", "/v1/auth/change-password",
		`{"current_password":"` + pass + `","new_password":"` + newPass + `"}`},
}

// What a user was given by a server whose clock is ahead is dead, and stays so, when
// he ended it at one whose clock is behind.
func TestWhatAServerAheadGaveOutIsEndedByOneBehind(t *testing.T) {
	behind, ahead := apart(t)
	n := 0
	for how, end := range ends {
		for what, gained := range gains() {
			n++
			p := newPerson(t, behind, fmt.Sprint("past", n))
			key, method, path, body := gained(t, ahead, p)
			answer(t, behind, p.session, end.method, end.path, end.body)
			for _, later := range []time.Duration{0, 4 * time.Minute} { // half a sign-in ends by itself in 5
				behind.Advance(later)
				for _, s := range []*keyfoldtest.Server{behind, ahead} {
					if status, text := call(t, s, key, method, path, body); status != 401 && status != 400 {
						t.Errorf("%s, %v after %s: %d %s", what, later, how, status, text)
					}
				}
			}
		}
	}
}

// What a user is given once he ended all of it lives at once, whichever of the servers
// does which.
func TestWhatIsGivenOutAfterTheEndLivesAtOnce(t *testing.T) {
	behind, ahead := apart(t)
	n := 0
	for _, at := range []struct{ ends, gives, takes *keyfoldtest.Server }{{ahead, behind, behind}, {behind, behind, ahead}, {behind, ahead, behind}} {
		for what, gained := range gains() {
			n++
			p := newPerson(t, behind, fmt.Sprint("next", n))
			end := ends["all sessions are ended"]
			answer(t, at.ends, p.session, end.method, end.path, end.body)
			p.session = str(answer(t, at.gives, "", "POST", "/v1/auth/token", p.signIn), "access_token")
			key, method, path, body := gained(t, at.gives, p)
			if status, text := call(t, at.takes, key, method, path, body); status != 200 {
				t.Errorf("%s: %d %s", what, status, text)
			}
		}
	}
}

// A session that is spared when the password is changed may approve a device at once.
func TestWhoChangedHisPasswordSignsInADevice(t *testing.T) {
	behind, ahead := apart(t)
	p := newPerson(t, behind, "spared")
	end := ends["the password is changed"]
	answer(t, ahead, p.session, end.method, end.path, end.body)
	key, method, path, body := gains()["an approval of a device"](t, behind, p)
	if status, text := call(t, behind, key, method, path, body); status != 200 {
		t.Errorf("%d %s", status, text)
	}
}

// robot is an agent.
type robot struct{ id, key string }

func newRobot(t *testing.T, s *keyfoldtest.Server) robot {
	made := answer(t, s, s.APIKey, "POST", "/v1/agents", `{"name":"robot","scopes":["a","b"]}`)
	return robot{str(made["agent"].(map[string]any), "id"), str(made, "api_key")}
}

func (r robot) token(t *testing.T, s *keyfoldtest.Server) string {
	return str(answer(t, s, "", "POST", "/v1/auth/agent-token", `{"agent_id":"`+r.id+`","api_key":"`+r.key+`"}`), "access_token")
}

func (r robot) rotate(t *testing.T, s *keyfoldtest.Server) robot {
	return robot{r.id, str(answer(t, s, s.APIKey, "POST", "/v1/agents/"+r.id+"/rotate-key", ""), "api_key")}
}

// wants makes a call by a token of an agent's.
func wants(t *testing.T, s *keyfoldtest.Server, what, token string, want int) {
	t.Helper()
	if status, body := call(t, s, token, "GET", "/v1/agents/me", ""); status != want {
		t.Errorf("%s: %d %s, want %d", what, status, body, want)
	}
}

func TestATokenOfAnAgentFromAServerAheadIsEndedByOneBehind(t *testing.T) {
	behind, ahead := apart(t)
	for what, end := range map[string]func(robot){
		"its key was rotated": func(r robot) { r.rotate(t, behind) },
		"it was stopped": func(r robot) {
			answer(t, behind, behind.APIKey, "PATCH", "/v1/agents/"+r.id, `{"is_active":false}`)
			answer(t, behind, behind.APIKey, "PATCH", "/v1/agents/"+r.id, `{"is_active":true}`)
		},
		"it may less": func(r robot) { answer(t, behind, behind.APIKey, "PATCH", "/v1/agents/"+r.id, `{"scopes":["a"]}`) },
	} {
		r := newRobot(t, behind)
		old := r.token(t, ahead)
		wants(t, behind, "before", old, 200)
		end(r)
		for range 2 {
			wants(t, behind, what, old, 401)
			wants(t, ahead, what, old, 401)
			behind.Advance(5 * time.Minute)
		}
	}
}

// The second end, at the server behind, does not take back the first, at the one ahead.
func TestADeadTokenOfAnAgentStaysDead(t *testing.T) {
	behind, ahead := apart(t)
	r := newRobot(t, behind)
	old := r.token(t, ahead)
	r = r.rotate(t, ahead)
	next := r.token(t, ahead) // of a time past the first end
	wants(t, behind, "of the key before", old, 401)
	wants(t, behind, "of the new key", next, 200)
	behind.Advance(time.Second)
	r.rotate(t, behind)
	wants(t, behind, "rotated twice", old, 401)
	wants(t, behind, "rotated once", next, 401)
	behind.Advance(5 * time.Minute)
	wants(t, ahead, "rotated twice", old, 401)
	wants(t, ahead, "rotated once", next, 401)
}

func TestATokenOfANewKeyLivesAtOnce(t *testing.T) {
	behind, ahead := apart(t)
	r := newRobot(t, behind).rotate(t, ahead)
	wants(t, behind, "from the server behind", r.token(t, behind), 200)
	wants(t, behind, "from the server ahead", r.token(t, ahead), 200)
	r = r.rotate(t, behind)
	wants(t, behind, "from the same server", r.token(t, behind), 200)
	wants(t, ahead, "at the other", r.token(t, behind), 200)
}
