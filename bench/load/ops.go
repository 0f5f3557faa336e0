package main

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// target is the server that a run is made against.
type target struct {
	url, key string
}

// shape is what the flags say of a run's data.
type shape struct {
	connections int
	size        int  // bytes of a secret's value or a message's body
	secrets     int  // how many secrets are read
	paths       int  // how many paths each connection writes to in turn; 0: a new one each time
	threads     int  // how many threads are written to or read
	messages    int  // how many messages each thread that is read holds
	page        int  // messages per page
	batch       int  // items in a request to the key process
	deks        int  // DEKs of threads in its store
	sealed      bool // the vault has a CMEK key and the values are blobs
}

// rotate is the operation of rotate.go.
const rotate = "cmek-rotate"

// external after an operation's name asks for the key process outside the server.
const external = "-external"

// ops are the operations, each with what sets it up through the API.
var ops = map[string]func(target, shape) (workload, error){
	"healthz":      healthz,
	"secret-put":   secretPut,
	"secret-get":   secretGet,
	"message-post": messagePost,
	"message-list": messageList,
}

func healthz(target, shape) (workload, error) {
	req := request("GET", "/healthz", "", nil)
	return workload{next: func(int, int) []byte { return req }}, nil
}

// call makes one request with in, nil for no body, and decodes the answer.
func call(t target, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	return send(t.url, method+" "+path, request(method, path, t.key, body), out)
}

// send sends one request over a connection of its own and decodes the answer.
func send(url, what string, req []byte, out any) error {
	c, err := dial(url, time.Now().Add(patience))
	if err != nil {
		return err
	}
	defer c.c.Close()
	status, answer, err := c.do(req)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if status < 200 || status > 299 {
		return fmt.Errorf("%s: status %d: %.300s", what, status, answer)
	}
	return json.Unmarshal(answer, out)
}

// text is n characters that do not compress well.
func text(n int) string {
	b := make([]byte, n)
	rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)[:n]
}

func newVault(t target, s shape) (id string, err error) {
	var v struct {
		ID string `json:"id"`
	}
	if err := call(t, "POST", "/v1/vaults", map[string]string{"name": "bench"}, &v); err != nil {
		return "", err
	}
	if s.sealed {
		fingerprint := map[string]string{"fingerprint": hex.EncodeToString([]byte(text(32)))}
		err = call(t, "POST", "/v1/vaults/"+v.ID+"/cmek", fingerprint, &struct{}{})
	}
	return v.ID, err
}

// value is a secret's value: text, or what has the shape of its blob.
func (s shape) value() string {
	if !s.sealed {
		return text(s.size)
	}
	return base64.StdEncoding.EncodeToString([]byte("\x01" + text(12+s.size+16)))
}

// puts writes secrets; path is where the counter is patched in.
func puts(t target, s shape, vault, value string) workload {
	body, _ := json.Marshal(map[string]string{"value": value, "type": "generic"})
	reqs := make([][]byte, s.connections)
	const digits = "0000000000"
	at := 0
	for w := range reqs {
		path := fmt.Sprintf("/v1/vaults/%s/secrets/c%04d/s", vault, w)
		reqs[w] = request("PUT", path+digits, t.key, body)
		at = len("PUT ") + len(path)
	}
	return workload{least: 1, next: func(worker, i int) []byte {
		if s.paths > 0 {
			i %= s.paths
		}
		for d := at + len(digits) - 1; d >= at; d-- {
			reqs[worker][d] = byte('0' + i%10)
			i /= 10
		}
		return reqs[worker]
	}}
}

func secretPut(t target, s shape) (workload, error) {
	vault, err := newVault(t, s)
	if err != nil {
		return workload{}, err
	}
	w := puts(t, s, vault, s.value())
	w.check = func(body []byte) error {
		var got struct {
			Path    string `json:"path"`
			Version int    `json:"version"`
		}
		if err := json.Unmarshal(body, &got); err != nil || got.Path == "" || got.Version < 1 {
			return fmt.Errorf("not a secret's metadata: %.300s", body)
		}
		return nil
	}
	return w, nil
}

