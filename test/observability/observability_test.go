// Package observability tests what a running Keyfold tells of itself: the metrics,
// traces and logs of real processes of keyfold and keyfold-kms, against the
// dashboard, the alerts and the documentation, and for secrets in them.
package observability

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"github.com/keyfold/keyfold/test/programs"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/keyfold/keyfold/cmek"
)

// patience is how long anything may take; a test that runs into it fails.
const patience = 2 * time.Minute

// output is what processes say.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// span is a span as the collector got it.
type span struct {
	Service string
	TraceID string `json:"traceId"`
	SpanID  string `json:"spanId"`
	Parent  string `json:"parentSpanId"`
	Name    string `json:"name"`
}

// collector is the test's own collector of traces.
type collector struct {
	mu    sync.Mutex
	spans []span
	raw   bytes.Buffer
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var in struct {
		ResourceSpans []struct {
			Resource struct {
				Attributes []struct {
					Key   string
					Value struct{ StringValue string }
				}
			}
			ScopeSpans []struct{ Spans []span }
		}
	}
	if err != nil || json.Unmarshal(body, &in) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.raw.Write(body)
	for _, rs := range in.ResourceSpans {
		service := ""
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.name" {
				service = a.Value.StringValue
			}
		}
		for _, s := range rs.ScopeSpans[0].Spans {
			s.Service = service
			c.spans = append(c.spans, s)
		}
	}
}

func (c *collector) all() ([]span, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.spans), c.raw.String()
}

// rig is a server, its key process and a collector.
type rig struct {
	t            testing.TB
	traces       collector
	logs         output // of both processes
	url          string
	key, admin   string
	socket       string
	refused      strings.Builder // answers that are no 2xx
	server, keys *exec.Cmd
}

func newRig(t *testing.T) *rig {
	t.Helper()
	bin := programs.Dir(t)
	r, dir := &rig{t: t}, t.TempDir()
	sink := httptest.NewServer(&r.traces)
	t.Cleanup(sink.Close)
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "OTEL_EXPORTER_OTLP_ENDPOINT=" + sink.URL, "OTEL_EXPORTER_OTLP_HEADERS=authorization=canary-collector", "OTEL_BSP_SCHEDULE_DELAY=50"}
	short, err := os.MkdirTemp("", "kf") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	r.socket = filepath.Join(short, "kms.sock")
	on := []string{"--data-dir", filepath.Join(dir, "kms"), "--endpoint", r.socket}
	init := exec.Command(filepath.Join(bin, "keyfold-kms"), append([]string{"init"}, on...)...)
	init.Env = env
	if out, err := init.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	start := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(filepath.Join(bin, name), args...)
		cmd.Env = append(env, "KEYFOLD_LOG=debug,json", "KEYFOLD_KMS_LOG=debug,json")
		cmd.Stdout, cmd.Stderr = &r.logs, &r.logs
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if cmd.ProcessState == nil {
				cmd.Process.Kill()
				cmd.Wait()
			}
		})
		return cmd
	}
	r.keys = start("keyfold-kms", append([]string{"serve"}, on...)...)
	r.await("the key process", func() bool {
		ready := exec.Command(filepath.Join(bin, "keyfold-kms"), "ready", "--endpoint", r.socket)
		ready.Env = env
		return ready.Run() == nil
	})
	r.server = start("keyfold", "dev", "--addr", "127.0.0.1:0", "--data", dir, "--kms", "unix://"+r.socket)
	var said struct {
		URL   string `json:"url"`
		Key   string `json:"api_key"`
		Admin string `json:"admin_key"`
	}
	r.await("the server", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "dev.json"))
		return err == nil && json.Unmarshal(text, &said) == nil
	})
	r.url, r.key, r.admin = said.URL, said.Key, said.Admin
	return r
}

func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	for until := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(until) {
			r.t.Fatalf("waited in vain: %s\n%s", what, r.logs.String())
		}
	}
}

// stop ends both processes in order.
func (r *rig) stop() {
	for _, cmd := range []*exec.Cmd{r.server, r.keys} {
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			r.t.Errorf("%s: %v", cmd.Path, err)
		}
	}
}

