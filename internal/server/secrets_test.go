package server_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
)

func TestASecretsLife(t *testing.T) {
	w := newWorld(t)
	v := w.vault(false)
	value := `{"value":"` + canary + `","type":"password","metadata":{"team":"pay"}}`
	for _, c := range []scenario{
		{call: "PUT " + v + "/secrets/db/pw", body: value, status: 201, want: []string{`"path":"db/pw"`, `"version":1`, `"type":"password"`, `"metadata":{"team":"pay"}`}, forbid: []string{`"value"`}},
		{call: "PUT " + v + "/secrets/db/pw", body: value, status: 201, want: []string{`"version":2`}},
		{call: "PUT " + v + "/secrets/db", body: `{"value":""}`, status: 201, want: []string{`"version":1`, `"type":"generic"`}},
		{call: "GET " + v + "/secrets/db/pw", status: 200, reads: true, want: []string{`"value":"` + canary, `"version":2`, `"cmek_encrypted":false`, `"created_by":"user:` + w.Owner.ID}, headers: []string{"X-Keyfold-Cmek-Fingerprint:"}},
		{call: "GET " + v + "/secrets/db", status: 200, want: []string{`"value":""`}},
		{call: "GET " + v + "/secret-version/db/pw/1", status: 200, reads: true, want: []string{`"version":1`, canary}},
		{call: "GET " + v + "/secret-version/db/pw/3", status: 404},
		{call: "GET " + v + "/secrets", status: 200, want: []string{`"path":"db"`, `"path":"db/pw"`}, forbid: []string{`"value"`}},
		{call: "GET " + v + "/secrets?prefix=db/", status: 200, want: []string{`"path":"db/pw"`}, forbid: []string{`"path":"db"`}},
		{call: "GET " + v + "/secrets?prefix=nothing", status: 200, want: []string{`{"secrets":[]}`}},
		{call: "GET " + v + "/secret-versions/db/pw", status: 200, want: []string{`"version":2`, `"version":1`, `"is_disabled":false`}},
		{call: "POST " + v + "/secret-version-disable/db/pw/2", status: 204, header: []string{"Content-Type", "application/json"}},
		{call: "GET " + v + "/secrets/db/pw", status: 410},
		{call: "GET " + v + "/secret-version/db/pw/2", status: 410},
		{call: "GET " + v + "/secret-version/db/pw/1", status: 200, reads: true},
		{call: "GET " + v + "/secret-versions/db/pw", status: 200, want: []string{`"is_disabled":true`}},
		{call: "POST " + v + "/secret-rotate/db/pw", status: 201, want: []string{`"version":3`, `"type":"password"`}, forbid: []string{`"value"`}},
		{call: "POST " + v + "/secret-rotate/db/pw", body: `{"length":8,"charset":"alphanumeric","type":"api_key"}`, status: 201, want: []string{`"version":4`, `"type":"api_key"`}},
		{call: "POST " + v + "/secret-rotate/db/pw", body: `{"length":7}`, status: 400},
		{call: "DELETE " + v + "/secrets/db/pw", status: 204},
		{call: "GET " + v + "/secrets/db/pw", status: 410},
		{call: "GET " + v + "/secrets", status: 200, want: []string{`"path":"db"`}, forbid: []string{`"path":"db/pw"`}},
		{call: "GET " + v + "/secrets/never", status: 404},
		{call: "PUT " + v + "/secrets/db/pw", body: value, status: 201, want: []string{`"version":5`}},
	} {
		w.do(c)
	}
}

