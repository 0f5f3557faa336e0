package tracing

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/keyfold/keyfold/internal/fault"
)

const canary = "canary-3e1f"

// collector is a collector of traces, and its spans by name.
type collector struct {
	*httptest.Server
	mu     sync.Mutex
	spans  map[string]span
	bodies bytes.Buffer
	header http.Header
}

func newCollector(t *testing.T) *collector {
	c := &collector{spans: map[string]span{}}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		defer c.mu.Unlock()
		var in export
		if r.URL.Path != "/v1/traces" || json.Unmarshal(body, &in) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.header = r.Header
		c.bodies.Write(body)
		for _, s := range in.ResourceSpans[0].ScopeSpans[0].Spans {
			c.spans[s.Name] = s
		}
	}))
	t.Cleanup(c.Close)
	return c
}

func env(pairs ...string) func(string) string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return func(name string) string { return m[name] }
}

func newTest(t *testing.T, c *collector, more ...string) *Tracer {
	t.Helper()
	tr, err := New("keyfold", "test", env(append(more, "OTEL_EXPORTER_OTLP_ENDPOINT", c.URL)...), slog.New(slog.DiscardHandler))
	if err != nil || tr == nil {
		t.Fatal(tr, err)
	}
	return tr
}

func (s span) attrs() map[string]string {
	m := map[string]string{}
	for _, a := range s.Attributes {
		if a.Value.String != nil {
			m[a.Key] = *a.Value.String
		} else {
			m[a.Key] = *a.Value.Int
		}
	}
	return m
}

func TestARequestAndWhatItCallsAreOneTrace(t *testing.T) {
	c := newCollector(t)
	tr := newTest(t, c, "OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Bearer%20x")
	r := httptest.NewRequest("GET", "/v1/"+canary, nil)
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	r.Header.Set("tracestate", "x="+canary)
	ctx, root := tr.StartRequest(r, "req-1")
	in, inner := Start(ctx, "store get", Operation("get"))
	trace.SpanFromContext(in).SetAttributes(attribute.String("path", canary)) // whoever puts it there
	inner.End(fault.Wrap(fault.Unavailable, errors.New(canary), "%s", canary))
	h := http.Header{}
	Inject(in, h)
	root.EndRequest("GET", "/v1/{x}", 503, errors.New(canary))
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	get, req := c.spans["store get"], c.spans["GET /v1/{x}"]
	if req.TraceID != "0af7651916cd43dd8448eb211c80319c" || req.Parent != "b7ad6b7169203331" || req.Kind != 2 || req.Status.Code != failed {
		t.Errorf("the request: %+v", req)
	}
	if got := req.attrs(); got["http.route"] != "/v1/{x}" || got["http.response.status_code"] != "503" || got["keyfold.request_id"] != "req-1" || got["error.type"] != "internal" {
		t.Errorf("the request says %v", got)
	}
	if get.TraceID != req.TraceID || get.Parent != req.SpanID || get.attrs()["error.type"] != "unavailable" {
		t.Errorf("what it calls: %+v", get)
	}
	if want := "00-" + req.TraceID + "-" + get.SpanID + "-01"; h.Get("traceparent") != want || h.Get("tracestate") != "" {
		t.Errorf("on the wire: %v, want %s alone", h, want)
	}
	if strings.Contains(c.bodies.String(), canary) {
		t.Errorf("a span tells too much: %s", c.bodies.String())
	}
	if c.header.Get("Authorization") != "Bearer x" || !strings.Contains(c.bodies.String(), `{"key":"service.name","value":{"stringValue":"keyfold"}}`) {
		t.Errorf("%v %s", c.header, c.bodies.String())
	}
}

func TestABatchIsUnderItsFirstCallerAndLinkedToTheOthers(t *testing.T) {
	c := newCollector(t)
	tr := newTest(t, c)
	a, one := tr.Start(t.Context(), "one")
	b, two := tr.Start(t.Context(), "two")
	ctx, batch := JoinedCall(t.Context(), []Origin{{}, OriginOf(WithRequestID(a, "r1")), OriginOf(WithRequestID(b, "r2,r3")), OriginOf(t.Context())}, "batch", Callers(4))
	if SpanOf(ctx) == (Span{}) || RequestID(ctx) != "r1,r2,r3" {
		t.Errorf("the context has no span, or not all IDs: %s", RequestID(ctx))
	}
	many, _ := Joined(t.Context(), slices.Repeat([]Origin{OriginOf(ctx)}, 10), "x")
	if n := strings.Count(RequestID(many), ","); n != MaxRequestIDs-1 {
		t.Errorf("%d commas", n)
	}
	batch.End(nil)
	one.End(nil)
	two.End(nil)
	if err := tr.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := c.spans["batch"]
	if got.Parent != c.spans["one"].SpanID || len(got.Links) != 1 || got.Links[0].SpanID != c.spans["two"].SpanID || got.attrs()["keyfold.callers"] != "4" {
		t.Errorf("%+v", got)
	}
}

