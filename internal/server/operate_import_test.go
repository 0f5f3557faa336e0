package server_test

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// importer is a server that imports keys, with two threads.
type importer struct {
	*world
	ids     [2]string
	message string
}

func newImporter(t *testing.T, opts ...keyfoldtest.Option) importer {
	w := newWorld(t, opts...)
	w.admin = w.newAdmin()
	thread, other := w.thread(), w.thread()
	return importer{w, [2]string{strings.TrimPrefix(thread, "/v1/threads/"), strings.TrimPrefix(other, "/v1/threads/")}, w.said(thread)}
}

const rewrapDEKs = "POST /admin/encryption/rewrap-deks"

// rewrap asks for a rewrap of threads, or all, with a key.
func (w importer) rewrap(key string, status int, threads ...string) answer {
	w.t.Helper()
	which := `"all":true`
	if len(threads) > 0 {
		which = `"thread_ids":["` + strings.Join(threads, `","`) + `"]`
	}
	return w.do(scenario{key: w.admin, call: rewrapDEKs, body: `{` + which + `,"new_kek_hex":"` + key + `"}`, status: status})
}

func randomHex() string {
	raw := make([]byte, 32)
	rand.Read(raw)
	return hex.EncodeToString(raw)
}

// mustBeUnder fails unless so many threads' records name a version of the KEK.
func (w importer) mustBeUnder(want map[int]int) {
	w.t.Helper()
	got := map[int]int{}
	for _, th := range decode[api.Threads](w.t, w.do(scenario{key: w.admin, call: "GET /admin/threads", status: 200})).Threads {
		got[int(th.KMS.KEKVersion)]++
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		w.t.Errorf("threads by version: %v, want %v", got, want)
	}
}

func TestAnOperatorImportsAKEKWhereTheKeyProcessAllowsIt(t *testing.T) {
	w := newImporter(t, keyfoldtest.AsDev())
	reads := func() {
		t.Helper()
		w.do(scenario{call: "GET " + w.message, status: 200, want: []string{canary}, reads: true})
	}
	key := decode[api.GeneratedKEK](t, w.do(scenario{key: w.admin, call: "POST /admin/encryption/generate-kek", status: 200})).KEKHex
	for range 2 { // the answer of the first was lost
		done := decode[api.DEKRewraps](t, w.rewrap(key, 200, w.ids[0]))
		if len(done) != 1 {
			t.Errorf("%+v", done)
		}
		for id, d := range done {
			if d != (api.DEKRewrap{Status: "ok", KEKID: "threads", KEKVersion: 2}) {
				t.Errorf("%s: %+v", id, d)
			}
		}
		w.mustBeUnder(map[int]int{1: 1, 2: 1})
	}
	reads()
	if done := decode[api.DEKRewraps](t, w.rewrap(strings.ToUpper(randomHex()), 200)); len(done) != 2 {
		t.Errorf("%+v", done)
	}
	w.mustBeUnder(map[int]int{3: 2})
	reads()
	w.said("/v1/threads/" + w.ids[1])
	w.thread()
	w.mustBeUnder(map[int]int{3: 3})
	backend := w.backend()
	w.use(backend)
	w.unchanged(func() {
		for want, bad := range map[string][]string{
			"64 hex digits":                   {key[:62], key[:63], key + "00", key + key, "0x" + key[2:], " " + key[1:], "zz" + key[2:], base64.StdEncoding.EncodeToString(make([]byte, 32)), "null"},
			"random generator":                {strings.Repeat("0", 64), strings.Repeat("f", 64), strings.Repeat("ab", 32), hex.EncodeToString([]byte("a password that people remember!"))},
			"is version 2 of the KEK already": {key, strings.ToUpper(key)},
		} {
			for _, text := range bad {
				if a := w.rewrap(text, 400); !strings.Contains(a.body, want) {
					t.Errorf("%d digits: %s; want %q", len(text), a.body, want)
				}
			}
		}
		fresh := randomHex()
		for _, body := range []string{`{"new_kek_hex":"` + fresh + `"}`, `{"all":false,"thread_ids":[],"new_kek_hex":"` + fresh + `"}`, `{"all":true,"thread_ids":["x"],"new_kek_hex":"` + fresh + `"}`,
			`{"all":true,"new_kek_hex":["` + fresh + `"]}`, `{"all":true,"new_kek_hex":"` + fresh} {
			if a := w.do(scenario{key: w.admin, call: rewrapDEKs, body: body, status: 400}); strings.Contains(a.body, fresh) {
				t.Error("the answer has the key")
			}
		}
		for _, who := range []string{w.APIKey, backend, "-"} {
			w.do(scenario{key: who, call: rewrapDEKs, body: `{"all":true,"new_kek_hex":"` + fresh + `"}`, status: map[bool]int{true: 401, false: 403}[who == "-"]})
		}
	})
	w.do(scenario{key: w.admin, call: rewrapDEKs, body: `{"all":true,"new_kek_hex":""}`, status: 200}) // which is no key
	w.mustBeUnder(map[int]int{3: 3})
	if trail := w.text(w.admin, "/admin/audit/export"); strings.Count(trail, "kek.import") < 3 {
		t.Error("the operator's trail lacks kek.import")
	}
}

