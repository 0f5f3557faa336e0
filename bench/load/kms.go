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
	"sync"
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
	o.target, o.pid = s.target, s.cmd.Process.Pid
	var r *result
	switch o.op {
	case "kms-client":
		r, err = measureClient(o)
	case "kms-deks":
		r, err = measureDEKs(o)
	default:
		setUp, ok := kmsOps[o.op]
		if !ok {
			return nil, errors.Join(errors.New("no such operation; see -help for -op"), s.stop())
		}
		if r, err = measureTarget(o, setUp); err == nil && len(o.op) > 6 && o.op[len(o.op)-6:] == "-batch" {
			r.Items = o.batch
		}
	}
	return r, errors.Join(err, s.stop())
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

func kmsDecrypt(t target, s shape) (workload, error) {
	plaintext := []byte(text(s.size))
	return each(t, s, "application/json", "/decrypt", base64.StdEncoding.EncodedLen(s.size), func(id string) ([]byte, error) {
		var out struct {
			Ciphertext []byte `json:"ciphertext"`
		}
		err := call(t, "POST", "/encrypt", map[string]any{"key_id": id, "plaintext": plaintext, "aad": kmsAAD}, &out)
		b, err2 := json.Marshal(map[string]any{"key_id": id, "ciphertext": out.Ciphertext, "aad": kmsAAD})
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

func kmsEncryptBatch(t target, s shape) (workload, error) {
	plaintext := []byte(text(s.size))
	return each(t, s, "application/x-protobuf", "/encrypt", s.batch*(s.size+28), func(id string) (b []byte, err error) {
		item := field(field(field(nil, 1, []byte(id)), 2, plaintext), 3, kmsAAD)
		for range s.batch {
			b = field(b, 1, item)
		}
		return b, nil
	})
}

func kmsDecryptBatch(t target, s shape) (workload, error) {
	plaintext := []byte(text(s.size))
	return each(t, s, "application/x-protobuf", "/decrypt", s.batch*s.size, func(id string) (b []byte, err error) {
		var out struct {
			Ciphertext []byte `json:"ciphertext"`
		}
		if err := call(t, "POST", "/encrypt", map[string]any{"key_id": id, "plaintext": plaintext, "aad": kmsAAD}, &out); err != nil {
			return nil, err
		}
		item := field(field(field(nil, 1, []byte(id)), 2, out.Ciphertext), 3, kmsAAD)
		for range s.batch {
			b = field(b, 1, item)
		}
		return b, nil
	})
}

// encryptAll has goroutines make single calls through our client, each with
// the next of its key IDs.
func encryptAll(c *kmsclient.Client, o options, ids []string, win window) *tally {
	tallies := make([]tally, o.connections)
	plaintext := []byte(text(o.size))
	var wg sync.WaitGroup
	for worker := range o.connections {
		wg.Go(func() {
			t := &tallies[worker]
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
	wg.Wait()
	var all tally
	for i := range tallies {
		all.merge(&tallies[i])
	}
	return &all
}

func measureClient(o options) (*result, error) {
	ids, err := newDEKs(o.target, o.connections)
	if err != nil {
		return nil, err
	}
	return observeClient(o, ids)
}

func observeClient(o options, ids []string) (*result, error) {
	c, err := kmsclient.New(kmsclient.Config{Endpoint: o.url})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	r := newResult(o.op, o.shape)
	r.observe(o, func(win window) *tally { return encryptAll(c, o, ids, win) })
	return r, nil
}

// workingSet is how many of the DEKs kms-deks uses.
const workingSet = 10_000

// measureDEKs fills the key store with DEKs and then uses some of them.
func measureDEKs(o options) (*result, error) {
	ids, err := newDEKs(o.target, o.deks)
	if err != nil {
		return nil, err
	}
	return observeClient(o, ids[:min(workingSet, len(ids))])
}
