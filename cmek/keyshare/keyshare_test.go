package keyshare

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/cloudflare/circl/secretsharing"
	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/cmek"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

type vector struct {
	Name, Key, Class string
	Shares           [][]byte
}

func vectors(t testing.TB) []vector {
	t.Helper()
	var all struct{ Shares []vector }
	if err := json.Unmarshal(must(os.ReadFile("../testdata/vectors.json"))(t), &all); err != nil {
		t.Fatal(err)
	}
	return all.Shares
}

var classes = map[string]error{
	"": nil, "not_share": ErrNotShare, "damaged_share": ErrDamaged, "other_set": ErrOtherSet,
	"share_twice": ErrTwice, "too_few_shares": ErrTooFew, "not_the_key": ErrNotTheKey,
}

// combine is what a reader of share files does.
func combine(texts [][]byte) (*cmek.Key, error) {
	var shares []*Share
	for _, text := range texts {
		s, err := Parse(text)
		if err != nil {
			return nil, err
		}
		shares = append(shares, s)
	}
	return Combine(shares)
}

func TestVectors(t *testing.T) {
	n := map[string]int{}
	for _, v := range vectors(t) {
		k, err := combine(v.Shares)
		want, known := classes[v.Class]
		if !known || !errors.Is(err, want) || (k == nil) != (want != nil) {
			t.Errorf("%s: %v, want class %q", v.Name, err, v.Class)
		} else if k != nil && hex.EncodeToString(k.Bytes()) != v.Key {
			t.Errorf("%s: another key", v.Name)
		}
		n[v.Class]++
	}
	for class, least := range map[string]int{"": 12, "not_share": 4, "damaged_share": 30, "other_set": 3, "share_twice": 2, "too_few_shares": 2, "not_the_key": 5} {
		if n[class] < least {
			t.Errorf("%d vectors of class %q, want at least %d", n[class], class, least)
		}
	}
}

func TestAnyThresholdOfTheSharesMakeTheKeyAndFewerDoNot(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(2, MaxShares).Draw(rt, "shares")
		threshold := rapid.IntRange(2, n).Draw(rt, "threshold")
		k := cmek.Generate()
		shares, err := Split(k, threshold, n)
		if err != nil {
			rt.Fatal(err)
		}
		chosen := rapid.Permutation(shares).Draw(rt, "order")[:rapid.IntRange(threshold, n).Draw(rt, "count")]
		if got, err := Combine(chosen); err != nil || !bytes.Equal(got.Bytes(), k.Bytes()) {
			rt.Errorf("%d of %d: %v", threshold, n, err)
		}
		if got, err := Combine(chosen[:threshold-1]); !errors.Is(err, ErrTooFew) || got != nil {
			rt.Errorf("%d of %d, one too few: %v", threshold, n, err)
		}
	})
}

// It is not the count alone that keeps the key: fewer shares, taken to be enough,
// do not open what every share holds.
func TestFewerSharesThanTheThresholdHoldNoKey(t *testing.T) {
	shares := must(Split(cmek.Generate(), 3, 5))(t)
	for n := 1; n <= 5; n++ {
		secret := must(secretsharing.Recover(uint(n-1), must(points(shares[5-n:]))(t)))(t)
		_, err := must(sealingKey(secret))(t).Open(shares[0].set.sealed, shares[0].set.aad())
		if (err == nil) != (n >= 3) {
			t.Errorf("%d shares of a split for 3: %v", n, err)
		}
	}
}

func TestSplitTakesSensibleNumbers(t *testing.T) {
	for _, c := range [][2]int{{0, 0}, {1, 1}, {1, 2}, {3, 2}, {2, 33}, {-1, 5}, {2, -1}} {
		if s, err := Split(cmek.Generate(), c[0], c[1]); err != ErrNumbers || s != nil {
			t.Errorf("%d of %d: %v", c[0], c[1], err)
		}
	}
	k := cmek.Generate()
	k.Wipe()
	if s, err := Split(k, 2, 3); err == nil || s != nil {
		t.Errorf("a wiped key: %v", err)
	}
}

func TestAShareIsReadBack(t *testing.T) {
	k := cmek.Generate()
	var texts [][]byte
	for i, s := range must(Split(k, 3, 5))(t) {
		text := must(s.Marshal(cmek.KeyFileInfo{VaultID: "a-vault"}))(t)
		got := must(Parse(text))(t)
		if got.Index() != i+1 || got.Threshold() != 3 || got.Shares() != 5 || got.Fingerprint() != k.Fingerprint() || got.SetID() != s.SetID() {
			t.Errorf("share %d came back as %d, %d of %d", i+1, got.Index(), got.Threshold(), got.Shares())
		}
		if !strings.Contains(string(text), fmt.Sprintf("# Share %d of 5 ", i+1)) || !strings.Contains(string(text), "# vault: a-vault\n") {
			t.Errorf("the comments do not say it:\n%s", text)
		}
		if _, err := cmek.ParseKeyFile(text); !errors.Is(err, cmek.ErrBackup) {
			t.Errorf("ParseKeyFile of a share: %v", err)
		}
		texts = append(texts, text)
	}
	if got, err := combine(texts[2:]); err != nil || !bytes.Equal(got.Bytes(), k.Bytes()) {
		t.Errorf("another key came back: %v", err)
	}
}

