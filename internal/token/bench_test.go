package token

import (
	"testing"
	"time"
)

func BenchmarkVerify(b *testing.B) {
	w := newWorld(b)
	s := New(Config{Store: w.store.Store, Now: w.now, Box: w.box, Log: w.log})
	text := w.issue(s, time.Hour)
	w.lives(s, text)
	for name, forget := range map[string]bool{"cached": false, "uncached": true} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if forget {
					s.cache.young = nil
				}
				if _, err := s.Verify(b.Context(), text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkIssue(b *testing.B) {
	w := newWorld(b)
	b.ReportAllocs()
	for b.Loop() {
		w.issue(w.Service, time.Hour)
	}
}
