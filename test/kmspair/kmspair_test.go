// Package kmspair tests two real keyfold-kms over one PostgreSQL: killed, stopped
// and brought back under load, behind the address list of one client.
package kmspair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"github.com/keyfold/keyfold/test/programs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring/roottest"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// patience is how long a process may take to do what it must.
const patience = 2 * time.Minute

// pair is a key store with two key processes.
type pair struct {
	*testing.T
	dir   string
	env   []string
	procs [2]*exec.Cmd
}

// newPair starts both, and returns a client of each alone and one of both.
func newPair(t *testing.T) (p *pair, alone [2]*kmsclient.Client, both *kmsclient.Client) {
	return newPairWith(t, "file:root.key") // in the directory that each process runs in
}

// newPairWith is newPair with that root key.
func newPairWith(t *testing.T, root string) (p *pair, alone [2]*kmsclient.Client, both *kmsclient.Client) {
	dir, err := os.MkdirTemp("", "kf") // short, as the path of a socket must be
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p = &pair{T: t, dir: dir}
	p.env = append(os.Environ(), "KEYFOLD_KMS_STORE="+pgtest.URL(t), "KEYFOLD_KMS_CALLERS=", "KEYFOLD_KMS_ROOT="+root)
	init := p.command("init", "--audit-dir", filepath.Join(p.dir, "audit-0"), "--endpoint", p.socket(0), "--config", filepath.Join(p.dir, "kms.yaml"))
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("init: %v: %s", err, out)
	}
	for i := range p.procs {
		p.serve(i)
		alone[i] = p.client("unix://" + p.socket(i))
	}
	return p, alone, p.client("unix://" + p.socket(0) + ",unix://" + p.socket(1))
}

func (p *pair) command(args ...string) *exec.Cmd {
	c := exec.Command(filepath.Join(programs.Dir(p), "keyfold-kms"), args...)
	c.Env, c.Dir = p.env, p.dir
	return c
}

func (p *pair) socket(i int) string { return filepath.Join(p.dir, fmt.Sprintf("%d.sock", i)) }

// serve starts process i and waits until it answers.
func (p *pair) serve(i int) {
	p.Helper()
	c := p.command("serve", "--audit-dir", filepath.Join(p.dir, fmt.Sprintf("audit-%d", i)), "--endpoint", p.socket(i))
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		p.Fatal(err)
	}
	p.procs[i] = c
	p.Cleanup(func() {
		c.Process.Kill()
		c.Wait()
		if p.Failed() {
			p.Logf("process %d said: %s", i, out.String())
		}
	})
	client := p.client("unix://" + p.socket(i))
	p.await("a key process answers", func() bool { return client.Health(p.Context()) == nil })
}

func (p *pair) client(endpoint string) *kmsclient.Client {
	c, err := kmsclient.New(kmsclient.Config{Endpoint: endpoint})
	if err != nil {
		p.Fatal(err)
	}
	p.Cleanup(c.Close)
	return c
}

func (p *pair) await(what string, ok func() bool) {
	p.Helper()
	for until := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(until) {
			p.Fatalf("waited in vain: %s", what)
		}
	}
}

func (p *pair) must(err error) {
	p.Helper()
	if err != nil {
		p.Fatal(err)
	}
}

func (p *pair) thread(c *kmsclient.Client) string {
	p.Helper()
	out, err := c.CreateDEK(p.Context(), []kmsapi.CreateDEKItem{{ThreadID: "t"}})
	p.must(err)
	p.must(out[0].Err)
	return out[0].DEK.KeyID
}

// load is what goes on meanwhile: every answer is held against what was asked.
type load struct {
	stop  chan struct{}
	wg    sync.WaitGroup
	calls atomic.Int64

	mu    sync.Mutex
	began []time.Time   // of what each caller does
	most  time.Duration // that one of them took, since longest was asked
}

// start has n callers encrypt, decrypt, seal and open.
func (p *pair) start(c *kmsclient.Client, n int) *load {
	l := &load{stop: make(chan struct{})}
	key := p.thread(c)
	_, err := c.CreateKEK(p.Context(), []string{"v"})
	p.must(err)
	for i := range n {
		k := 0
		l.repeat(p, func() error { k++; return roundTrip(c, key, fmt.Sprintf("%d of %d", k, i)) })
	}
	return l
}

// repeat has one more caller do that until the end, or until it fails.
func (l *load) repeat(p *pair, do func() error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	caller := len(l.began)
	l.began = append(l.began, time.Now())
	l.wg.Go(func() {
		for {
			select {
			case <-l.stop:
				return
			default:
			}
			began := time.Now()
			if err := do(); err != nil {
				p.Errorf("after %v: %v", time.Since(began), err)
				return
			}
			l.calls.Add(1)
			l.mu.Lock()
			l.began[caller], l.most = time.Now(), max(l.most, time.Since(began))
			l.mu.Unlock()
		}
	})
}

