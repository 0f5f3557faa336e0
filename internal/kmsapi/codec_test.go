package kmsapi

import (
	"bytes"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/keyfold/keyfold/internal/fault"
)

// faults compares errors as the wire knows them.
var faults = cmp.Comparer(func(a, b error) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := fault.Of(a), fault.Of(b)
	return x.Code == y.Code && x.Type == y.Type && x.Message == y.Message
})

var emptyIsNil = cmpopts.EquateEmpty()

func diff(a, b any) string { return cmp.Diff(a, b, faults, emptyIsNil) }

func encryptItems(n, size int) []EncryptItem {
	items := make([]EncryptItem, n)
	for i := range items {
		items[i] = EncryptItem{
			KeyID: fmt.Sprintf("dek_%032d", i), Plaintext: bytes.Repeat([]byte{byte(i)}, size),
			AAD: []byte("keyfold/message/v1 thread_1 0000000000000001-0001"),
		}
	}
	return items
}

func TestARequestComesBackAsItWent(t *testing.T) {
	want := []EncryptItem{{KeyID: "a", Plaintext: []byte("p"), AAD: []byte("q")}, {}, {KeyID: "a"}, {KeyID: "b", Plaintext: []byte{}}}
	got, err := Encrypt.ParseRequest(Encrypt.AppendRequest(nil, want))
	if err != nil || diff(want, got) != "" {
		t.Fatal(err, diff(want, got))
	}
}

func TestAStringThatIsNotUTF8SpoilsNoNeighbour(t *testing.T) {
	items := []EncryptItem{{KeyID: "a"}, {KeyID: "b\xff\xfec", Plaintext: []byte("p")}, {KeyID: "d"}}
	got, err := Encrypt.ParseRequest(Encrypt.AppendRequest(nil, items))
	items[1].KeyID = "b\uFFFDc"
	if err != nil || diff(items, got) != "" {
		t.Fatal(err, diff(items, got))
	}
}

func TestAnAnswerComesBackAsItWentWithItsFailures(t *testing.T) {
	want := []RewrapResult{
		{KEKID: "k", KEKVersion: 7, WrappedDEK: []byte("wrapped")},
		{Err: fault.New(fault.Conflict, "no").WithType("dek_worn_out")},
		{Err: fault.New(fault.Unopenable, "")},
	}
	got, err := Rewrap.ParseAnswer(Rewrap.AppendAnswer(nil, want), 3)
	if err != nil || diff(want, got) != "" {
		t.Fatal(err, diff(want, got))
	}
}

func TestByteFieldsAliasTheBodyAndStringsDoNot(t *testing.T) {
	body := Encrypt.AppendRequest(nil, encryptItems(3, 40))
	items, err := Encrypt.ParseRequest(body)
	if err != nil {
		t.Fatal(err)
	}
	from, to := uintptr(unsafe.Pointer(&body[0])), uintptr(unsafe.Pointer(&body[len(body)-1]))
	within := func(p unsafe.Pointer) bool { return from <= uintptr(p) && uintptr(p) <= to }
	for _, item := range items {
		if !within(unsafe.Pointer(&item.Plaintext[0])) || !within(unsafe.Pointer(&item.AAD[0])) {
			t.Error("a byte field is a copy that nobody wipes")
		}
		if cap(item.Plaintext) != len(item.Plaintext) {
			t.Error("appending to a byte field writes over its neighbour")
		}
		if within(unsafe.Pointer(unsafe.StringData(item.KeyID))) {
			t.Error("a string changes when the body is wiped")
		}
	}
	clear(body)
	if items[2].KeyID != fmt.Sprintf("dek_%032d", 2) || !bytes.Equal(items[2].Plaintext, make([]byte, 40)) {
		t.Error("wiping the body must wipe plaintexts and leave IDs")
	}
}