func TestFORMATShowsAShare(t *testing.T) {
	text := string(must(must(Split(cmek.Generate(), 2, 3))(t)[1].Marshal(cmek.KeyFileInfo{}))(t))
	first, _, _ := strings.Cut(text, "\n")
	if doc := must(os.ReadFile("../FORMAT.md"))(t); !strings.Contains(string(doc), first) {
		t.Errorf("FORMAT.md does not show %q", first)
	}
}

func TestEveryByteOfAShareIsBound(t *testing.T) {
	text := must(must(Split(cmek.Generate(), 2, 2))(t)[0].Marshal(cmek.KeyFileInfo{}))(t)
	begin := bytes.IndexByte(text, '\n') + 1 // a comment is nobody's
	for i := begin; i < len(text)-1; i++ {
		changed := bytes.Clone(text)
		changed[i] ^= 1
		if s, err := Parse(changed); s != nil || !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrNotShare) {
			t.Errorf("byte %d (%q) is not bound: %v", i, text[i], err)
		}
	}
}

func TestNoShareHoldsTheKey(t *testing.T) {
	k := cmek.Generate()
	for _, s := range must(Split(k, 2, 5))(t) {
		text := string(must(s.Marshal(cmek.KeyFileInfo{}))(t))
		for _, form := range []string{string(k.Bytes()), hex.EncodeToString(k.Bytes()), base64.StdEncoding.EncodeToString(k.Bytes())} {
			if strings.Contains(text, form) {
				t.Error("the key is in a share")
			}
		}
	}
}

func TestTwoSplitsOfAKeyDoNotMix(t *testing.T) {
	k := cmek.Generate()
	one, two := must(Split(k, 2, 3))(t), must(Split(k, 2, 3))(t)
	secret := func(shares []*Share) string {
		return fmt.Sprint(must(secretsharing.Recover(1, must(points(shares))(t)))(t))
	}
	if secret(one) == secret(two) || one[0].SetID() == two[0].SetID() {
		t.Error("two splits have one secret")
	}
	_, err := Combine([]*Share{one[0], two[1]})
	if !errors.Is(err, ErrOtherSet) || !strings.Contains(err.Error(), "number 2") || !strings.Contains(err.Error(), two[1].SetID()[:8]) {
		t.Errorf("%v: does not name the second", err)
	}
	if _, err := Combine([]*Share{one[0], one[1], one[0]}); !errors.Is(err, ErrTwice) || !strings.Contains(err.Error(), "share 1") {
		t.Errorf("%v: does not name share 1", err)
	}
}

func TestAShareIsMuteAndCanBeWiped(t *testing.T) {
	s := must(Split(cmek.Generate(), 2, 2))(t)
	value := s[0].value.Load()
	forms := []string{string(value[:]), hex.EncodeToString(value[:8]), base64.StdEncoding.EncodeToString(value[:9]), strings.Trim(fmt.Sprint(value[:4]), "[]")}
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	for _, v := range []any{s[0], s, struct{ S *Share }{s[0]}, struct{ s *Share }{s[0]}} {
		log.Info("a share", "s", v)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
	}
	for _, form := range forms {
		if strings.Contains(out.String(), form) {
			t.Errorf("the value shows as %q in:\n%s", form, out.String())
		}
	}
	if b, err := json.Marshal(s[0]); err == nil {
		t.Errorf("marshals to %s", b)
	}
	s[0].Wipe()
	if _, err := s[0].Marshal(cmek.KeyFileInfo{}); err == nil || *value != [valueSize]byte{} {
		t.Error("a wiped share has its value")
	}
	if k, err := Combine(s); err == nil || k != nil {
		t.Errorf("Combine with a wiped share: %v", err)
	}
}

// FuzzShare: whatever parses is written, and read back, as the same.
func FuzzShare(f *testing.F) {
	for _, v := range vectors(f) {
		for _, text := range v.Shares {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse(data)
		if err != nil {
			return
		}
		text := must(s.Marshal(cmek.KeyFileInfo{}))(t)
		if again := must(must(Parse(text))(t).Marshal(cmek.KeyFileInfo{}))(t); !bytes.Equal(again, text) {
			t.Fatalf("read back as\n%s", again)
		}
	})
}
