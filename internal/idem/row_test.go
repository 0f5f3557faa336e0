package idem

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/fault"
)

var someRows = []struct {
	text string
	row  row
}{
	{"00112233445566778899aabbccddeeff 1700000000000000001 201 c /v1/x -\n{\"a\":1}\n", row{status: 201, kind: clearly, location: "/v1/x", body: []byte("{\"a\":1}\n")}},
	{"00112233445566778899aabbccddeeff 1700000000000000001 0 ? - -\n", row{kind: unknown}},
	{"00112233445566778899aabbccddeeff 1700000000000000001 0 ? - thread-1\n", row{kind: unknown, ref: "thread-1"}},
	{"00112233445566778899aabbccddeeff 1700000000000000001 204 - - -\n", row{status: 204, kind: empty}},
	{"00112233445566778899aabbccddeeff 1700000000000000001 200 e - -\n{}", row{status: 200, kind: echoed, body: []byte("{}")}},
	{"00112233445566778899aabbccddeeff 1700000000000000001 201 s - -\n", row{status: 201, kind: sealed}},
	{"00112233445566778899aabbccddeeff 1700000000000000001 200 d - -\n", row{status: 200, kind: derived}},
	{"00112233445566778899aabbccddeeff 1700000000000000001 200 l - -\n", row{status: 200, kind: lost}},
}

func TestRowsAreInTheFormThatIsWritten(t *testing.T) {
	for _, c := range someRows {
		c.row.request, c.row.until = "00112233445566778899aabbccddeeff", time.Unix(0, 1700000000000000001)
		if got := string(c.row.encode()); got != c.text {
			t.Errorf("the row is %q, want %q", got, c.text)
		}
		got, err := parse([]byte(c.text))
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		if len(got.body) == 0 {
			got.body = nil
		}
		if diff := cmp.Diff(c.row, *got, cmp.AllowUnexported(row{})); diff != "" {
			t.Errorf("%q: want is -, got is +:\n%s", c.text, diff)
		}
	}
	if got := (row{request: "r"}).encode(); string(got[len(got)-8:]) != "0 ? - -\n" {
		t.Errorf("a row that says nothing is %q", got)
	}
}

// What is no row of ours, such as one of a later version, is damaged, and not taken for
// anything else.
func TestWhatIsNoRowIsDamaged(t *testing.T) {
	const request = "00112233445566778899aabbccddeeff"
	for _, text := range []string{
		"", "\n", request, request + " 1 201 c - -", // no end of the line
		request + " 1 201 c -\n{}", request + " 1 201 c - - 2\n{}", request + " 1 201  c - -\n{}", // other fields
		request + " 1 201 x - -\n{}", request + " 1 201 cc - -\n{}", request + " 1 201 ?- - -\n{}", // kinds
		request + " soon 201 c - -\n{}", request + " 99999999999999999999 201 c - -\n{}", request + " 1 ok c - -\n{}", // numbers
		request + " 1 1 c - -\n{}", request + " 1 -201 c - -\n{}", request + " 1 404 c - -\n{}", request + " 1 2010 c - -\n{}", // no answer of a success
	} {
		if r, err := parse([]byte(text)); !errors.Is(err, fault.Damaged) {
			t.Errorf("%q = %+v, %v", text, r, err)
		}
	}
}