func TestWipingClearsEveryByteField(t *testing.T) {
	items := []OpenItem{{Envelope: Envelope{WrappedDEK: []byte("w"), Ciphertext: []byte("c")}, AAD: []byte("a")}}
	results := []DecryptResult{{Plaintext: []byte("secret")}}
	Open.WipeItems(items)
	Decrypt.WipeResults(results)
	zero := []OpenItem{{Envelope: Envelope{WrappedDEK: make([]byte, 1), Ciphertext: make([]byte, 1)}, AAD: make([]byte, 1)}}
	if d := diff(items, zero) + diff(results, []DecryptResult{{Plaintext: make([]byte, 6)}}); d != "" {
		t.Error(d)
	}
}

// item returns a request with one item of these bytes.
func item(b ...byte) []byte { return append([]byte{0x0a, byte(len(b))}, b...) }

func TestBadRequestsAreInvalidWithAHint(t *testing.T) {
	for name, body := range map[string][]byte{
		"cut tag":                {0x8a},
		"cut length":             {0x0a},
		"length beyond the body": {0x0a, 0xff, 0xff, 0xff, 0xff, 0x7f},
		"length of 2^63":         {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
		"field number 0":         {0x02, 0x00},
		"another list":           {0x12, 0x00},
		"a list of numbers":      {0x08, 0x01},
		"cut field":              item(0x0a, 0x05, 'a'),
		"unknown field":          item(0x22, 0x01, 'x'),
		"unknown number field":   item(0x20, 0x01),
		"field twice":            item(0x1a, 0x01, 'a', 0x1a, 0x01, 'b'),
		"empty field twice":      item(0x1a, 0x00, 0x1a, 0x01, 'b'),
		"field of a wrong kind":  item(0x10, 0x01),
		"ID not UTF-8":           item(0x0a, 0x01, 0xff),
		"group":                  item(0x0b, 0x0c),
	} {
		_, err := Encrypt.ParseRequest(body)
		if !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "kms.proto") {
			t.Errorf("%s: %v", name, err)
		}
	}
	over := append(item(0x10, 0x80, 0x80, 0x80, 0x80, 0x10), item(0x10, 0x01)...)
	if _, err := Open.ParseRequest(over); !errors.Is(err, fault.Invalid) {
		t.Errorf("a version of 2^32: %v", err)
	}
}

