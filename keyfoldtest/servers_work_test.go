package keyfoldtest_test

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/thread"
	"github.com/keyfold/keyfold/internal/vault"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// held is a store some way off, in which jobs do not go on while mu is locked.
type held struct {
	far
	mu *sync.RWMutex
}

func (h held) Commit(ctx context.Context, b *store.Batch) (store.Revision, error) {
	for _, p := range b.Preconditions {
		if strings.HasPrefix(p.Key, layout.Job("")) && p.Revision != 0 {
			h.mu.RLock()
			defer h.mu.RUnlock()
			break
		}
	}
	return h.far.Commit(ctx, b)
}

// two starts two servers over one store. While hold is locked no job goes on.
func two(t *testing.T) (servers [2]*keyfoldtest.Server, hold *sync.RWMutex) {
	t.Helper()
	hold = new(sync.RWMutex)
	servers[0] = keyfoldtest.Start(t, keyfoldtest.Shared(), keyfoldtest.Configure(func(cfg *allinone.Config) {
		cfg.Parts.Store = held{far{cfg.Parts.Store}, hold}
	}))
	servers[1] = keyfoldtest.Beside(t, servers[0])
	return servers, hold
}

// both makes a call at both servers at once, before any job goes on, and returns the
// one job that both answers name once it has ended. There is no other of its kind.
func both(t *testing.T, servers [2]*keyfoldtest.Server, hold *sync.RWMutex, kind, key, path, body string, header ...string) job.Job {
	t.Helper()
	var calling sync.WaitGroup
	var named [2]string
	hold.Lock()
	for i, s := range servers {
		calling.Go(func() {
			r, _ := http.NewRequestWithContext(t.Context(), "POST", s.URL+path, strings.NewReader(body))
			r.Header.Set("Authorization", "Bearer "+key)
			for n := 0; n < len(header); n += 2 {
				r.Header.Set(header[n], header[n+1])
			}
			res, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Error(err)
				return
			}
			defer res.Body.Close()
			var out struct {
				ID    string `json:"id"`
				JobID string `json:"job_id"`
			}
			if err := json.NewDecoder(res.Body).Decode(&out); err != nil || res.StatusCode >= 300 {
				t.Errorf("%s at server %d: %s, %v", path, i, res.Status, err)
			}
			named[i] = cmp.Or(out.JobID, out.ID)
		})
	}
	calling.Wait()
	hold.Unlock()
	if named[0] == "" || named[0] != named[1] {
		t.Errorf("%s: the answers name %q", path, named)
	}
	jobs, err := servers[0].Node().Jobs.List(t.Context())
	jobs = slices.DeleteFunc(jobs, func(j job.Job) bool { return j.Kind != kind })
	if err != nil || len(jobs) != 1 || named[0] != jobs[0].ID {
		t.Fatalf("%s: there are %d jobs, %v", path, len(jobs), err)
	}
	j, err := servers[1].Node().Jobs.Wait(t.Context(), jobs[0].ID)
	if err != nil || j.Status != job.Completed || j.Failed != 0 {
		t.Errorf("%s: the job is %s with %d failures, %v", path, j.Status, j.Failed, err)
	}
	return j
}

// decoded is the body of a call that must succeed.
func decoded[T any](t *testing.T, s *keyfoldtest.Server, key, method, path, body string) (out T) {
	t.Helper()
	status, text := call(t, s, key, method, path, body)
	if err := json.Unmarshal([]byte(text), &out); err != nil || status >= 300 {
		t.Fatalf("%s %s: %d %s", method, path, status, text)
	}
	return out
}

// Both servers write one org's trail at once. Either lists all that was done, once and
// in the order of time, and finds its chains whole.
func TestTheTrailOfTwoServersIsOneThatVerifies(t *testing.T) {
	servers, _ := two(t)
	a := servers[0]
	const each = 10
	var mu sync.Mutex
	var writing sync.WaitGroup
	want := map[string]int{}
	for i := range 2 * each {
		writing.Go(func() {
			id := makeVault(t, servers[i%2], a.APIKey)
			mu.Lock()
			defer mu.Unlock()
			want[id]++
		})
	}
	writing.Wait()
	for i, s := range servers {
		list := decoded[api.AuditEvents](t, s, a.APIKey, "GET", "/v1/audit/events?limit=500&action=vault.create", "")
		got := map[string]int{}
		for n, e := range list.Events {
			got[e.ResourceID]++
			if n > 0 && e.CreatedAt.After(list.Events[n-1].CreatedAt) {
				t.Errorf("server %d: event %d is newer than the one before it", i, n)
			}
		}
		if !maps.Equal(got, want) {
			t.Errorf("server %d: there are events of %d vaults, want %d", i, len(got), len(want))
		}
		v := decoded[api.AuditVerification](t, s, a.APIKey, "GET", "/v1/audit/verify?limit=10000", "")
		if !v.ChainValid || v.EventsChecked < 2*each || v.EventsVerified != v.EventsChecked {
			t.Errorf("server %d: %+v", i, v)
		}
	}
}

