package vault

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// crowd is 16 writers and 16 readers at work on a vault that is rotated, over a
// real KMS.
type crowd struct {
	*Service
	t          *testing.T
	id         string
	old, fresh *cmek.Key
	stop       atomic.Bool
	begun      chan struct{} // closed once the rotation is

	mu       sync.Mutex
	changed  *sync.Cond
	holds    map[string]string // text by the key of the version row
	tries    int
	refusals int // undeclared writers that were refused and gave up the old key
}

const crowdPaths = 7

// texts say how their writer sealed and declared them.
func (c *crowd) write(n int, k *cmek.Key, declared bool) error {
	path := fmt.Sprint("p", n%crowdPaths)
	text := fmt.Sprintf("declared=%v %s %d", declared, k.Fingerprint()[:8], n)
	value, err := cmek.EncryptValue(k, []byte(text))
	if err != nil {
		return err
	}
	opt := PutOptions{}
	if declared {
		opt.DeclaredFingerprint = k.Fingerprint()
	}
	m, err := c.Put(context.Background(), owner, c.id, path, api.PutSecret{Value: &value}, opt)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tries++; err == nil {
		c.holds[layout.SecretVersion(c.id, path, m.Version)] = text
	}
	c.changed.Broadcast()
	return err
}

// declares writes under one key after the other and says so.
func (c *crowd) declares(n int, k *cmek.Key) {
	for i := n; !c.stop.Load(); i += 16 {
		if err := c.write(i, k, true); err == nil {
			continue
		} else if !errors.Is(err, fault.Conflict) {
			c.t.Errorf("a declared write: %v", err)
		}
		if k == c.old { // the rotation closes, or is complete
			k = c.fresh
		}
	}
}

// says nothing of its key: a client that knows of no rotation. One with the old
// key takes the new one when it is refused.
func (c *crowd) saysNothing(n int, k *cmek.Key) {
	if k == c.fresh {
		<-c.begun
	}
	told := false
	for i := n; !c.stop.Load(); i += 16 {
		err := c.write(i, k, false)
		if err == nil {
			continue
		}
		if fault.Of(err).Type != api.ProblemCMEKRotationClosing {
			c.t.Errorf("an undeclared write: %v", err)
		}
		if k = c.fresh; !told {
			told = true
			c.mu.Lock()
			c.refusals++
			c.changed.Broadcast()
			c.mu.Unlock()
		}
	}
}

// reads fails when a version does not open with the key that its answer names,
// unless its writer said nothing and the vault has two.
func (c *crowd) reads(n int) {
	for i := n; !c.stop.Load(); i++ {
		got, err := c.Read(context.Background(), owner, c.id, fmt.Sprint("p", i%crowdPaths))
		if err == nil && i%2 == 0 && got.Secret.Version > 1 {
			got, err = c.ReadVersion(context.Background(), owner, c.id, got.Secret.Path, 1+i%got.Secret.Version)
		}
		if err != nil {
			c.t.Errorf("a read: %v", err)
			return
		}
		named, other := c.old, c.fresh
		if got.CMEKFingerprint == c.fresh.Fingerprint() {
			named, other = other, named
		}
		text, err := cmek.DecryptValue(named, got.Secret.Value)
		if err != nil {
			text, err = cmek.DecryptValue(other, got.Secret.Value)
			if err == nil && (got.CMEKFingerprint != c.old.Fingerprint() || !strings.HasPrefix(string(text), "declared=false")) {
				err = errors.New("it is under another key than it says")
			}
		}
		if err != nil || !strings.HasPrefix(string(text), "declared=") {
			c.t.Errorf("%s version %d: %q, %v", got.Secret.Path, got.Secret.Version, text, err)
			return
		}
	}
}

// after waits until n more versions were written and refused undeclared writers
// are so many, or it is plain that they will not be.
func (c *crowd) after(n, refused int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n, most := n+len(c.holds), c.tries+5000; (len(c.holds) < n || c.refusals < refused) && c.tries < most; {
		c.changed.Wait()
	}
}

