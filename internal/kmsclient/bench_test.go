//go:build unix

package kmsclient

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// BenchmarkSingleCalls is 32 goroutines that encrypt 1 KiB at a time, each under
// a key of its own: against a server that does no cryptography, and against the
// KMS. Client and server are this one process.
func BenchmarkSingleCalls(b *testing.B) {
	b.Run("echo", func(b *testing.B) {
		kms, c, _ := rig(b, Config{})
		singleCalls(b, c, func(int) string { return "dek_1" })
		b.ReportMetric(float64(b.N)/float64(kms.calls.Load()), "calls/batch")
	})
	b.Run("kms", func(b *testing.B) {
		c := realKMS(b)
		items := make([]kmsapi.CreateDEKItem, callers)
		for i := range items {
			items[i].ThreadID = fmt.Sprint("thread_", i)
		}
		deks, err := c.CreateDEK(b.Context(), items)
		if err != nil {
			b.Fatal(err)
		}
		singleCalls(b, c, func(i int) string { return deks[i].DEK.KeyID })
	})
}

const callers = 32

// realKMS serves a KMS at a Unix socket.
func realKMS(b *testing.B) *Client {
	root, err := keyring.MemoryRoot()
	if err != nil {
		b.Fatal(err)
	}
	service, err := kms.New(b.Context(), kms.Config{Store: memstore.New(), Root: root})
	if err != nil {
		b.Fatal(err)
	}
	server, err := kmsserver.New(kmsserver.Config{KMS: service})
	if err != nil {
		b.Fatal(err)
	}
	s := &socket{path: filepath.Join(b.TempDir(), "kms.sock")}
	l, err := server.Listen(s.path, nil)
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	b.Cleanup(func() {
		server.Close(context.Background())
		<-done
		service.Close()
	})
	return s.client(b, Config{})
}

func singleCalls(b *testing.B, c *Client, key func(int) string) {
	plaintext := []byte(strings.Repeat("x", 1024))
	aad := []byte("keyfold/message/v1 thread_1 0000000000001-0001 ")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	b.ReportAllocs()
	from := cpu()
	b.ResetTimer()
	for i := range callers {
		all.Go(func() {
			item := []kmsapi.EncryptItem{{KeyID: key(i), Plaintext: plaintext, AAD: aad}}
			for left.Add(-1) >= 0 {
				if r, err := c.Encrypt(ctx, item); err != nil || r[0].Err != nil {
					b.Error(err, r)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
	b.ReportMetric(float64(cpu()-from)/float64(b.N), "cpu-ns/op")
}

// cpu returns the time that this process has worked, client and server.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
