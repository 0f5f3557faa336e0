package kmsclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// until waits until ok holds.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("this never happened: " + what)
		}
	}
}

func (q *queue[In, Out]) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// held makes every request wait, from the next on, until the returned function
// is called. arrived gets the number of items of each.
func (k *fakeKMS) held(t *testing.T) (arrived chan int, release func()) {
	gate := make(chan struct{})
	arrived = make(chan int, 100)
	k.on(func(_ http.ResponseWriter, r *http.Request, n int) bool {
		arrived <- n
		select {
		case <-gate:
		case <-r.Context().Done():
		}
		return false
	})
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	return arrived, release
}

func TestCallsThatMeetLeaveAsOne(t *testing.T) {
	kms, c, _ := rig(t, Config{})
	arrived, release := kms.held(t)
	var all sync.WaitGroup
	call := func(i int) {
		all.Go(func() {
			if err := encryptOne(t.Context(), c, fmt.Sprint("plaintext ", i)); err != nil {
				t.Error(err)
			}
		})
	}
	call(0)
	if n := <-arrived; n != 1 {
		t.Fatalf("the first call waited for %d more", n-1)
	}
	for i := range 31 {
		call(i + 1)
	}
	until(t, "31 calls wait", func() bool { return c.encrypt.length() == 31 })
	release()
	all.Wait()
	if n := <-arrived; n != 31 || kms.calls.Load() != 2 {
		t.Errorf("%d requests, the second with %d items; want 2, with 31", kms.calls.Load(), n)
	}
}

