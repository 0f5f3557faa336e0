package tracing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// New returns a Tracer as the OTEL_ variables of the environment say, nil when
// they name no collector: see docs/observability.md. Samplers and the sizes of
// batches are the SDK's own variables. The errors are for the operator.
func New(service, version string, getenv func(string) string, log *slog.Logger) (*Tracer, error) {
	out, err := newExporter(getenv)
	if out == nil || err != nil {
		return nil, err
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { log.Warn("spans were not sent", "error", err) }))
	as, err := resource.New(context.Background(),
		resource.WithAttributes(attribute.String("service.name", service), attribute.String("service.version", version)), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	return newTracer(sdk.NewTracerProvider(sdk.WithResource(as), sdk.WithBatcher(out))), nil
}

// of is the variable of traces, or else that of all signals.
func of(getenv func(string) string, name string) string {
	if v := getenv("OTEL_EXPORTER_OTLP_TRACES_" + name); v != "" {
		return v
	}
	return getenv("OTEL_EXPORTER_OTLP_" + name)
}

// newExporter is nil where the environment asks for no traces.
func newExporter(getenv func(string) string) (*exporter, error) {
	kind := getenv("OTEL_TRACES_EXPORTER")
	to, err := endpoint(getenv)
	switch {
	case strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true"), kind == "none", kind == "" && to == nil && err == nil:
		return nil, nil
	case kind != "" && kind != "otlp":
		return nil, errors.New("OTEL_TRACES_EXPORTER is otlp or none")
	case err != nil:
		return nil, err
	case to == nil:
		to = &url.URL{Scheme: "http", Host: "localhost:4318", Path: "/v1/traces"}
	}
	if p := of(getenv, "PROTOCOL"); p != "" && p != "http/json" {
		return nil, errors.New("OTEL_EXPORTER_OTLP_PROTOCOL is http/json: traces are sent in no other form; collectors take it at the port of http/protobuf")
	}
	e := &exporter{url: to.String(), header: http.Header{"Content-Type": {"application/json"}}}
	if err := headers(e.header, of(getenv, "HEADERS")); err != nil {
		return nil, err
	}
	timeout := 10 * time.Second
	if text := of(getenv, "TIMEOUT"); text != "" {
		ms, err := strconv.Atoi(text)
		if err != nil || ms <= 0 {
			return nil, errors.New("OTEL_EXPORTER_OTLP_TIMEOUT is a number of milliseconds")
		}
		timeout = time.Duration(ms) * time.Millisecond
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if transport.TLSClientConfig, err = trusted(of(getenv, "CERTIFICATE")); err != nil {
		return nil, err
	}
	e.client = &http.Client{Timeout: timeout, Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return e, nil
}

// endpoint is where traces go: that of traces as it is, that of all signals with
// the path of traces behind it. nil: neither is set.
func endpoint(getenv func(string) string) (*url.URL, error) {
	name, text := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
	if text == "" {
		name = "OTEL_EXPORTER_OTLP_ENDPOINT"
		if text = getenv(name); text == "" {
			return nil, nil
		}
		text = strings.TrimRight(text, "/") + "/v1/traces"
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fmt.Errorf("%s is http://HOST:PORT or https://HOST:PORT; credentials go into OTEL_EXPORTER_OTLP_HEADERS", name)
	}
	return u, nil
}

// headers reads "name=value,name=value", values percent-encoded. They may be
// credentials: no error quotes them.
func headers(to http.Header, text string) error {
	for pair := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !ok || err != nil || strings.TrimSpace(name) == "" {
			return errors.New("OTEL_EXPORTER_OTLP_HEADERS is NAME=VALUE, with commas between, values percent-encoded")
		}
		to.Set(strings.TrimSpace(name), value)
	}
	return nil
}

// trusted trusts the CA in a PEM file, "" for those of the system.
func trusted(file string) (*tls.Config, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(pem) {
		err = errors.New("there is no certificate in it")
	}
	if err != nil {
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_CERTIFICATE: %w", err)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