// ask makes a request; headers are "Name: value".
func (r *rig) ask(key, method, path, body string, headers ...string) (int, map[string]any) {
	r.t.Helper()
	req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+key)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]any{}
	_ = json.Unmarshal(text, &out)
	if res.StatusCode > 299 {
		r.refused.Write(text)
	}
	return res.StatusCode, out
}

// get is ask for what succeeds.
func (r *rig) get(key, method, path, body string, headers ...string) map[string]any {
	r.t.Helper()
	status, out := r.ask(key, method, path, body, headers...)
	if status < 200 || status > 299 {
		r.t.Fatalf("%s %s = %d %v", method, path, status, out)
	}
	return out
}

// metrics are those of the server and of the key process.
func (r *rig) metrics() string {
	r.t.Helper()
	over := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", r.socket)
	}}}
	var all strings.Builder
	for _, from := range []struct {
		client *http.Client
		url    string
	}{{http.DefaultClient, r.url + "/admin/debug/prometheus"}, {&over, "http://kms/metrics"}} {
		req, err := http.NewRequest("GET", from.url, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+r.admin)
		res, err := from.client.Do(req)
		if err != nil {
			r.t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 {
			r.t.Fatal(res.Status, err)
		}
		all.Write(text)
	}
	return all.String()
}

// use does some of everything, and returns what nobody may read afterwards.
func (r *rig) use() (secrets map[string]string) {
	t := r.t
	t.Helper()
	key := cmek.Generate()
	raw := base64.StdEncoding.EncodeToString(key.Bytes())
	secrets = map[string]string{
		"value": "canary-value-81f2", "path": "canary-path-81f2", "vault's name": "canary-vault-81f2", "body": "canary-body-81f2", "title": "canary-title-81f2",
		"API key": r.key, "admin key": r.admin, "wrong key": "1ck_canarywrongkey81f2", "CMEK key": raw, "collector's credential": "canary-collector", "query": "canary-query-81f2",
	}
	vault := r.get(r.key, "POST", "/v1/vaults", `{"name":"canary-vault-81f2"}`)["id"].(string)
	r.get(r.key, "PUT", "/v1/vaults/"+vault+"/secrets/canary-path-81f2", `{"value":"canary-value-81f2","type":"password"}`)
	r.get(r.key, "GET", "/v1/vaults/"+vault+"/secrets/canary-path-81f2?x=canary-query-81f2", "")
	r.ask(r.key, "GET", "/v1/vaults/"+vault+"/secrets/canary-path-81f2-gone", "")
	r.ask(r.key, "POST", "/v1/vaults/"+vault+"/cmek", `{"canary-value-81f2":`)
	r.ask(r.key, "POST", "/v1/vaults/"+vault+"/cmek-rotate", `{}`, "X-Cmek-Old-Key: "+raw, "X-Cmek-New-Key: "+raw)
	r.ask("1ck_canarywrongkey81f2", "GET", "/v1/vaults", "")
	r.ask(r.key, "GET", "/canary-path-81f2", "")
	thread := r.get(r.key, "POST", "/v1/threads", `{"title":"canary-title-81f2"}`)
	id := thread["id"].(string)
	r.get(r.key, "POST", "/v1/threads/"+id+"/messages", `{"role":"user","body":"canary-body-81f2","content":"canary-body-81f2","text":"canary-body-81f2"}`, "X-Request-Id: the-post")
	r.get(r.key, "GET", "/v1/threads/"+id+"/messages", "")
	r.get(r.admin, "POST", "/admin/encryption/rotate-kek", `{"all":true}`, "X-Request-Id: the-rotation")
	r.await("a job that is completed", func() bool { return strings.Contains(r.metrics(), `status="completed"`) })
	return secrets
}

func TestNothingThatIsWatchedHoldsASecret(t *testing.T) {
	r := newRig(t)
	secrets := r.use()
	metrics := r.metrics()
	r.stop()
	_, traces := r.traces.all()
	for where, text := range map[string]string{"metrics": metrics, "logs": r.logs.String(), "traces": traces, "refusals": r.refused.String()} {
		if len(text) < 100 {
			t.Errorf("there are no %s", where)
		}
		for what, secret := range secrets {
			for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
				if strings.Contains(text, form) {
					i := strings.Index(text, form)
					t.Errorf("the %s hold the %s: ...%s", where, what, text[max(0, i-200):i])
				}
			}
		}
	}
}

