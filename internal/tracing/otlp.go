package tracing

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/go-json-experiment/json"
	"go.opentelemetry.io/otel/attribute"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// exporter sends spans to a collector as OTLP/HTTP in JSON, the form that
// https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding describes: IDs
// are hex, 64-bit numbers are strings, enums are numbers.
//
//	POST /v1/traces
//	{"resourceSpans":[{"resource":{"attributes":[...]},"scopeSpans":[{"scope":{"name":"..."},"spans":[
//	 {"traceId":"5b8e...","spanId":"eee1...","parentSpanId":"...","name":"GET /v1/vaults","kind":2,"startTimeUnixNano":"1","endTimeUnixNano":"2",
//	  "attributes":[{"key":"http.route","value":{"stringValue":"/v1/vaults"}}],"links":[...],"status":{"code":2}}]}]}]}
//
// A batch that the collector does not take is dropped: traces are to wait for nobody.
type exporter struct {
	url    string
	header http.Header // of each request; may hold credentials
	client *http.Client
}

type (
	export struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   attributes   `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	scopeSpans struct {
		Scope scopeName `json:"scope"`
		Spans []span    `json:"spans"`
	}
	scopeName struct {
		Name string `json:"name"`
	}
	attributes struct {
		Attributes []keyValue `json:"attributes,omitempty"`
	}
	keyValue struct {
		Key   string   `json:"key"`
		Value anyValue `json:"value"`
	}
	anyValue struct {
		String *string `json:"stringValue,omitzero"`
		Int    *string `json:"intValue,omitzero"`
	}
	span struct {
		TraceID    string     `json:"traceId"`
		SpanID     string     `json:"spanId"`
		Parent     string     `json:"parentSpanId,omitzero"`
		Name       string     `json:"name"`
		Kind       int        `json:"kind"`
		Start      string     `json:"startTimeUnixNano"`
		End        string     `json:"endTimeUnixNano"`
		Attributes []keyValue `json:"attributes,omitempty"`
		Links      []linked   `json:"links,omitempty"`
		Status     status     `json:"status,omitzero"`
	}
	linked struct {
		TraceID string `json:"traceId"`
		SpanID  string `json:"spanId"`
	}
	status struct {
		Code int `json:"code"`
	}
)

// failed is the status code of a span that failed.
const failed = 2

// ExportSpans is the SDK's: it is called by one goroutine, with a batch.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	body, err := json.Marshal(encoded(spans))
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("the collector's address cannot be used")
	}
	req.Header = e.header
	resp, err := e.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is kept
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answered %d", resp.StatusCode)
	}
	return nil
}

// Shutdown is the SDK's.
func (e *exporter) Shutdown(context.Context) error {
	e.client.CloseIdleConnections()
	return nil
}

// encoded is spans, which are of one resource: the process.
func encoded(spans []sdk.ReadOnlySpan) export {
	out := scopeSpans{Scope: scopeName{scope}, Spans: make([]span, len(spans))}
	for i, s := range spans {
		out.Spans[i] = encodedSpan(s)
	}
	of := attributes{keyValuesOf(spans[0].Resource().Attributes(), func(attribute.Key) bool { return true })}
	return export{[]resourceSpans{{of, []scopeSpans{out}}}}
}

func encodedSpan(s sdk.ReadOnlySpan) span {
	out := span{
		TraceID: s.SpanContext().TraceID().String(), SpanID: s.SpanContext().SpanID().String(), Name: s.Name(), Kind: kinds[s.SpanKind()],
		Start: strconv.FormatInt(s.StartTime().UnixNano(), 10), End: strconv.FormatInt(s.EndTime().UnixNano(), 10),
		Attributes: keyValuesOf(s.Attributes(), func(k attribute.Key) bool { return allowed[k] }),
	}
	if s.Parent().HasSpanID() {
		out.Parent = s.Parent().SpanID().String()
	}
	for _, l := range s.Links() {
		out.Links = append(out.Links, linked{l.SpanContext.TraceID().String(), l.SpanContext.SpanID().String()})
	}
	if s.Status().Code == 1 { // codes.Error; OTLP numbers them otherwise
		out.Status.Code = failed
	}
	return out
}

// kinds are OTLP's numbers.
var kinds = map[trace.SpanKind]int{trace.SpanKindInternal: 1, trace.SpanKindServer: 2, trace.SpanKindClient: 3}

// keyValuesOf is those of attrs whose keys may leave. There are texts and whole numbers.
func keyValuesOf(attrs []attribute.KeyValue, may func(attribute.Key) bool) (out []keyValue) {
	for _, a := range attrs {
		if !may(a.Key) {
			continue
		}
		v := anyValue{}
		text := a.Value.String()
		if a.Value.Type() == attribute.INT64 {
			v.Int = &text
		} else {
			v.String = &text
		}
		out = append(out, keyValue{string(a.Key), v})
	}
	return out
}