// longest is how long the slowest took for what it did since the last time that it
// was asked, what is still under way among it.
func (l *load) longest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	most := l.most
	for _, began := range l.began {
		most = max(most, time.Since(began))
	}
	l.most = 0
	return most
}

func roundTrip(c *kmsclient.Client, key, text string) error {
	ctx := context.Background()
	aad := []byte("aad")
	sealed, err := c.Encrypt(ctx, []kmsapi.EncryptItem{{KeyID: key, Plaintext: []byte(text), AAD: aad}})
	if err = errors.Join(err, first(sealed, func(r kmsapi.EncryptResult) error { return r.Err })); err != nil {
		return fmt.Errorf("Encrypt: %w", err)
	}
	opened, err := c.Decrypt(ctx, []kmsapi.DecryptItem{{KeyID: key, Ciphertext: sealed[0].Ciphertext, AAD: aad}})
	if err = errors.Join(err, first(opened, func(r kmsapi.DecryptResult) error { return r.Err })); err != nil || string(opened[0].Plaintext) != text {
		return fmt.Errorf("Decrypt: %w, %v", err, opened)
	}
	envelopes, err := c.Seal(ctx, []kmsapi.SealItem{{KEKID: "v", Plaintext: []byte(text), AAD: aad}})
	if err = errors.Join(err, first(envelopes, func(r kmsapi.SealResult) error { return r.Err })); err != nil {
		return fmt.Errorf("Seal: %w", err)
	}
	values, err := c.Open(ctx, []kmsapi.OpenItem{{Envelope: envelopes[0].Envelope, AAD: aad}})
	if err = errors.Join(err, first(values, func(r kmsapi.OpenResult) error { return r.Err })); err != nil || string(values[0].Plaintext) != text {
		return fmt.Errorf("Open: %w, %v", err, values)
	}
	return nil
}

func first[R any](results []R, of func(R) error) error {
	if len(results) == 0 {
		return nil
	}
	return of(results[0])
}

// outage returns the longest that any caller had to wait while do was done and until
// all was well again.
func (l *load) outage(do func()) time.Duration {
	l.longest()
	do()
	time.Sleep(2 * time.Second)
	return l.longest()
}

func (l *load) end() { close(l.stop); l.wg.Wait() }

// atMost measures up to three times whether an outage is short enough: the machine is
// not ours alone.
func (p *pair) atMost(most time.Duration, what string, measure func() time.Duration) {
	p.Helper()
	for try := 1; ; try++ {
		took := measure()
		p.Logf("%s: whoever waited longest waited %v", what, took.Round(time.Millisecond))
		if took < most || p.Failed() {
			return
		}
		if try == 3 {
			p.Errorf("%s: somebody waited %v, three times", what, took)
			return
		}
	}
}

func TestNobodyNoticesForASecondThatAKeyProcessDiesOrStops(t *testing.T) {
	p, _, both := newPair(t)
	l := p.start(both, 8)
	whole := func() bool { n, _ := both.Answering(); return n == 2 }
	p.atMost(time.Second, "kill -9", func() time.Duration {
		p.await("both answer", whole)
		took := l.outage(func() { p.procs[0].Process.Kill(); p.procs[0].Wait() })
		p.serve(0)
		return took
	})
	p.atMost(time.Second, "SIGSTOP", func() time.Duration {
		p.await("both answer", whole)
		took := l.outage(func() { p.procs[0].Process.Signal(syscall.SIGSTOP) })
		p.procs[0].Process.Signal(syscall.SIGCONT)
		return took
	})
	p.await("both answer", whole)
	l.end()
	t.Logf("%d round trips of four calls, none lost", l.calls.Load())
}

func TestWhatOneKeyProcessDestroysTheOtherRefusesWithinTwoSeconds(t *testing.T) {
	p, alone, _ := newPair(t)
	ctx := t.Context()
	key := p.thread(alone[0])
	_, err := alone[0].CreateKEK(ctx, []string{"v"})
	p.must(err)
	p.must(roundTrip(alone[1], key, "warm"))
	sealed, err := alone[1].Seal(ctx, []kmsapi.SealItem{{KEKID: "v", Plaintext: []byte("x")}})
	p.must(err)
	// The other sleeps while a DEK is shredded and a version of a KEK rotated away and destroyed.
	p.must(p.procs[1].Process.Signal(syscall.SIGSTOP))
	p.must(alone[0].ShredDEK(ctx, key))
	_, err = alone[0].RotateKEK(ctx, kmsapi.Rotate{KEKID: "v"})
	p.must(err)
	p.must(alone[0].ReleaseKEK(ctx, "v", 2))
	p.must(alone[0].DestroyKEKVersion(ctx, "v", 1))
	time.Sleep(2 * time.Second)
	p.must(p.procs[1].Process.Signal(syscall.SIGCONT))
	out, err := alone[1].Encrypt(ctx, []kmsapi.EncryptItem{{KeyID: key, Plaintext: []byte("x")}})
	p.must(err)
	if !errors.Is(out[0].Err, fault.NotFound) {
		t.Errorf("it encrypts under a DEK that was shredded 2 seconds ago: %v", out[0].Err)
	}
	values, err := alone[1].Open(ctx, []kmsapi.OpenItem{{Envelope: sealed[0].Envelope}})
	p.must(err)
	if !errors.Is(values[0].Err, fault.Unopenable) {
		t.Errorf("it opens under a version that was destroyed 2 seconds ago: %v", values[0].Err)
	}
	again, err := alone[1].Seal(ctx, []kmsapi.SealItem{{KEKID: "v", Plaintext: []byte("x")}})
	p.must(err)
	if again[0].Envelope.KEKVersion != 2 {
		t.Errorf("it seals under version %d", again[0].Envelope.KEKVersion)
	}
}

