package vault

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// engines runs bench on a Service over each engine.
func engines(b *testing.B, bench func(b *testing.B, s *Service, vaultID string)) {
	pebble, err := pebblestore.Open(b.TempDir(), pebblestore.Options{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { pebble.Close() })
	for name, engine := range map[string]store.Store{"mem": memstore.New(), "pebble": pebble} {
		b.Run(name, func(b *testing.B) {
			s := New(Config{Store: engine, KMS: newKMS(b), Gate: new(accesstest.Gate)})
			v, err := s.Create(b.Context(), owner, api.CreateVault{Name: "bench"})
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			bench(b, s, v.ID)
		})
	}
}

var kib = strings.Repeat("x", 1024)

func BenchmarkPut(b *testing.B) {
	engines(b, func(b *testing.B, s *Service, vaultID string) {
		for i := 0; b.Loop(); i++ {
			if _, err := s.Put(b.Context(), owner, vaultID, fmt.Sprintf("p/%d", i%1000), api.PutSecret{Value: &kib}, PutOptions{}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkRead(b *testing.B) {
	engines(b, func(b *testing.B, s *Service, vaultID string) {
		for i := range 1000 {
			if _, err := s.Put(b.Context(), owner, vaultID, fmt.Sprintf("p/%d", i), api.PutSecret{Value: &kib}, PutOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		for i := 0; b.Loop(); i++ {
			if _, err := s.Read(b.Context(), owner, vaultID, fmt.Sprintf("p/%d", i%1000)); err != nil {
				b.Fatal(err)
			}
		}
	})
}
