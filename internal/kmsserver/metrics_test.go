package kmsserver

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfold/keyfold/internal/kmsapi"
)

func TestMetricsCountWhatWasDone(t *testing.T) {
	reg := prometheus.NewRegistry()
	own := prometheus.NewCounter(prometheus.CounterOpts{Name: "of_another_package", Help: "x"})
	reg.MustRegister(own)
	r := newRig(t, func(c *Config) { c.Metrics = reg })
	client := r.client(cryptoUID)
	r.do(client, "POST /encrypt", "", `[{"key_id":"k","plaintext":"`+b64(canary)+`"},{"key_id":"k","plaintext":""},{"key_id":"missing","plaintext":""}]`)
	r.do(client, "POST /encrypt", "", `{"key_id":"missing","plaintext":"`+b64(canary)+`"}`)
	overProtobuf(r, kmsapi.Decrypt, kmsapi.DecryptItem{KeyID: canary, Ciphertext: []byte(canary)})
	r.do(client, "GET /jobs", "", "")
	r.do(client, "GET /"+canary, "", "")
	r.do(r.client(strangerUID), "GET /healthz", "", "")
	a := r.do(r.client(noRoleUID), "GET /metrics", "", "")
	if a.status != 200 || !strings.HasPrefix(a.header.Get("Content-Type"), "text/plain") {
		t.Fatalf("%d %v", a.status, a.header)
	}
	for _, line := range []string{
		`keyfold_kms_requests_total{code="200",route="/encrypt"} 1`,
		`keyfold_kms_requests_total{code="404",route="/encrypt"} 1`,
		`keyfold_kms_requests_total{code="404",route="none"} 1`,
		`keyfold_kms_requests_total{code="403",route="/jobs"} 1`,
		`keyfold_kms_items_total{outcome="ok",route="/encrypt"} 2`,
		`keyfold_kms_items_total{outcome="not_found",route="/encrypt"} 2`,
		`keyfold_kms_items_total{outcome="ok",route="/decrypt"} 1`,
		`keyfold_kms_batch_items_sum{route="/encrypt"} 4`,
		`keyfold_kms_request_seconds_count{route="/encrypt"} 2`,
		`keyfold_kms_refused_total 2`,
		`keyfold_kms_connections `,
		`keyfold_kms_connections_ended_total 0`,
		`of_another_package 0`,
	} {
		if !strings.Contains(a.body, "\n"+line) {
			t.Errorf("%s is not there", line)
		}
	}
	for _, secret := range []string{canary, b64(canary), "uid:"} {
		if strings.Contains(a.body, secret) {
			t.Errorf("%q is in the metrics", secret)
		}
	}
	if t.Failed() {
		t.Log(a.body)
	}
}
