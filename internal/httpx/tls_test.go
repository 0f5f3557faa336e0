package httpx

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestACertificateThatEndsSoonIsNamedOnceADay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cert.pem")
	synctest.Test(t, func(t *testing.T) {
		const day = 24 * time.Hour
		var log strings.Builder
		end := time.Now().Add(10 * day)
		c, err := FollowTLS([]string{file}, func() (*tls.Config, error) {
			return &tls.Config{Certificates: []tls.Certificate{{Leaf: &x509.Certificate{NotAfter: end}}}}, nil
		}, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		shakes := func(wait time.Duration, soon, expired int) {
			t.Helper()
			log.Reset()
			time.Sleep(wait)
			for range 3 {
				if _, err := c.GetConfigForClient(nil); err != nil {
					t.Error(err)
				}
			}
			if n, m := strings.Count(log.String(), "the TLS certificate expires soon"), strings.Count(log.String(), "the TLS certificate has expired"); n != soon || m != expired {
				t.Errorf("%d and %d lines, want %d and %d:\n%s", n, m, soon, expired, &log)
			}
		}
		shakes(0, 0, 0)
		shakes(2*day, 0, 0)
		shakes(day, 1, 0)
		shakes(time.Hour, 0, 0)
		shakes(day, 1, 0)
		shakes(6*day, 0, 1)
		end = time.Now().Add(100 * day)
		if err := os.WriteFile(file, []byte("new"), 0o600); err != nil {
			t.Fatal(err)
		}
		shakes(day, 0, 0)
	})
}

func TestACertificateThatHasExpiredIsNamedAtTheStart(t *testing.T) {
	var log strings.Builder
	_, err := FollowTLS(nil, func() (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{{Leaf: &x509.Certificate{NotAfter: time.Now().Add(-time.Second)}}}}, nil
	}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil || !strings.Contains(log.String(), "the TLS certificate has expired") {
		t.Errorf("%v, %s", err, &log)
	}
}
