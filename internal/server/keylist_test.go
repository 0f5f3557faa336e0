package server_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// keks is a page of the operator's list.
func (w *world) keks(query string) api.EncryptionKeys {
	w.t.Helper()
	a := w.do(scenario{key: w.admin, call: "GET /admin/encryption/keys" + query, status: 200, forbid: []string{"stored", "wrapped", "proof"}})
	return decode[api.EncryptionKeys](w.t, a)
}

func TestAnOperatorListsTheKEKs(t *testing.T) {
	for _, where := range []string{keyfoldtest.Embedded, keyfoldtest.Socket, keyfoldtest.MTLS} {
		t.Run(where, func(t *testing.T) {
			w := newWorld(t, keyfoldtest.KMS(where))
			w.admin = w.newAdmin()
			v, thread := w.vault(false), w.thread()
			w.do(scenario{call: "PUT " + v + "/secrets/a", body: `{"value":"` + canary + `"}`, status: 201})
			w.do(scenario{call: "POST " + thread + "/messages", body: `{"body":1}`, status: 200})
			vaultID := strings.TrimPrefix(v, "/v1/vaults/")
			w.do(scenario{key: w.admin, call: "POST /admin/encryption/rotate-kek", body: `{"vault_id":"` + vaultID + `"}`, status: 202})
			w.waitForKEK("vault-"+vaultID, 2)

			all := w.keks("?count=true")
			if !all.Available || all.Message != "" || *all.Root != (api.RootKey{Kind: "file", State: "unlocked"}) || all.WrapLimit != 1<<31 || all.Pagination.HasMore || all.Pagination.Count != len(all.KEKs) {
				t.Errorf("%+v", all)
			}
			seen := map[string]api.KEK{}
			for _, k := range all.KEKs {
				seen[k.ID] = k
			}
			ofVault := seen["vault-"+vaultID]
			if ofVault.Of != "vault" || ofVault.VaultID != vaultID || len(ofVault.Versions) != 2 || ofVault.Versions[0].State != "decrypt-only" || !ofVault.Versions[0].Released ||
				ofVault.Versions[1].State != "enabled" || ofVault.Versions[0].Wraps == 0 || ofVault.Versions[1].CreatedAt.IsZero() || ofVault.Versions[0].ThreadDEKs != nil {
				t.Errorf("the vault's: %+v", ofVault)
			}
			threads := seen[kmsapi.ThreadsKEK]
			if threads.Of != "threads" || threads.VaultID != "" || len(threads.Versions) != 1 || threads.Versions[0].ThreadDEKs == nil || *threads.Versions[0].ThreadDEKs < 1 {
				t.Errorf("the threads': %+v", threads)
			}
			w.told(strings.TrimPrefix(thread, "/v1/threads/"))
			if seen["server"].Of != "server" {
				t.Errorf("the server's: %+v", seen["server"])
			}
			w.pages(all)
		})
	}
}

// told checks what an operator is told of a thread's DEK, beside a thread that is not there.
func (w *world) told(threadID string) {
	w.t.Helper()
	a := w.do(scenario{key: w.admin, call: "GET /admin/encryption/deks?thread_id=" + threadID + "&thread_id=" + strings.Repeat("0", 8) + threadID[8:], status: 200, forbid: []string{"wrapped", canary}})
	got := decode[api.EncryptionDEKs](w.t, a)
	if !got.Available || got.Message != "" || got.SealLimit != 1<<31 || len(got.DEKs) != 1 {
		w.t.Fatalf("%+v", got)
	}
	if d := got.DEKs[0]; d.ThreadID != threadID || d.KeyID == "" || d.State != "enabled" || d.KEKVersion != 1 || d.Seals < 4096 || d.CreatedAt.IsZero() {
		w.t.Errorf("%+v", d)
	}
}

// waitForKEK runs until a KEK's job has released all versions before this one.
func (w *world) waitForKEK(id string, version int) {
	w.t.Helper()
	for _, j := range decode[api.Jobs](w.t, w.do(scenario{key: w.admin, call: "GET /admin/jobs", status: 200})).Jobs {
		w.ended(j)
	}
	for _, k := range w.keks("").KEKs {
		if k.ID == id && len(k.Versions) != version {
			w.t.Fatalf("%+v", k)
		}
	}
}

