package vault

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/job"
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

// BenchmarkRotate rotates a vault of 10,000 versions of 1 KiB; versions/s is the
// figure.
func BenchmarkRotate(b *testing.B) {
	engines(b, func(b *testing.B, s *Service, vaultID string) {
		const versions = 10_000
		keys := []*cmek.Key{cmek.Generate(), cmek.Generate()}
		if _, err := s.EnableCMEK(b.Context(), owner, vaultID, api.EnableCMEK{Fingerprint: keys[0].Fingerprint()}); err != nil {
			b.Fatal(err)
		}
		value, err := cmek.EncryptValue(keys[0], []byte(kib))
		if err != nil {
			b.Fatal(err)
		}
		for i := range versions {
			if _, err := s.Put(b.Context(), owner, vaultID, fmt.Sprintf("p/%d", i%1000), api.PutSecret{Value: &value}, PutOptions{}); err != nil {
				b.Fatal(err)
			}
		}
		jobs := job.New(job.Config{Store: s.store, Kinds: []job.Kind{s.RotationKind()}})
		defer jobs.Close()
		r := NewRotations(s, jobs)
		for b.Loop() {
			j, err := r.Rotate(b.Context(), owner, vaultID, api.RotateCMEK{NewFingerprint: keys[1].Fingerprint()}, RotationKeys{keys[0].Bytes(), keys[1].Bytes()})
			if err != nil {
				b.Fatal(err)
			}
			if done, err := jobs.Wait(b.Context(), j.ID); err != nil || done.Processed != versions {
				b.Fatalf("%+v, %v", done, err)
			}
			slices.Reverse(keys)
		}
		b.ReportMetric(float64(versions*b.N)/b.Elapsed().Seconds(), "versions/s")
	})
}
