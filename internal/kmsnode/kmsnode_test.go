package kmsnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsbackup"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"))
}

// rig is a place for a key process.
type rig struct {
	testing.TB
	Config
}

func newRig(t testing.TB) *rig {
	t.Helper()
	dir, err := os.MkdirTemp("", "kmsnode-") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &rig{t, Config{DataDir: filepath.Join(dir, "kms"), Version: "test"}}
	r.Root, err = keyring.CreateFileRoot(RootFile(r.DataDir))
	r.must(err)
	r.must(Init(t.Context(), r.Config))
	return r
}

func (r *rig) must(err error) {
	r.Helper()
	if err != nil {
		r.Fatal(err)
	}
}

// start runs a node until stop, or the end of the test.
func (r *rig) start() (c *kmsclient.Client, stop func()) {
	r.Helper()
	n, err := Open(r.Context(), r.Config)
	r.must(err)
	served := make(chan error, 1)
	go func() { served <- n.Serve() }()
	c, err = kmsclient.New(kmsclient.Config{Endpoint: "unix://" + Endpoint(r.DataDir)})
	r.must(err)
	stop = sync.OnceFunc(func() {
		c.Close()
		r.must(errors.Join(n.Close(context.Background()), <-served))
	})
	r.Cleanup(stop)
	return c, stop
}

func (r *rig) dek(c *kmsclient.Client, thread string) string {
	r.Helper()
	made, err := c.CreateDEK(r.Context(), []kmsapi.CreateDEKItem{{ThreadID: thread}})
	r.must(err)
	r.must(made[0].Err)
	return made[0].DEK.KeyID
}

func TestWhatWasEncryptedDecryptsAfterAStop(t *testing.T) {
	r := newRig(t)
	c, stop := r.start()
	id := r.dek(c, "t1")
	enc, err := c.Encrypt(t.Context(), []kmsapi.EncryptItem{{KeyID: id, Plaintext: []byte("canary")}})
	r.must(err)
	before, err := c.Status(t.Context())
	r.must(err)
	stop()
	c, _ = r.start()
	dec, err := c.Decrypt(t.Context(), []kmsapi.DecryptItem{{KeyID: id, Ciphertext: enc[0].Ciphertext}})
	if err != nil || string(dec[0].Plaintext) != "canary" {
		t.Errorf("%+v, %v", dec, err)
	}
	after, err := c.Status(t.Context())
	if err != nil || after.AuditKey != before.AuditKey || after.AuditSeq <= before.AuditSeq || after.Root != "file" || after.Version != "test" || after.Locked != "" {
		t.Errorf("before %+v\nafter %+v, %v; want one audit, and the uses of the first run in it", before, after, err)
	}
}

// TestTheAuditIsWholeAndHasTheUses holds that what Close flushes is there, and
// that one key signs over many runs.
func TestTheAuditIsWholeAndHasTheUses(t *testing.T) {
	r := newRig(t)
	for range 3 {
		c, stop := r.start()
		id := r.dek(c, "t1")
		_, err := c.Encrypt(t.Context(), []kmsapi.EncryptItem{{KeyID: id, Plaintext: []byte("canary")}})
		r.must(err)
		stop()
	}
	text, err := AuditKey(t.Context(), r.Config)
	r.must(err)
	key, err := audit.ParsePublicKey(text)
	r.must(err)
	report, err := audit.Verify(AuditDir(r.DataDir), key, audit.VerifyOptions{})
	if err != nil || report.Wrong > 0 || report.Records == 0 || report.TailBytes > 0 {
		t.Errorf("%+v, %v", report, err)
	}
	if got := strings.Count(r.auditText(), `"encrypt":1`); got != 3 {
		t.Errorf("%d uses in the audit, want 3:\n%s", got, r.auditText())
	}
	if strings.Contains(r.auditText(), "canary") {
		t.Error("the audit has a plaintext")
	}
}

func (r *rig) auditText() string {
	r.Helper()
	files, err := filepath.Glob(filepath.Join(AuditDir(r.DataDir), "*.jsonl"))
	r.must(err)
	var all []byte
	for _, f := range files {
		text, err := os.ReadFile(f)
		r.must(err)
		all = append(all, text...)
	}
	return string(all)
}

