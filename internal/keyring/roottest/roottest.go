// Package roottest is the contract of keyring.Root as tests: every root passes
// the same ones.
package roottest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/keyring"
)

var (
	ctx = context.Background()
	dek = bytes.Repeat([]byte{7}, aead.KeySize)
	aad = []byte("the caller's")
)

// Run runs the contract. Each call of open returns a Root over the same keys, as
// after a start of the process; one that has no life after the process returns
// itself.
func Run(t *testing.T, kind string, open func(testing.TB) keyring.Root) {
	if root := open(t); root.Kind() != kind || root.Check(ctx) != nil {
		t.Errorf("kind %q, %v", root.Kind(), root.Check(ctx))
	}
	for _, test := range []struct {
		name string
		run  func(*testing.T, keyring.Root, func(testing.TB) keyring.Root)
	}{
		{"AKEKIsLoadedAsItWasMadeAlsoAfterAStart", loads},
		{"AKEKIsLoadedUnderItsOwnNameAlone", names},
		{"WhatIsStoredIsLoadedUnchangedOrNotAtAll", stored},
		{"AWrapIsBoundToItsKEKAndAAD", wraps},
		{"AChangedWrapDoesNotUnwrap", changes},
		{"TwoWrapsOfOneDEKHaveNothingInCommon", nonces},
		{"OnlyWholeDEKsAreWrapped", sizes},
		{"AWipedKEKDoesNothingAndTouchesNoOther", wipes},
		{"DestroyingIsIdempotentAndTouchesNoOtherKEK", destroys},
		{"ManyCallersShareAKEK", together},
		{"AWipedRootLoadsAndMakesNothing", wipesRoot}, // the last: open may return the one there is
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t), open) })
	}
}

func name(version uint32) keyring.Name { return keyring.Name{KEKID: "a", Version: version} }

