package allinone

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/tracing"
)

// measured is the KMS with its calls measured, as the server makes them, and as
// spans of the requests that they are for:
//
//	keyfold_kms_client_call_duration_seconds{method}  histogram: with the wait for others that a batch joins
//	keyfold_kms_client_calls_total{method,outcome}    outcome is ok or the fault's code; items that fail alone are none
type measured struct {
	KMS
	seconds *prometheus.HistogramVec
	count   *prometheus.CounterVec
}

func newMeasured(k KMS, reg prometheus.Registerer) *measured {
	m := &measured{k,
		prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "keyfold_kms_client_call_duration_seconds",
			Help: "Time of one call of the key process, as the server sees it.", Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .5, 1, 5, 10}}, []string{"method"}),
		prometheus.NewCounterVec(prometheus.CounterOpts{Name: "keyfold_kms_client_calls_total",
			Help: "Calls of the key process; the outcome is ok or the code of the failure."}, []string{"method", "outcome"}),
	}
	reg.MustRegister(m.seconds, m.count)
	return m
}

// begin begins a call of n items, 0 where it has none; what it returns ends it.
func (m *measured) begin(ctx context.Context, method string, n int) (context.Context, func(error)) {
	start := time.Now()
	attrs := []tracing.Attr{tracing.Method(method)}
	if n > 0 {
		attrs = append(attrs, tracing.Items(n))
	}
	ctx, span := tracing.Call(ctx, "kms "+method, attrs...)
	return ctx, func(err error) {
		m.seconds.WithLabelValues(method).Observe(time.Since(start).Seconds())
		outcome := "ok"
		if err != nil {
			outcome = string(fault.Of(err).Code)
		}
		m.count.WithLabelValues(method, outcome).Inc()
		span.End(err)
	}
}

// measure makes one call of a KMS.
func measure[In, Out any](ctx context.Context, m *measured, method string, n int, do func(context.Context, In) (Out, error), in In) (Out, error) {
	ctx, end := m.begin(ctx, method, n)
	out, err := do(ctx, in)
	end(err)
	return out, err
}

func (m *measured) CreateKEK(ctx context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	return measure(ctx, m, "create_kek", len(ids), m.KMS.CreateKEK, ids)
}

func (m *measured) CreateDEK(ctx context.Context, items []kmsapi.CreateDEKItem) ([]kmsapi.CreateDEKResult, error) {
	return measure(ctx, m, "create_dek_for_thread", len(items), m.KMS.CreateDEK, items)
}

func (m *measured) Encrypt(ctx context.Context, items []kmsapi.EncryptItem) ([]kmsapi.EncryptResult, error) {
	return measure(ctx, m, "encrypt", len(items), m.KMS.Encrypt, items)
}

func (m *measured) Decrypt(ctx context.Context, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	return measure(ctx, m, "decrypt", len(items), m.KMS.Decrypt, items)
}

func (m *measured) Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	return measure(ctx, m, "seal", len(items), m.KMS.Seal, items)
}

func (m *measured) Open(ctx context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	return measure(ctx, m, "open", len(items), m.KMS.Open, items)
}

func (m *measured) Rewrap(ctx context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error) {
	return measure(ctx, m, "rewrap", len(items), m.KMS.Rewrap, items)
}

func (m *measured) RotateKEK(ctx context.Context, r kmsapi.Rotate) (kmsapi.Rotated, error) {
	return measure(ctx, m, "rotate_kek", 0, m.KMS.RotateKEK, r)
}

func (m *measured) ImportKEK(ctx context.Context, raw []byte) (kmsapi.Rotated, error) {
	return measure(ctx, m, "import_kek", 0, m.KMS.ImportKEK, raw)
}

func (m *measured) ListKEKs(ctx context.Context, q kmsapi.ListQuery) (kmsapi.KEKList, error) {
	return measure(ctx, m, "list_keks", 0, m.KMS.ListKEKs, q)
}

func (m *measured) ListDEKs(ctx context.Context, keyIDs []string) (kmsapi.DEKList, error) {
	return measure(ctx, m, "list_deks", len(keyIDs), m.KMS.ListDEKs, keyIDs)
}

func (m *measured) CMEKRotationKey(ctx context.Context, owner string) (kmsapi.CMEKRotationKey, error) {
	return measure(ctx, m, "cmek_rotation_key", 0, m.KMS.CMEKRotationKey, owner)
}

func (m *measured) OpenCMEKRotation(ctx context.Context, o kmsapi.OpenCMEKRotation) (string, error) {
	return measure(ctx, m, "open_cmek_rotation", 0, m.KMS.OpenCMEKRotation, o)
}

func (m *measured) CMEKRotationAlive(ctx context.Context, session string) (bool, error) {
	return measure(ctx, m, "cmek_rotation_alive", 0, m.KMS.CMEKRotationAlive, session)
}

func (m *measured) CloseCMEKRotation(ctx context.Context, session string) error {
	ctx, end := m.begin(ctx, "close_cmek_rotation", 0)
	err := m.KMS.CloseCMEKRotation(ctx, session)
	end(err)
	return err
}

func (m *measured) Reencrypt(ctx context.Context, session string, items []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error) {
	ctx, end := m.begin(ctx, "reencrypt", len(items))
	out, err := m.KMS.Reencrypt(ctx, session, items)
	end(err)
	return out, err
}

func (m *measured) ReleaseKEK(ctx context.Context, kekID string, below uint32) error {
	ctx, end := m.begin(ctx, "release_kek", 0)
	err := m.KMS.ReleaseKEK(ctx, kekID, below)
	end(err)
	return err
}

func (m *measured) ShredDEK(ctx context.Context, keyID string) error {
	ctx, end := m.begin(ctx, "shred_dek", 0)
	err := m.KMS.ShredDEK(ctx, keyID)
	end(err)
	return err
}

// batches measures what goes to an external KMS:
//
//	keyfold_kms_client_batch_items{method}          histogram: items of one request
//	keyfold_kms_client_batch_callers{method}        histogram: calls that one request joins
//	keyfold_kms_client_batches_total{method,outcome}
func batches(reg prometheus.Registerer) func(kmsclient.Batch) {
	sizes := []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}
	items := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "keyfold_kms_client_batch_items", Help: "Items of one request to the key process.", Buckets: sizes}, []string{"method"})
	callers := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "keyfold_kms_client_batch_callers", Help: "Calls that one request to the key process joins.", Buckets: sizes}, []string{"method"})
	count := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "keyfold_kms_client_batches_total",
		Help: "Requests of item calls to the key process; the outcome is ok or the code of the failure."}, []string{"method", "outcome"})
	reg.MustRegister(items, callers, count)
	return func(b kmsclient.Batch) {
		items.WithLabelValues(b.Method).Observe(float64(b.Items))
		callers.WithLabelValues(b.Method).Observe(float64(b.Callers))
		outcome := "ok"
		if b.Err != nil {
			outcome = string(fault.Of(b.Err).Code)
		}
		count.WithLabelValues(b.Method, outcome).Inc()
	}
}
