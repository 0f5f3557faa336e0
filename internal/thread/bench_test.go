package thread

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
)

// kib is a body of 1 KiB.
var kib = json.RawMessage(`"` + strings.Repeat("k", 1022) + `"`)

func BenchmarkPost(b *testing.B) {
	w := newWorld(b)
	thread := w.thread(b, owner, "t").ID
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Post(b.Context(), owner, thread, api.PostMessage{Body: kib}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkListMessages50(b *testing.B) {
	w := newWorld(b)
	thread := w.thread(b, owner, "t").ID
	for range 200 {
		w.post(b, owner, thread, api.PostMessage{Body: kib})
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.ListMessages(b.Context(), owner, thread, MessageQuery{Limit: 50}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkListThreads50(b *testing.B) {
	w := newWorld(b)
	for range 200 {
		w.thread(b, owner, "a title")
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.List(b.Context(), owner, ListQuery{Limit: 50}); err != nil {
			b.Fatal(err)
		}
	}
}