func made(t testing.TB, root keyring.Root, n keyring.Name) []byte {
	t.Helper()
	stored, err := root.MakeKEK(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

func load(t testing.TB, root keyring.Root, n keyring.Name, stored []byte) keyring.KEK {
	t.Helper()
	k, err := root.LoadKEK(ctx, n, stored)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func fresh(t testing.TB, root keyring.Root, n keyring.Name) keyring.KEK {
	t.Helper()
	return load(t, root, n, made(t, root, n))
}

func wrap(t testing.TB, k keyring.KEK, aad []byte) []byte {
	t.Helper()
	w, err := k.Wrap(dek, aad)
	if err != nil || len(w) != aead.KeySize+aead.Overhead {
		t.Fatalf("Wrap: %d bytes, %v", len(w), err)
	}
	return w
}

func mustUnwrap(t testing.TB, k keyring.KEK, w, aad []byte) {
	t.Helper()
	if got, err := k.Unwrap(w, aad); err != nil || !bytes.Equal(got, dek) {
		t.Errorf("it does not unwrap its own: %v", err)
	}
}

func mustNotUnwrap(t testing.TB, k keyring.KEK, w, aad []byte) {
	t.Helper()
	if got, err := k.Unwrap(w, aad); !errors.Is(err, aead.ErrOpen) || got != nil {
		t.Errorf("it unwraps to %d bytes, %v; want aead.ErrOpen", len(got), err)
	}
}

func mustNotLoad(t testing.TB, root keyring.Root, n keyring.Name, stored []byte) {
	t.Helper()
	if k, err := root.LoadKEK(ctx, n, stored); !errors.Is(err, aead.ErrOpen) || k != nil {
		t.Errorf("%v loads: %v, %v; want aead.ErrOpen", n, k, err)
	}
}

func loads(t *testing.T, root keyring.Root, open func(testing.TB) keyring.Root) {
	stored := made(t, root, name(1))
	w := wrap(t, load(t, root, name(1), stored), aad)
	mustUnwrap(t, load(t, root, name(1), stored), w, aad)
	mustUnwrap(t, load(t, open(t), name(1), stored), w, aad)
}

func names(t *testing.T, root keyring.Root, _ func(testing.TB) keyring.Root) {
	all := []keyring.Name{{KEKID: "a", Version: 1}, {KEKID: "a", Version: 2}, {KEKID: "a", Version: 12}, {KEKID: "a1", Version: 2}, {KEKID: "b", Version: 1}, {KEKID: "", Version: 1}}
	for _, its := range all {
		stored := made(t, root, its)
		for _, n := range all {
			if n == its {
				load(t, root, n, stored)
			} else {
				mustNotLoad(t, root, n, stored)
			}
		}
	}
}

func stored(t *testing.T, root keyring.Root, _ func(testing.TB) keyring.Root) {
	one, two := made(t, root, name(1)), made(t, root, name(1))
	if bytes.Equal(one, two) {
		t.Error("two KEKs of one name are stored alike")
	}
	mustNotUnwrap(t, load(t, root, name(1), one), wrap(t, load(t, root, name(1), two), aad), aad)
	for i := range one {
		bad := bytes.Clone(one)
		bad[i] ^= 1
		mustNotLoad(t, root, name(1), bad)
		mustNotLoad(t, root, name(1), one[:i])
	}
	mustNotLoad(t, root, name(1), append(bytes.Clone(one), 0))
	mustNotLoad(t, root, name(1), nil)
}

func wraps(t *testing.T, root keyring.Root, _ func(testing.TB) keyring.Root) {
	keks := []keyring.KEK{fresh(t, root, name(1)), fresh(t, root, name(2)), fresh(t, root, keyring.Name{KEKID: "b", Version: 1})}
	aads := [][]byte{nil, []byte("x"), []byte("xy"), bytes.Repeat([]byte("long "), 20_000)}
	for i, k := range keks {
		for j, a := range aads {
			w := wrap(t, k, a)
			for i2, k2 := range keks {
				for j2, a2 := range aads {
					if i == i2 && j == j2 {
						mustUnwrap(t, k2, w, a2)
					} else {
						mustNotUnwrap(t, k2, w, a2)
					}
				}
			}
		}
	}
	mustUnwrap(t, keks[0], wrap(t, keks[0], nil), []byte{})
}

func changes(t *testing.T, root keyring.Root, _ func(testing.TB) keyring.Root) {
	k := fresh(t, root, name(1))
	w := wrap(t, k, aad)
	for i := range w {
		for bit := range 8 {
			bad := bytes.Clone(w)
			bad[i] ^= 1 << bit
			mustNotUnwrap(t, k, bad, aad)
		}
		mustNotUnwrap(t, k, w[:i], aad)
	}
	mustNotUnwrap(t, k, append(bytes.Clone(w), 0), aad)
	mustNotUnwrap(t, k, make([]byte, 1000), aad)
	mustUnwrap(t, k, w, aad)
}

func nonces(t *testing.T, root keyring.Root, _ func(testing.TB) keyring.Root) {
	k := fresh(t, root, name(1))
	seen := map[string]bool{}
	for range 200 {
		w := wrap(t, k, aad)
		for _, part := range [][]byte{w[:12], w[12:28], w[28:44], w[44:]} {
			if seen[string(part)] {
				t.Fatal("two wraps have a part in common")
			}
			seen[string(part)] = true
		}
	}
}

// sizes allows a root to wrap what is no DEK: its keyring does not ask for that.
func sizes(t *testing.T, root keyring.Root, _ func(testing.TB) keyring.Root) {
	k := fresh(t, root, name(1))
	for _, n := range []int{0, 16, 31, 33, 64} {
		w, err := k.Wrap(make([]byte, n), aad)
		if err != nil && !errors.Is(err, aead.ErrKeySize) || err == nil && len(w) != n+aead.Overhead {
			t.Errorf("%d bytes: %d, %v", n, len(w), err)
		}
	}
}

func wipes(t *testing.T, root keyring.Root, _ func(testing.TB) keyring.Root) {
	s := made(t, root, name(1))
	k, again := load(t, root, name(1), s), load(t, root, name(1), s)
	w := wrap(t, k, aad)
	k.Wipe()
	k.Wipe()
	if got, err := k.Wrap(dek, aad); err == nil || got != nil {
		t.Error("a wiped KEK wraps")
	}
	mustNotUnwrap(t, k, w, aad)
	mustUnwrap(t, again, w, aad)
	mustUnwrap(t, load(t, root, name(1), s), w, aad)
}

func destroys(t *testing.T, root keyring.Root, open func(testing.TB) keyring.Root) {
	gone, kept := made(t, root, name(1)), made(t, root, name(2))
	k := load(t, root, name(2), kept)
	w := wrap(t, k, aad)
	for range 2 {
		for _, err := range []error{
			root.DestroyKEK(ctx, name(1), gone), root.DestroyKEK(ctx, name(1), kept), root.DestroyKEK(ctx, name(3), gone),
			root.DestroyKEK(ctx, name(1), nil), open(t).DestroyKEK(ctx, name(1), gone),
		} {
			if err != nil {
				t.Errorf("destroy: %v", err)
			}
		}
	}
	mustUnwrap(t, k, w, aad)
	mustUnwrap(t, load(t, open(t), name(2), kept), w, aad)
}

func together(t *testing.T, root keyring.Root, _ func(testing.TB) keyring.Root) {
	s := made(t, root, name(1))
	k := load(t, root, name(1), s)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			a := fmt.Append(nil, i)
			for range 30 {
				w, err := k.Wrap(dek, a)
				if err != nil {
					t.Error(err)
					return
				}
				mustUnwrap(t, k, w, a)
			}
		})
	}
	wg.Wait()
}

func wipesRoot(t *testing.T, _ keyring.Root, open func(testing.TB) keyring.Root) {
	root := open(t)
	s := made(t, root, name(1))
	other := open(t)
	root.Wipe()
	if _, err := root.MakeKEK(ctx, name(1)); err == nil {
		t.Error("it makes a KEK")
	}
	if k, err := root.LoadKEK(ctx, name(1), s); err == nil || k != nil {
		t.Error("it loads a KEK")
	}
	if other != root {
		load(t, other, name(1), s)
	}
}