func TestOneTraceSpansBothProcesses(t *testing.T) {
	r := newRig(t)
	r.use()
	r.stop()
	spans, _ := r.traces.all()
	named := func(service, name string) (span, map[string]span) {
		byID := map[string]span{}
		var found span
		for _, s := range spans {
			byID[s.SpanID] = s
			if s.Service == service && s.Name == name {
				found = s
			}
		}
		return found, byID
	}
	encrypt, byID := named("keyfold-kms", "POST /encrypt")
	var way []string
	for s, ok := encrypt, encrypt.SpanID != ""; ok; s, ok = byID[s.Parent] {
		way = append(way, s.Service+": "+s.Name)
		if s.TraceID != encrypt.TraceID {
			t.Errorf("%s is of another trace", s.Name)
		}
	}
	want := []string{"keyfold-kms: POST /encrypt", "keyfold: kms batch", "keyfold: kms encrypt", "keyfold: messages together", "keyfold: POST /v1/threads/{thread}/messages"}
	if !slices.Equal(way, want) {
		t.Errorf("from the key process up:\n%s\nwant\n%s", strings.Join(way, "\n"), strings.Join(want, "\n"))
	}
	for _, name := range []string{"store commit", "store get", "job batch"} {
		if s, _ := named("keyfold", name); s.SpanID == "" {
			t.Errorf("no span %q of the server", name)
		}
	}
	if s, _ := named("keyfold-kms", "store get"); s.SpanID == "" {
		t.Error("no span of the key process's store")
	}
	found := 0
	for line := range strings.Lines(r.logs.String()) {
		if strings.Contains(line, `"the-post"`) && strings.Contains(line, `"trace_id":"`) {
			found++
		}
	}
	if found < 2 { // of the server, and of the key process
		t.Errorf("%d lines of the logs are of the post", found)
	}
}

var (
	series   = regexp.MustCompile(`(?m)^([a-z_:]+)(?:\{([^}]*(?:\{[^}]*\}[^}]*)*)\})? `)
	family   = regexp.MustCompile(`(?m)^# TYPE (keyfold_[a-z_]+) `)
	labelled = regexp.MustCompile(`([a-z]+)="`)
	metric   = regexp.MustCompile(`keyfold_[a-z0-9_]+`)
	recorded = regexp.MustCompile(`keyfold:[a-z0-9_:]+`)
)

// rare are metrics that are there only while a job runs, or after one.
var rare = map[string][]string{
	"keyfold_job_last_failure_timestamp_seconds": {"kind"}, "keyfold_job_oldest_age_seconds": {"kind"}, "keyfold_job_idle_seconds": {"kind"},
	"keyfold_job_processed": {"kind"}, "keyfold_job_failed": {"kind"}, "keyfold_job_total": {"kind"}, "keyfold_kms_job_units": {"kind", "of"}, "keyfold_kms_jobs": {"kind", "status"},
}