func TestASealedVaultTakesBlobsAndNamesTheirKey(t *testing.T) {
	w := newWorld(t)
	v := w.vault(true)
	secret := v + "/secrets/a"
	declare := func(print string) []string { return []string{"X-Keyfold-Cmek-Fingerprint", print} }
	named := []string{"X-Keyfold-Cmek-Fingerprint: " + fingerprint}
	for _, c := range []scenario{
		{call: "PUT " + secret, body: `{"value":"` + blob + `"}`, status: 201},
		{call: "PUT " + secret, body: `{"value":"` + blob + `"}`, header: declare(fingerprint), status: 201},
		{call: "PUT " + secret, body: `{"value":"` + blob + `"}`, header: declare(otherPrint), status: 409, want: []string{`"type":"cmek_key_mismatch"`}},
		{call: "PUT " + secret, body: `{"value":"` + canary + `"}`, status: 400, want: []string{`"type":"cmek_blob_required"`}},
		{call: "POST " + v + "/secret-rotate/a", status: 400},
		{call: "GET " + secret, status: 200, want: []string{`"value":"` + blob, `"cmek_encrypted":true`, `"version":2`}, headers: named},
		{call: "GET " + v + "/secret-version/a/1", status: 200, headers: named},
		{call: "DELETE " + v + "/cmek", status: 200},
		{call: "PUT " + secret, body: `{"value":"` + canary + `"}`, status: 201},
		{call: "GET " + secret, status: 200, reads: true, want: []string{`"cmek_encrypted":false`}, headers: []string{"X-Keyfold-Cmek-Fingerprint:"}},
		{call: "GET " + v + "/secret-version/a/2", status: 200, want: []string{`"cmek_encrypted":true`}, headers: named},
	} {
		w.do(c)
	}
}

// A client sends a path raw or percent-encoded as a whole; both name the same
// secret on all five routes.
func TestARawAndAnEncodedPathAreTheSameSecret(t *testing.T) {
	w := newWorld(t)
	v := w.vault(false)
	for i, path := range []string{"a/b-c/D_1", "a%2Fb-c%2FD_1", "a%2fb-c/D_1", "%61/b%2Dc/D%5F1"} {
		n := 2*i + 1
		is := []string{`"path":"a/b-c/D_1"`, fmt.Sprintf(`"version":%d`, n)}
		for _, c := range []scenario{
			{call: "PUT " + v + "/secrets/" + path, body: `{"value":"x"}`, status: 201, want: is},
			{call: "GET " + v + "/secrets/" + path, status: 200, want: is},
			{call: "GET " + v + "/secret-versions/" + path, status: 200, want: is},
			{call: fmt.Sprintf("GET %s/secret-version/%s/%d", v, path, n), status: 200, want: is},
			{call: fmt.Sprintf("GET %s/secret-version/%s%%2F%d", v, path, n), status: 200, want: is},
			{call: "POST " + v + "/secret-rotate/" + path, status: 201, want: []string{fmt.Sprintf(`"version":%d`, n+1)}},
			{call: fmt.Sprintf("POST %s/secret-version-disable/%s/%d", v, path, n), status: 204},
			{call: fmt.Sprintf("GET %s/secret-version/%s/%d", v, path, n), status: 410},
		} {
			w.do(c)
		}
	}
	w.do(scenario{call: "DELETE " + v + "/secrets/a%2Fb-c%2FD_1", status: 204})
	w.do(scenario{call: "GET " + v + "/secrets/a/b-c/D_1", status: 410})
}

func TestAWriteMayRequireTheNewestVersion(t *testing.T) {
	w := newWorld(t)
	secret := w.vault(false) + "/secrets/a"
	put := func(ifMatch string, status int) {
		t.Helper()
		w.do(scenario{call: "PUT " + secret, header: []string{"If-Match", ifMatch}, body: `{"value":"x"}`, status: status})
	}
	put(`"1"`, 412)
	w.do(scenario{call: "PUT " + secret, body: `{"value":"x"}`, status: 201})
	put(`"1"`, 201)
	put(`"1"`, 412)
	put(`"2"`, 201)
	w.unchanged(func() {
		for _, malformed := range []string{"3", `"3`, `3"`, `W/"3"`, `"0"`, `"-3"`, `"+3"`, `"03"`, `"3", "4"`, `*`, `""`, `" 3"`, `"3000000000"`, `"x"`} {
			put(malformed, 400)
		}
	})
}

