package thread

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsclient"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"pgregory.net/rapid"
)

// kmsWay is how servers reach the KMS, as KEYFOLD_TEST_KMS says: "socket", "mtls", or
// as a part of their process.
type kmsWay struct {
	where    string
	dir      string // of the socket, or of certificates
	endpoint string
	server   *kmsserver.Server
	client   *kmsclient.Client
	served   chan error
}

func newKMSWay(t *rapid.T) (w kmsWay) {
	w.where = os.Getenv("KEYFOLD_TEST_KMS")
	var err error
	switch w.where {
	case "socket", "mtls":
		w.dir, err = os.MkdirTemp("", "kf") // short: the path of a socket may not be long
		w.endpoint = filepath.Join(w.dir, "kms.sock")
	}
	if err == nil && w.where == "mtls" {
		w.endpoint = "127.0.0.1:0"
		err = kmsserver.MakeTLS(w.dir)
	}
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *kmsWay) file(name string) string { return filepath.Join(w.dir, name) }

// open has keys answer, and returns what servers call.
func (w *kmsWay) open(t *rapid.T, keys *kms.Service) KMS {
	if w.dir == "" {
		return keys
	}
	own := uint32(os.Geteuid())
	caller, to := kmsserver.Caller{UID: &own}, kmsclient.Config{Endpoint: "unix://" + w.endpoint, Retry: time.Minute}
	var files *kmsserver.TLSFiles
	if w.where == "mtls" {
		caller = kmsserver.Caller{Name: "keyfold-server"}
		files = &kmsserver.TLSFiles{Cert: w.file("server.crt"), Key: w.file("server.key"), CA: w.file("ca.crt")}
	}
	caller.Roles = kmsserver.Crypto | kmsserver.Admin
	server, err := kmsserver.New(kmsserver.Config{KMS: keys, Callers: []kmsserver.Caller{caller}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := server.Listen(w.endpoint, files)
	if err != nil {
		t.Fatal(err)
	}
	if w.where == "mtls" {
		w.endpoint = ln.Addr().String()
		to.Endpoint = "https://" + w.endpoint
		to.TLS, err = kmsclient.LoadTLS(w.file("keyfold-server.crt"), w.file("keyfold-server.key"), w.file("ca.crt"))
	}
	if err == nil {
		w.client, err = kmsclient.New(to)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.server, w.served = server, make(chan error, 1)
	go func() { w.served <- server.Serve(ln) }()
	return w.client
}

// close ends the listener and all connections, as the end of a process does.
func (w *kmsWay) close() {
	if w.server == nil {
		return
	}
	over, cancel := context.WithCancel(context.Background())
	cancel() // calls under way are cut off
	w.client.Close()
	w.server.Close(over)
	<-w.served
	w.server = nil
}

func (w *kmsWay) remove() {
	if w.dir != "" {
		os.RemoveAll(w.dir)
	}
}
