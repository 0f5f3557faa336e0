package external

import (
	"fmt"
	"sync"
	"testing"
)

// heavyUse writes and reads back secrets and messages, many at a time.
func (s *server) heavyUse() {
	s.t.Helper()
	const workers, threads, messages, secrets = 8, 8, 5, 40
	var wg sync.WaitGroup
	for w := range workers {
		vault := s.vault()
		wg.Go(func() {
			for i := range secrets {
				path := fmt.Sprintf("%s/secrets/s%d", vault, i)
				if status, text := s.call("PUT", path, fmt.Sprintf(`{"value":"%s-%d-%d"}`, canary, w, i)); status != 201 {
					s.t.Errorf("PUT = %d %s", status, text)
				}
				if _, err := s.value(path); err != nil {
					s.t.Error(err)
				}
			}
		})
		for range threads {
			thread := s.thread()
			wg.Go(func() {
				for i := range messages {
					if status, text := s.call("POST", thread, fmt.Sprintf(`{"body":"%s-%d"}`, canary, i)); status != 200 {
						s.t.Errorf("POST = %d %s", status, text)
					}
				}
				if got, err := s.bodies(thread); err != nil || len(got) != messages {
					s.t.Errorf("a thread of %d messages, %v", len(got), err)
				}
			})
		}
	}
	wg.Wait()
}

// memoryAfterUse runs a server hard and returns its memory, and then, when all
// has ended, every key that its data is under.
func memoryAfterUse(t *testing.T, mode string) (memory, keys) {
	t.Helper()
	s := dev(t, shortDir(t), nil, "--kms", mode)
	s.heavyUse()
	mem := look(t, s.cmd.Process.Pid)
	s.stop()
	return mem, readKeys(t, s.dir)
}

// count scans for keys and returns how many are in mem.
func (mem memory) count(all map[string][]byte) int {
	var s scanner
	for name, raw := range all {
		s.addKey(name, raw)
	}
	return s.count(mem)
}

func (mem memory) counts(k keys) (root, keks, threads, secrets, wrapped int) {
	return mem.count(map[string][]byte{"root": k.root}), mem.count(k.keks), mem.count(k.threads), mem.count(k.secrets), mem.count(k.wrapped)
}

// No key is ever in the memory of a server whose key process is another; the
// same search finds them where the key process is inside.
func TestTheServersMemoryHoldsNoKeyWhenTheKeyProcessIsAnother(t *testing.T) {
	for _, mode := range []string{"external", "embedded"} {
		mem, k := memoryAfterUse(t, mode)
		if len(k.keks) < 9 || len(k.threads) < 64 || len(k.secrets) < 320 {
			t.Fatalf("%s: only %d KEKs, %d DEKs of threads, %d of secrets", mode, len(k.keks), len(k.threads), len(k.secrets))
		}
		root, keks, threads, secrets, wrapped := mem.counts(k)
		t.Logf("%s: of %d pieces of memory: root key %d, KEKs %d of %d, DEKs of threads %d of %d, of secrets %d of %d; wrapped DEKs %d of %d", mode, len(mem),
			root, keks, len(k.keks), threads, len(k.threads), secrets, len(k.secrets), wrapped, len(k.wrapped))
		if wrapped < len(k.wrapped)/2 {
			t.Errorf("%s: %d of %d wrapped DEKs are found: the search sees too little of the memory", mode, wrapped, len(k.wrapped))
		}
		inside := root > 0 && keks > 0 && threads > len(k.threads)/2
		if mode == "embedded" && !inside {
			t.Errorf("keys are not found where they are: root key %d, KEKs %d, DEKs of threads %d", root, keks, threads)
		}
		if mode == "external" && root+keks+threads+secrets > 0 {
			t.Errorf("the server's memory holds keys: root key %d, KEKs %d, DEKs of threads %d, of secrets %d", root, keks, threads, secrets)
		}
	}
}