// TestSixteenWritersAndReadersMeetARotation: nothing is lost, and at the end
// nothing is under another key than it says. The rotation waits for some writes
// before each of its commits, and before the flip until everybody without a
// declaration has heard of it.
func TestSixteenWritersAndReadersMeetARotation(t *testing.T) {
	r := newRig(t)
	c := &crowd{t: t, old: cmek.Generate(), fresh: cmek.Generate(), holds: map[string]string{}, begun: make(chan struct{})}
	c.changed = sync.NewCond(&c.mu)
	service := func(s store.Store) *Service {
		return New(Config{Store: s, KMS: r.kms.KMS, Gate: new(accesstest.Gate), Now: r.present})
	}
	c.Service = service(r.mem)
	c.id = r.vault()
	if _, err := c.EnableCMEK(t.Context(), owner, c.id, api.EnableCMEK{Fingerprint: c.old.Fingerprint()}); err != nil {
		t.Fatal(err)
	}
	for n := range 300 {
		if err := c.write(n, c.old, n%2 == 0); err != nil {
			t.Fatal(err)
		}
	}
	slow := &hookStore{Store: r.mem}
	worker := service(slow)
	jobs := job.New(job.Config{Store: slow, Kinds: []job.Kind{worker.RotationKind()}, Now: r.present, Holder: "test"})
	defer jobs.Close()
	commits := 0
	slow.beforeCommit = func(b *store.Batch) error {
		if commits++; commits == 1 {
			return nil
		}
		refused := 0
		for _, w := range b.Writes {
			if w.Key == layout.VaultMeta(c.id) && !strings.Contains(string(w.Value), "cmek_rotation") {
				refused = 8
			}
		}
		c.after(4, refused)
		return nil
	}
	var crew sync.WaitGroup
	for n := range 16 {
		k := []*cmek.Key{c.old, c.fresh}[n/2%2]
		if n%2 == 0 {
			crew.Go(func() { c.declares(n, k) })
		} else {
			crew.Go(func() { c.saysNothing(n, k) })
		}
		crew.Go(func() { c.reads(n) })
	}
	j, err := NewRotations(worker, jobs).Rotate(t.Context(), owner, c.id, api.RotateCMEK{NewFingerprint: c.fresh.Fingerprint()}, RotationKeys{c.old.Bytes(), c.fresh.Bytes()})
	if err != nil {
		t.Fatal(err)
	}
	close(c.begun)
	done, err := jobs.Wait(t.Context(), j.ID)
	if err != nil || done.Status != job.Completed || done.Failed != 0 || done.Processed < 300 {
		t.Errorf("the rotation ended as %+v, %v", done, err)
	}
	c.after(50, 0)
	c.stop.Store(true)
	crew.Wait()
	c.settled(r)
}

// settled looks at every row.
func (c *crowd) settled(r *rig) {
	c.t.Helper()
	met := 0
	for key, row := range r.rows() {
		path, n, ok := parseVersionKey(c.id, key)
		if !strings.HasPrefix(key, layout.VaultVersions(c.id)) || !ok {
			continue
		}
		met++
		v, err := decodeVersion([]byte(row))
		if err != nil {
			c.t.Fatal(err)
		}
		value, err := c.open(context.Background(), c.id, path, n, v)
		if err != nil {
			c.t.Fatal(err)
		}
		text, err := cmek.DecryptValue(c.fresh, value)
		if err != nil || v.Fingerprint != c.fresh.Fingerprint() || string(text) != c.holds[key] {
			c.t.Errorf("%s, tagged %s, holds %q, %v; want %q", key, v.Fingerprint, text, err, c.holds[key])
		}
	}
	if met != len(c.holds) {
		c.t.Errorf("%d versions are stored, %d were written", met, len(c.holds))
	}
}