func TestBadJSONIsInvalidAndShowsNothingOfTheBody(t *testing.T) {
	for name, body := range map[string]string{
		"empty":            ``,
		"a word":           `canary`,
		"a string":         `"canary"`,
		"cut off":          `{"key_id":"canary`,
		"cut array":        `[{"key_id":"canary","plaintext":""},`,
		"two values":       `{"key_id":"canary","plaintext":""}{}`,
		"misspelt":         `{"key_id":"canary","plaintext":"","AAD":"eA=="}`,
		"member twice":     `{"key_id":"canary","plaintext":"","aad":"","aad":"eA=="}`,
		"no key_id":        `{"plaintext":"Y2FuYXJ5"}`,
		"no plaintext":     `{"key_id":"canary"}`,
		"null":             `{"key_id":"canary","plaintext":null}`,
		"array of null":    `[null]`,
		"base64 of URLs":   `{"key_id":"canary","plaintext":"-_-_"}`,
		"no padding":       `{"key_id":"canary","plaintext":"YQ"}`,
		"line break":       `{"key_id":"canary","plaintext":"YWFh\nYWFh"}`,
		"not a string":     `{"key_id":["canary"],"plaintext":""}`,
		"number as string": `{"key_id":1,"plaintext":""}`,
		"not UTF-8":        "{\"key_id\":\"canary\xff\",\"plaintext\":\"\"}",
	} {
		_, _, err := Encrypt.ParseRequestJSON([]byte(body))
		if !errors.Is(err, fault.Invalid) || strings.Contains(fmt.Sprint(err), "canary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestJSONTakesOneObjectOrAnArray(t *testing.T) {
	one := []EncryptItem{{KeyID: "k", Plaintext: []byte("hi"), AAD: []byte("x")}}
	for body, want := range map[string]bool{
		`{"key_id":"k","plaintext":"aGk=","aad":"eA=="}`:       true,
		` [ {"key_id":"k","plaintext":"aGk=","aad":"eA=="} ] `: false,
	} {
		items, single, err := Encrypt.ParseRequestJSON([]byte(body))
		if err != nil || single != want || diff(one, items) != "" {
			t.Errorf("%s: %v %v %s", body, single, err, diff(one, items))
		}
	}
	if items, single, err := Encrypt.ParseRequestJSON([]byte(`[]`)); err != nil || single || len(items) != 0 {
		t.Error(items, single, err)
	}
}

func TestAFailedItemOfAJSONArrayHasItsIndex(t *testing.T) {
	results := []EncryptResult{{Ciphertext: []byte("c"), KeyVersion: 2}, {Err: fault.New(fault.Conflict, "no").WithType("t")}, {Err: fault.New(fault.NotFound, "none")}}
	got, err := Encrypt.AppendAnswerJSON([]byte("x"), results, false)
	want := `x[{"ciphertext":"Yw==","key_version":2},{"index":1,"error":"no","code":"conflict","type":"t"},{"index":2,"error":"none","code":"not_found"}]`
	if err != nil || strings.TrimSpace(string(got)) != want {
		t.Error(string(got), err)
	}
}

func TestMoreThanMaxBatchIsTooLargeBeforeThereIsRoomForIt(t *testing.T) {
	proto := bytes.Repeat([]byte{0x0a, 0x00}, 4<<20)
	js := []byte("[" + strings.Repeat(`{"key_id":"k","plaintext":""},`, 1<<18) + "]")
	parse := map[string]func() error{
		"protobuf": func() error { _, err := Encrypt.ParseRequest(proto); return err },
		"JSON":     func() error { _, _, err := Encrypt.ParseRequestJSON(js); return err },
	}
	for form, parse := range parse {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := parse(); !errors.Is(err, fault.TooLarge) {
			t.Errorf("%s: %v", form, err)
		}
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 512<<10 {
			t.Errorf("%s: %d bytes for a count that is refused", form, n)
		}
	}
	exact := Encrypt.AppendRequest(nil, make([]EncryptItem, MaxBatch))
	if items, err := Encrypt.ParseRequest(exact); err != nil || len(items) != MaxBatch {
		t.Error(len(items), err)
	}
}

func TestWhatIsNoAnswerIsInternal(t *testing.T) {
	whole := EncryptResult{Ciphertext: []byte("c"), KeyVersion: 1}
	for name, answer := range map[string][]byte{
		"too few":           Encrypt.AppendAnswer(nil, []EncryptResult{whole}),
		"too many":          Encrypt.AppendAnswer(nil, []EncryptResult{whole, whole, whole}),
		"no ciphertext":     Encrypt.AppendAnswer(nil, []EncryptResult{whole, {KeyVersion: 1}}),
		"no version":        Encrypt.AppendAnswer(nil, []EncryptResult{whole, {Ciphertext: []byte("c")}}),
		"empty ciphertext":  append(Encrypt.AppendAnswer(nil, []EncryptResult{whole}), "\n\x04\n\x00\x10\x01"...),
		"failure with data": Encrypt.AppendAnswer(nil, []EncryptResult{whole, {KeyVersion: 1, Err: fault.New(fault.Invalid, "x")}}),
		"cut off":           Encrypt.AppendAnswer(nil, []EncryptResult{whole, whole})[:9],
		"text":              []byte("ok ok"),
		"empty":             nil,
	} {
		if results, err := Encrypt.ParseAnswer(answer, 2); !errors.Is(err, fault.Internal) || results != nil {
			t.Errorf("%s: %v, %v", name, results, err)
		}
	}
}

func TestAnEmptyPlaintextIsAnAnswer(t *testing.T) {
	if got, err := Decrypt.ParseAnswer(Decrypt.AppendAnswer(nil, make([]DecryptResult, 2)), 2); err != nil || len(got) != 2 {
		t.Errorf("%s: %v, %v", Decrypt.Path, got, err)
	}
	if got, err := Open.ParseAnswer(Open.AppendAnswer(nil, make([]OpenResult, 2)), 2); err != nil || len(got) != 2 {
		t.Errorf("%s: %v, %v", Open.Path, got, err)
	}
	if got, err := CMEKOpen.ParseAnswer(CMEKOpen.AppendAnswer(nil, make([]CMEKOpenResult, 2)), 2); err != nil || len(got) != 2 {
		t.Errorf("%s: %v, %v", CMEKOpen.Path, got, err)
	}
}

func TestAnAnswerMayHaveFieldsOfALaterVersion(t *testing.T) {
	body := append([]byte{0x12, 0x01, 'x'}, item(0x0a, 0x01, 'c', 0x10, 0x05, 0x32, 0x01, 'y')...)
	want := []EncryptResult{{Ciphertext: []byte("c"), KeyVersion: 5}}
	if got, err := Encrypt.ParseAnswer(append(body, 0x18, 0x01), 1); err != nil || diff(want, got) != "" {
		t.Error(err, diff(want, got))
	}
}

func TestACodeThatWeDoNotKnowIsInternal(t *testing.T) {
	body := Decrypt.AppendAnswer(nil, []DecryptResult{{Err: fault.New("odd", "text")}})
	results, err := Decrypt.ParseAnswer(body, 1)
	if err != nil || !errors.Is(results[0].Err, fault.Internal) || results[0].Err.Error() != "text" {
		t.Error(results, err)
	}
	if err := ParseError([]byte(`{"error":"text","code":"odd"}`)); !errors.Is(err, fault.Internal) || err.Message != "text" {
		t.Error(err)
	}
}

func TestAnErrorThatNobodyNamedTellsNothing(t *testing.T) {
	err := errors.New("canary")
	js, _ := Decrypt.AppendAnswerJSON(nil, []DecryptResult{{Err: err}}, false)
	for _, b := range [][]byte{Decrypt.AppendAnswer(nil, []DecryptResult{{Err: err}}), AppendError(nil, err), js} {
		if bytes.Contains(b, []byte("canary")) || len(b) == 0 {
			t.Errorf("%q", b)
		}
	}
}

func TestAFailedCallComesBackAsItWent(t *testing.T) {
	want := fault.New(fault.Conflict, "locked <&> out").WithType("t")
	if got := ParseError(AppendError(nil, want)); diff(error(want), error(got)) != "" {
		t.Error(got)
	}
	for _, body := range []string{"", "ok", "{}", `{"error":"x"}`, `[1]`, `<html>502</html>`} {
		if got := ParseError([]byte(body)); !errors.Is(got, fault.Internal) {
			t.Errorf("%q: %v", body, got)
		}
	}
	if got := ParseError(AppendError(nil, fault.New(fault.Invalid, "\xff"))); got.Code != fault.Internal {
		t.Error(got)
	}
}

func TestDetachedResultsOutliveTheBody(t *testing.T) {
	want := []SealResult{
		{Envelope: Envelope{KEKID: "k", KEKVersion: 1, WrappedDEK: []byte("wrapped"), Ciphertext: []byte("c")}},
		{Err: fault.New(fault.Invalid, "x")},
		{Envelope: Envelope{KEKID: "k", KEKVersion: 1, WrappedDEK: []byte("v"), Ciphertext: []byte("dd")}},
	}
	body := Seal.AppendAnswer(nil, want)
	got, err := Seal.ParseAnswer(body, 3)
	if err != nil {
		t.Fatal(err)
	}
	Seal.Detach(got)
	clear(body)
	if d := diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestAFailedResultHoldsItsError(t *testing.T) {
	err := fault.New(fault.Invalid, "x")
	if d := diff(OpenResult{Err: err}, Open.Fail(err)); d != "" {
		t.Error(d)
	}
}