// A KEK is rotated, and the process whose job rewraps is killed: the other ends it.
func TestARotationGoesOnWhenItsKeyProcessDies(t *testing.T) {
	t.Parallel() // it waits for a lease, 15 to 18 seconds
	p, alone, both := newPair(t)
	ctx := t.Context()
	for range 5 {
		_, err := both.CreateDEK(ctx, make200())
		p.must(err)
	}
	l := p.start(both, 4)
	rotated, err := alone[0].RotateKEK(ctx, kmsapi.Rotate{KEKID: kmsapi.ThreadsKEK})
	p.must(err)
	p.procs[0].Process.Kill()
	p.procs[0].Wait()
	p.await("the job ends", func() bool {
		j, err := alone[1].Job(ctx, rotated.Job.ID)
		p.must(err)
		return j.Status == "completed"
	})
	l.end()
	p.must(alone[1].DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 1)) // which counts what lies under it
}

// Each in turn is told to end, as an upgrade does, while callers work: none has an error,
// not even of a call that is never sent twice.
func TestAnUpgradeOfOneKeyProcessAfterTheOtherFailsNoCall(t *testing.T) {
	t.Parallel()
	p, _, both := newPair(t)
	l := p.start(both, 4)
	for range 32 {
		l.repeat(p, func() error {
			out, err := both.CreateDEK(context.Background(), []kmsapi.CreateDEKItem{{ThreadID: "t"}})
			if err = errors.Join(err, first(out, func(r kmsapi.CreateDEKResult) error { return r.Err })); err != nil {
				return fmt.Errorf("CreateDEK: %w", err)
			}
			if err := both.ShredDEK(context.Background(), out[0].DEK.KeyID); err != nil {
				return fmt.Errorf("ShredDEK: %w", err)
			}
			return nil
		})
	}
	for i := range 6 {
		p.await("both answer", func() bool { n, _ := both.Answering(); return n == 2 })
		c := p.procs[i%2]
		p.must(c.Process.Signal(syscall.SIGTERM))
		p.must(c.Wait())
		p.serve(i % 2)
	}
	l.end()
	t.Logf("%d calls, none failed", l.calls.Load())
}

// A KEK that one process made, or rotated, in the token is used by the other, too.
func TestTwoKeyProcessesShareAToken(t *testing.T) {
	token := roottest.NewSoftHSM(t)
	p, alone, _ := newPairWith(t, token.URI())
	ctx := t.Context()
	key := p.thread(alone[0])
	_, err := alone[0].CreateKEK(ctx, []string{"v"})
	p.must(err)
	for n := range uint32(2) {
		var values [2]kmsapi.Envelope
		for i, c := range alone {
			p.must(roundTrip(c, key, "x"))
			sealed, err := c.Seal(ctx, []kmsapi.SealItem{{KEKID: "v", Plaintext: []byte("y")}})
			p.must(err)
			p.must(sealed[0].Err)
			values[i] = sealed[0].Envelope
		}
		for i, c := range alone {
			opened, err := c.Open(ctx, []kmsapi.OpenItem{{Envelope: values[1-i]}})
			p.must(err)
			if v := values[1-i].KEKVersion; opened[0].Err != nil || string(opened[0].Plaintext) != "y" || v != n+1 {
				t.Errorf("process %d opens %q of version %d: %v", i, opened[0].Plaintext, v, opened[0].Err)
			}
		}
		if n == 0 {
			_, err := alone[1].RotateKEK(ctx, kmsapi.Rotate{KEKID: "v"})
			p.must(err)
			p.await("the other knows the new version", func() bool {
				sealed, err := alone[0].Seal(ctx, []kmsapi.SealItem{{KEKID: "v", Plaintext: []byte("y")}})
				p.must(err)
				p.must(sealed[0].Err)
				return sealed[0].Envelope.KEKVersion == 2
			})
		}
	}
}

func make200() []kmsapi.CreateDEKItem {
	items := make([]kmsapi.CreateDEKItem, 200)
	for i := range items {
		items[i].ThreadID = fmt.Sprint("t", i)
	}
	return items
}
