package cmek

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// vectors is testdata/vectors.json; see cmek/internal/genvectors for its rows.
type vectors struct {
	About   string
	Classes map[string]string
	Keys    []struct {
		Raw                hexBytes
		Fingerprint, Class string
	}
	Fingerprints []struct {
		Text  string
		Valid bool
	}
	Values []valueVector
	Bound  []struct {
		valueVector
		Vault, Path string
	}
	Checks []struct {
		Name, Vault, Check string
		Key                hexBytes
		Matches            bool
	}
	KeyTexts []struct {
		Name, Text, Class string
		Key               hexBytes
	} `json:"key_texts"`
	KeyFiles []struct {
		Name, Class string
		File        []byte
		Key         hexBytes
	} `json:"key_files"`
	Backups json.RawMessage `json:"passphrase_files"` // cmek/keybackup tests them
	Shares  json.RawMessage // and cmek/keyshare these
}

type valueVector struct {
	Name, Value, Class string
	Key                hexBytes
	Form               Form
	Version            byte
	Size               int
	Plaintext          []byte
}

type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

// classErrors maps the classes of the vectors to our errors.
var classErrors = map[string]error{
	"too_short":            ErrTooShort,
	"unknown_version":      ErrUnknownVersion,
	"bad_encoding":         ErrBadEncoding,
	"wrong_key":            ErrDecrypt,
	"tampered":             ErrDecrypt,
	"moved":                ErrDecrypt,
	"uncommitted":          ErrDecrypt,
	"needs_context":        ErrNeedsContext,
	"key_size":             ErrKeySize,
	"key_encoding":         ErrKeyEncoding,
	"no_key":               ErrNoKey,
	"two_keys":             ErrTwoKeys,
	"fingerprint_mismatch": ErrFingerprintMismatch,
}

