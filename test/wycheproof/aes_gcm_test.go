package wycheproof

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/aead"
)

// suite is the part of aes_gcm_test.json that is used here.
type suite struct {
	NumberOfTests int
	TestGroups    []struct {
		KeySize, IVSize, TagSize int // bits
		Tests                    []vector
	}
}

type vector struct {
	TcID                       int
	Comment                    string
	Key, IV, AAD, Msg, CT, Tag hexBytes
	Result                     string
}

type hexBytes []byte

func (b *hexBytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.DecodeString(string(text))
	return err
}

func (v vector) String() string { return fmt.Sprintf("tcId %d (%s)", v.TcID, v.Comment) }

// sealed returns nonce | ciphertext | tag.
func (v vector) sealed() []byte { return slices.Concat(v.IV, v.CT, v.Tag) }

// moduleDir returns where the go command keeps the vectors. It downloads them
// if need be, and refuses what go.sum does not know.
func moduleDir(t *testing.T) string {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.Command("go", "mod", "download", "-json", "github.com/c2sp/wycheproof")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go mod download: %v\n%s%s", err, out, stderr.String())
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(out, &module); err != nil || module.Dir == "" {
		t.Fatalf("go mod download names no directory: %v\n%s", err, out)
	}
	return module.Dir
}

// ours returns the vectors of the only sizes that Keyfold has.
func ours(t *testing.T) []vector {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(moduleDir(t), "testvectors_v1", "aes_gcm_test.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s suite
	if err := json.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	var found []vector
	for _, g := range s.TestGroups {
		if g.KeySize == 256 && g.IVSize == 96 && g.TagSize == 128 {
			found = append(found, g.Tests...)
		}
	}
	return found
}

// count holds how many vectors a test used, so that none are lost unseen.
type count struct{ valid, invalid int }

// judge checks one vector's outcome against its result.
func (n *count) judge(t *testing.T, v vector, got []byte, err, failure error) {
	t.Helper()
	switch v.Result {
	case "valid":
		n.valid++
		if err != nil || !bytes.Equal(got, v.Msg) {
			t.Errorf("%v: got %x, %v; want %x", v, got, err, []byte(v.Msg))
		}
	case "invalid":
		n.invalid++
		if err != failure || got != nil {
			t.Errorf("%v: got %x, %v; want nothing and %v", v, got, err, failure)
		}
	default:
		t.Errorf("%v: unknown result %q", v, v.Result)
	}
}

func TestAEAD(t *testing.T) {
	var n count
	for _, v := range ours(t) {
		k, err := aead.NewKey(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		got, err := k.Open(v.sealed(), v.AAD)
		n.judge(t, v, got, err, aead.ErrOpen)
	}
	if want := (count{valid: 39, invalid: 27}); n != want {
		t.Errorf("used %+v vectors, want %+v", n, want)
	}
}

// The CMEK blob has no AAD, so the vectors with one are left out.
func TestCMEK(t *testing.T) {
	var blobs, values, older count
	for _, v := range ours(t) {
		if len(v.AAD) > 0 {
			continue
		}
		k, err := cmek.NewKey(v.Key)
		if err != nil {
			t.Fatal(err)
		}
		blob := append([]byte{1}, v.sealed()...)
		got, err := cmek.Decrypt(k, blob)
		blobs.judge(t, v, got, err, cmek.ErrDecrypt)
		got, err = cmek.DecryptValue(k, base64.StdEncoding.EncodeToString(blob))
		values.judge(t, v, got, err, cmek.ErrDecrypt)
		got, err = cmek.DecryptValue(k, hex.EncodeToString(v.sealed()))
		older.judge(t, v, got, err, cmek.ErrDecrypt)
	}
	if want := (count{valid: 21, invalid: 27}); blobs != want || values != want || older != want {
		t.Errorf("used %+v, %+v and %+v vectors, want %+v of each", blobs, values, older, want)
	}
}
