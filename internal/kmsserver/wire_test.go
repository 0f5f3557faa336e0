package kmsserver

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// b64 is standard base64, as the contract has it.
func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

func TestEveryCallAnswersAsTheContractSays(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		call, body string
		status     int
		want       string
	}{
		{"POST /create_dek_for_thread", `{"thread_id":"t1"}`, 200, `{"key_id":"dek-of-t1","wrapped":"` + b64("wrapped") + `","kek_id":"threads","kek_version":3}`},
		{"POST /encrypt", `{"key_id":"k","plaintext":"` + b64("hi") + `"}`, 200, `{"ciphertext":"` + b64("c:hi") + `","key_version":2}`},
		{"POST /encrypt", `{"key_id":"k","plaintext":"` + b64("hi") + `","aad":"` + b64("a") + `"}`, 200, `{"ciphertext":"` + b64("c:hi") + `","key_version":2}`},
		{"POST /decrypt", `{"key_id":"k","ciphertext":"` + b64("c:hi") + `"}`, 200, `{"plaintext":"` + b64("hi") + `"}`},
		{"GET /get_wrapped?key_id=k", ``, 200, `{"wrapped":"` + b64("wrapped") + `"}`},
		{"GET /healthz", ``, 200, `ok`},
		{"POST /seal", `{"kek_id":"v","plaintext":"` + b64("hi") + `"}`, 200, `{"kek_id":"v","kek_version":4,"wrapped_dek":"` + b64("wrapped") + `","ciphertext":"` + b64("c:hi") + `"}`},
		{"POST /open", `{"kek_id":"v","kek_version":4,"wrapped_dek":"` + b64("wrapped") + `","ciphertext":"` + b64("c:hi") + `"}`, 200, `{"plaintext":"` + b64("hi") + `"}`},
		{"POST /rewrap", `{"kek_id":"v","kek_version":4,"wrapped_dek":"` + b64("wrapped") + `"}`, 200, `{"wrapped_dek":"` + b64("rewrapped") + `","kek_id":"v","kek_version":5}`},
		{"POST /cmek_rotation_key", ``, 200, `{"key_id":"k","suite":"` + kmsapi.CMEKRotationSuite + `","public_key":"` + b64("public") + `","expires_at":"2026-11-22T00:00:00Z"}`},
		{"POST /cmek_rotation", rotation("a"), 200, `{"session":"session-of-v"}`},
		{"POST /cmek_rotation", "[" + rotation("a") + "," + rotation("missing") + "]", 200, `[{"session":"session-of-v"},{"index":1,"error":"there is no key of this ID","code":"not_found"}]`},
		{"GET /cmek_rotation/s", ``, 200, `{"alive":true}`},
		{"GET /cmek_rotation/missing", ``, 200, `{"alive":false}`},
		{"DELETE /cmek_rotation/s", ``, 200, `{}`},
		{"POST /reencrypt?session=s", `{"kek_id":"v","kek_version":4,"wrapped_dek":"` + b64("wrapped") + `","ciphertext":"` + b64("c:hi") + `"}`, 200,
			`{"kek_id":"v","kek_version":4,"wrapped_dek":"` + b64("fresh") + `","ciphertext":"` + b64("c:hi") + `","opened":"old"}`},
		{"POST /create_kek", `{"kek_id":"v"}`, 200, `{"kek_id":"v","kek_version":1}`},
		{"POST /create_kek", `[{"kek_id":"v"},{"kek_id":"w"}]`, 200, `[{"kek_id":"v","kek_version":1},{"kek_id":"w","kek_version":1}]`},
		{"POST /encrypt", `[{"key_id":"k","plaintext":"` + b64("a") + `"},{"key_id":"missing","plaintext":"` + b64("b") + `"}]`, 200,
			`[{"ciphertext":"` + b64("c:a") + `","key_version":2},{"index":1,"error":"there is no key of this ID","code":"not_found"}]`},
		{"POST /encrypt", `[]`, 200, `[]`},
		{"GET /keys?after=k&limit=5&deks=true&count=false", ``, 200, `{"next":"k+"}`},
		{"GET /list_keks?after=k&limit=5&count=true", ``, 200, `{"root":"file","wrap_limit":0,"keks":[],"next":"k"}`},
		{"POST /list_deks", `{"key_ids":["k","l"]}`, 200, `{"seal_limit":2,"deks":[]}`},
		{"POST /release_kek", `{"kek_id":"v","below":2}`, 200, `{}`},
		{"POST /destroy_kek_version", `{"kek_id":"v","kek_version":1}`, 200, `{}`},
		{"POST /shred_dek", `{"key_id":"k"}`, 200, `{}`},
		{"DELETE /jobs/j1", ``, 200, `{}`},
		{"GET /export_breakglass", ``, 200, `row`},
		{"GET /backup", ``, 200, `backup`},

		{"POST /create_dek_for_thread", `{"thread_id":""}`, 400, `thread_id`},
		{"POST /create_dek_for_thread", `{}`, 400, `thread_id`},
		{"POST /create_dek_for_thread", ``, 400, `"code":"invalid"`},
		{"POST /encrypt", `{"key_id":"k","plaintext":"!"}`, 400, `base64`},
		{"POST /encrypt", `{"key_id":"k","plaintext":"` + b64("hi") + `","add":"` + b64("a") + `"}`, 400, `does not know`},
		{"POST /encrypt", `{"key_id":"missing","plaintext":"` + b64("hi") + `"}`, 404, `{"error":"there is no key of this ID","code":"not_found"}`},
		{"GET /get_wrapped?key_id=missing", ``, 404, `{"error":"there is no key of this ID","code":"not_found"}`},
		{"GET /get_wrapped", ``, 400, `key_id`},
		{"GET /get_wrapped?key_id=%zz", ``, 400, `query`},
		{"GET /keys?limit=0", ``, 400, `limit`},
		{"GET /keys?limit=1001", ``, 400, `limit`},
		{"GET /keys?deks=yes", ``, 400, `deks`},
		{"GET /list_keks?limit=1001", ``, 400, `limit`},
		{"GET /list_keks?count=yes", ``, 400, `count`},
		{"GET /list_keks?after=%zz", ``, 400, `query`},
		{"POST /list_deks", `{}`, 400, `key_ids`},
		{"POST /list_deks", `{"key_ids":[]}`, 200, `{"seal_limit":0,"deks":[]}`},
		{"POST /list_deks", `{"key_ids":["k"],"deks":1}`, 400, `does not know`},
		{"POST /rotate_kek", `{}`, 400, `either`},
		{"POST /rotate_kek", `{"kek_id":"v","all":true}`, 400, `either`},
		{"POST /rotate_kek", `{"kek_id":"v","ifversion":1}`, 400, `does not know`},
		{"POST /release_kek", `{"kek_id":"v"}`, 400, `below`},
		{"POST /release_kek", `{"below":1}`, 400, `kek_id`},
		{"POST /destroy_kek_version", `{"kek_id":"v"}`, 400, `kek_version`},
		{"POST /destroy_kek_version", `{"kek_version":1}`, 400, `kek_id`},
		{"POST /destroy_kek_version", `{"kek_id":"v","kek_version":-1}`, 400, `kek_version`},
		{"POST /shred_dek", `{}`, 400, `key_id`},
		{"POST /cmek_rotation", `{"old":"` + b64("a") + `"}`, 400, `vault`},
		{"POST /cmek_rotation", `{"vault":"v","old_fingerprint":"f"}`, 400, `new_fingerprint`},
		{"POST /cmek_rotation", `{"vault":"v","old_fingerprint":"f","new_fingerprint":"g","old":"!"}`, 400, `base64`},
		{"POST /cmek_rotation", rotation("missing"), 404, `{"error":"there is no key of this ID","code":"not_found"}`},
		{"POST /cmek_rotation", rotation(strings.Repeat("a", maxSmall)), 413, `"code":"too_large"`},
		{"POST /reencrypt", `{"kek_id":"v","kek_version":4,"wrapped_dek":"AA==","ciphertext":"AA=="}`, 400, `session`},
		{"POST /reencrypt?session=s", `{"kek_id":"v","kek_version":4,"wrapped_dek":"AA=="}`, 400, `ciphertext`},
		{"POST /reencrypt?session=missing", `{"kek_id":"v","kek_version":4,"wrapped_dek":"AA==","ciphertext":"AA=="}`, 404, `"type":"cmek_session_gone"`},
		{"GET /nowhere", ``, 404, `"code":"not_found"`},
		{"GET /encrypt", ``, 405, `"code":"method_not_allowed"`},
	} {
		a := r.do(r.client(bothUID), c.call, "", c.body)
		ok := strings.TrimSuffix(a.body, "\n") == c.want
		if c.status >= 400 {
			ok = strings.Contains(a.body, c.want) && strings.HasPrefix(a.body, `{"error":"`) && strings.Contains(a.body, `","code":"`) && a.header.Get("Content-Type") == "application/json"
		}
		if a.status != c.status || !ok {
			t.Errorf("%s %s\n have %d %s\n want %d %s", c.call, c.body, a.status, a.body, c.status, c.want)
		}
	}
	if a := r.do(r.client(bothUID), "POST /rotate_kek", "", `{"kek_id":"v"}`); a.status != 202 || !strings.HasPrefix(a.body, `{"kek_id":"v","kek_version":6,"job":{"job_id":"j1",`) {
		t.Errorf("rotate: %d %s", a.status, a.body)
	}
	if a := r.do(r.client(bothUID), "GET /encrypt", "", ""); a.header.Get("Allow") != "POST" {
		t.Errorf("Allow is %q", a.header.Get("Allow"))
	}
	if a := r.do(r.client(bothUID), "GET /jobs", "", ""); !strings.HasPrefix(a.body, `[{"job_id":"j1",`) {
		t.Errorf("jobs: %s", a.body)
	}
	if a := r.do(r.client(bothUID), "GET /jobs/j7", "", ""); !strings.HasPrefix(a.body, `{"job_id":"j7",`) {
		t.Errorf("job: %s", a.body)
	}
	if a := r.do(r.client(bothUID), "GET /status", "", ""); !strings.Contains(a.body, `"root":"file"`) {
		t.Errorf("status: %s", a.body)
	}
}

