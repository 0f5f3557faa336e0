package external

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// subscriber is a connection on which a thread is followed.
type subscriber struct {
	net.Conn
	got bytes.Buffer
}

// follow begins to follow a thread for an end user and reads as far as the first heartbeat.
func (s *server) follow(key, user, thread string) (*subscriber, error) {
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		return nil, err
	}
	s.t.Cleanup(func() { conn.Close() })
	f := &subscriber{Conn: conn}
	_, err = fmt.Fprintf(conn, "GET /v1/threads/%s/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nX-User-ID: %s\r\n\r\n", thread, key, user)
	if err == nil {
		err = f.await(":\nid: ")
	}
	return f, err
}

// await reads until text has come.
func (f *subscriber) await(text string) error {
	f.SetReadDeadline(time.Now().Add(patience))
	for part := make([]byte, 4096); !bytes.Contains(f.got.Bytes(), []byte(text)); {
		n, err := f.Read(part)
		f.got.Write(part[:n])
		if err != nil {
			return fmt.Errorf("%w after %q", err, f.got.String())
		}
	}
	return nil
}

// as makes a call for an end user and returns the "id" of its answer.
func (s *server) as(key, user, method, path, body string) (string, error) {
	req, err := http.NewRequest(method, s.url+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+key)
	req.Header.Set("X-User-ID", user)
	res, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	var v struct{ ID, Detail string }
	if err := json.NewDecoder(res.Body).Decode(&v); err != nil || v.ID == "" {
		return "", fmt.Errorf("%s %s = %d %s %w", method, path, res.StatusCode, v.Detail, err)
	}
	return v.ID, nil
}

// every calls do for 0 to n-1, some at a time.
func every(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	var wg sync.WaitGroup
	next := make(chan int)
	for range 8 {
		wg.Go(func() {
			for i := range next {
				if err := do(i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
	if t.Failed() {
		t.FailNow()
	}
}

var rssLine = regexp.MustCompile(`(?m)^VmRSS:\s+(\d+) kB`)

// rss is the memory of a process, in bytes.
func rss(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	m := rssLine.FindSubmatch(text)
	if err != nil || m == nil {
		t.Fatal("no VmRSS", err)
	}
	kb, _ := strconv.Atoi(string(m[1]))
	return kb << 10
}

// Two thousand users who each follow a thread of their own, and hear nothing, take
// less than 100 MB of the server's memory; each hears of a post, and all are let go
// when the server closes.
func TestTwoThousandIdleSubscribersTakeLittleMemory(t *testing.T) {
	const subscribers, limit = 2000, 100_000_000
	s := dev(t, shortDir(t), nil)
	text, err := os.ReadFile(filepath.Join(s.dir, "dev.json"))
	if err != nil {
		t.Fatal(err)
	}
	var said struct {
		Key string `json:"backend_key"`
	}
	if err := json.Unmarshal(text, &said); err != nil || said.Key == "" {
		t.Fatal("no backend key", err)
	}
	threads, all := make([]string, subscribers), make([]*subscriber, subscribers)
	user := func(i int) string { return fmt.Sprintf("user-%d", i) }
	every(t, subscribers, func(i int) (err error) {
		threads[i], err = s.as(said.Key, user(i), "POST", "/v1/threads", "{}")
		return err
	})
	before := rss(t, s.cmd.Process.Pid)
	every(t, subscribers, func(i int) (err error) {
		all[i], err = s.follow(said.Key, user(i), threads[i])
		return err
	})
	after := rss(t, s.cmd.Process.Pid)
	t.Logf("%d subscribers take %.1f MB: the server has %.1f MB, and had %.1f MB", subscribers, float64(after-before)/1e6, float64(after)/1e6, float64(before)/1e6)
	if after-before >= limit {
		t.Errorf("%d subscribers take %d bytes", subscribers, after-before)
	}
	every(t, subscribers, func(i int) error {
		_, err := s.as(said.Key, user(i), "POST", "/v1/threads/"+threads[i]+"/messages", fmt.Sprintf(`{"body":"%s-%d"}`, canary, i))
		return err
	})
	every(t, subscribers, func(i int) error { return all[i].await(fmt.Sprintf(`"body":"%s-%d"}`, canary, i)) })
	s.stop()
	every(t, subscribers, func(i int) error { return all[i].await("\r\n0\r\n\r\n") })
	if log := s.output.String(); strings.Contains(log, canary) || strings.Contains(log, said.Key) {
		t.Error("the log holds a message or a key")
	}
}
