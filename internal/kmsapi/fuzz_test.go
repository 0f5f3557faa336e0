package kmsapi

import (
	"errors"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/fault"
)

// fuzzed is one call as the fuzz tests see it.
type fuzzed struct {
	request, answer, js func(t *testing.T, body []byte)
}

func fuzzCall[In, Out any](c Call[In, Out]) fuzzed {
	return fuzzed{
		request: func(t *testing.T, body []byte) {
			items, err := c.ParseRequest(body)
			if refused(t, err) {
				return
			}
			again, err := c.ParseRequest(c.AppendRequest(nil, items))
			if err != nil || diff(items, again) != "" {
				t.Errorf("%s: %v %s", c.Path, err, diff(items, again))
			}
		},
		answer: func(t *testing.T, body []byte) {
			n, _ := countList(body, false)
			results, err := c.ParseAnswer(body, n)
			if err != nil {
				if !errors.Is(err, fault.Internal) {
					t.Error(err)
				}
				return
			}
			again, err := c.ParseAnswer(c.AppendAnswer(nil, results), n)
			if err != nil || diff(results, again) != "" {
				t.Errorf("%s: %v %s", c.Path, err, diff(results, again))
			}
		},
		js: func(t *testing.T, body []byte) {
			items, single, err := c.ParseRequestJSON(body)
			if refused(t, err) {
				return
			}
			var in any = items
			if single {
				in = items[0]
			}
			text, err := json.Marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			again, _, err := c.ParseRequestJSON(text)
			if err != nil || diff(items, again) != "" {
				t.Errorf("%s: %v %s", c.Path, err, diff(items, again))
			}
		},
	}
}

// refused reports whether a request was refused, and how it must be.
func refused(t *testing.T, err error) bool {
	if err != nil && !errors.Is(err, fault.Invalid) && !errors.Is(err, fault.TooLarge) {
		t.Errorf("%T %v", err, err)
	}
	return err != nil
}

var calls = []fuzzed{
	fuzzCall(CreateKEK), fuzzCall(CreateDEK), fuzzCall(Encrypt), fuzzCall(Decrypt), fuzzCall(Seal), fuzzCall(Open), fuzzCall(Rewrap),
	fuzzCall(CMEKRotation), fuzzCall(Reencrypt), fuzzCall(CMEKSeal), fuzzCall(CMEKOpen),
}

func FuzzProtobuf(f *testing.F) {
	f.Add(Encrypt.AppendRequest(nil, encryptItems(2, 5)))
	f.Add(Open.AppendRequest(nil, []OpenItem{{Envelope: Envelope{KEKID: "k", KEKVersion: 1 << 31, WrappedDEK: []byte("w"), Ciphertext: []byte("c")}, AAD: []byte("a")}}))
	f.Add(Rewrap.AppendAnswer(nil, []RewrapResult{{Err: fault.New(fault.Conflict, "m").WithType("t")}, {KEKID: "k", KEKVersion: 1, WrappedDEK: []byte("w")}}))
	f.Add([]byte("\n\x02\n\x00")) // a plaintext that is empty, and there
	f.Add([]byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f})
	f.Add([]byte(strings.Repeat("\n\x00", MaxBatch+1)))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, c := range calls {
			c.request(t, body)
			c.answer(t, body)
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add(`{"key_id":"k","plaintext":"aGk=","aad":"eA=="}`)
	f.Add(`[{"kek_id":"k","kek_version":1,"wrapped_dek":"dw==","ciphertext":"Yw=="},{"key_id":"k"}]`)
	f.Add(`[{"thread_id":"t"},{"kek_id":null}]`)
	f.Add("[" + strings.Repeat("{},", MaxBatch) + "{}]")
	f.Add(strings.Repeat("[", 20_000))
	f.Fuzz(func(t *testing.T, body string) {
		for _, c := range calls {
			c.js(t, []byte(body))
		}
	})
}