// overProtobuf sends items as protobuf and returns the results.
func overProtobuf[In, Out any](r *rig, call kmsapi.Call[In, Out], items ...In) []Out {
	r.Helper()
	a := r.do(r.client(bothUID), "POST "+call.Path, kmsapi.ContentType, string(call.AppendRequest(nil, items)))
	if a.status != 200 || a.header.Get("Content-Type") != kmsapi.ContentType {
		r.Fatalf("%s: %d %v %s", call.Path, a.status, a.header, a.body)
	}
	out, err := call.ParseAnswer([]byte(a.body), len(items))
	if err != nil {
		r.Fatal(err)
	}
	return out
}

func TestProtobufAnswersWhatJSONDoes(t *testing.T) {
	r := newRig(t)
	check := func(what string, got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	check("encrypt", overProtobuf(r, kmsapi.Encrypt, kmsapi.EncryptItem{KeyID: "k", Plaintext: []byte("hi"), AAD: []byte("a")}),
		[]kmsapi.EncryptResult{{Ciphertext: []byte("c:hi"), KeyVersion: 2}})
	check("decrypt", overProtobuf(r, kmsapi.Decrypt, kmsapi.DecryptItem{KeyID: "k", Ciphertext: []byte("c:hi")}), []kmsapi.DecryptResult{{Plaintext: []byte("hi")}})
	envelope := kmsapi.Envelope{KEKID: "v", KEKVersion: 4, WrappedDEK: []byte("wrapped"), Ciphertext: []byte("c:hi")}
	check("seal", overProtobuf(r, kmsapi.Seal, kmsapi.SealItem{KEKID: "v", Plaintext: []byte("hi")}), []kmsapi.SealResult{{Envelope: envelope}})
	check("open", overProtobuf(r, kmsapi.Open, kmsapi.OpenItem{Envelope: envelope}), []kmsapi.OpenResult{{Plaintext: []byte("hi")}})
	check("rewrap", overProtobuf(r, kmsapi.Rewrap, kmsapi.RewrapItem{KEKID: "v", KEKVersion: 4, WrappedDEK: []byte("w")}),
		[]kmsapi.RewrapResult{{WrappedDEK: []byte("rewrapped"), KEKID: "v", KEKVersion: 5}})
	check("create DEK", overProtobuf(r, kmsapi.CreateDEK, kmsapi.CreateDEKItem{ThreadID: "t"}),
		[]kmsapi.CreateDEKResult{{DEK: kmsapi.DEKInfo{KeyID: "dek-of-t", WrappedDEK: []byte("wrapped"), KEKID: "threads", KEKVersion: 3}}})
	check("create KEK", overProtobuf(r, kmsapi.CreateKEK, kmsapi.CreateKEKItem{KEKID: "v"}), []kmsapi.CreateKEKResult{{KEKInfo: kmsapi.KEKInfo{KEKID: "v", Version: 1}}})

	mixed := overProtobuf(r, kmsapi.Encrypt, kmsapi.EncryptItem{KeyID: "k", Plaintext: []byte("a")}, kmsapi.EncryptItem{KeyID: "missing", Plaintext: []byte("b")})
	if mixed[0].Err != nil || !errors.Is(mixed[1].Err, fault.NotFound) {
		t.Errorf("items do not fail alone: %v, %v", mixed[0].Err, mixed[1].Err)
	}
}

func TestTheFormOfABodyIsWhatItsTypeSays(t *testing.T) {
	r := newRig(t)
	body := `{"key_id":"k","plaintext":""}`
	for contentType, status := range map[string]int{
		"": 200, "application/json": 200, "application/json; charset=utf-8": 200, "Application/JSON": 200,
		"text/plain": 200, "application/x-www-form-urlencoded": 200, ";": 200, // as curl and others send JSON
		kmsapi.ContentType: 400, kmsapi.ContentType + "; a=b": 400, // it is JSON
	} {
		if a := r.do(r.client(cryptoUID), "POST /encrypt", contentType, body); a.status != status {
			t.Errorf("%q: %d %s, want %d", contentType, a.status, a.body, status)
		}
	}
	if a := r.do(r.client(adminUID), "POST /shred_dek", kmsapi.ContentType, `{"key_id":"k"}`); a.status != 400 {
		t.Errorf("a JSON call as protobuf: %d", a.status)
	}
	if calls := r.kms.took(); slices.Contains(calls, "ShredDEK") {
		t.Error("it was done")
	}
}

func TestACauseGoesToTheLogAndNeverToTheWire(t *testing.T) {
	cause := errors.New("cause: " + canary)
	for _, code := range []fault.Code{fault.Internal, fault.Damaged, fault.Unavailable, fault.Unopenable, fault.Conflict} {
		ours := code == fault.Internal || code == fault.Damaged || code == fault.Unavailable
		err := fault.Wrap(code, cause, "what to do").WithType("some_type")
		for _, form := range []struct{ name, contentType, body string }{
			{"single", "", `{"key_id":"k","ciphertext":"AA=="}`},
			{"batch", "", `[{"key_id":"k","ciphertext":"AA=="}]`},
			{"protobuf", kmsapi.ContentType, string(kmsapi.Decrypt.AppendRequest(nil, []kmsapi.DecryptItem{{KeyID: "k", Ciphertext: []byte{0}}}))},
		} {
			for _, whole := range []bool{false, true} {
				t.Run(fmt.Sprint(code, " ", form.name, " ", whole), func(t *testing.T) {
					r := newRig(t)
					if whole {
						r.kms.fail = err
					} else {
						r.kms.failed = func(int, string) error { return err }
					}
					a := r.do(r.client(cryptoUID), "POST /decrypt", form.contentType, form.body)
					if failed := a.status != 200; failed != (whole || form.name == "single") {
						t.Errorf("status is %d", a.status)
					}
					if strings.Contains(a.body, canary) || !strings.Contains(a.body, "what to do") || !strings.Contains(a.body, "some_type") {
						t.Errorf("the answer is %q", a.body)
					}
					if strings.Contains(r.log.String(), canary) != ours {
						t.Errorf("the log is %s", r.log)
					}
				})
			}
		}
	}
}

func TestAPanicNamesNothing(t *testing.T) {
	r := newRig(t)
	r.kms.failed = func(int, string) error { panic(canary) }
	a := r.do(r.client(cryptoUID), "POST /encrypt", "", `{"key_id":"k","plaintext":"`+b64(canary)+`"}`)
	if a.status != 500 || !strings.Contains(a.body, `"code":"internal"`) || strings.Contains(a.body+r.log.String(), canary) {
		t.Errorf("%d %s\n%s", a.status, a.body, r.log)
	}
}

func TestALockedKMSIsNotHealthy(t *testing.T) {
	r := newRig(t)
	r.kms.fail = fault.New(fault.Unavailable, "the root key cannot be used").WithType("locked")
	a := r.do(r.client(noRoleUID), "GET /healthz", "", "")
	if a.status != 503 || a.body != `{"error":"the root key cannot be used","code":"unavailable","type":"locked"}` || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
}

func TestWhoIsAboutToEndSaysSoAndWorksOn(t *testing.T) {
	r := newRig(t)
	over, end := context.WithCancel(t.Context())
	drained := make(chan struct{})
	go func() { defer close(drained); r.Drain(over, time.Hour) }()
	for until := time.Now().Add(30 * time.Second); r.do(r.client(noRoleUID), "GET /readyz", "", "").status != 503; {
		if time.Now().After(until) {
			t.Fatal("it does not say so")
		}
	}
	for _, call := range []string{"GET /healthz", "GET /livez"} {
		if a := r.do(r.client(noRoleUID), call, "", ""); a.status != 200 {
			t.Errorf("%s: %d", call, a.status)
		}
	}
	if a := r.do(r.client(cryptoUID), "POST /encrypt", "", `{"key_id":"k","plaintext":"AA=="}`); a.status != 200 {
		t.Errorf("it does not work: %d %s", a.status, a.body)
	}
	end()
	<-drained
}

func TestWhatAServerWasNotGivenIsNotFound(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Backup, c.Status = nil, nil })
	for _, call := range []string{"GET /backup", "GET /status"} {
		if a := r.do(r.client(adminUID), call, "", ""); a.status != 404 {
			t.Errorf("%s: %d %s", call, a.status, a.body)
		}
	}
}

