package external

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"github.com/keyfold/keyfold/test/programs"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// customer seals on his side, and knows what nobody else may.
type customer struct {
	*server
	key   *cmek.Key
	vault string            // path of the sealed vault
	plain string            // path of a vault that is not sealed
	known map[string]string // values, by the path of their secret
}

// customerOf makes a sealed vault and one that is not.
func (s *server) customer() *customer {
	s.t.Helper()
	c := &customer{server: s, key: cmek.Generate(), vault: s.vault(), plain: s.vault(), known: map[string]string{}}
	s.must("POST", c.vault+"/cmek", `{"fingerprint":"`+c.key.Fingerprint()+`"}`)
	return c
}

// random is n bytes that occur nowhere else, as text.
func random(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// seal is value as the customer sends it, in one of the two forms.
func (c *customer) seal(value string, older bool) string {
	c.t.Helper()
	blob, err := cmek.Encrypt(c.key, []byte(value))
	if err != nil {
		c.t.Fatal(err)
	}
	if older {
		return hex.EncodeToString(blob[1:])
	}
	return base64.StdEncoding.EncodeToString(blob)
}

// put writes a new value that occurs nowhere else, and returns it.
func (c *customer) put(vault, name string, older bool) string {
	c.t.Helper()
	value, sent := "canary "+random(24), ""
	if sent = value; vault == c.vault {
		sent = c.seal(value, older)
	}
	c.must("PUT", vault+"/secrets/"+name, `{"value":"`+sent+`"}`)
	c.known[fmt.Sprintf("%s %s %d", vault, name, len(c.known))] = value
	return value
}

// use leaves old, disabled and deleted versions behind, in both forms.
func (c *customer) use() {
	c.t.Helper()
	for i := range 8 {
		for version := range 3 {
			c.put(c.vault, fmt.Sprint("s", i), version == 1)
		}
	}
	c.must("POST", c.vault+"/secret-version-disable/s1/2", "")
	c.must("DELETE", c.vault+"/secrets/s2", "")
	for i := range 3 {
		c.put(c.plain, fmt.Sprint("p", i), false)
	}
}

// sealed is what the customer knows of his sealed vault, and open of the other.
func (c *customer) sealed() (sealed, open []string) {
	for name, value := range c.known {
		if strings.HasPrefix(name, c.vault) {
			sealed = append(sealed, value)
		} else {
			open = append(open, value)
		}
	}
	return sealed, open
}

// stored opens every version of every secret in a data directory with the keys
// of the server's side: values as the customer sent them, by row.
func (k keys) stored(dir string) map[string]string {
	k.t.Helper()
	out := map[string]string{}
	for _, rec := range readRows(k.t, filepath.Join(dir, "server")) {
		part := strings.Split(rec.Key, ":")
		if len(part) != 5 || part[0] != "vault" || part[2] != "version" {
			continue
		}
		e := takeApart(rec.Value)
		dek, err := aead.NewKey(k.secrets[part[1]+":"+part[3]+":"+part[4]])
		if err != nil {
			k.t.Fatal(err)
		}
		aad := aead.AAD("keyfold/envelope/v1", e.kek, string(e.aad(part[1], part[3], part[4])))
		value, err := dek.Open(e.ciphertext, aad)
		if err != nil {
			k.t.Fatalf("%s does not open by the documented formats: %v", rec.Key, err)
		}
		out[rec.Key] = string(value)
	}
	return out
}

// all is every key, by a name for people.
func (k keys) all() map[string][]byte {
	out := map[string][]byte{"root key": k.root}
	for _, m := range []map[string][]byte{k.keks, k.threads, k.secrets} {
		maps.Copy(out, m)
	}
	return out
}

// find has scripts/canary look for texts in paths and stores, as they are and in
// hex and base64, and fails the test unless all, or none, are there.
func (c *customer) find(what string, all bool, texts []string, args ...string) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "canaries")
	var b bytes.Buffer
	for _, text := range texts {
		fmt.Fprintf(&b, "%x\n", text)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		c.t.Fatal(err)
	}
	args = append([]string{"search", "-canaries", file, fmt.Sprintf("-all=%v", all)}, args...)
	answer, err := exec.Command(filepath.Join(programs.Dir(c.t), "canary"), args...).CombinedOutput()
	if c.t.Logf("%s: %s", what, answer); err != nil {
		c.t.Errorf("%s: %v", what, err)
	}
}