// A guard that is there in part must not be taken for none.
func TestAGuardThatIsEmptyOrSentTwiceStoresNothing(t *testing.T) {
	w := newWorld(t)
	plain, sealed := w.vault(false)+"/secrets/a", w.vault(true)+"/secrets/a"
	w.do(scenario{call: "PUT " + plain, body: `{"value":"x"}`, status: 201})
	w.unchanged(func() {
		for _, header := range [][]string{
			{"If-Match", ""}, {"If-Match", " "}, {"If-Match", `"1"`, "If-Match", `"1"`}, {"If-Match", "", "If-Match", `"99"`},
			{"If-None-Match", "*"}, {"If-None-Match", `"1"`}, {"If-None-Match", ""}, {"If-None-Match", "*", "If-None-Match", "*"},
		} {
			w.do(scenario{call: "PUT " + plain, header: header, body: `{"value":"x"}`, status: 400})
		}
		const declare = "X-Keyfold-Cmek-Fingerprint"
		for _, header := range [][]string{{declare, ""}, {declare, fingerprint, declare, otherPrint}, {declare, fingerprint, declare, fingerprint}} {
			w.do(scenario{call: "PUT " + sealed, header: header, body: `{"value":"` + blob + `"}`, status: 400})
		}
	})
}

func TestReadsRunOutAndExpire(t *testing.T) {
	w := newWorld(t)
	v := w.vault(false)
	w.do(scenario{call: "PUT " + v + "/secrets/once", body: `{"value":"` + canary + `","max_access_count":2}`, status: 201})
	w.do(scenario{call: "GET " + v + "/secrets/once", status: 200, reads: true})
	w.do(scenario{call: "HEAD " + v + "/secrets/once", status: 405, headers: []string{"Allow: DELETE, GET, PUT"}})
	w.do(scenario{call: "GET " + v + "/secret-version/once/1", status: 200, reads: true})
	w.do(scenario{call: "GET " + v + "/secrets/once", status: 410})
	w.do(scenario{call: "PUT " + v + "/secrets/soon", body: `{"value":"` + canary + `","expires_at":"` + w.Now().Add(time.Minute).UTC().Format(time.RFC3339) + `"}`, status: 201})
	w.do(scenario{call: "GET " + v + "/secrets/soon", status: 200, reads: true})
	w.Advance(time.Hour)
	w.do(scenario{call: "GET " + v + "/secrets/soon", status: 410})
}

func TestValuesComeBackToTheByte(t *testing.T) {
	w := newWorld(t)
	v := w.vault(false)
	for i, value := range []string{"", "\x00\x01\x1f", "quotes \" and \\", "line\r\nline\t", "ключ🔑\u2028\u2029", "<script>&amp;", strings.Repeat("x", 1<<20)} {
		path := fmt.Sprintf("%s/secrets/v%d", v, i)
		w.do(scenario{call: "PUT " + path, body: `{"value":` + quote(t, value) + `}`, status: 201})
		if got := decode[api.Secret](t, w.do(scenario{call: "GET " + path, status: 200})); got.Value != value {
			t.Errorf("value %d came back as %.40q", i, got.Value)
		}
	}
}

// 5 MB, sealed and in base64, as the largest secret that clients promise to keep.
func TestFiveMegabytesFit(t *testing.T) {
	w := newWorld(t)
	secret := w.vault(false) + "/secrets/binary"
	value := strings.Repeat("A", (5_000_000+29+2)/3*4)
	w.do(scenario{call: "PUT " + secret, body: `{"value":"` + value + `","type":"file"}`, status: 201})
	if got := decode[api.Secret](t, w.do(scenario{call: "GET " + secret, status: 200})); got.Value != value {
		t.Errorf("%d bytes came back of %d", len(got.Value), len(value))
	}
}

// Who wrote a version is behind an opt-in, since published clients read the lists
// strictly.
func TestListsSayWhoWroteWhatWhenAsked(t *testing.T) {
	w := newWorld(t)
	v := w.vault(false)
	w.do(scenario{call: "PUT " + v + "/secrets/a", body: `{"value":"` + canary + `"}`, status: 201})
	by := []string{`"created_by":"user:` + w.Owner.ID + `","cmek_encrypted":false`}
	for _, list := range []string{"/secrets", "/secret-versions/a"} {
		for query, want := range map[string][]string{"?details=true": by, "?details=false": nil, "": nil} {
			sc := scenario{call: "GET " + v + list + query, status: 200, want: want}
			if want == nil {
				sc.forbid = []string{"created_by", "cmek_encrypted"}
			}
			w.do(sc)
		}
		w.do(scenario{call: "GET " + v + list + "?details=1", status: 400, want: []string{"details is true or false"}})
	}
}
