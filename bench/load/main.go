// Command load measures a Keyfold server over HTTP, in a closed loop: so many
// connections, each sending its next request when the last one is answered.
//
//	go run ./bench/load -serve bin/keyfold -op message-post
//	go run ./bench/load -dev-json keyfold-data/dev.json -pid 4711 -op secret-get -json
//	go run ./bench/load -table bench/out/*.json
//
// It shares the machine with the server, so it is made to cost little: request
// bytes are made before, sent over persistent TCP connections, and an answer is
// read for its status and length alone; the first answer on each connection is
// decoded and compared. What it cost is in its report. But for kms-client, which
// measures our own client of the key process, it shares no code with the server,
// and it trusts nothing that the server says: every answer must be
// a 2xx, complete, and as long as the data that it must hold.
//
// It makes its own vault, secrets, threads and messages through the API and
// leaves them there. With -serve it starts `dev` on a directory of its own and
// removes it.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

type options struct {
	shape
	target
	op, devJSON, serve, dir, echoAddr string
	pid, kmsPID, rounds               int // kmsPID is 0 when the key process is inside the server
	duration, warmup                  time.Duration
	dbCPU                             func() time.Duration // what the database has used; nil: there is none
	json, table                       bool
}

func parse() options {
	var o options
	names := append(slices.Sorted(maps.Keys(ops)), append(slices.Sorted(maps.Keys(kmsOps)), "kms-client", "kms-deks", rotate, "echo", "fsync", "start")...)
	flag.StringVar(&o.op, "op", "", "what to do: "+strings.Join(names, ", ")+"; with -serve also NAME"+external)
	flag.StringVar(&o.url, "url", "", "the server, as http://host:port")
	flag.StringVar(&o.key, "api-key", os.Getenv("KEYFOLD_API_KEY"), "bearer key (default $KEYFOLD_API_KEY)")
	flag.StringVar(&o.devJSON, "dev-json", "", "take URL and key from this dev.json")
	flag.StringVar(&o.serve, "serve", "", "start this keyfold binary in dev mode, on a fresh directory")
	flag.StringVar(&o.dir, "dir", "", "where -serve and fsync make their directories (default: the system's place for temporary files)")
	flag.IntVar(&o.pid, "pid", 0, "the server's process, to measure its CPU and memory; known with -serve")
	flag.IntVar(&o.connections, "connections", 32, "connections")
	flag.IntVar(&o.size, "size", 1024, "bytes of a value or a message body")
	flag.DurationVar(&o.duration, "duration", 10*time.Second, "measured time")
	flag.DurationVar(&o.warmup, "warmup", 2*time.Second, "time before it that is not counted")
	flag.IntVar(&o.secrets, "secrets", 10_000, "secret-get: how many secrets to read from; cmek-rotate: how many versions to rotate")
	flag.IntVar(&o.paths, "paths", 0, "secret-put: paths that each connection writes to in turn; 0: always a new one")
	flag.BoolVar(&o.sealed, "sealed", false, "secret-put, secret-get: the vault has a CMEK key, values have the shape of blobs")
	flag.IntVar(&o.threads, "threads", 16, "message-post, message-list: threads")
	flag.IntVar(&o.messages, "messages", 2000, "message-list: messages in each thread")
	flag.IntVar(&o.page, "page", 50, "message-list: messages in a page")
	flag.IntVar(&o.batch, "batch", 100, "kms-encrypt-batch, kms-decrypt-batch: items in a request")
	flag.IntVar(&o.deks, "deks", 1_000_000, "kms-deks: DEKs of threads to make before")
	flag.IntVar(&o.rounds, "rounds", 1, "measure so often and report the median round; with -serve each has a server of its own")
	flag.BoolVar(&o.json, "json", false, "print the result as JSON")
	flag.BoolVar(&o.table, "table", false, "print a table of the results in the files given")
	flag.StringVar(&o.echoAddr, "echo-server", "", "only serve the echo reference on this address")
	flag.Parse()
	return o
}

func main() {
	if err := run(parse()); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	switch {
	case o.table:
		all, err := readResults(flag.Args())
		table(os.Stdout, all)
		return err
	case o.echoAddr != "":
		return echoServer(o.echoAddr)
	}
	r, err := median(o, measure)
	if err != nil {
		return fmt.Errorf("%s: %w", o.op, err)
	}
	if o.json {
		enc := json.NewEncoder(os.Stdout)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		table(os.Stdout, []*result{r})
	}
	if err == nil && r.Errors > 0 {
		err = fmt.Errorf("%s: %d errors; the first: %s", o.op, r.Errors, r.FirstError)
	}
	return err
}

// median measures o.rounds times and returns the round of median throughput.
// A round with errors is returned at once.
func median(o options, measure func(options) (*result, error)) (*result, error) {
	var all []*result
	var rates []float64
	rounds := max(1, o.rounds)
	if o.op == "start" { // which starts often enough by itself
		rounds = 1
	}
	for range rounds {
		r, err := measure(o)
		if err != nil || r.Errors > 0 {
			return r, err
		}
		all, rates = append(all, r), append(rates, r.PerSecond)
	}
	slices.SortFunc(all, func(a, b *result) int { return cmp.Compare(a.PerSecond, b.PerSecond) })
	r := all[len(all)/2]
	r.Rounds = rates
	return r, nil
}

