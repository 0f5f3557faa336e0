package keyring

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"pgregory.net/rapid"
)

var (
	ctx = context.Background()
	day = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)
	dek = bytes.Repeat([]byte{7}, aead.KeySize)
	aad = []byte("the caller's")
)

func newRoot(t testing.TB) *FileRoot {
	t.Helper()
	root, err := CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func newRing(t testing.TB, root Root, id string) *Keyring {
	t.Helper()
	return must(New(ctx, root, id, day))(t)
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func wrap(t testing.TB, r *Keyring) (wrapped []byte, number uint32) {
	t.Helper()
	wrapped, number, err := r.Wrap(dek, aad)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped, number
}

func mustUnwrap(t testing.TB, r *Keyring, number uint32, wrapped []byte) {
	t.Helper()
	got, err := r.Unwrap(number, wrapped, aad)
	if err != nil || !bytes.Equal(got, dek) {
		t.Fatalf("version %d of %q does not unwrap its DEK: %v", number, r.ID(), err)
	}
}

func mustNotUnwrap(t testing.TB, r *Keyring, number uint32, wrapped, aad []byte) {
	t.Helper()
	if got, err := r.Unwrap(number, wrapped, aad); !errors.Is(err, aead.ErrOpen) || got != nil {
		t.Errorf("version %d of %q: got %d bytes, %v; want aead.ErrOpen", number, r.ID(), len(got), err)
	}
}

func TestAWrappedDEKOpensUnderItsOwnKEKVersionAndAADAlone(t *testing.T) {
	type place struct {
		ring   *Keyring
		number uint32
		aad    string
	}
	root, other := newRoot(t), newRoot(t)
	var places []place
	var wrapped [][]byte
	for _, r := range []*Keyring{newRing(t, root, "a"), newRing(t, root, "b"), newRing(t, other, "a")} {
		r2 := must(r.Rotate(ctx, root2(r, root, other), day))(t)
		for _, ring := range []*Keyring{r, r2} {
			for _, aad := range []string{"", "x", "y", "xy"} {
				w, n, err := ring.Wrap(dek, []byte(aad))
				if err != nil || len(w) != 60 {
					t.Fatalf("Wrap: %d bytes, %v", len(w), err)
				}
				places, wrapped = append(places, place{r2, n, aad}), append(wrapped, w)
			}
		}
	}
	for i, p := range places {
		for j, w := range wrapped {
			got, err := p.ring.Unwrap(p.number, w, []byte(p.aad))
			if i == j && (err != nil || !bytes.Equal(got, dek)) {
				t.Errorf("place %d does not unwrap its own: %v", i, err)
			}
			if i != j && !errors.Is(err, aead.ErrOpen) {
				t.Errorf("place %d unwraps the DEK of place %d: %v", i, j, err)
			}
		}
	}
}

// root2 returns the root that made r.
func root2(r *Keyring, roots ...*FileRoot) *FileRoot {
	for _, root := range roots {
		if _, err := Parse(ctx, root, r.ID(), r.Marshal()); err == nil {
			return root
		}
	}
	return nil
}

// sameRoot gives every KEK the same key, so that AAD alone tells them apart.
type sameRoot struct{ Root }

func (sameRoot) MakeKEK(context.Context, Name) ([]byte, error) { return []byte("x"), nil }

func (sameRoot) LoadKEK(context.Context, Name, []byte) (KEK, error) {
	key, err := aead.NewKey(dek)
	return fileKEK{key}, err
}

func TestAADAloneKeepsKEKsOfOneMaterialApart(t *testing.T) {
	a1, b1 := newRing(t, sameRoot{}, "a"), newRing(t, sameRoot{}, "b")
	a2 := must(a1.Rotate(ctx, sameRoot{}, day))(t)
	w, n := wrap(t, a1)
	mustUnwrap(t, a2, n, w)
	mustNotUnwrap(t, b1, 1, w, aad)
	mustNotUnwrap(t, a2, 2, w, aad)
	mustNotUnwrap(t, a2, 1, w, nil)
	r, err := Parse(ctx, sameRoot{}, "b", a1.Marshal())
	mustBeDamaged(t, "row of another ID", r, err)
}

func TestARootLoadsAKEKUnderItsOwnNameAlone(t *testing.T) {
	root := newRoot(t)
	names := []Name{{"a", 1}, {"a", 2}, {"a", 12}, {"a1", 2}, {"b", 1}, {"", 1}}
	for _, made := range names {
		stored := must(root.MakeKEK(ctx, made))(t)
		for _, name := range names {
			if _, err := root.LoadKEK(ctx, name, stored); (err == nil) != (name == made) {
				t.Errorf("made as %v, loaded as %v: %v", made, name, err)
			}
		}
	}
}

func TestAFlippedOrShortenedWrappedDEKDoesNotUnwrap(t *testing.T) {
	r := newRing(t, newRoot(t), "a")
	w, n := wrap(t, r)
	for i := range w {
		for bit := range 8 {
			bad := bytes.Clone(w)
			bad[i] ^= 1 << bit
			mustNotUnwrap(t, r, n, bad, aad)
		}
		mustNotUnwrap(t, r, n, w[:i], aad)
	}
	mustNotUnwrap(t, r, n, append(bytes.Clone(w), 0), aad)
	mustNotUnwrap(t, r, 0, w, aad)
	mustNotUnwrap(t, r, 2, w, aad)
	mustNotUnwrap(t, r, 1<<32-1, w, aad)
}

func TestOnlyWholeDEKsAreWrapped(t *testing.T) {
	r := newRing(t, newRoot(t), "a")
	for _, size := range []int{0, 16, 31, 33} {
		if _, _, err := r.Wrap(make([]byte, size), aad); !errors.Is(err, aead.ErrKeySize) {
			t.Errorf("%d bytes: %v", size, err)
		}
		short, err := r.versions[0].kek.Wrap(make([]byte, size), r.dekAAD(1, aad))
		if err != nil {
			t.Fatal(err)
		}
		mustNotUnwrap(t, r, 1, short, aad)
	}
}

func TestRotatingMakesANewPrimaryAndKeepsTheOldReadable(t *testing.T) {
	root := newRoot(t)
	r1 := newRing(t, root, "a")
	w1, n1 := wrap(t, r1)
	r2 := must(r1.Rotate(ctx, root, day))(t)
	w2, n2 := wrap(t, r2)
	if n1 != 1 || n2 != 2 || r1.Primary() != 1 || r2.Primary() != 2 {
		t.Fatalf("versions %d, %d; primaries %d, %d", n1, n2, r1.Primary(), r2.Primary())
	}
	mustUnwrap(t, r2, 1, w1)
	mustUnwrap(t, r2, 2, w2)
	mustNotUnwrap(t, r1, 2, w2, aad)

	moved, n, err := r2.Rewrap(1, w1, aad)
	if err != nil || n != 2 {
		t.Fatalf("Rewrap: version %d, %v", n, err)
	}
	mustUnwrap(t, r2, 2, moved)
	if _, _, err := r2.Rewrap(1, w2, aad); !errors.Is(err, aead.ErrOpen) {
		t.Errorf("Rewrap of what does not open: %v", err)
	}
}

func TestWipingOneKeyringLeavesTheOtherAlone(t *testing.T) {
	root := newRoot(t)
	r1 := newRing(t, root, "a")
	w, _ := wrap(t, r1)
	r2 := must(r1.Rotate(ctx, root, day))(t)
	r1.Wipe()
	mustNotUnwrap(t, r1, 1, w, aad)
	if _, _, err := r1.Wrap(dek, aad); err == nil {
		t.Error("a wiped keyring wraps")
	}
	mustUnwrap(t, r2, 1, w)
}

func TestADestroyedVersionOpensNothingAndLeavesNoMaterial(t *testing.T) {
	root := newRoot(t)
	r1 := newRing(t, root, "a")
	w1, _ := wrap(t, r1)
	r2 := must(r1.Rotate(ctx, root, day))(t)
	w2, _ := wrap(t, r2)
	r3 := must(r2.Destroy(ctx, root, 1))(t)
	for _, r := range []*Keyring{r3, must(Parse(ctx, root, "a", r3.Marshal()))(t)} {
		mustNotUnwrap(t, r, 1, w1, aad)
		mustUnwrap(t, r, 2, w2)
	}
	if material := base64.StdEncoding.EncodeToString(r1.versions[0].Stored); bytes.Contains(r3.Marshal(), []byte(material)) {
		t.Error("the row still holds the destroyed version's material")
	}
	mustUnwrap(t, r2, 1, w1) // a keyring never changes
	for _, n := range []uint32{0, 2, 3} {
		if _, err := r2.Destroy(ctx, root, n); !errors.Is(err, fault.Conflict) {
			t.Errorf("Destroy(%d): %v", n, err)
		}
	}
}

func mustBeDamaged(t testing.TB, what string, r *Keyring, err error) {
	t.Helper()
	if r != nil || !errors.Is(err, fault.Damaged) {
		t.Errorf("%s: Parse = %v, %v; want fault.Damaged", what, r, err)
	}
}

func TestARowParsesUnderItsOwnIDAndRootAlone(t *testing.T) {
	root := newRoot(t)
	row := newRing(t, root, "a").Marshal()
	if _, err := Parse(ctx, root, "a", row); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"b", "", "a ", "A"} {
		r, err := Parse(ctx, root, id, row)
		mustBeDamaged(t, "as "+id, r, err)
	}
	r, err := Parse(ctx, newRoot(t), "a", row)
	mustBeDamaged(t, "another root", r, err)
}

func TestEveryFlippedOrMissingByteOfARowIsNoticed(t *testing.T) {
	root := newRoot(t)
	r1 := newRing(t, root, "a")
	row := must(r1.Rotate(ctx, root, day))(t).Marshal()
	for i := range row {
		for bit := range 8 {
			bad := bytes.Clone(row)
			bad[i] ^= 1 << bit
			r, err := Parse(ctx, root, "a", bad)
			mustBeDamaged(t, fmt.Sprintf("byte %d bit %d", i, bit), r, err)
		}
		r, err := Parse(ctx, root, "a", row[:i])
		mustBeDamaged(t, fmt.Sprintf("cut to %d", i), r, err)
	}
	r, err := Parse(ctx, root, "a", append(bytes.Clone(row), ' '))
	mustBeDamaged(t, "a byte more", r, err)
}

func TestARowCannotBePutTogetherFromOthers(t *testing.T) {
	root := newRoot(t)
	r1 := newRing(t, root, "a")
	r2 := must(r1.Rotate(ctx, root, day))(t)
	b2 := must(newRing(t, root, "b").Rotate(ctx, root, day))(t)
	again := must(r1.Rotate(ctx, root, day.Add(time.Hour)))(t) // another version 2 of the same KEK

	edits := map[string]func(v []version) []version{
		"older version alone":        func(v []version) []version { return v[:1] },
		"versions in another order":  func(v []version) []version { return []version{v[1], v[0]} },
		"material swapped":           func(v []version) []version { v[0].Stored, v[1].Stored = v[1].Stored, v[0].Stored; return v },
		"material of another KEK":    func(v []version) []version { v[0].Stored = b2.versions[0].Stored; return v },
		"material of another fork":   func(v []version) []version { v[1].Stored = again.versions[1].Stored; return v },
		"version destroyed":          func(v []version) []version { v[0].State, v[0].Stored = destroyed, nil; return v },
		"age changed":                func(v []version) []version { v[0].Created = day.Add(1); return v },
		"primary destroyed":          func(v []version) []version { v[1].State, v[1].Stored = destroyed, nil; return v },
		"no version":                 func(v []version) []version { return nil },
		"version doubled":            func(v []version) []version { return append(v, v[1]) },
		"state unheard of":           func(v []version) []version { v[0].State = "enable"; return v },
		"two primaries":              func(v []version) []version { v[0].State = enabled; return v },
		"no primary":                 func(v []version) []version { v[1].State = decryptOnly; return v },
		"primary is not the newest":  func(v []version) []version { v[0].State, v[1].State = enabled, decryptOnly; return v },
		"numbering begins at 2":      func(v []version) []version { return v[1:] },
		"gap":                        func(v []version) []version { v[1].Number = 3; return v },
		"number of a version copied": func(v []version) []version { v[1].Number = 1; return v },
	}
	for name, edit := range edits {
		body := must(json.Marshal(edit(r2.unloaded())))(t)
		for _, seal := range [][]byte{r2.row[:sealSize], r1.row[:sealSize], again.row[:sealSize]} {
			r, err := Parse(ctx, root, "a", append(bytes.Clone(seal), body...))
			mustBeDamaged(t, name, r, err)
		}
	}
}

// A row of wrong shape is refused even when its seal is right, as it would be
// if this package had a fault.
func TestARowOfWrongShapeIsRefusedThoughSealed(t *testing.T) {
	root := newRoot(t)
	r2 := must(newRing(t, root, "a").Rotate(ctx, root, day))(t)
	seal := func(v []version) []byte {
		body := must(json.Marshal(v))(t)
		sum := sha256.Sum256(body)
		kek := r2.versions[len(v)-1].kek
		return append(must(kek.Wrap(sum[:], rowAAD("a")))(t), body...)
	}
	if _, err := Parse(ctx, root, "a", seal(r2.unloaded())); err != nil {
		t.Fatalf("the test's own seal is wrong: %v", err)
	}
	for name, edit := range map[string]func(v []version){
		"two primaries": func(v []version) { v[0].State = enabled },
		"no primary":    func(v []version) { v[1].State = decryptOnly },
		"version twice": func(v []version) { v[0] = v[1]; v[0].State = decryptOnly },
		"unknown state": func(v []version) { v[0].State = "" },
	} {
		v := r2.unloaded()
		edit(v)
		r, err := Parse(ctx, root, "a", seal(v))
		mustBeDamaged(t, name, r, err)
	}
}

func TestARowsSealIsNoWrappedDEKAndTheReverse(t *testing.T) {
	root := newRoot(t)
	r := newRing(t, root, "a")
	for _, a := range [][]byte{nil, aad, rowAAD("a")} {
		mustNotUnwrap(t, r, 1, r.row[:sealSize], a)
	}
	body := r.row[sealSize:]
	sum := sha256.Sum256(body)
	w, _, err := r.Wrap(sum[:], rowAAD("a"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := Parse(ctx, root, "a", append(w, body...))
	mustBeDamaged(t, "sealed by Wrap", got, err)
}

func TestAnyLifeOfAKeyringSurvivesTheStore(t *testing.T) {
	root := newRoot(t)
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.StringMatching(`[A-Za-z0-9_.-]{1,20}`).Draw(t, "id")
		r, err := New(ctx, root, id, day)
		wrapped := map[uint32][]byte{}
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			if err != nil {
				t.Fatal(err)
			}
			w, n, _ := r.Wrap(dek, aad)
			wrapped[n] = w
			switch rapid.SampledFrom([]string{"rotate", "import", "destroy", "reopen"}).Draw(t, "step") {
			case "rotate":
				r, err = r.Rotate(ctx, root, day)
			case "import":
				r, err = r.Import(ctx, root, aead.GenerateRaw(), day)
			case "reopen":
				r, err = Parse(ctx, root, id, r.Marshal())
			case "destroy":
				if n := rapid.Uint32Range(1, r.Primary()).Draw(t, "n"); n < r.Primary() {
					delete(wrapped, n)
					r, err = r.Destroy(ctx, root, n)
				}
			}
		}
		for n := range r.Primary() {
			got, err := r.Unwrap(n+1, wrapped[n+1], aad)
			if _, live := wrapped[n+1]; live != (err == nil && bytes.Equal(got, dek)) {
				t.Fatalf("version %d of %d: %v", n+1, r.Primary(), err)
			}
		}
	})
}