func readVectors(t testing.TB) vectors {
	t.Helper()
	f, err := os.Open("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dec := json.NewDecoder(f)
	dec.DisallowUnknownFields()
	var v vectors
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func newKey(t testing.TB, raw []byte) *Key {
	t.Helper()
	k, err := NewKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// inClass checks err against a vector's class and reports whether the vector
// is one that succeeds.
func inClass(t *testing.T, err error, class string) bool {
	t.Helper()
	want, known := classErrors[class]
	if known != (class != "") {
		t.Fatalf("unknown class %q", class)
	}
	if !errors.Is(err, want) || (want == nil) != (err == nil) {
		t.Fatalf("got error %v, want class %q", err, class)
	}
	return class == ""
}

func TestVectorsOfKeys(t *testing.T) {
	for _, v := range readVectors(t).Keys {
		k, err := NewKey(v.Raw)
		if inClass(t, err, v.Class) && k.Fingerprint() != v.Fingerprint {
			t.Errorf("fingerprint of %x is %s, want %s", v.Raw, k.Fingerprint(), v.Fingerprint)
		}
	}
}

func TestVectorsOfFingerprints(t *testing.T) {
	for _, v := range readVectors(t).Fingerprints {
		if ValidFingerprint(v.Text) != v.Valid {
			t.Errorf("ValidFingerprint(%q) = %v", v.Text, !v.Valid)
		}
	}
}

func TestVectorsOfValues(t *testing.T) {
	for _, v := range readVectors(t).Values {
		t.Run(v.Name, func(t *testing.T) { testValue(t, v) })
	}
}

func TestVectorsOfBoundValues(t *testing.T) {
	for _, v := range readVectors(t).Bound {
		t.Run(v.Name, func(t *testing.T) { testValueAt(t, v.valueVector, Context{v.Vault, v.Path}) })
	}
}

func TestVectorsOfChecks(t *testing.T) {
	for _, v := range readVectors(t).Checks {
		k := newKey(t, v.Key)
		if CheckMatches(k, v.Vault, v.Check) != v.Matches || (k.Check(v.Vault) == v.Check) != v.Matches {
			t.Errorf("%s: the check is %s", v.Name, k.Check(v.Vault))
		}
	}
}

func testValue(t *testing.T, v valueVector) { testValueAt(t, v, Context{}) }

func testValueAt(t *testing.T, v valueVector, c Context) {
	shapeErr := errors.Is(classErrors[v.Class], ErrNotBlob)
	info, err := Inspect(v.Value)
	if shapeErr {
		inClass(t, err, v.Class)
	} else if want := (Info{v.Form, v.Version, v.Size}); err != nil || info != want {
		t.Errorf("Inspect = %+v, %v; want %+v", info, err, want)
	}
	plaintext, err := DecryptValueAt(newKey(t, v.Key), c, v.Value)
	if inClass(t, err, v.Class) != (plaintext != nil) || string(plaintext) != string(v.Plaintext) {
		t.Errorf("DecryptValueAt = %q, want %q", plaintext, v.Plaintext)
	}
	if blob, err := base64.StdEncoding.DecodeString(v.Value); err == nil && v.Class != "bad_encoding" && (v.Value == "" || !isLowerHex(v.Value)) {
		plaintext, err := DecryptAt(newKey(t, v.Key), c, blob)
		if inClass(t, err, v.Class) && string(plaintext) != string(v.Plaintext) {
			t.Errorf("DecryptAt = %q, want %q", plaintext, v.Plaintext)
		}
	}
	if err != nil && err != classErrors[v.Class] {
		t.Errorf("the error is dressed up, so that causes can be told apart: %v", err)
	}
}

func TestVectorsOfKeyTexts(t *testing.T) {
	for _, v := range readVectors(t).KeyTexts {
		t.Run(v.Name, func(t *testing.T) {
			k, err := ParseKeyText(v.Text)
			if inClass(t, err, v.Class) && string(k.Bytes()) != string(v.Key) {
				t.Errorf("key %x, want %x", k.Bytes(), v.Key)
			}
		})
	}
}

func TestVectorsOfKeyFiles(t *testing.T) {
	for _, v := range readVectors(t).KeyFiles {
		t.Run(v.Name, func(t *testing.T) {
			k, err := ParseKeyFile(v.File)
			if inClass(t, err, v.Class) && string(k.Bytes()) != string(v.Key) {
				t.Errorf("key %x, want %x", k.Bytes(), v.Key)
			}
		})
	}
}

// Without this, an empty file of vectors would pass.
func TestTheVectorsCoverEveryClass(t *testing.T) {
	v := readVectors(t)
	n := map[string]int{}
	for _, r := range v.Keys {
		n[r.Class]++
	}
	for _, r := range v.Values {
		n[r.Class+string(r.Form)]++
	}
	for _, r := range v.Bound {
		n[r.Class+fmt.Sprint(r.Version)]++
	}
	for _, r := range v.KeyTexts {
		n[r.Class]++
	}
	for _, r := range v.KeyFiles {
		n[r.Class]++
	}
	for class, least := range map[string]int{
		"base64": 20, "hex": 20, "wrong_keybase64": 3, "wrong_keyhex": 1, "tamperedbase64": 60, "tamperedhex": 60,
		"too_short": 55, "unknown_version": 15, "bad_encoding": 35,
		"1": 2, "2": 12, "wrong_key2": 2, "tampered2": 50, "moved2": 12, "uncommitted2": 65, "needs_context2": 4, "needs_contextbase64": 2,
		"key_size": 25, "key_encoding": 12, "no_key": 4, "two_keys": 5, "fingerprint_mismatch": 5,
	} {
		if n[class] < least {
			t.Errorf("%d vectors of %s, want at least %d", n[class], class, least)
		}
	}
	for class := range classErrors {
		if v.Classes[class] == "" {
			t.Errorf("class %s is not explained in the file", class)
		}
	}
	const others = 8 // of backups and shares
	if len(v.Classes) != len(classErrors)+others || !strings.Contains(v.About, "FORMAT.md") {
		t.Error("the file's own words do not match the classes")
	}
}
