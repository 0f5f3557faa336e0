package server

import (
	"net/http"
	"time"

	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/thread"
	"github.com/keyfold/keyfold/internal/vault"
)

// Limits of request bodies, in bytes. A secret's leaves room for 5 MB that
// were sealed and base64-coded; a message's for the members around the body.
const (
	maxSmall   = 64 << 10
	maxSecret  = 8 << 20
	maxMessage = thread.MaxBody + maxSmall
)

// rows is the table of all routes. A row that does not say Public needs a
// principal.
func rows(cfg Config) []httpx.Row {
	h := health{checks: cfg.Ready, closing: cfg.Closing, version: cfg.Version, plain: cfg.Plain, several: cfg.KeyProcesses}
	if cfg.Threads != nil {
		h.inClear = cfg.Threads.InClear
	}
	v := vaults{cfg.Vaults}
	s := secrets{cfg.Vaults}
	t := threads{cfg.Threads}
	a := admin{cfg.Jobs, cfg.Vaults, cfg.Gate, cfg.Metrics}
	rows := []httpx.Row{
		{Method: "GET", Pattern: "/healthz", Who: httpx.Public, Handler: httpx.NoBody(http.StatusOK, h.alive)},
		{Method: "GET", Pattern: "/readyz", Who: httpx.Public, Timeout: 5 * time.Second, Handler: httpx.NoBody(http.StatusOK, h.ready)},
		{Method: "GET", Pattern: "/v1/health", Who: httpx.Public, Timeout: 5 * time.Second, Handler: httpx.NoBody(http.StatusOK, h.status)},
		{Method: "GET", Pattern: "/v1/health/hsm", Who: httpx.Public, Timeout: 5 * time.Second, Handler: httpx.NoBody(http.StatusOK, h.keys)},
		{Method: "GET", Pattern: "/v1/openapi.json", Who: httpx.Public, Handler: showDocument},

		{Method: "POST", Pattern: "/v1/vaults", MaxBody: maxSmall, Handler: httpx.Body(http.StatusCreated, v.create)},
		{Method: "GET", Pattern: "/v1/vaults", Handler: httpx.NoBody(http.StatusOK, v.list)},
		{Method: "GET", Pattern: "/v1/vaults/{vault}", Handler: httpx.NoBody(http.StatusOK, v.get)},
		{Method: "DELETE", Pattern: "/v1/vaults/{vault}", Handler: httpx.Empty(v.delete)},
		{Method: "POST", Pattern: "/v1/vaults/{vault}/cmek", MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, v.enableCMEK)},
		{Method: "DELETE", Pattern: "/v1/vaults/{vault}/cmek", Handler: httpx.NoBody(http.StatusOK, v.disableCMEK)},

		{Method: "GET", Pattern: "/v1/vaults/{vault}/secrets", Handler: httpx.NoBody(http.StatusOK, s.list)},
		{Method: "PUT", Pattern: "/v1/vaults/{vault}/secrets/{path...}", MaxBody: maxSecret, Timeout: time.Minute, Handler: httpx.Body(http.StatusCreated, s.put)},
		{Method: "GET", Pattern: "/v1/vaults/{vault}/secrets/{path...}", Ahead: s.ahead, Handler: httpx.NoBody(http.StatusOK, s.get)},
		{Method: "DELETE", Pattern: "/v1/vaults/{vault}/secrets/{path...}", Handler: httpx.Empty(s.delete)},
		{Method: "GET", Pattern: "/v1/vaults/{vault}/secret-versions/{path...}", Handler: httpx.NoBody(http.StatusOK, s.versions)},
		// In these two the last segment of {path...} is the version.
		{Method: "GET", Pattern: "/v1/vaults/{vault}/secret-version/{path...}", Handler: httpx.NoBody(http.StatusOK, s.version)},
		{Method: "POST", Pattern: "/v1/vaults/{vault}/secret-version-disable/{path...}", Handler: httpx.Empty(s.disable)},
		{Method: "POST", Pattern: "/v1/vaults/{vault}/secret-rotate/{path...}", MaxBody: maxSmall, OptionalBody: true, Handler: httpx.Body(http.StatusCreated, s.generate)},

		{Method: "POST", Pattern: "/v1/threads", Keys: true, MaxBody: maxSmall, OptionalBody: true, Handler: httpx.Body(http.StatusOK, t.create)},
		{Method: "GET", Pattern: "/v1/threads", Keys: true, Handler: httpx.NoBody(http.StatusOK, t.list)},
		{Method: "GET", Pattern: "/v1/threads/{thread}", Keys: true, Handler: httpx.NoBody(http.StatusOK, t.get)},
		{Method: "PUT", Pattern: "/v1/threads/{thread}", Keys: true, MaxBody: maxSmall, Handler: httpx.Body(http.StatusOK, t.update)},
		{Method: "DELETE", Pattern: "/v1/threads/{thread}", Keys: true, Handler: httpx.Empty(t.delete)},
		{Method: "GET", Pattern: "/v1/threads/{thread}/events", Keys: true, Timeout: httpx.StreamTimeout, Handler: httpx.Events(t.events)},

		// An operator's; each asks admin's gate first.
		{Method: "POST", Pattern: "/admin/encryption/rotate-kek", Admin: true, MaxBody: maxSmall, Handler: httpx.Body(http.StatusAccepted, a.rotate)},
		{Method: "POST", Pattern: "/admin/encryption/rewrap", Admin: true, MaxBody: maxSmall, Handler: httpx.Body(http.StatusAccepted, a.rewrap)},
		{Method: "GET", Pattern: "/admin/jobs", Admin: true, Handler: httpx.NoBody(http.StatusOK, a.list)},
		{Method: "GET", Pattern: "/admin/jobs/{job}", Admin: true, Handler: httpx.NoBody(http.StatusOK, a.job)},
		{Method: "DELETE", Pattern: "/admin/jobs/{job}", Admin: true, Handler: httpx.NoBody(http.StatusOK, a.cancel)},
		{Method: "GET", Pattern: "/admin/debug/prometheus", Admin: true, Own: scraper(cfg.Scrape), Handler: httpx.Stream(metricsType, a.showMetrics)},
	}
	for _, room := range []interface{ rows() []httpx.Row }{
		auth{cfg.Identity}, mfa{cfg.Identity}, orgs{cfg.Identity}, agents{cfg.Identity}, keys{cfg.Identity}, signing{cfg.Identity},
		messages{cfg.Threads}, participants{cfg.Threads}, transfer{cfg.Threads}, tokens{cfg.Tokens, cfg.Gate}, policies{cfg.Policies}, shares{cfg.Shares}, devices{cfg.Devices}, audit{cfg.Audit},
		billing{cfg.Gate, cfg.Identity, cfg.Vaults, cfg.Now}, cmekVersions{cfg.Vaults}, encryption{a, cfg.Threads}, operate{a, cfg.Threads, cfg.Dev}, rowKeys{cfg.Store, cfg.Gate}, rotations{vault.NewRotations(cfg.Vaults, cfg.Jobs), cfg.MaxAge.CMEK},
		retention{a, cfg.Threads}, keyList{cfg.Keys},
	} {
		rows = append(rows, room.rows()...)
	}
	if cfg.Passkeys != nil {
		rows = append(rows, passkeys{cfg.Passkeys}.rows()...)
	}
	return rows
}
