package keyring

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
)

func imported(t testing.TB, r *Keyring, root Root, raw []byte) *Keyring {
	t.Helper()
	return must(r.Import(ctx, root, raw, day.AddDate(0, 0, 1)))(t)
}

func TestImportedMaterialIsThePrimaryLikeAFreshOne(t *testing.T) {
	root, raw := newRoot(t), aead.GenerateRaw()
	made := newRing(t, root, "a")
	old, _ := wrap(t, made)
	r := imported(t, made, root, raw)
	mustUnwrap(t, made, 1, old) // whose keys are its own
	made.Wipe()
	w, number := wrap(t, r)
	for _, r := range []*Keyring{r, must(Parse(ctx, root, "a", r.Marshal()))(t), must(r.Rotate(ctx, root, day))(t)} {
		mustUnwrap(t, r, 1, old)
		mustUnwrap(t, r, 2, w)
		v := r.Versions()
		if want := (VersionInfo{Version: 2, State: v[1].State, Created: day.AddDate(0, 0, 1), Imported: true}); number != 2 || v[0].Imported || v[1] != want {
			t.Errorf("%d, %+v", number, v)
		}
	}
	// The material itself opens what is under it: it was taken up as it is.
	key := must(aead.NewKey(raw))(t)
	if got, err := key.Open(w, r.dekAAD(2, aad)); err != nil || !bytes.Equal(got, dek) {
		t.Errorf("the primary is other material: %v", err)
	}
	if bytes.Equal(raw, make([]byte, len(raw))) {
		t.Error("the caller's own copy was wiped")
	}
	clear(raw)
	mustUnwrap(t, r, 2, w)
}

// A store that was put back to before an import knows nothing of it; the same
// import then opens what was wrapped meanwhile.
func TestTheSameImportIntoTheSameKeyringIsTheSameVersion(t *testing.T) {
	root, raw := newRoot(t), aead.GenerateRaw()
	before := newRing(t, root, "a")
	w, _ := wrap(t, imported(t, before, root, raw))
	mustUnwrap(t, imported(t, must(Parse(ctx, root, "a", before.Marshal()))(t), root, raw), 2, w)
}

func TestNoMaterialIsTwoVersions(t *testing.T) {
	rootRaw, raw, later := aead.GenerateRaw(), aead.GenerateRaw(), aead.GenerateRaw()
	root := &FileRoot{key: must(aead.NewKey(rootRaw))(t)}
	r := newRing(t, root, "a")
	made, err := root.key.Open(r.versions[0].Stored, kekAAD(Name{"a", 1}))
	if err != nil {
		t.Fatal(err)
	}
	r = imported(t, imported(t, r, root, raw), root, later)
	destroyed := must(must(r.Destroy(ctx, root, 2))(t).Rotate(ctx, root, day))(t)
	lost := must(Parse(ctx, losing{root, map[uint32]bool{2: true}}, "a", r.Marshal()))(t)
	for name, c := range map[string]struct {
		ring *Keyring
		raw  []byte
		want uint32
	}{
		"made here": {r, made, 1}, "imported": {r, raw, 2}, "the primary": {r, later, 3}, "destroyed": {destroyed, raw, 2}, "lost": {lost, raw, 2},
		"destroyed, parsed": {must(Parse(ctx, root, "a", destroyed.Marshal()))(t), raw, 2}, "fresh": {r, aead.GenerateRaw(), 0}, "the root key": {r, rootRaw, 0},
	} {
		if got, err := c.ring.VersionOf(c.raw); got != c.want || err != nil {
			t.Errorf("%s: version %d, %v", name, got, err)
		}
		next, err := c.ring.Import(ctx, root, c.raw, day)
		switch {
		case name == "fresh" && err == nil:
			mustUnwrap(t, must(Parse(ctx, root, "a", next.Marshal()))(t), c.ring.Primary()+1, first(wrap(t, next)))
		case name == "fresh", next != nil, !errors.Is(err, fault.Invalid), !strings.Contains(err.Error(), map[bool]string{true: "is the root key", false: fmt.Sprintf("is version %d of the KEK already", c.want)}[c.want == 0]):
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := newRing(t, root, "b").Import(ctx, root, raw, day); err != nil {
		t.Errorf("a version of another KEK is in the way: %v", err)
	}
}

func first[A, B any](a A, _ B) A { return a }

func TestMaterialThatCanBeGuessedIsRefused(t *testing.T) {
	root := newRoot(t)
	r := newRing(t, root, "a")
	counted := func(from, step int) []byte {
		b := make([]byte, aead.KeySize)
		for i := range b {
			b[i] = byte(from + i*step)
		}
		return b
	}
	for name, raw := range map[string][]byte{
		"none": nil, "zeros": make([]byte, 32), "ones": bytes.Repeat([]byte{255}, 32), "a pattern": bytes.Repeat([]byte{0xde, 0xad, 0xbe, 0xef}, 8),
		"counted": counted(0, 1), "counted down": counted(9, -1), "counted by sevens": counted(200, 7),
		"text": []byte("correct horse battery staple 42!"), "hex of hex": []byte("0123456789abcdef0123456789abcdef"),
		"mostly zeros": append(make([]byte, 18), aead.GenerateRaw()[:14]...), "short": aead.GenerateRaw()[:31], "long": append(aead.GenerateRaw(), 1),
	} {
		next, err := r.Import(ctx, root, raw, day)
		if next != nil || !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "random generator") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for range 1000 {
		if raw := aead.GenerateRaw(); guessable(raw) {
			t.Errorf("random bytes are taken for a guess: %x", raw)
		}
	}
}

// closed is a root that makes its KEKs itself, as a token does.
type closed struct{ Root }

func TestARootThatMakesItsKEKsItselfTakesNone(t *testing.T) {
	root := closed{newRoot(t)}
	next, err := newRing(t, root, "a").Import(ctx, root, aead.GenerateRaw(), day)
	if next != nil || !errors.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "inside a token") {
		t.Error(err)
	}
}

func TestImportedMaterialIsInNoRowAndNoError(t *testing.T) {
	root, raw := newRoot(t), aead.GenerateRaw()
	r := imported(t, newRing(t, root, "a"), root, raw)
	again := imported(t, r, root, aead.GenerateRaw())
	_, repeated := again.Import(ctx, root, raw, day)
	_, long := again.Import(ctx, root, append(raw, 0), day)
	root.Wipe()
	_, wiped := r.Import(ctx, root, aead.GenerateRaw(), day)
	if errors.Is(wiped, fault.Invalid) || wiped == nil {
		t.Errorf("a wiped root: %v", wiped)
	}
	text := fmt.Sprintf("%s %v %+v %v %v %v", again.Marshal(), again, again.Versions(), repeated, long, wiped)
	for form, secret := range map[string]string{"raw": string(raw), "hex": fmt.Sprintf("%x", raw), "HEX": fmt.Sprintf("%X", raw), "decimal": strings.Trim(fmt.Sprint(raw), "[]"), "base64": string(must(json.Marshal(raw))(t)[1:41])} {
		if strings.Contains(text, secret) {
			t.Errorf("it turns up as %s", form)
		}
	}
	var rows []map[string]any
	if err := json.Unmarshal(again.Marshal()[sealSize:], &rows); err != nil || len(rows) != 3 || rows[0]["proof"] != nil || rows[1]["proof"] == nil {
		t.Errorf("%v, %v", err, cmp.Diff(nil, rows))
	}
}
