package kms

import (
	"slices"
	"testing"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

const kib = 1 << 10

// items returns n items of 1 KiB over keys in turn, with an AAD of 47 bytes.
func items(n int, keys ...string) []kmsapi.EncryptItem {
	out := make([]kmsapi.EncryptItem, n)
	for i := range out {
		out[i] = kmsapi.EncryptItem{KeyID: keys[i%len(keys)], Plaintext: make([]byte, kib), AAD: make([]byte, 47)}
	}
	return out
}

func benchEncrypt(b *testing.B, r *rig, s *Service, batch []kmsapi.EncryptItem) {
	b.Helper()
	b.ReportAllocs()
	for b.Loop() {
		out, err := s.Encrypt(ctx, batch)
		r.must(err)
		r.must(out[0].Err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/item")
}

func BenchmarkEncrypt1KiB(b *testing.B) {
	r := newRig(b)
	s := r.start()
	benchEncrypt(b, r, s, items(1, r.createDEK(s, "t").KeyID))
}

func BenchmarkEncrypt1KiBBatch100OneKey(b *testing.B) {
	r := newRig(b)
	s := r.start()
	benchEncrypt(b, r, s, items(100, r.createDEK(s, "t").KeyID))
}

func BenchmarkEncrypt1KiBBatch100Of100Keys(b *testing.B) {
	r := newRig(b)
	s := r.start()
	keys := make([]string, 100)
	for i := range keys {
		keys[i] = r.createDEK(s, "t").KeyID
	}
	benchEncrypt(b, r, s, items(100, keys...))
}

func BenchmarkDecrypt1KiBBatch50(b *testing.B) {
	r := newRig(b)
	s := r.start()
	key := r.createDEK(s, "t").KeyID
	sealed, err := s.Encrypt(ctx, items(50, key))
	r.must(err)
	batch := make([]kmsapi.DecryptItem, len(sealed))
	for i, res := range sealed {
		batch[i] = kmsapi.DecryptItem{KeyID: key, Ciphertext: res.Ciphertext, AAD: make([]byte, 47)}
	}
	b.ReportAllocs()
	for b.Loop() {
		out, err := s.Decrypt(ctx, batch)
		r.must(err)
		r.must(out[0].Err)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(batch)), "ns/item")
}

func BenchmarkDecryptCacheMiss(b *testing.B) {
	r := newRig(b)
	s := r.start(func(c *Config) { c.CacheEntries = 1 })
	keys := []string{r.createDEK(s, "t").KeyID, r.createDEK(s, "t").KeyID}
	var batches [2][]kmsapi.DecryptItem
	for i, key := range keys {
		c := r.encrypt(s, key, string(make([]byte, kib)), "")
		batches[i] = []kmsapi.DecryptItem{{KeyID: key, Ciphertext: c}}
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		out, err := s.Decrypt(ctx, batches[i%2])
		r.must(err)
		r.must(out[0].Err)
	}
}

func BenchmarkSeal1KiB(b *testing.B) {
	r := newRig(b)
	s := r.start()
	r.createKEK(s, "v")
	batch := []kmsapi.SealItem{{KEKID: "v", Plaintext: make([]byte, kib), AAD: make([]byte, 47)}}
	b.ReportAllocs()
	for b.Loop() {
		out, err := s.Seal(ctx, batch)
		r.must(err)
		r.must(out[0].Err)
	}
}

func BenchmarkOpen1KiB(b *testing.B) {
	r := newRig(b)
	s := r.start()
	r.createKEK(s, "v")
	batch := []kmsapi.OpenItem{{Envelope: r.seal(s, "v", string(make([]byte, kib)), "aad"), AAD: []byte("aad")}}
	b.ReportAllocs()
	for b.Loop() {
		out, err := s.Open(ctx, batch)
		r.must(err)
		r.must(out[0].Err)
	}
}

func BenchmarkCreateDEK(b *testing.B) {
	r := newRig(b)
	s := r.start()
	b.ReportAllocs()
	for b.Loop() {
		r.createDEK(s, "t")
	}
}

// benchReencrypt re-encrypts batches of 100 values of 1 KiB.
func benchReencrypt(b *testing.B, style string) {
	r := newRig(b)
	s := r.start()
	r.createKEK(s, "v")
	old, fresh := rawKeys()
	session := r.openRotation(s, askFor(b, "v", old, fresh))
	value := styles[style](b, customerKey(b, old), cmek.Context{VaultID: "v", Path: "p"}, make([]byte, kib))
	items := slices.Repeat([]kmsapi.ReencryptItem{r.item(s, "v", value, "p")}, 100)
	b.ReportAllocs()
	for b.Loop() {
		out := r.reencryptAll(s, session, items...)
		r.must(out[0].Err)
	}
	b.ReportMetric(float64(b.N*len(items))/b.Elapsed().Seconds(), "items/s")
}

func BenchmarkReencrypt1KiBBatch100(b *testing.B)      { benchReencrypt(b, "base64") }
func BenchmarkReencryptHex1KiBBatch100(b *testing.B)   { benchReencrypt(b, "hex") }
func BenchmarkReencryptBound1KiBBatch100(b *testing.B) { benchReencrypt(b, "bound") }