func TestPlaintextsAreWipedWhenTheyWereAnswered(t *testing.T) {
	for _, c := range []struct{ name, call, contentType, body string }{
		{"encrypt, JSON", "POST /encrypt", "", `{"key_id":"k","plaintext":"` + b64(canary) + `","aad":"` + b64(canary) + `"}`},
		{"encrypt, JSON array", "POST /encrypt", "", `[{"key_id":"k","plaintext":"` + b64(canary) + `"}]`},
		{"encrypt, protobuf", "POST /encrypt", kmsapi.ContentType, string(kmsapi.Encrypt.AppendRequest(nil, []kmsapi.EncryptItem{{KeyID: "k", Plaintext: []byte(canary)}}))},
		{"encrypt, failed", "POST /encrypt", "", `{"key_id":"missing","plaintext":"` + b64(canary) + `"}`},
		{"seal, JSON", "POST /seal", "", `{"kek_id":"k","plaintext":"` + b64(canary) + `"}`},
		{"decrypt, JSON", "POST /decrypt", "", `{"key_id":"k","ciphertext":"` + b64("c:"+canary) + `"}`},
		{"decrypt, protobuf", "POST /decrypt", kmsapi.ContentType, string(kmsapi.Decrypt.AppendRequest(nil, []kmsapi.DecryptItem{{KeyID: "k", Ciphertext: []byte("c:" + canary)}}))},
		{"open, JSON", "POST /open", "", `{"kek_id":"v","kek_version":4,"wrapped_dek":"AA==","ciphertext":"` + b64("c:"+canary) + `"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			var seen [][]byte
			r.kms.seen = func(b ...[]byte) { seen = append(seen, b...) }
			r.do(r.client(cryptoUID), c.call, c.contentType, c.body)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if err := r.Close(ctx); err != nil { // every handler has returned
				t.Fatal(err)
			}
			if len(seen) == 0 {
				t.Fatal("the KMS saw nothing")
			}
			for _, b := range seen {
				if strings.Trim(string(b), "\x00") != "" {
					t.Errorf("%q is left", b)
				}
			}
		})
	}
}

func TestEveryRowBoundsItsBodyAndItsTime(t *testing.T) {
	r := newRig(t)
	for _, row := range r.rows() {
		if row.MaxBody > kmsapi.MaxBody || row.Timeout.Hours() > 1 || row.Who == 1 {
			t.Errorf("%s %s: %d bytes, %v, who %d", row.Method, row.Pattern, row.MaxBody, row.Timeout, row.Who)
		}
		if (row.MaxBody > 0) != (row.Method == http.MethodPost) {
			t.Errorf("%s %s takes %d bytes", row.Method, row.Pattern, row.MaxBody)
		}
	}
}
