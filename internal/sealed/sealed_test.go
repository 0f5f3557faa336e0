package sealed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

var tokenKey = Name{"tokenkey", "server", "k1"}

// names is one name and others that differ from it in one part, or look alike.
var names = []Name{
	tokenKey, {"signing", "server", "k1"}, {"tokenkey", "other", "k1"}, {"tokenkey", "server", "k2"},
	{"tokenkey", "server", "k1:"}, {"tokenkey", "server:k1", ""}, {"tokenkey", "", "server:k1"}, {"tokenkey", "server", "K1"},
	{"tokenkey", "server%3A", "k1"}, {"tokenkey", "server/k1", "ü"}, {"tokenkey", "server", ""},
}

func TestASecretComesBackAsItWent(t *testing.T) {
	r := newRig(t)
	for _, n := range names {
		r.put(n)
	}
	for _, n := range names {
		r.opens(n)
	}
	r.put(tokenKey) // in the place of the first
	r.opens(tokenKey)
	var b store.Batch
	r.Delete(&b, tokenKey)
	if _, err := r.mem.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	_, err := r.Get(t.Context(), tokenKey)
	r.fails("after its deletion", err, fault.NotFound)
}

func TestARowMovedToAnyOtherPlaceDoesNotOpen(t *testing.T) {
	for _, from := range names {
		r := newRig(t)
		r.put(from)
		for _, to := range names {
			if to == from {
				continue
			}
			r.set(to.key(), r.row(from).Value)
			_, err := r.Get(t.Context(), to)
			r.fails(fmt.Sprintf("%v as %v", from, to), err, fault.Damaged)
		}
	}
}

