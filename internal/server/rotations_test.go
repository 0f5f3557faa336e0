package server_test

import (
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// turning is a world with a vault whose key is rotated.
type turning struct {
	*world
	vault      string // its path
	old, fresh *cmek.Key
	canaries   []string // texts of both keys
}

func newTurning(t *testing.T, opts ...keyfoldtest.Option) *turning {
	t.Helper()
	w := &turning{world: newWorld(t, opts...), old: cmek.Generate(), fresh: cmek.Generate()}
	w.vault = w.world.vault(false)
	w.do(scenario{call: "POST " + w.vault + "/cmek", body: fmt.Sprintf(`{"fingerprint":%q,"key_check":%q}`, w.old.Fingerprint(), w.old.Check(w.id())), status: 200})
	for _, k := range []*cmek.Key{w.old, w.fresh} {
		raw := k.Bytes()
		w.canaries = append(w.canaries, string(raw), text(k), base64.RawURLEncoding.EncodeToString(raw), hex.EncodeToString(raw))
	}
	t.Cleanup(func() { w.MustNotHold(t, w.canaries...) })
	return w
}

func (w *turning) id() string { return strings.TrimPrefix(w.vault, "/v1/vaults/") }

// text is a key as a header has it.
func text(k *cmek.Key) string { return base64.StdEncoding.EncodeToString(k.Bytes()) }

// fill writes n versions under the old key.
func (w *turning) fill(n int) {
	w.t.Helper()
	for i := range n {
		value, err := cmek.EncryptValue(w.old, []byte(canary))
		if err != nil {
			w.t.Fatal(err)
		}
		w.do(scenario{call: fmt.Sprintf("PUT %s/secrets/p%d", w.vault, i%3), body: `{"value":"` + value + `"}`, status: 201})
	}
}

func (w *turning) body() string {
	return fmt.Sprintf(`{"new_fingerprint":%q,"new_key_check":%q}`, w.fresh.Fingerprint(), w.fresh.Check(w.id()))
}

func (w *turning) headers() []string {
	return []string{"x-cmek-old-key", text(w.old), "x-cmek-new-key", text(w.fresh)}
}

// ends waits for the rotation and shows it.
func (w *turning) ends(a answer) api.CMEKRotationJob {
	w.t.Helper()
	j := decode[api.CMEKRotationJob](w.t, a)
	if j.Status != "running" && j.Status != "completed" {
		w.t.Errorf("the first answer says %q", j.Status)
	}
	if _, err := w.Node().Jobs.Wait(w.t.Context(), j.ID); err != nil {
		w.t.Fatal(err)
	}
	location := w.vault + "/cmek-rotate/" + j.ID
	if got := a.header.Get("Location"); got != location {
		w.t.Errorf("Location is %q, want %q", got, location)
	}
	shown := w.do(scenario{call: "GET " + location, status: 200, forbid: w.canaries})
	checkMembers(w.t, "GET "+location, "CMEKRotationJob", object(w.t, shown))
	return decode[api.CMEKRotationJob](w.t, shown)
}

func (w *turning) readsUnder(k *cmek.Key) {
	w.t.Helper()
	for _, path := range []string{"/secrets/p0", "/secret-version/p0/1"} {
		a := w.do(scenario{call: "GET " + w.vault + path, status: 200, headers: []string{"X-Keyfold-Cmek-Fingerprint: " + k.Fingerprint()}})
		plaintext, err := cmek.DecryptValue(k, decode[api.Secret](w.t, a).Value)
		if err != nil || string(plaintext) != canary {
			w.t.Errorf("%s opens as %q, %v", path, plaintext, err)
		}
	}
}

func TestAVaultIsRotatedWithKeysInHeaders(t *testing.T) {
	w := newTurning(t)
	w.fill(7)
	j := w.ends(w.do(scenario{call: "POST " + w.vault + "/cmek-rotate", header: w.headers(), body: w.body(), status: 202, forbid: w.canaries}))
	if j.Status != "completed" || j.TotalSecrets != 7 || j.Processed != 7 || j.OldFingerprint != w.old.Fingerprint() || j.NewFingerprint != w.fresh.Fingerprint() {
		t.Errorf("it ended as %+v", j)
	}
	w.readsUnder(w.fresh)
	w.do(scenario{call: "GET " + w.vault + "/cmek", status: 200, want: []string{`"fingerprint":"` + w.fresh.Fingerprint(), `"key_check":"` + w.fresh.Check(w.id()), `"versions":7`, `"newest":3`}})
	w.do(scenario{call: "GET " + w.vault + "/cmek?keys=maybe", status: 400, want: []string{"keys is true or false"}})
	w.do(scenario{call: "GET " + w.vault + "/cmek?keys=false", status: 200, forbid: []string{`"versions"`, `"keys"`}})
	w.do(scenario{call: "POST " + w.vault + "/cmek-rotate", header: w.headers(), body: w.body(), status: 400})
	events := w.do(scenario{call: "GET /v1/audit/events?limit=100", status: 200, forbid: w.canaries})
	for _, action := range []string{"vault.cmek_rotate", "cmek.rotate_start", "cmek.rotate_complete"} {
		if !strings.Contains(events.body, `"`+action+`"`) {
			t.Errorf("the trail lacks %s", action)
		}
	}
}

func TestAVaultIsRotatedWithSealedKeysOverAnyConnection(t *testing.T) {
	w := newTurning(t)
	w.fill(3)
	sealed, keyID := w.sealed("")
	w.do(scenario{call: "POST " + w.vault + "/cmek-rotate", body: strings.Replace(sealed, keyID, "none", 1), status: 400})
	w.do(scenario{call: "POST " + w.vault + "/cmek-rotate", header: w.headers(), body: sealed, status: 400}) // twice
	a := w.plain(http.Header{}, "203.0.113.9:4711", nil, sealed)
	if a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if j := w.ends(a); j.Status != "completed" || j.Processed != 3 {
		t.Errorf("it ended as %+v", j)
	}
	w.readsUnder(w.fresh)
}

// sealed is a request with both keys sealed to a one-time key, and that key's ID.
func (w *turning) sealed(check string) (body, keyID string) {
	w.t.Helper()
	key := decode[api.CMEKRotationKey](w.t, w.do(scenario{call: "GET " + w.vault + "/cmek-rotate-key", status: 200}))
	public, err := hpke.DHKEM(ecdh.P256()).NewPublicKey(key.PublicKey)
	if err != nil {
		w.t.Fatal(err)
	}
	info := strings.Join([]string{"keyfold/cmek-rotation/v1", w.id(), w.old.Fingerprint(), w.fresh.Fingerprint()}, "\n")
	enc, sender, err := hpke.NewSender(public, hpke.HKDFSHA256(), hpke.AES256GCM(), []byte(info))
	if err != nil {
		w.t.Fatal(err)
	}
	ciphertext, err := sender.Seal(nil, append(w.old.Bytes(), w.fresh.Bytes()...))
	if err != nil {
		w.t.Fatal(err)
	}
	out, _ := json.Marshal(api.RotateCMEK{NewFingerprint: w.fresh.Fingerprint(), NewKeyCheck: check, SealedKeys: &api.SealedCMEKKeys{KeyID: key.KeyID, Enc: enc, Ciphertext: ciphertext}})
	return string(out), key.KeyID
}

// A vault that keeps a wrong key check locks every client out.
func TestAKeyCheckThatIsNotTheNewKeysBeginsNoRotation(t *testing.T) {
	w := newTurning(t)
	w.fill(1)
	for what, check := range map[string]string{"the old key's": w.old.Check(w.id()), "another vault's": w.fresh.Check("another")} {
		sealed, _ := w.sealed(check)
		w.unchanged(func() {
			raw := fmt.Sprintf(`{"new_fingerprint":%q,"new_key_check":%q}`, w.fresh.Fingerprint(), check)
			for _, c := range []scenario{{header: w.headers(), body: raw}, {body: sealed}} {
				c.call, c.status = "POST "+w.vault+"/cmek-rotate", 400
				if got := decode[api.Problem](t, w.do(c)).Type; got != api.ProblemCMEKKeyCheck {
					t.Errorf("%s: type %q", what, got)
				}
			}
		})
	}
	sealed, _ := w.sealed(w.fresh.Check(w.id()))
	if j := w.ends(w.do(scenario{call: "POST " + w.vault + "/cmek-rotate", body: sealed, status: 202})); j.Status != "completed" {
		t.Errorf("with the right one it ended as %+v", j)
	}
	w.do(scenario{call: "GET " + w.vault + "/cmek?keys=false", status: 200, want: []string{`"key_check":"` + w.fresh.Check(w.id())}})
}

func TestHeadersThatAreNoKeysAreRefusedAndNotSaid(t *testing.T) {
	w := newTurning(t)
	w.fill(1)
	o, n := text(w.old), text(w.fresh)
	long := base64.StdEncoding.EncodeToString(append(w.old.Bytes(), 0))
	for what, c := range map[string]struct {
		header []string
		kind   string
	}{
		"none":          {nil, api.ProblemCMEKOldKey},
		"no old key":    {[]string{"x-cmek-new-key", n}, api.ProblemCMEKOldKey},
		"no new key":    {[]string{"x-cmek-old-key", o}, api.ProblemCMEKNewKey},
		"an empty one":  {[]string{"x-cmek-old-key", "", "x-cmek-new-key", n}, ""},
		"twice":         {[]string{"x-cmek-old-key", o, "x-cmek-old-key", o, "x-cmek-new-key", n}, ""},
		"hex":           {[]string{"x-cmek-old-key", hex.EncodeToString(w.old.Bytes()), "x-cmek-new-key", n}, api.ProblemCMEKOldKey},
		"base64url":     {[]string{"x-cmek-old-key", "-" + o[1:], "x-cmek-new-key", n}, api.ProblemCMEKOldKey},
		"no padding":    {[]string{"x-cmek-old-key", strings.TrimRight(o, "="), "x-cmek-new-key", n}, api.ProblemCMEKOldKey},
		"33 bytes":      {[]string{"x-cmek-old-key", long, "x-cmek-new-key", n}, api.ProblemCMEKOldKey},
		"the wrong way": {[]string{"x-cmek-old-key", n, "x-cmek-new-key", o}, api.ProblemCMEKOldKey},
		"the old twice": {[]string{"x-cmek-old-key", o, "x-cmek-new-key", o}, api.ProblemCMEKNewKey},
	} {
		w.unchanged(func() {
			forbid := append([]string{long}, w.canaries...)
			a := w.do(scenario{call: "POST " + w.vault + "/cmek-rotate", header: c.header, body: w.body(), status: 400, forbid: forbid})
			if got := decode[api.Problem](t, a).Type; c.kind != "" && got != c.kind {
				t.Errorf("%s: type %q, want %q: %s", what, got, c.kind, a.body)
			}
		})
	}
}

// plain calls a server over w's parts as somebody at addr.
func (w *turning) plain(header http.Header, addr string, state *tls.ConnectionState, body string) answer {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), "POST", w.vault+"/cmek-rotate", strings.NewReader(body))
	r.Header = header.Clone()
	r.Header.Set("Authorization", "Bearer "+w.APIKey)
	r.RemoteAddr, r.TLS = addr, state
	rec := httptest.NewRecorder()
	w.Node().Handler.ServeHTTP(rec, r)
	for _, name := range []string{api.HeaderCMEKOldKey, api.HeaderCMEKNewKey} {
		if r.Header.Get(name) != "" && rec.Code != 400 {
			w.t.Errorf("%s was left in the request", name)
		}
	}
	return answer{rec.Code, rec.Result().Header, rec.Body.String()}
}