// awayRoot answers as a token that is pulled out after some calls, and counts
// the KEKs that are loaded and not wiped.
type awayRoot struct {
	Root
	calls, loaded int
}

var errAway = errors.New("token away")

func (a *awayRoot) LoadKEK(ctx context.Context, n Name, stored []byte) (KEK, error) {
	if a.calls--; a.calls < 0 {
		return nil, errAway
	}
	kek, err := a.Root.LoadKEK(ctx, n, stored)
	if err == nil {
		a.loaded++
	}
	return countedKEK{kek, a}, err
}

func (a *awayRoot) MakeKEK(ctx context.Context, n Name) ([]byte, error) {
	if a.calls--; a.calls < 0 {
		return nil, errAway
	}
	return a.Root.MakeKEK(ctx, n)
}

type countedKEK struct {
	KEK
	root *awayRoot
}

func (k countedKEK) Wipe() {
	k.root.loaded--
	k.KEK.Wipe()
}

func TestARootThatIsAwayIsNotDamageAndNothingStaysLoaded(t *testing.T) {
	root := newRoot(t)
	r2 := must(newRing(t, root, "a").Rotate(ctx, root, day))(t)
	for calls := range 4 {
		away := &awayRoot{Root: root}
		steps := map[string]func() (*Keyring, error){
			"New":    func() (*Keyring, error) { return New(ctx, away, "a", day) },
			"Rotate": func() (*Keyring, error) { return r2.Rotate(ctx, away, day) },
			"Parse":  func() (*Keyring, error) { return Parse(ctx, away, "a", r2.Marshal()) },
		}
		for name, step := range steps {
			away.calls = calls
			r, err := step()
			if err != nil && (r != nil || !errors.Is(err, fault.Unavailable) || !errors.Is(err, errAway)) {
				t.Errorf("%s after %d calls: %v, %v", name, calls, r, err)
			}
			if r != nil {
				r.Wipe()
			}
			if away.loaded != 0 {
				t.Errorf("%s after %d calls leaves %d KEKs loaded", name, calls, away.loaded)
			}
		}
	}
	w, _ := wrap(t, r2)
	mustUnwrap(t, r2, 2, w) // a failed step wipes nothing of the keyring it began from
}

