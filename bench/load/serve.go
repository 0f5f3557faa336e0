package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// server is a server that this program started.
type server struct {
	target
	cmd     *exec.Cmd
	log     *os.File
	started time.Duration // from exec to the first 200 on /healthz
}

// startLimit is how long a server may take to answer.
const startLimit = 20 * time.Second

// serve starts `binary dev` on a data directory and a free port, with more
// flags, and waits until it answers and its dev.json is there.
func serve(binary, data string, flags ...string) (*server, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s, err := launch(binary, "http://"+addr, data+".log", append([]string{"dev", "--rate", "0", "--data", data, "--addr", addr}, flags...)...)
	if err != nil {
		return nil, err
	}
	for until := time.Now().Add(startLimit); s.key == ""; time.Sleep(time.Millisecond) {
		if s.key, err = keyOf(filepath.Join(data, "dev.json")); err != nil && time.Now().After(until) {
			return nil, errors.Join(err, s.stop())
		}
	}
	return s, nil
}

// launch runs a program that will serve HTTP at url and waits for its /healthz.
func launch(binary, url, logPath string, args ...string) (*server, error) {
	log, err := os.Create(logPath)
	if err != nil {
		return nil, err
	}
	s := &server{target: target{url: url}, cmd: exec.Command(binary, args...), log: log}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for !healthy(s.url) {
		if time.Since(begin) > startLimit {
			return nil, errors.Join(fmt.Errorf("%s does not answer on %s", binary, url), s.stop(), s.tail())
		}
		time.Sleep(time.Millisecond)
	}
	s.started = time.Since(begin)
	return s, nil
}

func healthy(url string) bool {
	c, err := dial(url, time.Now().Add(time.Second))
	if err != nil {
		return false
	}
	defer c.c.Close()
	status, _, err := c.do(request("GET", "/healthz", "", nil))
	return err == nil && status == 200
}

// measured is what run finds at the server, which it stops.
func (s *server) measured(o options, run func(options) (*result, error)) (*result, error) {
	o.target, o.pid = s.target, s.cmd.Process.Pid
	r, err := run(o)
	return r, errors.Join(err, s.stop())
}

// stop ends the server as Ctrl-C does and waits for it.
func (s *server) stop() error {
	defer s.log.Close()
	s.cmd.Process.Signal(os.Interrupt)
	kill := time.AfterFunc(startLimit, func() { s.cmd.Process.Kill() })
	defer kill.Stop()
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("the server ended badly: %w; %w", err, s.tail())
	}
	return nil
}

// tail is the end of what the server printed, as an error.
func (s *server) tail() error {
	b, _ := os.ReadFile(s.log.Name())
	return fmt.Errorf("it printed: %s", b[max(0, len(b)-1000):])
}

// freeAddr is a loopback address that was free a moment ago.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// readDev reads url and api_key of a dev.json.
func readDev(path string) (target, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return target{}, err
	}
	var dev struct {
		URL    string `json:"url"`
		APIKey string `json:"api_key"`
	}
	if err := json.Unmarshal(b, &dev); err != nil || dev.URL == "" || dev.APIKey == "" {
		return target{}, fmt.Errorf("%s holds no url and api_key", path)
	}
	return target{url: strings.TrimSuffix(dev.URL, "/"), key: dev.APIKey}, nil
}

func keyOf(path string) (string, error) {
	t, err := readDev(path)
	return t.key, err
}

// echoServer answers every request with its body: a bare handler of net/http,
// the most that any server built on it can reach on this machine.
func echoServer(addr string) error {
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(body)
	})
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-ended
		os.Exit(0)
	}()
	return http.ListenAndServe(addr, nil)
}