// pages reads all again, one KEK at a time.
func (w *world) pages(all api.EncryptionKeys) {
	w.t.Helper()
	cursor := ""
	for i, want := range all.KEKs {
		page := w.keks("?limit=1&cursor=" + cursor)
		if last := i == len(all.KEKs)-1; len(page.KEKs) != 1 || page.KEKs[0].ID != want.ID || page.Pagination.HasMore == last || page.Pagination.Count != 1 || page.Root == nil {
			w.t.Fatalf("page %d: %+v, want %s", i, page, want.ID)
		}
		cursor = page.Pagination.NextCursor
	}
}

func TestTheListsOfKeysAreAskedForInTheirForm(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	for _, query := range []string{"?limit=0", "?limit=1001", "?limit=x", "?count=yes", "?cursor=a%3Ab", "?cursor=%00"} {
		w.do(scenario{key: w.admin, call: "GET /admin/encryption/keys" + query, status: 400})
	}
	id := strings.TrimPrefix(w.thread(), "/v1/threads/")
	deks := "GET /admin/encryption/deks?thread_id=" + id
	for _, query := range []string{"", "?thread=" + id, "?thread_id=", "?thread_id=a%3Ab", "?thread_id=" + id + "&thread_id=%00", "?thread_id=" + id + strings.Repeat("&thread_id="+id, 100)} {
		w.do(scenario{key: w.admin, call: "GET /admin/encryption/deks" + query, status: 400, want: []string{"thread_id"}})
	}
	w.do(scenario{key: w.admin, call: "GET /admin/encryption/keys?count=false&limit=1000", status: 200})
	w.do(scenario{key: w.admin, call: deks + strings.Repeat("&thread_id="+id, 99), status: 200})
	for _, call := range []string{"GET /admin/encryption/keys", deks} {
		for _, key := range []string{"", w.mate, w.stranger} {
			w.do(scenario{key: key, call: call, status: 403, forbid: []string{"vault-", "threads", "dek-"}})
		}
		w.do(scenario{key: "-", call: call, status: 401})
		w.SetKMSDown(true)
		w.do(scenario{key: w.admin, call: call, status: 503, want: []string{"try again"}})
		w.SetKMSDown(false)
	}
}

// The policy is told with the keys, and to whoever sees the state of a vault's CMEK
// key; keyfoldtest has none.
func TestWithoutAPolicyNoKeyHasAnAge(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	if all := w.keks(""); all.MaxAge != (api.KeyAges{}) {
		t.Errorf("%+v", all.MaxAge)
	}
	w.do(scenario{call: "GET " + w.vault(true) + "/cmek", status: 200, want: []string{`"since":`}, forbid: []string{"max_age"}})
}

// When a DEK was made is told to operators alone: published clients of backend keys
// know two members.
func TestAnOperatorSeesWhenADEKWasMade(t *testing.T) {
	w := newWorld(t)
	w.admin = w.newAdmin()
	id := strings.TrimPrefix(w.thread(), "/v1/threads/")
	of := func() *api.ThreadDEK {
		for _, th := range decode[api.Threads](t, w.do(scenario{key: w.admin, call: "GET /admin/threads", status: 200})).Threads {
			if th.ID == id {
				return th.KMS
			}
		}
		t.Fatal("the thread is not listed")
		return nil
	}
	first := of()
	if now := w.Now().UnixNano(); first.CreatedTS == 0 || first.CreatedTS > now || now-first.CreatedTS > int64(1e12) {
		t.Errorf("made at %d, and it is %d", first.CreatedTS, now)
	}
	w.Advance(time.Minute)
	a := w.do(scenario{key: w.admin, call: "POST /admin/encryption/rotate-thread-dek", body: `{"thread_id":"` + id + `"}`, status: 200})
	if second := of(); second.KeyID == first.KeyID || second.CreatedTS <= first.CreatedTS {
		t.Errorf("after a rotation %+v, before it %+v", second, first)
	}
	w.ended(api.Job{ID: decode[api.ThreadDEKRotated](t, a).JobID})

	// One that an older program made.
	rec, err := w.Node().Store.Get(t.Context(), layout.ThreadMeta(id))
	if err != nil {
		t.Fatal(err)
	}
	var row map[string]json.RawMessage
	var dek map[string]any
	if err := json.Unmarshal(rec.Value, &row); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(row["kms"], &dek); err != nil || dek["created_ts"] == nil {
		t.Fatalf("%v %s", err, row["kms"])
	}
	delete(dek, "created_ts")
	row["kms"], _ = json.Marshal(dek)
	older, _ := json.Marshal(row)
	w.put(layout.ThreadMeta(id), older)
	if third := of(); third.CreatedTS != 0 || third.KeyID == "" {
		t.Errorf("%+v", third)
	}
}