func TestAProcessThatCannotDoItsWorkDoesNotStart(t *testing.T) {
	own := uint32(os.Geteuid())
	for name, tt := range map[string]struct {
		spoil func(t *testing.T, r *rig)
		want  string
	}{
		"no store":         {func(t *testing.T, r *rig) { r.DataDir += "2" }, "there is no key store in"},
		"another's store":  {otherStore, `the store has no KEK "threads"`},
		"another's root":   {otherRoot, "root key"},
		"a store in use":   {func(t *testing.T, r *rig) { r.start() }, "another keyfold is using"},
		"no audit":         {func(t *testing.T, r *rig) { r.AuditDir = "/dev/null/audit" }, "the audit in /dev/null/audit"},
		"another's audit":  {otherAudit, "the audit in"},
		"TCP without TLS":  {func(t *testing.T, r *rig) { r.Endpoint = "127.0.0.1:0" }, "needs a certificate"},
		"TCP without name": {func(t *testing.T, r *rig) { r.onTCP(t); r.Callers = []kmsserver.Caller{{UID: &own}} }, "no certificate name is in the list"},
		"a file there":     {func(t *testing.T, r *rig) { r.must(os.WriteFile(Endpoint(r.DataDir), []byte("dear"), 0o600)) }, "kms.sock"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			tt.spoil(t, r)
			n, err := Open(t.Context(), r.Config)
			if err == nil {
				n.Close(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v; want %q", err, tt.want)
			}
		})
	}
}

func otherStore(t *testing.T, r *rig) {
	r.DataDir += "2"
	st, err := pebblestore.Open(r.DataDir, pebblestore.Options{})
	r.must(err)
	var b store.Batch
	b.Put("vault:v:meta", nil)
	_, err = st.Commit(t.Context(), &b)
	r.must(errors.Join(err, st.Close()))
}

func otherRoot(t *testing.T, r *rig) { r.Root = newRig(t).Root }

func otherAudit(t *testing.T, r *rig) { r.AuditDir = AuditDir(newRig(t).DataDir) }

func (r *rig) onTCP(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "tls")
	r.must(kmsserver.MakeTLS(dir))
	r.Endpoint = "127.0.0.1:0"
	r.TLS = &kmsserver.TLSFiles{Cert: filepath.Join(dir, "server.crt"), Key: filepath.Join(dir, "server.key"), CA: filepath.Join(dir, "ca.crt")}
}

// TestABackupOfABusyProcessIsOfOneMoment makes DEKs, rotates, destroys what was
// rotated out and takes backups, all at once. Every DEK of a backup must open,
// and every DEK that was answered before it must be in it.
func TestABackupOfABusyProcessIsOfOneMoment(t *testing.T) {
	r := newRig(t)
	c, _ := r.start()
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	defer busy.Wait()
	defer stop()
	made := make(chan string, 100_000)
	for range 2 {
		busy.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				made <- r.dek(c, fmt.Sprint("t", n))
			}
		})
	}
	busy.Go(func() {
		for ctx.Err() == nil {
			if err := rotateAndDestroy(t.Context(), c); err != nil {
				t.Errorf("rotate: %v", err)
				return
			}
		}
	})
	before := map[string]bool{}
	for range 4 {
		for len(before) < 1 || len(made) > 0 {
			before[<-made] = true
		}
		var b bytes.Buffer
		r.must(c.Backup(t.Context(), &b))
		dir := filepath.Join(t.TempDir(), "kms")
		info, err := kmsbackup.Restore(t.Context(), &b, storespec.InDir(dir), r.Root, kmsbackup.Options{VerifyAll: true})
		if err != nil || info.Opened != info.DEKs || info.DEKs < len(before) {
			t.Fatalf("%+v, %v; %d DEKs were answered before", info, err, len(before))
		}
		r.holds(dir, before)
	}
}

// slowReader takes a backup, and does something when the first DEK has come.
type slowReader struct {
	bytes.Buffer
	meanwhile func()
}

func (w *slowReader) Write(p []byte) (int, error) {
	if w.meanwhile != nil && bytes.Contains(p, []byte("dek:")) {
		w.meanwhile()
		w.meanwhile = nil
	}
	return w.Buffer.Write(p)
}