func TestADamagedRowLeavesNothingLoaded(t *testing.T) {
	root := &awayRoot{Root: newRoot(t), calls: 1 << 30}
	r2 := must(newRing(t, root, "a").Rotate(ctx, root, day))(t)
	edits := map[string]func(v []version){
		"its second KEK": func(v []version) { v[1].Stored[0] ^= 1 },
		"its seal":       func(v []version) { v[1].Created = day.Add(1) },
	}
	for name, edit := range edits {
		v := r2.unloaded()
		v[1].Stored = bytes.Clone(v[1].Stored)
		edit(v)
		root.loaded = 0
		r, err := Parse(ctx, root, "a", append(bytes.Clone(r2.row[:sealSize]), must(json.Marshal(v))(t)...))
		mustBeDamaged(t, name, r, err)
		if root.loaded != 0 {
			t.Errorf("damage of %s leaves %d KEKs loaded", name, root.loaded)
		}
	}
}

func TestNoKeyMaterialIsPrinted(t *testing.T) {
	root := newRoot(t)
	r := newRing(t, root, "a")
	raw := must(root.key.Open(r.versions[0].Stored, kekAAD(Name{"a", 1})))(t)
	var out strings.Builder
	log := slog.New(slog.NewJSONHandler(&out, nil))
	_, perr := Parse(ctx, root, "b", r.Marshal())
	_, uerr := r.Unwrap(1, dek, aad)
	for _, v := range []any{r, root, r.versions, r.versions[0].kek, *r, *root, perr, uerr, errors.Unwrap(perr)} {
		log.Info("x", "v", v)
		fmt.Fprintf(&out, "%v %+v %#v %s %q %d %x\n", v, v, v, v, v, v, v)
	}
	out.Write(r.Marshal())
	for _, form := range []string{string(raw), hex.EncodeToString(raw), strings.ToUpper(hex.EncodeToString(raw)),
		base64.StdEncoding.EncodeToString(raw), base64.RawURLEncoding.EncodeToString(raw), strings.Trim(fmt.Sprint(raw), "[]")} {
		if strings.Contains(out.String(), form) {
			t.Errorf("KEK material is printed as %d characters", len(form))
		}
	}
	for _, v := range []any{r, root, r.versions[0].kek} {
		if s := fmt.Sprintf("%v %+v %#v %d", v, v, v, v); s != "[redacted] [redacted] [redacted] [redacted]" {
			t.Errorf("%T prints %s", v, s)
		}
	}
}

func FuzzParse(f *testing.F) {
	root := newRoot(f)
	row := newRing(f, root, "a").Marshal()
	f.Add(row)
	f.Add(row[:sealSize])
	f.Add(append(bytes.Clone(row[:sealSize]), `[{"version":1,"state":"enabled"}]`...))
	f.Add(append(bytes.Clone(row[:sealSize]), `[{"version":1,"state":"destroyed"}]`...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if bytes.Equal(b, row) {
			return
		}
		r, err := Parse(ctx, root, "a", b)
		mustBeDamaged(t, "forged row", r, err)
	})
}