func TestAnImportIntoAServerWithoutThreadsIsDone(t *testing.T) {
	w := newWorld(t, keyfoldtest.AsDev())
	w.admin = w.newAdmin()
	if a := (importer{world: w}).rewrap(randomHex(), 200); a.body != "{}" {
		t.Error(a.body)
	}
	w.thread()
	importer{world: w}.mustBeUnder(map[int]int{2: 1})
}

func TestNoKEKIsImportedWhereTheKeyProcessDoesNotAllowIt(t *testing.T) {
	w := newImporter(t)
	if a := w.rewrap(randomHex(), 400); !strings.Contains(a.body, "allow_kek_import") || !strings.Contains(a.body, "rotate the KEK instead") {
		t.Error(a.body)
	}
	w.do(scenario{key: w.admin, call: rewrapDEKs, body: `{"all":true}`, status: 200})
	w.mustBeUnder(map[int]int{1: 2})
}

func TestAKEKIsTakenWhereNobodyReadsAlongAlone(t *testing.T) {
	w := newImporter(t, keyfoldtest.AsDev())
	call := func(addr string, state *tls.ConnectionState) answer {
		r := httptest.NewRequestWithContext(t.Context(), "POST", "/admin/encryption/rewrap-deks", strings.NewReader(`{"all":true,"new_kek_hex":"`+randomHex()+`"}`))
		r.Header.Set("Authorization", "Bearer "+w.admin)
		r.RemoteAddr, r.TLS = addr, state
		rec := httptest.NewRecorder()
		w.Node().Handler.ServeHTTP(rec, r)
		return answer{rec.Code, rec.Result().Header, rec.Body.String()}
	}
	if a := call("203.0.113.9:4711", nil); a.status != 400 || !strings.Contains(a.body, "use https") {
		t.Errorf("over plain HTTP: %d %s", a.status, a.body)
	}
	w.mustBeUnder(map[int]int{1: 2})
	for version, a := range map[int]answer{2: call("203.0.113.9:4711", new(tls.ConnectionState)), 3: call("127.0.0.1:4711", nil)} {
		if a.status != 200 {
			t.Errorf("%d: %d %s", version, a.status, a.body)
		}
	}
}

// Whatever came of it, what was sent is nowhere: not in an answer, the log, a
// metric, a trail or a row, of the server's or the key process's.
func TestAKEKThatIsSentIsInNoAnswerLogMetricTrailOrRow(t *testing.T) {
	for _, opts := range [][]keyfoldtest.Option{nil, {keyfoldtest.AsDev()}} {
		w := newImporter(t, opts...)
		var all strings.Builder
		secret := make([]byte, 32)
		rand.Read(secret)
		key := hex.EncodeToString(secret)
		for _, sent := range []string{key, key, strings.ToUpper(key), randomHex(), key, key[:62], key + "00", "g" + key[1:], base64.StdEncoding.EncodeToString(secret)} {
			for _, body := range []string{`{"all":true,"new_kek_hex":"` + sent + `"}`, `{"all":true,"new_kek_hex":["` + sent + `"]}`, `{"all":true,"` + sent + `":"","new_kek_hex":"` + sent + `"`, `{"thread_ids":["` + w.ids[0] + `"],"new_kek_hex":"` + sent + `"}`} {
				r := httptest.NewRequestWithContext(t.Context(), "POST", "/admin/encryption/rewrap-deks", strings.NewReader(body))
				r.Header.Set("Authorization", "Bearer "+w.admin)
				r.Header.Set("Idempotency-Key", fmt.Sprint(len(all.String()))) // another for each
				r.RemoteAddr = "127.0.0.1:4711"
				rec := httptest.NewRecorder()
				w.Node().Handler.ServeHTTP(rec, r)
				fmt.Fprintln(&all, rec.Code, rec.Header(), rec.Body)
				if rec.Code >= 500 {
					t.Errorf("%d %s", rec.Code, rec.Body)
				}
			}
		}
		all.WriteString(w.text(w.admin, "/admin/audit/export") + w.text(w.admin, "/admin/debug/prometheus"))
		if !strings.Contains(all.String(), "kek.import") || strings.Contains(all.String(), `"kek_version":3`) != (opts != nil) {
			t.Errorf("%s", all.String())
		}
		for form, text := range map[string]string{
			"raw": string(secret[1:31]), "hex": key[2:60], "HEX": strings.ToUpper(key[2:60]), "base64": base64.StdEncoding.EncodeToString(secret)[2:40],
			"base64url": base64.RawURLEncoding.EncodeToString(secret)[2:40], "decimal": strings.Trim(fmt.Sprint(secret[1:31]), "[]"),
		} {
			w.MustNotHold(t, text)
			if strings.Contains(all.String(), text) {
				t.Errorf("it turns up as %s", form)
			}
		}
	}
}
