package external

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/store"
)

// rotated is a customer who rotates to another key.
type rotated struct {
	*customer
	fresh *cmek.Key
	id    string            // of the vault
	want  map[string]string // values, by path; each is version 1
	job   api.CMEKRotationJob
}

// toRotate makes a sealed vault of n versions, whose values begin with mark.
func (s *server) toRotate(n int, mark string) *rotated {
	s.t.Helper()
	c := s.customer()
	r := &rotated{customer: c, fresh: cmek.Generate(), id: strings.TrimPrefix(c.vault, "/v1/vaults/"), want: map[string]string{}}
	for i := range n {
		r.want[fmt.Sprint("s", i)] = mark + random(12)
	}
	each(r.want, func(path, value string) {
		if status, text := s.call("PUT", c.vault+"/secrets/"+path, `{"value":"`+c.seal(value, len(value)%2 == 0)+`"}`); status != 201 {
			s.t.Errorf("PUT = %d %s", status, text)
		}
	})
	return r
}

// each calls do for everything in all, eight at a time.
func each(all map[string]string, do func(key, value string)) {
	type entry struct{ key, value string }
	work := make(chan entry)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for e := range work {
				do(e.key, e.value)
			}
		})
	}
	for key, value := range all {
		work <- entry{key, value}
	}
	close(work)
	wg.Wait()
}

// client is a new client of the server, with these keys.
func (r *rotated) client(keys ...*cmek.Key) *client.Client {
	r.t.Helper()
	c, err := client.New(r.url, r.server.key, client.WithCMEKKey(keys...))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(c.Close)
	return c
}

// start asks for the rotation, or takes it up.
func (r *rotated) start(opt client.RotateOptions) {
	r.t.Helper()
	job, err := r.client(r.key, r.fresh).StartCMEKRotation(context.Background(), r.id, r.key, r.fresh, opt)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.job.ID != "" && job.ID != r.job.ID {
		r.t.Errorf("the same request took up job %s, and not %s", job.ID, r.job.ID)
	}
	r.job = job
}

// look reads the job.
func (r *rotated) look() api.CMEKRotationJob {
	r.t.Helper()
	job, err := r.client().CMEKRotation(context.Background(), r.id, r.job.ID)
	if err != nil {
		r.t.Fatal(err)
	}
	return job
}

// until waits until n versions are done, and fails the test when the job ended before.
func (r *rotated) until(n int) {
	r.t.Helper()
	c := r.client()
	r.await(fmt.Sprintf("%d versions are done", n), func() bool {
		job, err := c.CMEKRotation(context.Background(), r.id, r.job.ID)
		if err != nil || job.Ended() && job.Processed < n {
			r.t.Fatalf("waiting for %d: %+v, %v", n, job, err)
		}
		r.job = job
		return job.Processed >= n
	})
}

