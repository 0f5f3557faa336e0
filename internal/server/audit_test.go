package server

import (
	"context"
	"encoding/json"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/trail"
)

// newAudit is the audit's routes over a trail with two events of org o; the
// bearer is the ID of an owner there.
func newAudit(t *testing.T) http.Handler {
	t.Helper()
	root, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := kms.New(t.Context(), kms.Config{Store: memstore.New(), Root: root})
	if err != nil {
		t.Fatal(err)
	}
	s := memstore.New()
	tr, err := trail.Open(t.Context(), trail.Config{Store: s, Box: sealed.New(s, k), Every: -1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		k.Close()
	})
	for _, vault := range []string{"v1", "v2"} {
		e := access.Event{OrgID: "o", ActorType: "user", ActorID: "ann", Action: "secret.read", ResourceType: "secret", ResourceID: "s", Outcome: access.Allowed, Details: map[string]string{"vault_id": vault}}
		if err := tr.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	if err := tr.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	who := func(_ context.Context, bearer string) (access.Principal, error) {
		return access.Principal{Kind: access.User, ID: bearer, OrgID: "o", Role: access.Owner}, nil
	}
	return httpx.New(httpx.Config{Rows: audit{trail.NewReader(tr, new(accesstest.Gate))}.rows(), Authenticate: who})
}

func getAudit(t *testing.T, h http.Handler, target string, status int, out any) string {
	t.Helper()
	w := answered(h, "GET", target, "", "Authorization", "Bearer ann")
	if w.Code != status {
		t.Fatalf("%s: %d %s", target, w.Code, w.Body)
	}
	if out != nil {
		if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
			t.Fatalf("%s: %v: %s", target, err, w.Body)
		}
	}
	return w.Body.String()
}

func TestTheAuditOnTheWire(t *testing.T) {
	h := newAudit(t)
	var events api.AuditEvents
	body := getAudit(t, h, "/v1/audit/events?limit=100&offset=0&resource_id=v2&actor_id=ann&action=secret.read&from=2020-01-01T00:00:00Z&to=2100-01-01T00:00:00.5Z", 200, &events)
	if events.Count != 1 || events.Events[0].Details["vault_id"] != "v2" || strings.Contains(body, "next_") {
		t.Errorf("%s", body)
	}
	for _, name := range []string{"id", "org_id", "actor_type", "actor_id", "action", "resource_type", "resource_id", "details", "created_at", "prev_event_id", "integrity_hash", "outcome"} {
		if !strings.Contains(body, `"`+name+`":`) {
			t.Errorf("%s is missing: %s", name, body)
		}
	}
	var bare []api.AuditEvent
	if getAudit(t, h, "/v1/audit?vault_id=v1&limit=50", 200, &bare); len(bare) != 1 || bare[0].Details["vault_id"] != "v1" {
		t.Errorf("the bare array: %+v", bare)
	}
	if body := getAudit(t, h, "/v1/audit?vault_id=v3", 200, nil); body != "[]" {
		t.Errorf("an empty one: %s", body)
	}
	var v api.AuditVerification
	body = getAudit(t, h, "/v1/audit/verify?limit=10000", 200, &v)
	if !v.ChainValid || v.EventsVerified != 2 || v.EventsSigned != 2 || !strings.Contains(body, `"broken_at_event_id":null`) || v.Scheme.HashField != "integrity_hash" {
		t.Errorf("%s", body)
	}
}

func TestAnExportOnTheWireVerifies(t *testing.T) {
	h := newAudit(t)
	var keys api.AuditKeys
	getAudit(t, h, "/.well-known/keyfold-audit.json", 200, &keys)
	r, err := auditcheck.VerifyExport(strings.NewReader(getAudit(t, h, "/v1/audit/export", 200, nil)), auditcheck.Options{Keys: keys.Keys})
	if err != nil || !r.OK() || r.Signed != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestABadQueryOfTheAuditIsToldWhatToDo(t *testing.T) {
	h := newAudit(t)
	for _, query := range []string{
		"events?limit=0", "events?limit=1001", "events?limit=x", "events?offset=-1", "events?offset=10001", "events?from=yesterday", "events?to=2026-01-01",
		"verify?limit=10001", "verify?from=x", "export?to=x", "events?from=%zz",
	} {
		var p api.Problem
		if getAudit(t, h, "/v1/audit/"+query, 400, &p); p.Detail == "" {
			t.Errorf("%s: %+v", query, p)
		}
	}
}
