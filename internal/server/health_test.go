package server

import (
	"testing"

	"github.com/keyfold/keyfold/api"
)

// With several key processes health counts those that answer, and names none.
func TestHealthCountsKeyProcesses(t *testing.T) {
	for n, want := range map[int]string{1: "degraded", 2: "healthy"} {
		h := health{several: func() (int, int) { return n, 2 }}
		if out, err := h.status(t.Context(), nil); err != nil || out.KeyProcesses != (api.KeyProcesses{Answering: n, Of: 2}) || out.Status != want {
			t.Errorf("with %d of 2: %+v, %v", n, out, err)
		}
		if out, err := h.ready(t.Context(), nil); err != nil || out.Status != "ok" || out.KeyProcesses.Answering != n {
			t.Errorf("ready with %d of 2: %+v, %v", n, out, err)
		}
	}
	if out, err := (health{}).status(t.Context(), nil); err != nil || out.Status != "healthy" || out.KeyProcesses.Of != 0 {
		t.Errorf("with one: %+v, %v", out, err)
	}
}
