package kmsapi

import (
	"bytes"
	"encoding/hex"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

// example is one block of PROTOCOL.md: a line with method and path, the request
// in JSON and as hex, an empty line, the status, and the answer in both forms.
type example struct {
	method, path, status string
	request, answer      body
}

type body struct {
	json   string
	binary []byte // nil: the call has no such form
}

var (
	block   = regexp.MustCompile("(?s)```example\n(.*?)```")
	parted  = regexp.MustCompile(`(?s)^(\S+) (\S+)\n(.*?)\n?\n(\d+)\n(.*)$`)
	perLine = regexp.MustCompile(`^[0-9a-f ]+$`)
)

func examples(t *testing.T) []example {
	t.Helper()
	text, err := os.ReadFile("PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []example
	for _, m := range block.FindAllStringSubmatch(string(text), -1) {
		p := parted.FindStringSubmatch(m[1])
		if p == nil {
			t.Fatalf("an example that is none:\n%s", m[1])
		}
		path, _, _ := strings.Cut(p[2], "?")
		all = append(all, example{method: p[1], path: path, request: parseBody(t, p[3]), status: p[4], answer: parseBody(t, p[5])})
	}
	return all
}

func parseBody(t *testing.T, text string) (b body) {
	var digits strings.Builder
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if perLine.MatchString(line) {
			digits.WriteString(strings.ReplaceAll(line, " ", ""))
		} else if line != "" {
			b.json = line
		}
	}
	if digits.Len() > 0 {
		var err error
		if b.binary, err = hex.DecodeString(digits.String()); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// held holds an example of one path to the code.
var held = map[string]func(*testing.T, example){
	CreateKEK.Path:       heldItems(CreateKEK),
	CreateDEK.Path:       heldItems(CreateDEK),
	Encrypt.Path:         heldItems(Encrypt),
	Decrypt.Path:         heldItems(Decrypt),
	Seal.Path:            heldItems(Seal),
	Open.Path:            heldItems(Open),
	Rewrap.Path:          heldItems(Rewrap),
	CMEKRotation.Path:    heldItems(CMEKRotation),
	Reencrypt.Path:       heldItems(Reencrypt),
	"/cmek_rotation_key": heldJSON[none, CMEKRotationKey],
	"/cmek_rotation/019344d0-7d3f-4a10-8c53-5ab1c4e0a7d2": heldJSON[none, CMEKRotationAlive],
	"/get_wrapped": heldJSON[none, struct {
		Wrapped []byte `json:"wrapped"`
	}],
	"/list_keks": heldJSON[none, KEKList],
	"/list_deks": heldJSON[struct {
		KeyIDs []string `json:"key_ids"`
	}, DEKList],
	"/keys":       heldJSON[none, Keys],
	"/rotate_kek": heldJSON[Rotate, Rotated],
	"/import_kek": heldJSON[struct {
		Key []byte `json:"key"`
	}, Rotated],
	"/release_kek": heldJSON[struct {
		KEKID string `json:"kek_id"`
		Below uint32 `json:"below"`
	}, none],
	"/destroy_kek_version": heldJSON[KEKInfo, none],
	"/shred_dek": heldJSON[struct {
		KeyID string `json:"key_id"`
	}, none],
	CMEKSeal.Path:  heldItems(CMEKSeal),
	CMEKOpen.Path:  heldItems(CMEKOpen),
	"/cmek_keys":   heldCMEKKeys,
	"/cmek_grant":  heldJSON[cmekGrant, none],
	"/cmek_revoke": heldJSON[cmekGrant, none],
	"/jobs":        heldJSON[none, []Job],
	"/status":      heldJSON[none, Status],
}

type cmekGrant struct {
	Fingerprint string `json:"fingerprint"`
	Caller      string `json:"caller"`
}

// heldCMEKKeys holds both methods of a path.
func heldCMEKKeys(t *testing.T, e example) {
	if e.method == "GET" {
		heldJSON[none, CMEKKeys](t, e)
		return
	}
	heldJSON[struct {
		Name string `json:"name"`
		Key  []byte `json:"key"`
	}, CMEKKey](t, e)
}

type none struct{}

func TestTheExamplesOfTheProtocolAreTheWire(t *testing.T) {
	seen := map[string]bool{}
	for _, e := range examples(t) {
		path := e.path
		if e.method == "DELETE" { // of a job; its answer is empty
			heldJSON[none, none](t, e)
			continue
		}
		if held[path] == nil {
			t.Errorf("nothing holds the example of %s", path)
			continue
		}
		seen[path] = true
		held[path](t, e)
	}
	for path := range held {
		if !seen[path] {
			t.Errorf("%s has no example", path)
		}
	}
}

func heldItems[In, Out any](c Call[In, Out]) func(*testing.T, example) {
	return func(t *testing.T, e example) {
		items, single, err := c.ParseRequestJSON([]byte(e.request.json))
		if err != nil {
			t.Fatalf("%s: %v", e.request.json, err)
		}
		if e.status != "200" { // a call that failed: one form, and one body of every request
			if got := AppendError(nil, ParseError([]byte(e.answer.json))); string(got) != e.answer.json {
				t.Errorf("%s\nwe write %s", e.answer.json, got)
			}
			return
		}
		same(t, e.request, c.AppendRequest(nil, items))
		if again, err := c.ParseRequest(e.request.binary); err != nil || diff(items, again) != "" {
			t.Errorf("%s\n%v %s", e.request.json, err, diff(items, again))
		}
		results, err := c.ParseAnswer(e.answer.binary, len(items))
		if err != nil {
			t.Fatalf("%s: %v", e.answer.json, err)
		}
		same(t, e.answer, c.AppendAnswer(nil, results))
		text, err := c.AppendAnswerJSON(nil, results, single)
		if got := strings.TrimSpace(string(text)); err != nil || got != e.answer.json {
			t.Errorf("%s\nwe write %s (%v)", e.answer.json, got, err)
		}
	}
}

func same(t *testing.T, want body, got []byte) {
	t.Helper()
	if !bytes.Equal(want.binary, got) {
		t.Errorf("%s\nwe write % x", want.json, got)
	}
}

func heldJSON[In, Out any](t *testing.T, e example) {
	roundTrip[In](t, e.request)
	roundTrip[Out](t, e.answer)
}

// roundTrip reads b as a T, with every member known, and writes the same text.
func roundTrip[T any](t *testing.T, b body) {
	t.Helper()
	if b.json == "" {
		return
	}
	var v T
	if err := json.Unmarshal([]byte(b.json), &v, json.RejectUnknownMembers(true)); err != nil {
		t.Errorf("%s: %v", b.json, err)
	}
	got, err := json.Marshal(v, jsontext.EscapeForHTML(false))
	if err != nil || string(got) != b.json {
		t.Errorf("%v %s", err, cmp.Diff(b.json, string(got)))
	}
}