func TestKeysInHeadersAreRefusedWhereOthersCanReadThem(t *testing.T) {
	w := newTurning(t)
	keys := http.Header{}
	keys.Set(api.HeaderCMEKOldKey, text(w.old))
	keys.Set(api.HeaderCMEKNewKey, text(w.fresh))
	forwarded := keys.Clone()
	forwarded.Set("X-Forwarded-For", "127.0.0.1")
	forwarded.Set("X-Forwarded-Proto", "https")
	half := http.Header{}
	half.Set(api.HeaderCMEKNewKey, text(w.fresh))
	for what, c := range map[string]http.Header{"plain HTTP": keys, "a proxy that nobody named": forwarded, "one key": half} {
		w.unchanged(func() {
			a := w.plain(c, "203.0.113.9:4711", nil, w.body())
			if p := decode[api.Problem](t, a); a.status != 400 || p.Type != api.ProblemCMEKTransport || !strings.Contains(p.Detail, "known to others") {
				t.Errorf("%s: %d %s", what, a.status, a.body)
			}
		})
	}
	for what, addr := range map[string]string{"this machine": "127.0.0.1:4711", "this machine, IPv6": "[::1]:4711", "this machine, mapped": "[::ffff:127.0.0.1]:4711"} {
		wrong := http.Header{} // so that nothing begins
		wrong.Set(api.HeaderCMEKOldKey, text(w.fresh))
		wrong.Set(api.HeaderCMEKNewKey, text(w.fresh))
		if a := w.plain(wrong, addr, nil, w.body()); decode[api.Problem](t, a).Type != api.ProblemCMEKOldKey {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	if a := w.plain(keys, "203.0.113.9:4711", new(tls.ConnectionState), w.body()); a.status != 202 {
		t.Errorf("TLS: %d %s", a.status, a.body)
	}
}

func TestARotationThatARestartMetIsInterruptedAndTheSameRequestGoesOn(t *testing.T) {
	w := newTurning(t, keyfoldtest.OnDisk(t.TempDir()))
	w.fill(3)
	first := decode[api.CMEKRotationJob](t, w.beginWhileDown())
	w.Restart()
	list := decode[api.CMEKRotations](t, w.do(scenario{call: "GET " + w.vault + "/cmek-rotations", status: 200}))
	if len(list.Rotations) != 1 || list.Rotations[0].ID != first.ID || list.Rotations[0].Status != "interrupted" || !strings.Contains(list.Rotations[0].Error, "both keys") {
		t.Errorf("after the restart: %+v", list)
	}
	w.readsUnder(w.old)
	w.do(scenario{call: "DELETE " + w.vault + "/cmek", status: 409, want: []string{`"type":"cmek_rotating"`}})
	w.HoldRotations(false)
	a := w.do(scenario{call: "POST " + w.vault + "/cmek-rotate", header: w.headers(), body: w.body(), status: 202})
	if j := w.ends(a); j.ID != first.ID || j.Status != "completed" || j.Processed != 3 {
		t.Errorf("it ended as %+v", j)
	}
	w.readsUnder(w.fresh)
}

func TestOneOrgHasAShareOfTheRotationsAndTakesNoneFromOthers(t *testing.T) {
	w := newTurning(t)
	w.HoldRotations(true)
	defer w.HoldRotations(false)
	again := []string{"Retry-After: 60"}
	var first api.CMEKRotationJob
	for i := range 10 {
		if i > 0 {
			w.reseal("")
		}
		w.fill(1)
		a := w.do(scenario{call: "POST " + w.vault + "/cmek-rotate", header: w.headers(), body: w.body(), status: 202})
		if i == 0 {
			first = decode[api.CMEKRotationJob](t, a)
		}
	}
	w.reseal("")
	w.fill(1)
	w.do(scenario{call: "POST " + w.vault + "/cmek-rotate", header: w.headers(), body: w.body(), status: 429, headers: again, forbid: w.canaries})
	w.do(scenario{call: "GET " + w.vault + "/cmek-rotations", status: 200, want: []string{`"rotations":[]`}})
	mine := w.vault
	w.do(scenario{call: "DELETE /v1/vaults/" + first.VaultID + "/cmek-rotate/" + first.ID, status: 200})
	w.do(scenario{call: "POST " + w.vault + "/cmek-rotate", header: w.headers(), body: w.body(), status: 202})
	for range 100 {
		w.do(scenario{call: "GET " + mine + "/cmek-rotate-key", status: 200})
	}
	w.do(scenario{call: "GET " + mine + "/cmek-rotate-key", status: 429, headers: again})
	w.reseal(w.stranger)
	w.do(scenario{key: w.stranger, call: "GET " + w.vault + "/cmek-rotate-key", status: 200})
	w.do(scenario{key: w.stranger, call: "POST " + w.vault + "/cmek-rotate", header: w.headers(), body: w.body(), status: 202})
}

// reseal takes another vault of whoever has key, sealed with the same old key.
func (w *turning) reseal(key string) {
	w.t.Helper()
	v := decode[api.Vault](w.t, w.do(scenario{key: key, call: "POST /v1/vaults", body: `{"name":"another"}`, status: 201}))
	w.vault = "/v1/vaults/" + v.ID
	w.do(scenario{key: key, call: "POST " + w.vault + "/cmek", body: fmt.Sprintf(`{"fingerprint":%q}`, w.old.Fingerprint()), status: 200})
}

// beginWhileDown begins a rotation that cannot do its first batch.
func (w *turning) beginWhileDown() answer {
	w.t.Helper()
	w.HoldRotations(true)
	a := w.do(scenario{call: "POST " + w.vault + "/cmek-rotate", header: w.headers(), body: w.body(), status: 202})
	j := decode[api.CMEKRotationJob](w.t, a)
	w.do(scenario{call: "GET " + w.vault + "/cmek-rotate/" + j.ID, status: 200, want: []string{`"status":"running"`}})
	other := cmek.Generate()
	w.do(scenario{call: "POST " + w.vault + "/cmek-rotate", header: []string{"x-cmek-old-key", text(w.old), "x-cmek-new-key", text(other)},
		body: `{"new_fingerprint":"` + other.Fingerprint() + `"}`, status: 409, want: []string{`"type":"cmek_rotating"`}})
	return a
}
