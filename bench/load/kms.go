package main

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsclient"
)

// kmsOps are operations of the key process, for which -serve names the binary
// keyfold-kms. Each connection uses a thread's DEK of its own.
var kmsOps = map[string]func(target, shape) (workload, error){
	"kms-healthz":       healthz,
	"kms-encrypt":       kmsEncrypt,
	"kms-decrypt":       kmsDecrypt,
	"kms-encrypt-batch": kmsEncryptBatch,
	"kms-decrypt-batch": kmsDecryptBatch,
	"kms-seal":          kmsSeal,
}

// serveKMS starts `binary serve` on a fresh directory and socket.
func serveKMS(binary, dir string) (*server, error) {
	dir, err := filepath.Abs(dir) // a socket's URL has no other path
	if err != nil {
		return nil, err
	}
	data := filepath.Join(dir, "kms")
	if out, err := exec.Command(binary, "init", "--data-dir", data).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("init: %w: %s", err, out)
	}
	return launch(binary, "unix://"+filepath.Join(dir, "s"), filepath.Join(dir, "log"), "serve", "--data-dir", data, "--endpoint", filepath.Join(dir, "s"))
}

func measureKMS(o options, dir string) (*result, error) {
	s, err := serveKMS(o.serve, dir)
	if err != nil {
		return nil, err
	}
	return s.measured(o, func(o options) (*result, error) {
		switch o.op {
		case "kms-client":
			return measureClient(o, o.connections)
		case "kms-deks":
			return measureClient(o, o.deks)
		}
		setUp, ok := kmsOps[o.op]
		if !ok {
			return nil, errNoOp
		}
		r, err := measureTarget(o, setUp)
		if err == nil && strings.HasSuffix(o.op, "-batch") {
			r.Items = o.batch
		}
		return r, err
	})
}

// newDEKs makes n DEKs of threads over JSON.
func newDEKs(t target, n int) (ids []string, err error) {
	for done := 0; done < n; done += 1000 {
		var in []map[string]string
		for i := done; i < min(n, done+1000); i++ {
			in = append(in, map[string]string{"thread_id": fmt.Sprintf("thread-%07d", i)})
		}
		var out []struct {
			KeyID string `json:"key_id"`
		}
		if err := call(t, "POST", "/create_dek_for_thread", in, &out); err != nil {
			return nil, err
		}
		for _, d := range out {
			ids = append(ids, d.KeyID)
		}
	}
	return ids, nil
}

// each makes a workload of one request per connection.
func each(t target, s shape, contentType, path string, least int, body func(keyID string) ([]byte, error)) (workload, error) {
	ids, err := newDEKs(t, s.connections)
	if err != nil {
		return workload{}, err
	}
	reqs := make([][]byte, s.connections)
	for i, id := range ids {
		b, err := body(id)
		if err != nil {
			return workload{}, err
		}
		reqs[i] = requestOf(contentType, "POST", path, "", b)
	}
	return workload{least: least, next: func(worker, _ int) []byte { return reqs[worker] }}, nil
}

var kmsAAD = []byte("a context of forty-seven bytes, as the server's.")

func kmsEncrypt(t target, s shape) (workload, error) {
	plaintext := []byte(text(s.size))
	return each(t, s, "application/json", "/encrypt", base64.StdEncoding.EncodedLen(s.size+28), func(id string) ([]byte, error) {
		return json.Marshal(map[string]any{"key_id": id, "plaintext": plaintext, "aad": kmsAAD})
	})
}

// encrypted is plaintext under a DEK.
func encrypted(t target, keyID string, plaintext []byte) ([]byte, error) {
	var out struct {
		Ciphertext []byte `json:"ciphertext"`
	}
	err := call(t, "POST", "/encrypt", map[string]any{"key_id": keyID, "plaintext": plaintext, "aad": kmsAAD}, &out)
	return out.Ciphertext, err
}

func kmsDecrypt(t target, s shape) (workload, error) {
	plaintext := []byte(text(s.size))
	return each(t, s, "application/json", "/decrypt", base64.StdEncoding.EncodedLen(s.size), func(id string) ([]byte, error) {
		ciphertext, err := encrypted(t, id, plaintext)
		b, err2 := json.Marshal(map[string]any{"key_id": id, "ciphertext": ciphertext, "aad": kmsAAD})
		return b, errors.Join(err, err2)
	})
}

func kmsSeal(t target, s shape) (workload, error) {
	plaintext := []byte(text(s.size))
	if err := call(t, "POST", "/create_kek", map[string]string{"kek_id": "bench"}, &struct{}{}); err != nil {
		return workload{}, err
	}
	body, err := json.Marshal(map[string]any{"kek_id": "bench", "plaintext": plaintext, "aad": kmsAAD})
	req := request("POST", "/seal", "", body)
	return workload{least: base64.StdEncoding.EncodedLen(s.size + 28), next: func(int, int) []byte { return req }}, err
}

// field appends a protobuf field of bytes.
func field(b []byte, number int, value []byte) []byte {
	b = binary.AppendUvarint(b, uint64(number)<<3|2)
	return append(binary.AppendUvarint(b, uint64(len(value))), value...)
}

// items is a request of n times the same item.
func items(n int, keyID string, data []byte) (b []byte) {
	item := field(field(field(nil, 1, []byte(keyID)), 2, data), 3, kmsAAD)
	for range n {
		b = field(b, 1, item)
	}
	return b
}

func kmsEncryptBatch(t target, s shape) (workload, error) {
	plaintext := []byte(text(s.size))
	return each(t, s, "application/x-protobuf", "/encrypt", s.batch*(s.size+28), func(id string) ([]byte, error) {
		return items(s.batch, id, plaintext), nil
	})
}

func kmsDecryptBatch(t target, s shape) (workload, error) {
	plaintext := []byte(text(s.size))
	return each(t, s, "application/x-protobuf", "/decrypt", s.batch*s.size, func(id string) ([]byte, error) {
		ciphertext, err := encrypted(t, id, plaintext)
		return items(s.batch, id, ciphertext), err
	})
}

// encryptAll has goroutines make single calls through our client, each with
// the next of its key IDs.
func encryptAll(c *kmsclient.Client, o options, ids []string, win window) *tally {
	plaintext := []byte(text(o.size))
	return workers(o.connections, func(worker int, t *tally) {
		for i := worker; ; i += o.connections {
			begin := time.Now()
			if begin.After(win.end) {
				return
			}
			out, err := c.Encrypt(context.Background(), []kmsapi.EncryptItem{{KeyID: ids[i%len(ids)], Plaintext: plaintext, AAD: kmsAAD}})
			if err == nil {
				err = out[0].Err
			}
			if err == nil && len(out[0].Ciphertext) != o.size+28 {
				err = errors.New("an answer of the wrong length")
			}
			if err != nil {
				t.merge(&tally{errors: 1, first: err})
			} else if !begin.Before(win.start) {
				t.latency.add(time.Since(begin))
			}
		}
	})
}

// workingSet is how many of its DEKs a run uses at the most.
const workingSet = 10_000

// measureClient fills the key store with DEKs and then uses some of them.
func measureClient(o options, deks int) (*result, error) {
	ids, err := newDEKs(o.target, deks)
	if err != nil {
		return nil, err
	}
	c, err := kmsclient.New(kmsclient.Config{Endpoint: o.url})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := newResult(o.op, o.shape)
	ids = ids[:min(workingSet, len(ids))]
	r.observe(o, func(win window) *tally { return encryptAll(c, o, ids, win) })
	return r, nil
}