func TestEveryCallerGetsItsOwnResults(t *testing.T) {
	kms, c, _ := rig(t, Config{})
	var all sync.WaitGroup
	for g := range 32 {
		all.Go(func() {
			for i := range 40 {
				if err := encryptOne(t.Context(), c, fmt.Sprint("plaintext ", g, " ", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if n := kms.calls.Load(); n >= 32*40 {
		t.Errorf("%d calls, %d requests: nothing was joined", 32*40, n)
	}
}

func TestASmallCallDoesNotWaitForABigOneAndNoMoreThanInFlightLeave(t *testing.T) {
	kms, c, _ := rig(t, Config{InFlight: 3})
	arrived, release := kms.held(t)
	var all sync.WaitGroup
	call := func(size int) {
		all.Go(func() {
			if err := encryptOne(t.Context(), c, strings.Repeat("x", size)); err != nil {
				t.Error(err)
			}
		})
	}
	call(bigBatch)
	<-arrived
	call(1)
	<-arrived
	call(bigBatch)
	<-arrived
	call(2)
	until(t, "the last one waits", func() bool { return c.encrypt.length() == 1 })
	release()
	all.Wait()
	until(t, "nothing is on its way", func() bool {
		c.encrypt.mu.Lock()
		defer c.encrypt.mu.Unlock()
		return c.encrypt.bytes == 0 && c.encrypt.sending == 0
	})
}

func TestNoItemsNeedNoCall(t *testing.T) {
	kms, c, _ := rig(t, Config{})
	if r, err := c.Rewrap(t.Context(), nil); err != nil || len(r) != 0 || kms.calls.Load() != 0 {
		t.Error(r, err)
	}
}

func timeout(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAContextEndsItsOwnCallersWaitOnly(t *testing.T) {
	kms, c, _ := rig(t, Config{})
	arrived, release := kms.held(t)
	first := make(chan error, 1)
	go func() { first <- encryptOne(t.Context(), c, "first") }()
	<-arrived

	ctx, cancel := context.WithCancel(context.Background())
	cancelled, neighbour := make(chan error, 1), make(chan error, 1)
	go func() { cancelled <- encryptOne(ctx, c, "cancelled") }()
	until(t, "one waits", func() bool { return c.encrypt.length() == 1 })
	go func() { neighbour <- encryptOne(t.Context(), c, "neighbour") }()
	until(t, "two wait", func() bool { return c.encrypt.length() == 2 })
	c.encrypt.mu.Lock()
	w := c.encrypt.waiting[0]
	c.encrypt.mu.Unlock()
	kms.on(func(http.ResponseWriter, *http.Request, int) bool { // the second batch: both are in it
		cancel()
		if err := <-cancelled; !errors.Is(err, fault.Unavailable) || !errors.Is(err, context.Canceled) {
			t.Error("cancelled caller:", err)
		}
		return false
	})
	release()
	if err := errors.Join(<-first, <-neighbour); err != nil {
		t.Error(err)
	}
	if !w.left.Load() || w.results != nil {
		t.Error("results were made for somebody who had gone")
	}
}

func TestWhoGivesUpBeforeItsTurnIsNotSent(t *testing.T) {
	kms, c, _ := rig(t, Config{})
	arrived, release := kms.held(t)
	first := make(chan error, 1)
	go func() { first <- encryptOne(t.Context(), c, "first") }()
	<-arrived
	ctx, cancel := context.WithCancel(context.Background())
	gone := make(chan error, 1)
	go func() { gone <- encryptOne(ctx, c, "gone") }()
	until(t, "it waits", func() bool { return c.encrypt.length() == 1 })
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	release()
	if err := errors.Join(<-first, encryptOne(t.Context(), c, "last")); err != nil {
		t.Error(err)
	}
	if n := <-arrived; n != 1 || kms.calls.Load() != 2 {
		t.Errorf("%d requests, the last with %d items", kms.calls.Load(), n)
	}
	if err := encryptOne(ctx, c, "too late"); !errors.Is(err, context.Canceled) || kms.calls.Load() != 2 {
		t.Error("a context that had ended sent a request", err)
	}
}

func TestACallThatNobodyWaitsForMakesRoom(t *testing.T) {
	kms, c, _ := rig(t, Config{})
	c.maxWait = time.Hour // so that nothing else makes it
	arrived, _ := kms.held(t)
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { gone <- encryptOne(ctx, c, "nobody waits") }()
	<-arrived
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	kms.on(func(http.ResponseWriter, *http.Request, int) bool { return false })
	if err := encryptOne(timeout(t, time.Minute), c, "next"); err != nil {
		t.Error(err)
	}
}

func TestASlowAnswerEndsWithItsCallersDeadline(t *testing.T) {
	kms, c, _ := rig(t, Config{Retry: long})
	kms.held(t)
	err := encryptOne(timeout(t, 20*time.Millisecond), c, "x")
	if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, fault.Unavailable) || c.down.Load() {
		t.Error(c.down.Load(), err)
	}
}

// A KMS that takes calls and answers none, as a stopped process does, is down
// for the callers who have time left, and those behind them wait no longer.
func TestAKMSThatHangsIsDownUntilItAnswers(t *testing.T) {
	kms, c, _ := rig(t, Config{Retry: long})
	c.maxWait, c.downWait = 20*time.Millisecond, time.Millisecond
	_, release := kms.held(t)
	for range 3 {
		ctx := timeout(t, long)
		if err := encryptOne(ctx, c, "x"); !errors.Is(err, fault.Unavailable) || ctx.Err() != nil || !c.down.Load() || c.wait() != c.downWait {
			t.Fatal(c.down.Load(), c.wait(), err)
		}
	}
	release()
	c.downWait = long
	if err := encryptOne(t.Context(), c, "y"); err != nil || c.down.Load() {
		t.Error(c.down.Load(), err)
	}
}

func TestACallEndsWithTheLatestOfItsCallers(t *testing.T) {
	now := time.Now()
	batchOf := func(deadlines ...time.Time) *batch[int] {
		b := &batch[int]{}
		for _, d := range deadlines {
			b.waiters = append(b.waiters, &waiter[int]{deadline: d})
		}
		return b
	}
	if got := batchOf(now.Add(time.Second), now.Add(3*time.Second), now.Add(2*time.Second)).deadline(now.Add(MaxWait)); !got.Equal(now.Add(3 * time.Second)) {
		t.Error(got.Sub(now))
	}
	for _, b := range []*batch[int]{batchOf(now.Add(time.Second), time.Time{}), batchOf(now.Add(time.Hour))} {
		if got := b.deadline(now.Add(MaxWait)); !got.Equal(now.Add(MaxWait)) {
			t.Error(got.Sub(now))
		}
	}
}

func TestOneBadItemFailsAlone(t *testing.T) {
	kms, c, _ := rig(t, Config{})
	items := append(one("good"), kmsapi.EncryptItem{KeyID: "missing"}, kmsapi.EncryptItem{KeyID: "\xff\xfe", Plaintext: []byte("x")}, one("good")[0])
	results, err := c.Encrypt(t.Context(), items)
	if err != nil || results[0].Err != nil || results[3].Err != nil || !errors.Is(results[1].Err, fault.NotFound) || !errors.Is(results[2].Err, fault.NotFound) {
		t.Error(results, err)
	}
	if kms.calls.Load() != 1 {
		t.Error("more than one request")
	}
}

func TestABatchThatIsRefusedAsAWholeIsSentOneByOne(t *testing.T) {
	for _, code := range []fault.Code{fault.Invalid, fault.TooLarge, fault.Internal} {
		kms, c, _ := rig(t, Config{})
		arrived, release := kms.held(t)
		errs := make(chan error, 3)
		go func() { errs <- encryptOne(t.Context(), c, "first") }()
		<-arrived
		for range 2 {
			go func() { errs <- encryptOne(t.Context(), c, "good") }()
		}
		bad := make(chan error, 1)
		go func() {
			_, err := c.Encrypt(t.Context(), append(one("bad"), one("bad")...))
			bad <- err
		}()
		until(t, "three wait", func() bool { return c.encrypt.length() == 3 })
		kms.on(func(w http.ResponseWriter, _ *http.Request, n int) bool {
			if n > 1 {
				fail(w, fault.New(code, "one of you is bad"))
			}
			return n > 1
		})
		release()
		if err := errors.Join(<-errs, <-errs, <-errs); err != nil {
			t.Error(err)
		}
		if err := <-bad; !errors.Is(err, code) {
			t.Error(err)
		}
	}
}

func TestABigCallIsSplit(t *testing.T) {
	kms, c, _ := rig(t, Config{InFlight: 1})
	var sizes []int
	kms.on(func(_ http.ResponseWriter, _ *http.Request, n int) bool {
		sizes = append(sizes, n)
		return false
	})
	check := func(items []kmsapi.EncryptItem, want string) {
		t.Helper()
		sizes = nil
		results, err := c.Encrypt(t.Context(), items)
		if err != nil || len(results) != len(items) {
			t.Fatal(len(results), err)
		}
		for i, r := range results {
			if r.Err == nil && !bytes.Equal(r.Ciphertext, wrapping(items[i].Plaintext)) || r.Err != nil && len(items[i].Plaintext) < kmsapi.MaxBody {
				t.Fatalf("result %d: %v", i, r.Err)
			}
			if r.Err != nil && !errors.Is(r.Err, fault.TooLarge) {
				t.Fatal(r.Err)
			}
		}
		if got := fmt.Sprint(sizes); got != want && want != "" {
			t.Errorf("requests of %s items, want %s", got, want)
		}
	}
	many := make([]kmsapi.EncryptItem, 2500)
	for i := range many {
		many[i] = one(fmt.Sprint(i))[0]
	}
	check(many, "[1000 1000 500]")
	big := func(n int) kmsapi.EncryptItem { return one(strings.Repeat("x", n))[0] }
	check([]kmsapi.EncryptItem{big(3 << 20), big(3 << 20), big(5 << 20), big(1), big(1 << 20)}, "[1 1 1 2]")
	check([]kmsapi.EncryptItem{big(1), big(kmsapi.MaxBody), big(2)}, "")
	check([]kmsapi.EncryptItem{big(kmsapi.MaxBody)}, "[]")
}

func TestRequestsAreWipedAfterTheCall(t *testing.T) {
	kms, c, _ := rig(t, Config{})
	_, release := kms.held(t)
	w := c.encrypt.enqueue(t.Context(), one("canary"))
	memory := w.request.b[:cap(w.request.b)]
	if !bytes.Contains(memory, []byte("canary")) {
		t.Fatal("this is not the request")
	}
	release()
	<-w.done
	if bytes.Contains(memory, []byte("canary")) {
		t.Error("the request stays in memory")
	}
}

func TestAnswersAreReadWithoutLeavingACopy(t *testing.T) {
	text := strings.Repeat("canary", 10_000)
	b := &buffer{make([]byte, 0, 100)} // a pooled one may be greater than the text
	b.b = append(b.b, text[:cap(b.b)]...)
	memory := b.b
	if twice := b.doubled(); !strings.HasPrefix(text, string(twice.b)) || bytes.Contains(memory, []byte("canary")) {
		t.Error("growing leaves a copy")
	}
	for _, size := range []int64{-1, 0, 5, 60_000, 1 << 20} {
		got, err := readAll(strings.NewReader(text), size)
		if err != nil || string(got.b) != text {
			t.Errorf("size %d: %d bytes, %v", size, len(got.b), err)
		}
		memory := got.b
		putBuffer(got)
		if bytes.Contains(memory, []byte("canary")) {
			t.Error("a buffer is put back as it was")
		}
	}
}

func TestCloseEndsCallsAndRefusesLaterOnes(t *testing.T) {
	kms, c, _ := rig(t, Config{})
	arrived, _ := kms.held(t)
	errs := make(chan error, 2)
	go func() { errs <- encryptOne(t.Context(), c, "on its way") }()
	<-arrived
	go func() { errs <- encryptOne(t.Context(), c, "waits") }()
	until(t, "one waits", func() bool { return c.encrypt.length() == 1 })
	c.Close()
	late := []error{<-errs, <-errs, encryptOne(t.Context(), c, "late"), c.Backup(t.Context(), io.Discard)}
	for range 100 { // a call that asks whether the client is closed only when it is sent gets through once in a while
		_, jobs := c.Jobs(t.Context())
		_, key := c.CMEKRotationKey(t.Context(), "")
		late = append(late, c.Health(t.Context()), jobs, key)
	}
	for _, err := range late {
		if !errors.Is(err, fault.Unavailable) {
			t.Fatal(err)
		}
	}
}