// writeAll writes values into files of a new directory, those in base64 or hex
// decoded as well.
func writeAll(t *testing.T, values map[string]string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	n := 0
	for _, v := range values {
		raw, _ := base64.StdEncoding.DecodeString(v)
		bare, _ := hex.DecodeString(v)
		for _, b := range [][]byte{[]byte(v), raw, bare} {
			n++
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(n)), b, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// Who has a copy of every file of the server and of its key process, the root
// key included, opens every layer of theirs, and has blobs in his hands: no key of
// the server's opens one. The same search finds what is not sealed.
func TestACopyOfEverythingButTheCMEKKeyIsBlobs(t *testing.T) {
	s := dev(t, shortDir(t), nil, "--kms", "external")
	c := s.customer()
	c.use()
	s.stop()
	stolen := t.TempDir()
	if err := os.CopyFS(filepath.Join(stolen, "d"), os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	stolen = filepath.Join(stolen, "d")
	k := readKeys(t, stolen)
	stored := k.stored(stolen)
	if len(stored) != len(c.known) {
		t.Fatalf("%d versions were written and %d are opened", len(c.known), len(stored))
	}
	blobs := map[string]string{}
	for row, value := range stored {
		if !strings.HasPrefix(row, strings.ReplaceAll(strings.TrimPrefix(c.vault, "/v1/"), "vaults/", "vault:")) {
			continue
		}
		if _, err := cmek.Inspect(value); err != nil {
			t.Errorf("%s holds no blob: %v", row, err)
		}
		blobs[row] = value
		for name, raw := range k.all() {
			if wrong, err := cmek.NewKey(raw); err != nil {
				t.Fatal(err)
			} else if _, err := cmek.DecryptValue(wrong, value); err == nil {
				t.Errorf("%s opens under the server's %s", row, name)
			}
		}
	}
	sealed, open := c.sealed()
	opened := writeAll(t, stored)
	rows := []string{"-store", filepath.Join(stolen, "server"), "-store", filepath.Join(stolen, "kms")}
	c.find("what is sealed", false, append(sealed, string(c.key.Bytes())), append(rows, opened, stolen)...)
	c.find("what is not", true, open, append(rows, opened, stolen)...)
	for row, blob := range blobs {
		value, err := cmek.DecryptValue(c.key, blob)
		if err != nil || !slices.Contains(sealed, string(value)) {
			t.Errorf("%s does not open with the customer's key: %v", row, err)
		}
	}
	if len(blobs) != len(sealed) {
		t.Errorf("%d of %d sealed versions are there", len(blobs), len(sealed))
	}
}

// A backup of the key store and a copy of the server's store, without the root
// key, open nothing; with it, they are a server that answers blobs.
func TestAStolenBackupIsBlobs(t *testing.T) {
	dir := shortDir(t)
	s := dev(t, dir, nil, "--kms", "external")
	c := s.customer()
	c.use()
	backup := filepath.Join(t.TempDir(), "keys.backup")
	must(t, exec.Command(filepath.Join(programs.Dir(t), "keyfold-kms"), "backup", "--endpoint", filepath.Join(dir, "kms.sock"), "--out", backup))
	kms := s.kms()
	s.signal(syscall.SIGKILL) // the copy is of a store that was not closed
	<-s.ended
	s.await("the end of the key process", func() bool { return !alive(kms) })
	stolen := shortDir(t)
	if err := os.CopyFS(filepath.Join(stolen, "server"), os.DirFS(filepath.Join(dir, "server"))); err != nil {
		t.Fatal(err)
	}
	sealed, open := c.sealed()
	secret := append(sealed, open...)
	for _, raw := range keysOfCopy(t, dir).all() {
		secret = append(secret, string(raw))
	}
	c.find("the stolen files", false, secret, "-store", filepath.Join(stolen, "server"), stolen, backup)
	restore := func(root string) ([]byte, error) {
		return exec.Command(filepath.Join(programs.Dir(t), "keyfold-kms"), "restore", "--in", backup, "--data-dir", filepath.Join(stolen, "kms"), "--root", "file:"+root).CombinedOutput()
	}
	wrong := filepath.Join(shortDir(t), "root.key")
	text, err := os.ReadFile(filepath.Join(dir, "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := restore(forge(t, text, wrong)); err == nil {
		t.Errorf("a backup was restored under another root key: %s", out)
	}
	os.RemoveAll(filepath.Join(stolen, "kms"))
	for _, name := range []string{"root.key", "dev.seed"} {
		if err := copyFile(filepath.Join(dir, name), filepath.Join(stolen, name)); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := restore(filepath.Join(stolen, "root.key")); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	thief := dev(t, stolen, nil)
	for name, value := range c.known {
		path := strings.Fields(name)
		got, err := thief.value(path[0] + "/secrets/" + path[1])
		switch {
		case path[1] == "s2": // deleted
		case path[0] == c.plain && (err != nil || got != value):
			t.Errorf("%s is not answered: %v", name, err)
		case path[0] == c.vault:
			if _, shape := cmek.Inspect(got); err != nil || shape != nil || strings.Contains(got, value) {
				t.Errorf("%s is no blob: %v %v", name, err, shape)
			}
		}
	}
	thief.stop()
}

// keysOfCopy is readKeys of a copy of dir, whose processes may not have ended in order.
func keysOfCopy(t *testing.T, dir string) keys {
	t.Helper()
	whole := filepath.Join(t.TempDir(), "d")
	for _, part := range []string{"server", "kms"} {
		if err := os.CopyFS(filepath.Join(whole, part), os.DirFS(filepath.Join(dir, part))); err != nil {
			t.Fatal(err)
		}
	}
	if err := copyFile(filepath.Join(dir, "root.key"), filepath.Join(whole, "root.key")); err != nil {
		t.Fatal(err)
	}
	return readKeys(t, whole)
}

// forge writes a root key file like text with another key.
func forge(t *testing.T, text []byte, path string) string {
	t.Helper()
	var out []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			line = base64.StdEncoding.EncodeToString([]byte(random(24)))
		}
		out = append(out, line)
	}
	if err := os.WriteFile(path, []byte(strings.Join(out, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o600)
}

// Who found the customer's key and has no credential gets nothing to open with
// it: no blob, no path, no name.
func TestALeakedCMEKKeyWithoutACredentialGetsNothing(t *testing.T) {
	s := dev(t, shortDir(t), nil)
	c := s.customer()
	c.use()
	stranger := &server{t: t, url: s.url, client: http.Client{Timeout: patience}}
	b64 := base64.StdEncoding.EncodeToString(c.key.Bytes())
	for _, bearer := range []string{"", b64, c.key.Fingerprint(), "1ck_" + base64.RawURLEncoding.EncodeToString(c.key.Bytes())} {
		stranger.key = bearer
		for _, call := range []string{"GET /v1/vaults", "GET " + c.vault, "GET " + c.vault + "/secrets", "GET " + c.vault + "/secrets/s0", "GET " + c.vault + "/secret-versions/s0",
			"GET " + c.vault + "/secret-version/s0/1", "GET " + c.vault + "/cmek", "GET " + c.vault + "/cmek-versions", "GET " + c.vault + "/cmek-rotations",
			"GET " + c.vault + "/cmek-rotate-key", "POST " + c.vault + "/cmek-rotate", "DELETE " + c.vault + "/cmek", "GET /v1/audit/events", "GET /v1/audit/export"} {
			method, path, _ := strings.Cut(call, " ")
			if status, text := stranger.call(method, path, ""); status != 401 || strings.Contains(text, "s0") {
				t.Errorf("%s as %.8q = %d %s", call, bearer, status, text)
			}
		}
	}
	if got, err := s.value(c.vault + "/secrets/s0"); err != nil || got == "" {
		t.Errorf("the owner reads: %v", err)
	}
	s.stop()
}

// edit changes rows of a server's store while it is down.
func edit(t *testing.T, dir string, change func(get func(string) []byte, b *store.Batch)) {
	t.Helper()
	st, err := pebblestore.Open(filepath.Join(dir, "server"), pebblestore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var b store.Batch
	change(func(key string) []byte {
		rec, err := st.Get(t.Context(), key)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		return rec.Value
	}, &b)
	if _, err := st.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
}

// row is the key of a row of the customer's sealed vault.
func (c *customer) row(rest string) string {
	return "vault:" + strings.TrimPrefix(c.vault, "/v1/vaults/") + ":" + rest
}

// A thief who writes to the store swaps the rows of two secrets, puts an old
// version's row in the place of a newer, and one of another vault: what the
// customer then reads is an error, never a value of another place.
func TestSwappedAndReplayedRowsDoNotOpen(t *testing.T) {
	s := dev(t, shortDir(t), nil)
	c := s.customer()
	c.use()
	other := s.customer()
	other.key = c.key // the same key in two vaults
	other.put(other.vault, "s5", false)
	s.stop()
	edit(t, s.dir, func(get func(string) []byte, b *store.Batch) {
		s3, s4 := c.row("version:s3:0000000003"), c.row("version:s4:0000000003")
		b.Put(s3, get(s4))
		b.Put(s4, get(s3))
		b.Put(c.row("version:s5:0000000003"), get(other.row("version:s5:0000000001")))
		b.Put(c.row("version:s6:0000000003"), get(c.row("version:s6:0000000002")))
	})
	s = dev(t, s.dir, nil)
	for i, want := range map[int]int{0: 200, 3: 500, 4: 500, 5: 500, 6: 500} {
		if status, text := s.call("GET", fmt.Sprintf("%s/secrets/s%d", c.vault, i), ""); status != want {
			t.Errorf("s%d = %d %s", i, status, text)
		}
	}
	s.stop()
}

// A head that was put back to an older version is answered under that version's
// number, and nothing in the answer tells. The trail does.
func TestAHeadPutBackIsFoundAgainstTheTrail(t *testing.T) {
	s := dev(t, shortDir(t), nil)
	c := s.customer()
	first := c.put(c.vault, "a", false)
	c.put(c.vault, "b", false)
	s.stop()
	old := map[string][]byte{}
	edit(t, s.dir, func(get func(string) []byte, _ *store.Batch) {
		for _, name := range []string{"a", "b"} {
			old[c.row("head:"+name)] = get(c.row("head:" + name))
		}
	})
	s = dev(t, s.dir, nil)
	c.server = s
	c.put(c.vault, "a", false)
	s.must("DELETE", c.vault+"/secrets/b", "")
	verify := func() (string, error) {
		cmd := exec.Command(filepath.Join(programs.Dir(t), "keyfold"), "audit", "verify", "--secrets")
		cmd.Env = []string{"HOME=" + s.dir, "KEYFOLD_URL=" + s.url, "KEYFOLD_API_KEY=" + s.key}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := verify(); err != nil || !strings.Contains(out, "nothing is wrong") {
		t.Fatalf("before: %v %s", err, out)
	}
	s.stop()
	edit(t, s.dir, func(_ func(string) []byte, b *store.Batch) {
		for key, row := range old {
			b.Put(key, row)
		}
	})
	s = dev(t, s.dir, nil)
	var got struct {
		Value   string
		Version int
	}
	if err := json.Unmarshal([]byte(s.must("GET", c.vault+"/secrets/a", "")), &got); err != nil {
		t.Fatal(err)
	}
	if value, err := cmek.DecryptValue(c.key, got.Value); err != nil || string(value) != first || got.Version != 1 {
		t.Errorf("a read answers version %d, %v: the docs say that it answers the older one", got.Version, err)
	}
	out, err := verify()
	if err == nil || !strings.Contains(out, "secret a: its newest version is 1, and version 2 was written") || !strings.Contains(out, "secret b: it is there at version 1, and was deleted") {
		t.Errorf("%v %s", err, out)
	}
	s.stop()
}

// After CMEK is disabled new writes are plain, and what was sealed is flagged
// and needs its key still; enabled again with another key, three kinds live side by side.
func TestDisablingLeavesWhatWasSealedUnderItsKey(t *testing.T) {
	s := dev(t, shortDir(t), nil)
	c := s.customer()
	old, want := c.key, map[string]string{}
	want["sealed"] = c.put(c.vault, "sealed", false)
	s.must("DELETE", c.vault+"/cmek", "")
	want["plain"] = "canary " + random(24)
	s.must("PUT", c.vault+"/secrets/plain", `{"value":"`+want["plain"]+`"}`)
	c.key = cmek.Generate()
	s.must("POST", c.vault+"/cmek", `{"fingerprint":"`+c.key.Fingerprint()+`"}`)
	want["again"] = c.put(c.vault, "again", false)
	for name, key := range map[string]*cmek.Key{"sealed": old, "plain": nil, "again": c.key} {
		var got struct {
			Value         string
			CMEKEncrypted bool `json:"cmek_encrypted"`
		}
		if err := json.Unmarshal([]byte(s.must("GET", c.vault+"/secrets/"+name, "")), &got); err != nil {
			t.Fatal(err)
		}
		if got.CMEKEncrypted != (key != nil) {
			t.Errorf("%s: cmek_encrypted is %v", name, got.CMEKEncrypted)
		}
		if key == nil {
			if got.Value != want[name] {
				t.Errorf("%s: %q", name, got.Value)
			}
			continue
		}
		for _, k := range []*cmek.Key{old, c.key} {
			value, err := cmek.DecryptValue(k, got.Value)
			if (err == nil) != (k == key) || err == nil && string(value) != want[name] {
				t.Errorf("%s under %.8s: %v", name, k.Fingerprint(), err)
			}
		}
	}
	if status, text := s.call("PUT", c.vault+"/secrets/plain", `{"value":"x"}`); status != 400 || !strings.Contains(text, "cmek_blob_required") {
		t.Errorf("a plain write to the vault that is sealed again = %d %s", status, text)
	}
	s.stop()
}