// Whoever asks for a rotation at both servers at once has one.
func TestARotationAskedForAtBothServersIsOneJob(t *testing.T) {
	servers, hold := two(t)
	a := servers[0]
	old, fresh := cmek.Generate(), cmek.Generate()
	id := makeVault(t, a, a.APIKey)
	path := "/v1/vaults/" + id
	answer(t, a, a.APIKey, "POST", path+"/cmek", `{"fingerprint":"`+old.Fingerprint()+`"}`)
	blob, err := cmek.EncryptValue(old, []byte("a value"))
	if err != nil {
		t.Fatal(err)
	}
	answer(t, a, a.APIKey, "PUT", path+"/secrets/x", `{"value":"`+blob+`"}`)
	j := both(t, servers, hold, vault.RotationJob, a.APIKey, path+"/cmek-rotate",
		fmt.Sprintf(`{"new_fingerprint":%q,"new_key_check":%q}`, fresh.Fingerprint(), fresh.Check(id)), "x-cmek-old-key", text(old), "x-cmek-new-key", text(fresh))
	if j.Processed != 1 {
		t.Errorf("%d versions were turned", j.Processed)
	}
	got := decoded[api.Secret](t, servers[1], a.APIKey, "GET", path+"/secrets/x", "")
	if value, err := cmek.DecryptValue(fresh, got.Value); err != nil || string(value) != "a value" {
		t.Errorf("under the fresh key: %q, %v", value, err)
	}
	th := decoded[api.Thread](t, a, a.APIKey, "POST", "/v1/threads", `{"title":"t"}`).ID
	answer(t, a, a.APIKey, "POST", "/v1/threads/"+th+"/messages", `{"body":"x"}`)
	if j = both(t, servers, hold, thread.MoveJob, a.NewAdminKey(), "/admin/encryption/rotate-thread-dek", `{"thread_id":"`+th+`"}`); j.Processed != 1 {
		t.Errorf("%d rows were moved", j.Processed)
	}
}

// Retention that is asked for at both servers at once is one run, which purges each
// message once. What two servers wrote, one exports whole.
func TestRetentionAskedForAtBothServersPurgesOnce(t *testing.T) {
	servers, hold := two(t)
	a := servers[0]
	answer(t, a, a.APIKey, "PUT", "/v1/retention", `{"deleted_days":1}`)
	path := "/v1/threads/" + decoded[api.Thread](t, a, a.APIKey, "POST", "/v1/threads", `{"title":"t"}`).ID
	const many = 40
	for i := range many {
		m := decoded[api.Message](t, servers[i%2], a.APIKey, "POST", path+"/messages", fmt.Sprintf(`{"body":"message %d"}`, i))
		if i%4 < 2 {
			answer(t, servers[i/2%2], a.APIKey, "DELETE", path+"/messages/"+m.ID, "")
		}
	}
	for _, s := range servers {
		s.Advance(48 * time.Hour)
	}
	if j := both(t, servers, hold, thread.PurgeJob, a.NewAdminKey(), "/admin/jobs/purge", ""); j.Processed != many/2 {
		t.Errorf("%d messages were purged, want %d", j.Processed, many/2)
	}
	for i, s := range servers {
		if _, text := call(t, s, a.APIKey, "GET", path+"/messages?include_deleted=true&limit=100", ""); strings.Contains(text, `"deleted":true`) {
			t.Errorf("server %d: deleted messages are left: %s", i, text)
		}
		_, text := call(t, s, a.APIKey, "GET", path+"/export", "")
		for n := range many {
			want := 0
			if n%4 >= 2 {
				want = 1
			}
			if got := strings.Count(text, fmt.Sprintf(`"message %d"`, n)); got != want {
				t.Errorf("server %d: message %d is %d times in the export, want %d", i, n, got, want)
			}
		}
	}
}

func text(k *cmek.Key) string { return base64.StdEncoding.EncodeToString(k.Bytes()) }