var errNoOp = errors.New("no such operation; see -help for -op")

func measure(o options) (*result, error) {
	dir, err := os.MkdirTemp(o.dir, "keyfold-load-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	switch o.op {
	case "start":
		return measureStart(o, dir)
	case "fsync":
		r := newResult(o.op, shape{connections: 1, size: 4096})
		r.observe(o, func(win window) *tally { return fsyncLoop(dir, win) })
		return r, nil
	case "echo":
		return measureEcho(o, dir)
	}
	if strings.HasPrefix(o.op, "kms-") {
		return measureKMS(o, dir)
	}
	name, outside := strings.CutSuffix(o.op, external)
	setUp, ok := ops[name]
	run := func(o options) (*result, error) { return measureTarget(o, setUp) }
	switch {
	case name == rotate:
		run = measureRotation
	case !ok:
		return nil, errNoOp
	}
	if o.serve != "" {
		return measureServed(o, dir, outside, run)
	}
	if outside || name == rotate {
		return nil, errors.New("the operation needs -serve BINARY")
	}
	if o.devJSON != "" {
		if o.target, err = readDev(o.devJSON); err != nil {
			return nil, err
		}
	}
	return run(o)
}

// measureServed runs against a server of its own, with the key process outside or not.
func measureServed(o options, dir string, outside bool, run func(options) (*result, error)) (*result, error) {
	kms := "embedded"
	if outside {
		kms = "external"
	}
	s, err := serve(o.serve, filepath.Join(dir, "data"), "--kms", kms)
	if err != nil {
		return nil, err
	}
	if outside {
		if o.kmsPID, err = childOf(s.cmd.Process.Pid); err != nil {
			return nil, errors.Join(err, s.stop())
		}
	}
	return s.measured(o, run)
}

func measureTarget(o options, setUp func(target, shape) (workload, error)) (*result, error) {
	r := newResult(o.op, o.shape)
	w, err := setUp(o.target, o.shape)
	if err != nil {
		return nil, fmt.Errorf("setting up: %w", err)
	}
	r.observe(o, func(win window) *tally { return drive(o.url, w, o.connections, win) })
	return r, nil
}

// measureEcho runs the shape of a POST against the bare handler.
func measureEcho(o options, dir string) (*result, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	s, err := launch(os.Args[0], "http://"+addr, filepath.Join(dir, "log"), "-echo-server", addr)
	if err != nil {
		return nil, err
	}
	body, _ := json.Marshal(map[string]string{"body": text(o.size)})
	req := request("POST", "/", "", body)
	w := workload{least: len(body), next: func(int, int) []byte { return req }}
	return s.measured(o, func(o options) (*result, error) {
		return measureTarget(o, func(target, shape) (workload, error) { return w, nil })
	})
}

// observe runs load in a window that begins after the warm-up and measures
// all processes over the window.
func (r *result) observe(o options, load func(window) *tally) {
	start := time.Now().Add(o.warmup)
	win := window{start, start.Add(o.duration)}
	done := make(chan *tally, 1)
	go func() { done <- load(win) }()
	time.Sleep(time.Until(win.start))
	server0, err := cpuTime(o.pid)
	kms0, _ := cpuTime(o.kmsPID)
	own0, db0 := ownCPU(), time.Duration(0)
	if o.dbCPU != nil {
		db0 = o.dbCPU()
	}
	time.Sleep(time.Until(win.end))
	server1, _ := cpuTime(o.pid)
	kms1, _ := cpuTime(o.kmsPID)
	own1, db1 := ownCPU(), db0
	if o.dbCPU != nil {
		db1 = o.dbCPU()
	}
	r.ServerRSS, r.KMSRSS = rss(o.pid), rss(o.kmsPID)
	r.take(<-done, o.duration.Seconds())
	r.GeneratorCPU, r.DatabaseCPU = r.perRequest(own1-own0), r.perRequest(db1-db0)
	if err == nil {
		both := server1 - server0 + kms1 - kms0
		r.ServerCPU, r.KMSCPU = r.perRequest(both), r.perRequest(kms1-kms0)
		r.ServerCores = both.Seconds() / o.duration.Seconds()
	}
}

// measureStart starts the server ten times: on five fresh directories, and
// once more on each.
func measureStart(o options, dir string) (*result, error) {
	r := newResult(o.op, shape{})
	info, err := os.Stat(o.serve)
	if err != nil {
		return nil, fmt.Errorf("the operation needs -serve BINARY: %w", err)
	}
	r.BinaryBytes = info.Size()
	for i := range 5 {
		data := filepath.Join(dir, fmt.Sprint("data", i))
		for _, took := range []*[]float64{&r.StartMS, &r.RestartMS} {
			s, err := serve(o.serve, data)
			if err != nil {
				return nil, err
			}
			time.Sleep(time.Second)
			r.IdleRSS = max(r.IdleRSS, rss(s.cmd.Process.Pid))
			*took = append(*took, float64(s.started.Microseconds())/1e3)
			if err := s.stop(); err != nil {
				return nil, err
			}
		}
	}
	return r, nil
}