// shown is what both processes show: families, each with its labels.
func shown(text string) map[string][]string {
	all := maps.Clone(rare)
	for _, m := range family.FindAllStringSubmatch(text, -1) {
		all[m[1]] = nil
	}
	for _, m := range series.FindAllStringSubmatch(text, -1) {
		name := m[1]
		for _, end := range []string{"_bucket", "_sum", "_count"} {
			if base := strings.TrimSuffix(name, end); base != name {
				if _, ok := all[base]; ok {
					name = base
				}
			}
		}
		if _, ok := all[name]; !ok {
			continue
		}
		for _, l := range labelled.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" && !slices.Contains(all[name], l[1]) {
				all[name] = append(all[name], l[1])
			}
		}
	}
	return all
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestDashboardAlertsAndPageSpeakOfWhatIsThere(t *testing.T) {
	r := newRig(t)
	r.use()
	all := shown(r.metrics())
	rules := read(t, "deploy/observability/rules.yml")
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "deploy/observability/keyfold-dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{"rules.yml": rules, "alerts.yml": read(t, "deploy/observability/alerts.yml"), "alerts_test.yml": read(t, "deploy/observability/alerts_test.yml")}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			texts["the panel "+p.Title] += target.Expr + "\n"
		}
	}
	selector := regexp.MustCompile(`(keyfold_[a-z0-9_]+)\{([^}]*(?:\{thread\}[^}]*)?)\}`)
	for where, text := range texts {
		for _, name := range metric.FindAllString(text, -1) {
			base := name
			for _, end := range []string{"_bucket", "_sum", "_count"} {
				base = strings.TrimSuffix(base, end)
			}
			_, ok := all[name]
			if _, okBase := all[base]; !ok && !okBase {
				t.Errorf("%s speaks of %s, which nobody shows", where, name)
			}
		}
		for _, name := range recorded.FindAllString(text, -1) {
			if !strings.Contains(rules, "record: "+name+"\n") {
				t.Errorf("%s speaks of %s, which no rule records", where, name)
			}
		}
		for _, m := range selector.FindAllStringSubmatch(text, -1) {
			base := m[1]
			for _, end := range []string{"_bucket", "_sum", "_count"} {
				if b := strings.TrimSuffix(base, end); b != base && all[b] != nil {
					base = b
				}
			}
			for _, l := range regexp.MustCompile(`([a-z]+)(?:=~|!=|!~|=)"`).FindAllStringSubmatch(m[2], -1) {
				if !slices.Contains(append(slices.Clone(all[base]), "job", "instance", "le"), l[1]) {
					t.Errorf("%s selects %s by %s; it has %v", where, m[1], l[1], all[base])
				}
			}
		}
	}
	documented(t, all)
}

// documented holds docs/observability.md to all that is shown, with its labels, and
// to a runbook for each alert.
func documented(t *testing.T, all map[string][]string) {
	t.Helper()
	page := read(t, "docs/observability.md")
	told := map[string][]string{}
	for line := range strings.Lines(page) {
		cells := strings.Split(line, "|")
		if len(cells) < 5 || !strings.Contains(cells[1], "`keyfold_") {
			continue
		}
		labels := []string{}
		for _, l := range regexp.MustCompile("`([a-z]+)`").FindAllStringSubmatch(cells[2], -1) {
			labels = append(labels, l[1])
		}
		for _, name := range metric.FindAllString(cells[1], -1) {
			told[name] = labels
		}
	}
	for name, labels := range all {
		of, ok := told[name]
		slices.Sort(of)
		slices.Sort(labels)
		if !ok || len(labels) > 0 && !slices.Equal(of, labels) {
			t.Errorf("docs/observability.md tells of %s the labels %v (%v); it has %v", name, of, ok, labels)
		}
	}
	for name := range told {
		if _, ok := all[name]; !ok {
			t.Errorf("docs/observability.md tells of %s, which nobody shows", name)
		}
	}
	for _, m := range regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(read(t, "deploy/observability/alerts.yml"), -1) {
		if !strings.Contains(page, "\n### "+m[1]+"\n") {
			t.Errorf("no runbook for %s", m[1])
		}
		if !strings.Contains(read(t, "deploy/observability/alerts.yml"), "docs/observability.md#"+strings.ToLower(m[1])+"\n") {
			t.Errorf("%s does not name its runbook", m[1])
		}
		if !strings.Contains(read(t, "deploy/observability/alerts_test.yml"), "alertname: "+m[1]) {
			t.Errorf("%s has no test", m[1])
		}
	}
}

// The page shows the part of prometheus.yml that is about the servers, which uses their token.
func TestThePageShowsHowTheServersAreScraped(t *testing.T) {
	page, config := read(t, "docs/observability.md"), read(t, "deploy/observability/prometheus.yml")
	_, block, _ := strings.Cut(page, "```yaml\n")
	block, _, _ = strings.Cut(block, "```")
	if !strings.Contains(block, "credentials_file: /etc/prometheus/keyfold-metrics.token") || !strings.Contains(config, block) {
		t.Errorf("prometheus.yml lacks what docs/observability.md shows:\n%s", block)
	}
}

func TestTheRulesAreWhatPrometheusTakes(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("promtool is not there: apt-get install prometheus")
		}
		t.Skip("promtool is not there: apt-get install prometheus")
	}
	for _, args := range [][]string{{"check", "rules", "rules.yml", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}, {"check", "config", "--syntax-only", "prometheus.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = "../../deploy/observability"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}