// check reads every version: each opens with the key that its fingerprint names,
// and no other, and has the value that was written. It returns how many are under
// the new key.
func (r *rotated) check() (fresh int) {
	r.t.Helper()
	c := r.client(r.key, r.fresh) // uses the key that the answer's fingerprint names
	var mu sync.Mutex
	each(r.want, func(path, value string) {
		got, err := c.GetVersion(context.Background(), r.id, path, 1)
		if err != nil || string(got.Value) != value || !got.CMEKEncrypted {
			r.t.Errorf("%s: %v", path, err)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if got.CMEKFingerprint == r.fresh.Fingerprint() {
			fresh++
		} else if got.CMEKFingerprint != r.key.Fingerprint() {
			r.t.Errorf("%s is under %q", path, got.CMEKFingerprint)
		}
	})
	return fresh
}

// finish waits for the job's end and looks at what it left.
func (r *rotated) finish() {
	r.t.Helper()
	r.await("the job ends", func() bool { r.job = r.look(); return r.job.Ended() })
	if r.job.Status != "completed" || r.job.Processed != len(r.want) || r.job.TotalSecrets != len(r.want) {
		r.t.Errorf("%+v", r.job)
	}
	if n := r.check(); n != len(r.want) {
		r.t.Errorf("%d of %d versions are under the new key", n, len(r.want))
	}
	status, err := r.client().CMEKStatus(context.Background(), r.id)
	if err != nil || status.Fingerprint != r.fresh.Fingerprint() || len(status.Keys) != 1 || status.Keys[0].Versions != len(r.want) || status.Rotation != nil {
		r.t.Errorf("%+v, %v", status, err)
	}
}

// A rotation whose server and whose key process are killed in turn, in its midst,
// says that it is interrupted, is taken up by the same request, and ends; at each
// stop every version opens with the key that its fingerprint names.
func TestARotationSurvivesKillsOfTheServerAndOfTheKeyProcess(t *testing.T) {
	const n = 3000
	s := dev(t, shortDir(t), nil, "--kms", "external")
	r := s.toRotate(n, "canary ")
	r.start(client.RotateOptions{})
	for i, at := range []int{100, 700, 1300, 1900} {
		for !r.interrupt(at, i%2 == 0) { // it was quicker: another one begins, back to the key of before
			r.finish()
			r.key, r.fresh, r.job = r.fresh, r.key, api.CMEKRotationJob{}
			r.start(client.RotateOptions{})
		}
		under := r.check()
		t.Logf("stop %d: %d versions are under the new key, %d are said to be", i, under, r.look().Processed)
		if under < at || under >= n {
			t.Fatalf("stop %d: %d of %d versions are under the new key", i, under, n)
		}
		r.start(client.RotateOptions{})
	}
	r.finish()
	r.stop()
	r.noKeys()
}

// interrupt kills the server or the key process once at versions are done, and waits
// until it is there again. It reports whether the job is interrupted, and had not
// ended before.
func (r *rotated) interrupt(at int, server bool) bool {
	r.t.Helper()
	r.until(at)
	kms := r.kms()
	if err := syscall.Kill(kms, syscall.SIGSTOP); err != nil { // so that the kill is in the midst
		r.t.Fatal(err)
	}
	if server {
		r.signal(syscall.SIGKILL)
		<-r.ended
		r.await("the end of the key process", func() bool { return !alive(kms) })
		r.server = dev(r.t, r.dir, nil, "--kms", "external")
	} else if err := syscall.Kill(kms, syscall.SIGKILL); err != nil {
		r.t.Fatal(err)
	} else {
		r.await("another key process", func() bool { pid := r.kms(); return pid != 0 && pid != kms })
	}
	r.await("/readyz", r.ready)
	r.await("the job says that it is interrupted, or completed", func() bool {
		r.job = r.look()
		return r.job.Ended()
	})
	return r.job.Status == "interrupted"
}

// noKeys fails the test when a key of the rotation is in a file, a row or the
// output, in any spelling.
func (r *rotated) noKeys() {
	r.t.Helper()
	out := filepath.Join(r.t.TempDir(), "output")
	if err := os.WriteFile(out, []byte(r.output.String()), 0o600); err != nil {
		r.t.Fatal(err)
	}
	both := []string{string(r.key.Bytes()), string(r.fresh.Bytes())}
	r.find("the keys of the rotation", false, both, "-store", filepath.Join(r.dir, "server"), "-store", filepath.Join(r.dir, "kms"), r.dir, out)
	r.find("their fingerprints", true, []string{r.key.Fingerprint(), r.fresh.Fingerprint()}, "-store", filepath.Join(r.dir, "server"), out)
}

// readsOpen writes a value that is not sealed, and has workers read it until stop is called.
func (r *rotated) readsOpen(value string) (stop func()) {
	r.t.Helper()
	path := r.plain + "/secrets/open"
	r.must("PUT", path, `{"value":"`+value+`"}`)
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if got, err := r.value(path); err != nil || got != value {
					r.t.Errorf("what is not sealed: %v", err)
					return
				}
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// looks freezes the server and its key process in the midst of the rotation,
// again and again, and returns what was found: keys and plaintexts in the memory
// of each, and the value open, which is not sealed.
func (r *rotated) looks(mark, open string, steps ...int) (found map[string]int) {
	r.t.Helper()
	found = map[string]int{}
	pids := map[string]int{"server": r.cmd.Process.Pid, "kms": r.kms()}
	for _, at := range steps {
		r.until(at)
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
				r.t.Fatal(err)
			}
		}
		for name, pid := range pids {
			mem := look(r.t, pid)
			found[name+" keys"] += mem.countKey(r.key, r.fresh)
			found[name+" plaintexts"] += mem.countTexts([]string{mark, hex.EncodeToString([]byte(mark))})
			found[name+" open values"] += mem.countTexts([]string{open})
			found[name+" fingerprints"] += mem.countTexts([]string{r.key.Fingerprint(), r.fresh.Fingerprint()})
		}
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	return found
}

// With keys that are sealed to the key process, the server's memory holds neither
// key nor a plaintext, before, in the midst and after; the key process holds the
// keys. The same search finds keys that came in headers in the server, so those
// that want them nowhere there leave the default alone; and it finds there a value
// that is not sealed and is read meanwhile.
func TestTheServerNeverHasTheKeysOrTheValuesOfASealedRotation(t *testing.T) {
	for name, opt := range map[string]client.RotateOptions{"sealed": {}, "headers": {InHeaders: true}} {
		t.Run(name, func(t *testing.T) {
			s := dev(t, shortDir(t), nil, "--kms", "external")
			mark, open := "inner "+random(18), "open "+random(18)
			r := s.toRotate(2000, mark)
			stop := r.readsOpen(open)
			r.start(opt)
			found := r.looks(mark, open, 1, 600, 1200)
			stop()
			r.finish()
			maps.Copy(found, map[string]int{"server keys after": look(t, s.cmd.Process.Pid).countKey(r.key, r.fresh)})
			t.Logf("%s: %v", name, found)
			if opt.InHeaders != (found["server keys"] > 0) {
				t.Errorf("keys in the memory of the server: %d", found["server keys"])
			}
			if !opt.InHeaders && found["server keys after"] > 0 {
				t.Errorf("keys in the memory of the server after the rotation: %d", found["server keys after"])
			}
			if found["server plaintexts"] > 0 {
				t.Errorf("plaintexts in the memory of the server: %d", found["server plaintexts"])
			}
			if found["kms keys"] == 0 || found["server fingerprints"] == 0 || found["server open values"] == 0 {
				t.Errorf("the search does not find what is there: %v", found)
			}
			s.stop()
			r.noKeys()
		})
	}
}

// A thief who puts back a version's row from before a rotation gets it answered:
// it is where it was. But the inventory shows a version under a key that the
// rotation had left nothing under.
func TestARowPutBackFromBeforeARotationShowsInTheInventory(t *testing.T) {
	s := dev(t, shortDir(t), nil)
	r := s.toRotate(3, "canary ")
	var row []byte
	s.stop()
	edit(t, s.dir, func(get func(string) []byte, _ *store.Batch) { row = get(r.row("version:s1:0000000001")) })
	s = dev(t, s.dir, nil)
	r.server = s
	r.start(client.RotateOptions{})
	r.finish()
	s.stop()
	edit(t, s.dir, func(_ func(string) []byte, b *store.Batch) { b.Put(r.row("version:s1:0000000001"), row) })
	s = dev(t, s.dir, nil)
	r.server = s
	if n := r.check(); n != 2 {
		t.Errorf("%d versions are under the new key", n)
	}
	status, err := r.client().CMEKStatus(context.Background(), r.id)
	if err != nil {
		t.Fatal(err)
	}
	under := map[string]int{}
	for _, k := range status.Keys {
		under[k.Fingerprint] = k.Versions
	}
	if want := map[string]int{r.key.Fingerprint(): 1, r.fresh.Fingerprint(): 2}; !maps.Equal(under, want) {
		t.Errorf("the inventory says %v, want %v", under, want)
	}
	s.stop()
}