func TestAJoiningProcessBeginsNoTrace(t *testing.T) {
	c := newCollector(t)
	tr := newTest(t, c)
	defer tr.Close(t.Context())
	r := httptest.NewRequest("GET", "/", nil)
	if _, s := tr.Joining().StartRequest(r, "x"); s != (Span{}) {
		t.Error("a span of a request without a trace")
	}
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	if _, s := tr.Joining().StartRequest(r, "x"); s == (Span{}) {
		t.Error("no span of a request with one")
	}
}

func TestWithoutATracerNothingHappens(t *testing.T) {
	var tr *Tracer
	ctx, s := tr.Joining().StartRequest(httptest.NewRequest("GET", "/", nil), "x")
	ctx, job := tr.Start(ctx, "job batch")
	ctx, inner := Start(ctx, "x", Items(1))
	ctx, call := Call(ctx, "x")
	ctx, batch := JoinedCall(ctx, []Origin{OriginOf(ctx), {}}, "x")
	h := http.Header{}
	Inject(ctx, h)
	s.EndRequest("GET", "/", 200, nil)
	for _, s := range []Span{s, job, inner, call, batch} {
		s.End(errors.New("x"))
	}
	if err := tr.Close(ctx); err != nil || len(h) != 0 {
		t.Error(err, h)
	}
}

func TestTheEnvironmentSaysWhereTracesGo(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want string // "": off; "!": an error that has the rest
	}{
		{nil, ""},
		{[]string{"OTEL_TRACES_EXPORTER", "none", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1"}, ""},
		{[]string{"OTEL_SDK_DISABLED", "TRUE", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:1"}, ""},
		{[]string{"OTEL_TRACES_EXPORTER", "otlp"}, "http://localhost:4318/v1/traces"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "https://c:1/in/"}, "https://c:1/in/v1/traces"},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:1/here", "OTEL_EXPORTER_OTLP_ENDPOINT", "http://d:1"}, "http://c:1/here"},
		{[]string{"OTEL_TRACES_EXPORTER", "zipkin"}, "!OTEL_TRACES_EXPORTER"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "c:1"}, "!OTEL_EXPORTER_OTLP_ENDPOINT"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:" + canary + "@c:1"}, "!OTEL_EXPORTER_OTLP_ENDPOINT"},
		{[]string{"OTEL_TRACES_EXPORTER", "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, "!http/json"},
		{[]string{"OTEL_TRACES_EXPORTER", "otlp", "OTEL_EXPORTER_OTLP_HEADERS", canary}, "!OTEL_EXPORTER_OTLP_HEADERS"},
		{[]string{"OTEL_TRACES_EXPORTER", "otlp", "OTEL_EXPORTER_OTLP_TIMEOUT", "0"}, "!OTEL_EXPORTER_OTLP_TIMEOUT"},
		{[]string{"OTEL_TRACES_EXPORTER", "otlp", "OTEL_EXPORTER_OTLP_CERTIFICATE", "/nowhere"}, "!OTEL_EXPORTER_OTLP_CERTIFICATE"},
	} {
		e, err := newExporter(env(c.env...))
		got := ""
		switch {
		case err != nil:
			got = "!" + err.Error()
		case e != nil:
			got = e.url
		}
		if fails := strings.HasPrefix(c.want, "!"); fails && (!strings.HasPrefix(got, "!") || !strings.Contains(got, c.want[1:])) || !fails && got != c.want || strings.Contains(got, canary) {
			t.Errorf("%v: %q, want %q", c.env, got, c.want)
		}
	}
}

func TestLinesOfTheLogFindTheirRequestAndTrace(t *testing.T) {
	c := newCollector(t)
	tr := newTest(t, c)
	defer tr.Close(t.Context())
	var out bytes.Buffer
	log := Logger(slog.New(slog.NewJSONHandler(&out, nil))).With("a", "b")
	ctx, span := tr.Start(WithRequestID(t.Context(), "req-1"), "x")
	defer span.End(nil)
	log.InfoContext(ctx, "one")
	log.InfoContext(ctx, "two", "request_id", "own")
	log.InfoContext(context.Background(), "three")
	lines := strings.Split(out.String(), "\n")
	id := trace.SpanContextFromContext(ctx).TraceID().String()
	for i, want := range []string{`"a":"b","request_id":"req-1","trace_id":"` + id + `"}`, `"a":"b","request_id":"own","trace_id":"` + id + `"}`, `"msg":"three","a":"b"}`} {
		if !strings.HasSuffix(lines[i], want) {
			t.Errorf("%s\nhas no %s", lines[i], want)
		}
	}
}

// BenchmarkStart shows what a span costs: off, which is the default, not recorded,
// and recorded.
func BenchmarkStart(b *testing.B) {
	run := func(ctx context.Context) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				_, s := Start(ctx, "store get", Operation("get"))
				s.End(nil)
			}
		}
	}
	ctx := WithRequestID(WithRequestID(context.Background(), "a"), "b")
	b.Run("off", run(ctx))
	for _, sampler := range []sdk.Sampler{sdk.NeverSample(), sdk.AlwaysSample()} {
		tr := newTracer(sdk.NewTracerProvider(sdk.WithSampler(sampler)))
		traced, _ := tr.Start(ctx, "x")
		b.Run(sampler.Description(), run(traced))
	}
}