func secretGet(t target, s shape) (workload, error) {
	vault, err := newVault(t, s)
	if err != nil {
		return workload{}, err
	}
	value := s.value()
	per := max(1, s.secrets/s.connections)
	if err := fill(t.url, puts(t, s, vault, value), s.connections, per); err != nil {
		return workload{}, err
	}
	reqs := make([][]byte, 0, s.connections*per)
	for i := range per {
		for w := range s.connections {
			reqs = append(reqs, request("GET", fmt.Sprintf("/v1/vaults/%s/secrets/c%04d/s%010d", vault, w, i), t.key, nil))
		}
	}
	return workload{
		least: len(value),
		next:  func(worker, i int) []byte { return reqs[(worker*per+i)%len(reqs)] },
		check: func(body []byte) error {
			var got struct {
				Value string `json:"value"`
			}
			if err := json.Unmarshal(body, &got); err != nil || got.Value != value {
				return fmt.Errorf("not the value that was put: %.300s", body)
			}
			return nil
		},
	}, nil
}

func newThreads(t target, n int) ([]string, error) {
	ids := make([]string, n)
	for i := range ids {
		var th struct {
			ID string `json:"id"`
		}
		if err := call(t, "POST", "/v1/threads", map[string]string{"title": fmt.Sprintf("bench %d", i)}, &th); err != nil {
			return nil, err
		}
		ids[i] = th.ID
	}
	return ids, nil
}

type message struct {
	ID   string `json:"id"`
	Body string `json:"body"`
}

// posts writes messages to the threads in turn.
func posts(t target, threads []string, body string) workload {
	b, _ := json.Marshal(map[string]string{"body": body})
	reqs := make([][]byte, len(threads))
	for i, id := range threads {
		reqs[i] = request("POST", "/v1/threads/"+id+"/messages", t.key, b)
	}
	return workload{
		least: len(body),
		next:  func(worker, i int) []byte { return reqs[(worker+i)%len(reqs)] },
		check: func(answer []byte) error {
			var got message
			if err := json.Unmarshal(answer, &got); err != nil || got.ID == "" || got.Body != body {
				return fmt.Errorf("not the message that was posted: %.300s", answer)
			}
			return nil
		},
	}
}

func messagePost(t target, s shape) (workload, error) {
	threads, err := newThreads(t, s.threads)
	return posts(t, threads, text(s.size)), err
}

// messageList reads pages from all over the threads: the newest page of each
// and the one before each of its pages.
func messageList(t target, s shape) (workload, error) {
	threads, err := newThreads(t, s.threads)
	if err != nil {
		return workload{}, err
	}
	body := text(s.size)
	total := s.threads * s.messages
	if err := fill(t.url, posts(t, threads, body), s.connections, total/s.connections); err != nil {
		return workload{}, err
	}
	var reqs [][]byte
	for _, id := range threads {
		pages, err := pagesOf(t, id, s.page)
		if err != nil {
			return workload{}, err
		}
		reqs = append(reqs, pages...)
	}
	return workload{
		least: s.page * s.size,
		next:  func(worker, i int) []byte { return reqs[(worker*31+i)%len(reqs)] },
		check: func(answer []byte) error {
			got, err := decodePage(answer)
			if err == nil && len(got) != s.page {
				err = fmt.Errorf("a page of %d messages", len(got))
			}
			for _, m := range got {
				if m.Body != body {
					err = errors.New("a message differs from what was posted")
				}
			}
			return err
		},
	}, nil
}

// pagesOf walks a thread backwards and is the requests for all its full pages.
func pagesOf(t target, thread string, page int) (reqs [][]byte, err error) {
	before := ""
	for {
		path := fmt.Sprintf("/v1/threads/%s/messages?limit=%d%s", thread, page, before)
		var raw json.RawMessage
		if err := call(t, "GET", path, nil, &raw); err != nil {
			return nil, err
		}
		got, err := decodePage(raw)
		if err != nil || len(got) < page {
			return reqs, err
		}
		reqs = append(reqs, request("GET", path, t.key, nil))
		before = "&before=" + got[0].ID
	}
}

// decodePage is a page's messages, which must be in order.
func decodePage(answer []byte) ([]message, error) {
	var got struct {
		Messages []message `json:"messages"`
	}
	if err := json.Unmarshal(answer, &got); err != nil {
		return nil, err
	}
	for i := 1; i < len(got.Messages); i++ {
		if strings.Compare(got.Messages[i-1].ID, got.Messages[i].ID) >= 0 {
			return nil, errors.New("a page that is not in order")
		}
	}
	return got.Messages, nil
}