func TestNoTwoNamesShareAKeyOrAnAAD(t *testing.T) {
	word := rapid.StringMatching(`[a-z]{1,3}`)
	part := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a:%/3A]{0,4}`))
	name := rapid.Custom(func(t *rapid.T) Name { return Name{word.Draw(t, "kind"), part.Draw(t, "owner"), part.Draw(t, "id")} })
	rapid.Check(t, func(t *rapid.T) {
		a, b := name.Draw(t, "a"), name.Draw(t, "b")
		if a != b && (a.key() == b.key() || bytes.Equal(a.aad(), b.aad())) {
			t.Errorf("%q and %q are one", a, b)
		}
		kind, owner, id, ok := layout.ParseSealed(a.key())
		if !ok || (Name{kind, owner, id}) != a {
			t.Errorf("%q parses as %q, %q, %q, %v", a.key(), kind, owner, id, ok)
		}
	})
}

// Of the last character of base64 some bits mean nothing: with one of these
// flipped a row is the same row.
func TestARowWithAFlippedBitOrCutOffOpensAsNothingElse(t *testing.T) {
	r := newRig(t)
	r.put(tokenKey)
	row := r.row(tokenKey).Value
	was, _ := parse(row)
	for i := range row {
		for _, bit := range []byte{1, 2, 0x20, 0x80} {
			bad := bytes.Clone(row)
			bad[i] ^= bit
			r.set(tokenKey.key(), bad)
			if is, err := parse(bad); err == nil && cmp.Equal(is, was) {
				r.opens(tokenKey)
			} else if value, err := r.Get(t.Context(), tokenKey); !errors.Is(err, fault.Damaged) {
				t.Errorf("byte %d ^ %#x: %q, %v", i, bit, value, err)
			}
		}
	}
	for n := range row {
		r.set(tokenKey.key(), row[:n])
		_, err := r.Get(t.Context(), tokenKey)
		r.fails(fmt.Sprint("cut off at ", n), err, fault.Damaged)
	}
	r.set(tokenKey.key(), append(bytes.Clone(row), '{', '}'))
	_, err := r.Get(t.Context(), tokenKey)
	r.fails("with more behind it", err, fault.Damaged)
}

func TestARowUnderAnotherKEKIsNotAsked(t *testing.T) {
	r := newRig(t)
	if _, err := r.kms.CreateKEK(t.Context(), []string{"vault-1"}); err != nil {
		t.Fatal(err)
	}
	res, err := r.kms.Seal(t.Context(), []kmsapi.SealItem{{KEKID: "vault-1", Plaintext: []byte(canary), AAD: tokenKey.aad()}})
	if err != nil {
		t.Fatal(err)
	}
	row, err := json.Marshal(res[0].Envelope)
	if err != nil {
		t.Fatal(err)
	}
	r.set(tokenKey.key(), row)
	_, err = r.Get(t.Context(), tokenKey)
	r.fails("a row under another KEK", err, fault.Damaged)
	if n := r.kms.count("Open"); n != 0 {
		t.Errorf("the KMS was asked %d times", n)
	}
}

func TestTheStoreHoldsNothingOfASecret(t *testing.T) {
	r := newRig(t)
	r.put(tokenKey)
	for rec, err := range store.All(t.Context(), r.mem, store.Range{Start: "\x00"}) {
		if err != nil {
			t.Fatal(err)
		}
		text, _ := json.Marshal([]byte(canary))
		for _, bad := range []string{canary, string(text[1 : len(text)-3])} {
			if strings.Contains(rec.Key+string(rec.Value), bad) {
				t.Errorf("%s holds the secret", rec.Key)
			}
		}
	}
}

func TestAKMSThatIsAwayStoresAndOpensNothing(t *testing.T) {
	r := newRig(t)
	r.put(tokenKey)
	for cause, want := range map[error]fault.Code{
		fault.New(fault.Unavailable, "locked"): fault.Unavailable, fault.New(fault.Timeout, "late"): fault.Timeout,
		errors.New("connection refused"): fault.Unavailable, context.DeadlineExceeded: fault.Unavailable,
		fault.New(fault.Forbidden, "not you"): fault.Unavailable,
	} {
		r.kms.before = func(string) error { return cause }
		_, err := r.Get(t.Context(), tokenKey)
		r.fails(cause.Error(), err, want)
		var b store.Batch
		r.fails(cause.Error(), r.Put(t.Context(), &b, tokenKey, []byte(canary)), want)
		if len(b.Writes)+len(b.Preconditions) > 0 {
			t.Errorf("%v: the batch is %+v", cause, b)
		}
	}
	r.kms.before = nil
	r.opens(tokenKey)
}

func TestAStoreThatFailsSaysSo(t *testing.T) {
	r := newRig(t)
	r.mem.Close()
	_, err := r.Get(t.Context(), tokenKey)
	r.fails("Get", err, fault.Unavailable)
	r.fails("Put", r.Put(t.Context(), new(store.Batch), tokenKey, nil), fault.Unavailable)
}

func TestAnAnswerThatIsNoEnvelopeIsNotStored(t *testing.T) {
	for what, spoil := range map[string]func([]kmsapi.SealResult) []kmsapi.SealResult{
		"none":                func([]kmsapi.SealResult) []kmsapi.SealResult { return nil },
		"two":                 func(r []kmsapi.SealResult) []kmsapi.SealResult { return append(r, r[0]) },
		"a short ciphertext":  func(r []kmsapi.SealResult) []kmsapi.SealResult { r[0].Envelope.Ciphertext = []byte("c"); return r },
		"the plaintext":       func(r []kmsapi.SealResult) []kmsapi.SealResult { r[0].Envelope.Ciphertext = []byte(canary); return r },
		"a short wrapped DEK": func(r []kmsapi.SealResult) []kmsapi.SealResult { r[0].Envelope.WrappedDEK = nil; return r },
		"another KEK":         func(r []kmsapi.SealResult) []kmsapi.SealResult { r[0].Envelope.KEKID = "threads"; return r },
		"no version":          func(r []kmsapi.SealResult) []kmsapi.SealResult { r[0].Envelope.KEKVersion = 0; return r },
	} {
		r := newRig(t)
		r.put(tokenKey)
		before := r.row(tokenKey)
		r.kms.seals = spoil
		var b store.Batch
		if err := r.Put(t.Context(), &b, tokenKey, []byte(canary)); err == nil || strings.Contains(err.Error(), canary) || len(b.Writes) > 0 {
			t.Errorf("%s: %v, %+v", what, err, b)
		}
		if diff := cmp.Diff(before, r.row(tokenKey)); diff != "" {
			t.Error(what, diff)
		}
	}
	r := newRig(t)
	r.put(tokenKey)
	for _, spoil := range []func([]kmsapi.OpenResult) []kmsapi.OpenResult{
		func([]kmsapi.OpenResult) []kmsapi.OpenResult { return nil },
		func(r []kmsapi.OpenResult) []kmsapi.OpenResult { return append(r, r[0]) },
	} {
		r.kms.opened = spoil
		value, err := r.Get(t.Context(), tokenKey)
		r.fails("a number of answers", err, fault.Unavailable)
		if value != nil {
			t.Error("a value is returned beside the error")
		}
	}
}

func TestAKMSThatHasLostTheKEKIsDamageAndGetsNoOther(t *testing.T) {
	r, empty := newRig(t), newRig(t)
	r.put(tokenKey)
	lost := New(r.mem, empty.kms)
	_, err := lost.Get(t.Context(), tokenKey)
	r.fails("a lost KEK", err, fault.Damaged)
	if n := empty.kms.count("CreateKEK"); n != 0 {
		t.Errorf("%d KEKs were made to read", n)
	}
}

func TestTheSizeIsBounded(t *testing.T) {
	r := newRig(t)
	for size, want := range map[int]error{0: nil, MaxSize: nil, MaxSize + 1: fault.TooLarge} {
		var b store.Batch
		if err := r.Put(t.Context(), &b, tokenKey, make([]byte, size)); want == nil && err != nil || want != nil && !errors.Is(err, want) {
			t.Errorf("%d bytes: %v", size, err)
		}
	}
}

func TestABoxReadsNothingUntilItIsAsked(t *testing.T) {
	New(memstore.New(), nil)
}
