package kmsclient

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
)

// TLS is a client certificate and the CA of the KMS, in files that may be
// replaced while they are used.
type TLS struct{ cert, key, ca string }

// LoadTLS returns the certificate, key and CA in these PEM files. It fails with
// fault.Invalid when they cannot be read now.
func LoadTLS(cert, key, ca string) (*TLS, error) {
	t := &TLS{cert: cert, key: key, ca: ca}
	_, err := t.config()
	return t, err
}

// config reads the files.
func (t *TLS) config() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(t.cert, t.key)
	if err != nil {
		return nil, fault.Wrap(fault.Invalid, err, "the KMS client's certificate and key cannot be read; give PEM files that belong together")
	}
	pem, err := os.ReadFile(t.ca)
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		return nil, fault.Wrap(fault.Invalid, err, "the CA of the KMS cannot be read; give a PEM file with its certificate")
	}
	return &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, RootCAs: pool}, nil
}

// stamp tells one state of the files from another.
type stamp [3]struct {
	changed time.Time
	size    int64
}

func (t *TLS) stamp() stamp {
	var s stamp
	for i, file := range []string{t.cert, t.key, t.ca} {
		if info, err := os.Stat(file); err == nil {
			s[i].changed, s[i].size = info.ModTime(), info.Size()
		}
	}
	return s
}

// lookEvery is how often the files are looked at.
const lookEvery = time.Second

// wires holds the transport in use. Over TLS another takes its place when the
// files have changed: new calls then get connections with the new
// certificates, and the old connections end with the calls that are on them.
type wires struct {
	current atomic.Pointer[straight]
	files   *TLS // nil: no TLS
	make    func(*tls.Config) *straight
	looked  atomic.Int64 // when, in Unix nanoseconds

	mu    sync.Mutex
	stamp stamp // of the files that current was made from
}

func (w *wires) get(c *Client) *straight {
	if w.files != nil {
		now, last := time.Now().UnixNano(), w.looked.Load()
		if now-last > int64(lookEvery) && w.looked.CompareAndSwap(last, now) {
			if err := w.load(); err != nil {
				c.log.Error("the KMS client keeps its old certificates", "error", err, "cause", fault.Of(err).Unwrap())
			}
		}
	}
	return w.current.Load()
}

// load makes a transport from the files, unless they are those of the current one.
func (w *wires) load() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.files.stamp()
	if w.current.Load() != nil && now == w.stamp {
		return nil
	}
	config, err := w.files.config()
	if err != nil {
		return err
	}
	w.stamp = now
	if old := w.current.Swap(w.make(config)); old != nil {
		old.CloseIdleConnections()
	}
	return nil
}

func (w *wires) close() { w.current.Load().CloseIdleConnections() }
