package password

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"golang.org/x/crypto/argon2"
)

const good = "Kelp-forest-29!"

func cheap() *Hasher { return New(Params{Memory: 64, Passes: 1}) }

func hash(t testing.TB, h *Hasher, text string) string {
	t.Helper()
	out, err := h.Hash(t.Context(), text)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAHashIsOfItsPasswordAlone(t *testing.T) {
	h := cheap()
	a, b := hash(t, h, good), hash(t, h, good)
	if a == b || strings.Contains(a, good) || !strings.HasPrefix(a, "$argon2id$v=19$m=64,t=1,p=1$") {
		t.Errorf("two hashes are %q and %q", a, b)
	}
	for text, want := range map[string]bool{good: true, good + "x": false, strings.ToLower(good): false, "": false, a: false} {
		if ok, stale, err := h.Verify(t.Context(), a, text); ok != want || stale || err != nil {
			t.Errorf("Verify of %d characters = %v, %v, %v", len(text), ok, stale, err)
		}
	}
}

func TestTheParametersAreOWASPs(t *testing.T) {
	if got, want := New(Params{}).params, (Params{Memory: 19456, Passes: 2, Lanes: 1}); got != want {
		t.Errorf("parameters are %+v", got)
	}
}

// The vector is the reference implementation's, from its tests.
func TestAHashIsTheReferenceImplementations(t *testing.T) {
	sum, err := cheap().key(t.Context(), "password", []byte("somesalt"), Params{Memory: 256, Passes: 2, Lanes: 1})
	if got := phcBase64.EncodeToString(sum); err != nil || got != "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4" {
		t.Errorf("the hash is %s, %v", got, err)
	}
}

func TestAHashOfOtherParametersIsStaleOnceItIsRight(t *testing.T) {
	old := hash(t, cheap(), good)
	h := New(Params{Memory: 64, Passes: 2})
	if ok, stale, err := h.Verify(t.Context(), old, good); !ok || !stale || err != nil {
		t.Errorf("Verify = %v, %v, %v", ok, stale, err)
	}
	if ok, stale, err := h.Verify(t.Context(), old, "x"); ok || stale || err != nil {
		t.Errorf("Verify of a wrong one = %v, %v, %v", ok, stale, err)
	}
}

func TestNoPasswordIsHashedLikeAny(t *testing.T) {
	h := cheap()
	for _, text := range []string{"", good, strings.Repeat("x", 60_000)} {
		before := h.Hashes()
		if ok, stale, err := h.Verify(t.Context(), "", text); ok || stale || err != nil {
			t.Errorf("Verify = %v, %v, %v", ok, stale, err)
		}
		if n := h.Hashes() - before; n != 1 {
			t.Errorf("%d hashes", n)
		}
	}
}

func TestWhatIsNoHashOfOursIsDamaged(t *testing.T) {
	h := cheap()
	text := hash(t, h, good)
	edit := func(old, new string) string { return strings.Replace(text, old, new, 1) }
	for _, bad := range []string{
		" ", "x", text + "$", text + "x", text[:len(text)-1], " " + text, text + "\n",
		edit("argon2id", "argon2i"), edit("v=19", "v=16"), edit("m=64", "m=064"), edit("m=64", "m=+64"), edit("m=64", "m=0"), edit("m=64", "m=7"),
		edit("m=64", "m=4294967295"), edit("t=1", "t=0"), edit("t=1", "t=4000000000"), edit("p=1", "p=0"), edit("p=1", "p=256"), edit("p=1", "p=9"),
		edit("$m", "$x=1,m"), "$argon2id$v=19$m=64,t=1,p=1$AAAA$AAAA", "$argon2id$v=19$m=64,t=1,p=1$$", edit("p=1$", "p=1$$"),
	} {
		before := h.Hashes()
		if ok, _, err := h.Verify(t.Context(), bad, good); ok || !errors.Is(err, ErrDamaged) {
			t.Errorf("Verify of %q: %v, %v", bad, ok, err)
		}
		if h.Hashes() != before {
			t.Errorf("%q was hashed with", bad)
		}
	}
}

func FuzzWhatParsesIsWrittenTheSame(f *testing.F) {
	f.Add("$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, text string) {
		if x, err := parse(text); err == nil && x.String() != text {
			t.Errorf("%q is written as %q", text, x)
		}
	})
}

// fill takes all slots, and returns what gives them back.
func fill(h *Hasher) (free func()) {
	for range cap(h.slots) {
		h.slots <- struct{}{}
	}
	h.queue.Add(int64(cap(h.slots)))
	return func() {
		for range cap(h.slots) {
			<-h.slots
		}
		h.queue.Add(-int64(cap(h.slots)))
	}
}

func TestAsManyHashesRunAsThereAreProcessorsAndSomeWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := cheap()
		if cap(h.slots) != runtime.GOMAXPROCS(0) {
			t.Errorf("%d run at once", cap(h.slots))
		}
		free := fill(h)
		var done atomic.Int64
		var wg sync.WaitGroup
		for range cap(h.slots) * waiting {
			wg.Go(func() {
				if _, err := h.Hash(t.Context(), good); err != nil {
					t.Error(err)
				}
				done.Add(1)
			})
		}
		synctest.Wait()
		if done.Load() != 0 || h.Hashes() != 0 {
			t.Error("a hash did not wait")
		}
		for range 3 {
			if _, err := h.Hash(t.Context(), good); !errors.Is(err, ErrBusy) {
				t.Errorf("one too many: %v", err)
			}
		}
		free()
		wg.Wait()
		if h.queue.Load() != 0 || len(h.slots) != 0 {
			t.Errorf("%d are in the queue, %d run", h.queue.Load(), len(h.slots))
		}
	})
}

func TestAHashHoldsItsPlaceUntilItIsDone(t *testing.T) {
	h := cheap()
	defer func() { idKey = argon2.IDKey }()
	idKey = func(password, salt []byte, time, memory uint32, threads uint8, keyLen uint32) []byte {
		if len(h.slots) != 1 || h.queue.Load() != 1 {
			t.Errorf("%d run, %d in the queue", len(h.slots), h.queue.Load())
		}
		return argon2.IDKey(password, salt, time, memory, threads, keyLen)
	}
	hash(t, h, "a")
}

func TestWhoGoesAwayWaitsNoMore(t *testing.T) {
	h := cheap()
	defer fill(h)()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Hash(ctx, good); !errors.Is(err, context.Canceled) {
		t.Errorf("Hash: %v", err)
	}
	if _, _, err := h.Verify(ctx, "", good); !errors.Is(err, context.Canceled) {
		t.Errorf("Verify: %v", err)
	}
	if n := h.queue.Load(); n != int64(cap(h.slots)) {
		t.Errorf("%d are in the queue", n)
	}
}

func BenchmarkVerify(b *testing.B) {
	h := New(Params{})
	text := hash(b, h, good)
	b.ReportAllocs()
	for name, stored := range map[string]string{"known": text, "unknown": ""} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, _, err := h.Verify(b.Context(), stored, "wrong"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
