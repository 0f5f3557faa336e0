package external

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// ends starts a job of the admin's, waits for its end and returns what it says then.
func (s *server) ends(path, body string) string {
	s.t.Helper()
	admin := s.with(s.adminKey())
	var job struct {
		ID     string `json:"job_id"`
		Status string
	}
	text := admin.must("POST", path, body)
	if err := json.Unmarshal([]byte(text), &job); err != nil || job.ID == "" {
		s.t.Fatalf("no job: %s", text)
	}
	s.await("the end of a job", func() bool {
		text = admin.must("GET", "/admin/jobs/"+job.ID, "")
		if err := json.Unmarshal([]byte(text), &job); err != nil {
			s.t.Fatal(err)
		}
		return job.Status != "running"
	})
	return text
}

// age makes a deleted thread one that was deleted long ago. The server is down.
func age(t *testing.T, dir, thread string) {
	t.Helper()
	edit(t, dir, func(get func(string) []byte, b *store.Batch) {
		var m struct {
			Org       string
			DeletedTS int64 `json:"deleted_ts"`
		}
		row := get(layout.ThreadMeta(thread))
		if err := json.Unmarshal(row, &m); err != nil || m.DeletedTS == 0 {
			t.Fatalf("%s: %v", row, err)
		}
		b.Put(layout.ThreadMeta(thread), []byte(strings.Replace(string(row), fmt.Sprintf(`"deleted_ts":%d`, m.DeletedTS), `"deleted_ts":1`, 1)))
		b.Delete(layout.Gone(m.Org, m.DeletedTS, thread, ""))
		b.Put(layout.Gone(m.Org, 1, thread, ""), nil)
	})
}

// The certificates and the configuration that init makes are all that a server needs
// to purge threads and to rotate their DEKs to the end. A configuration of before, in
// which its name has the role crypto alone, goes on to work: what it cannot destroy it
// says, and it owes that until it may.
func TestAServerDestroysDEKsInTheRoleThatInitGivesIt(t *testing.T) {
	dir, data, port := shortDir(t), shortDir(t), freePort(t)
	config, old, tls := filepath.Join(dir, "kms.yaml"), filepath.Join(dir, "old.yaml"), filepath.Join(dir, "tls")
	must(t, kmsCommand(t, dir, "init", "--tls", "--endpoint", port, "--config", config))
	text, err := os.ReadFile(config)
	if err == nil {
		err = os.WriteFile(old, []byte(strings.Replace(string(text), "keyfold-server crypto+shred", "keyfold-server crypto", 1)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	env := []string{"KEYFOLD_KMS=https://" + port, "KEYFOLD_KMS_CERT=" + filepath.Join(tls, "keyfold-server.crt"),
		"KEYFOLD_KMS_KEY=" + filepath.Join(tls, "keyfold-server.key"), "KEYFOLD_KMS_CA=" + filepath.Join(tls, "ca.crt")}

	stop := serveKMS(t, dir, "--config", old)
	s := dev(t, data, env)
	var paths, ids []string
	for range 3 {
		path := s.thread()
		s.must("POST", path, `{"body":"`+canary+`"}`)
		paths, ids = append(paths, path), append(ids, strings.Split(path, "/")[3])
	}
	s.must("PUT", "/v1/retention", `{"deleted_days":1}`)
	s.must("DELETE", "/v1/threads/"+ids[2], "")
	s.stop()
	age(t, data, ids[2])
	s = dev(t, data, env)
	one, all, purge := `{"thread_id":"`+ids[0]+`"}`, `{"all":true}`, "/admin/jobs/purge"
	const rotate, gives = "/admin/encryption/rotate-thread-dek", "the role shred"
	if said := s.ends(rotate, one); !strings.Contains(said, `"status":"failed"`) || !strings.Contains(said, gives) {
		t.Errorf("without the role a rotation says %s", said)
	}
	if said := s.ends(rotate, all); !strings.Contains(said, `"status":"completed"`) || strings.Count(said, gives) != 3 {
		t.Errorf("without the role the rotation of all says %s", said)
	}
	if said := s.ends(purge, ""); !strings.Contains(said, `"status":"completed"`) || strings.Count(said, gives) != 1 {
		t.Errorf("without the role a purge says %s", said)
	}
	stop(syscall.SIGTERM)

	stop = serveKMS(t, dir, "--config", config)
	s.await("/readyz", s.ready)
	for _, c := range [][2]string{{rotate, one}, {rotate, all}, {purge, ""}} {
		if said := s.ends(c[0], c[1]); !strings.Contains(said, `"status":"completed"`) || strings.Contains(said, gives) {
			t.Errorf("with the role %s %s says %s", c[0], c[1], said)
		}
	}
	for _, path := range paths[:2] {
		if got, err := s.bodies(path); err != nil || len(got) != 1 || got[0] != canary {
			t.Errorf("%q, %v", got, err)
		}
	}
	s.stop()
	stop(syscall.SIGTERM)
	deks := 0
	for _, rec := range append(readRows(t, filepath.Join(dir, "kms")), readRows(t, filepath.Join(data, "server"))...) {
		switch {
		case strings.HasPrefix(rec.Key, layout.DEK("")) && !strings.Contains(string(rec.Value), `"thread_id":"keyfold-server"`): // the store's own sign
			deks++
		case strings.HasPrefix(rec.Key, layout.ThreadRow(ids[2], "")):
			t.Errorf("%s is left", rec.Key)
		}
	}
	if deks != 2 {
		t.Errorf("the KMS has %d DEKs of 2 threads", deks)
	}
}