// TestABackupShowsTheMomentAtWhichItBegan rotates and destroys the KEK while a
// backup is half written: it must have the DEKs and the KEK of before.
func TestABackupShowsTheMomentAtWhichItBegan(t *testing.T) {
	r := newRig(t)
	n, err := Open(t.Context(), r.Config)
	r.must(err)
	defer n.Close(t.Context())
	const deks = 600 // more than are read at a time
	_, err = n.keys.kms.CreateDEK(t.Context(), slices.Repeat([]kmsapi.CreateDEKItem{{ThreadID: "t"}}, deks))
	r.must(err)
	w := &slowReader{meanwhile: func() {
		r.must(rotateAndDestroy(t.Context(), n.keys.kms))
		_, err = n.keys.kms.CreateDEK(t.Context(), []kmsapi.CreateDEKItem{{ThreadID: "late"}})
		r.must(err)
	}}
	r.must(n.keys.backup(t.Context(), w))
	info, err := kmsbackup.Restore(t.Context(), w, storespec.InDir(filepath.Join(t.TempDir(), "kms")), r.Root, kmsbackup.Options{VerifyAll: true})
	if err != nil || info.DEKs != deks || info.Opened != deks {
		t.Errorf("%+v, %v; want the %d DEKs of the moment", info, err, deks)
	}
}

// rotator is the KMS, here or over the wire.
type rotator interface {
	RotateKEK(ctx context.Context, r kmsapi.Rotate) (kmsapi.Rotated, error)
	Job(ctx context.Context, id string) (kmsapi.Job, error)
	DestroyKEKVersion(ctx context.Context, kekID string, version uint32) error
}

// rotateAndDestroy gives the threads' KEK a new primary and destroys the old
// version once nothing is under it.
func rotateAndDestroy(ctx context.Context, c rotator) error {
	rotated, err := c.RotateKEK(ctx, kmsapi.Rotate{KEKID: kmsapi.ThreadsKEK})
	for j := rotated.Job; err == nil && j.Status != "completed"; {
		if j.Status == "failed" {
			return errors.New(j.Error)
		}
		j, err = c.Job(ctx, j.ID)
	}
	if err != nil {
		return err
	}
	return c.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, rotated.KEKVersion-1)
}

// holds checks that the key store in dir has the DEKs of ids.
func (r *rig) holds(dir string, ids map[string]bool) {
	r.Helper()
	st, err := pebblestore.Open(dir, pebblestore.Options{})
	r.must(err)
	defer st.Close()
	for id := range ids {
		if _, err := st.Get(r.Context(), "dek:"+id); err != nil {
			r.Errorf("DEK %s was answered before the backup, and is not in it: %v", id, err)
		}
	}
}

func TestABackupThatCannotBeAuditedIsNotTaken(t *testing.T) {
	r := newRig(t)
	n, err := Open(t.Context(), r.Config)
	r.must(err)
	defer n.Close(t.Context())
	r.must(n.keys.audit.Close())
	var b bytes.Buffer
	if err := n.keys.backup(t.Context(), &b); !errors.Is(err, fault.Unavailable) || b.Len() > 0 {
		t.Errorf("%v, and %d bytes", err, b.Len())
	}
}

func TestTheMetricsShowJobsAuditAndRoot(t *testing.T) {
	r := newRig(t)
	c, _ := r.start()
	r.must(rotateAndDestroy(t.Context(), c))
	h := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", Endpoint(r.DataDir))
	}, DisableKeepAlives: true}}
	resp, err := h.Get("http://kms/metrics")
	r.must(err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	r.must(err)
	for _, want := range []string{"keyfold_kms_unlocked 1\n", "keyfold_kms_audit_records ", "keyfold_kms_audit_writable 1\n", `keyfold_kms_jobs{kind="kek.rotate",status="completed"} 1`, "keyfold_kms_requests_total{"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the metrics lack %q:\n%s", want, text)
		}
	}
}

func TestInitMakesNoSecondStore(t *testing.T) {
	r := newRig(t)
	if err := Init(t.Context(), r.Config); err == nil || !strings.Contains(err.Error(), "there is a store in") {
		t.Error(err)
	}
}

func TestTheDefaultEndpointIsAlwaysAPath(t *testing.T) {
	if got := Endpoint("kms"); got != "./kms.sock" {
		t.Errorf("%s has no slash, and would be taken for a host", got)
	}
}
