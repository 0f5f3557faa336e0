package external

import (
	"encoding/base64"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/cmek"
)

// look reads the memory of a process. Where nobody may, the test ends: failed
// when it must not be skipped.
func look(t testing.TB, pid int) memory {
	t.Helper()
	mem, err := readMemory(pid)
	if err != nil {
		if os.Getenv("CI") != "" && os.Geteuid() == 0 {
			t.Fatalf("the memory of a process cannot be read: %v", err)
		}
		t.Skipf("this system does not let us read the memory of a process that we started (%v); nothing was tested", err)
	}
	return mem
}

// countTexts is how many of texts are in mem.
func (mem memory) countTexts(texts []string) int {
	var s scanner
	for i, text := range texts {
		s.add(fmt.Sprint(i), []byte(text))
	}
	return s.count(mem)
}

// countKey reports whether a CMEK key is in mem: raw, as the schedule of AES
// keeps it, or in the text that travels in a header.
func (mem memory) countKey(keys ...*cmek.Key) int {
	var s scanner
	for i, k := range keys {
		s.addKey(fmt.Sprint(i), k.Bytes())
		s.add(fmt.Sprint(i), []byte(base64.StdEncoding.EncodeToString(k.Bytes())))
	}
	return s.count(mem)
}

// busy has workers write and read sealed values, which begin with the first
// mark, and others, which begin with the second, until stop is called.
func (c *customer) busy(sealed, open string) (stop func()) {
	const workers = 4
	var wg sync.WaitGroup
	done := make(chan struct{})
	for w := range workers {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				blob, err := cmek.EncryptValue(c.key, []byte(sealed+random(24)))
				if err != nil {
					c.t.Error(err)
					return
				}
				name := fmt.Sprintf("/secrets/w%d-%d", w, i%50)
				for path, value := range map[string]string{c.vault + name: blob, c.plain + name: open + random(24)} {
					if status, text := c.call("PUT", path, `{"value":"`+value+`"}`); status != 201 {
						c.t.Errorf("PUT = %d %s", status, text)
					}
					if got, err := c.value(path); err != nil || got != value {
						c.t.Errorf("%s: %v", path, err)
					}
				}
			}
		})
	}
	return func() {
		close(done)
		wg.Wait()
	}
}

// Who reads all memory of the server and of its key process, again and again
// while sealed values are written and read, finds neither a plaintext of these
// nor the CMEK key. The same search finds what is not sealed, in both.
func TestRootOnTheServerFindsNeitherTheCMEKKeyNorWhatItSeals(t *testing.T) {
	s := dev(t, shortDir(t), nil, "--kms", "external")
	c := s.customer()
	sealed, open := "sealed "+random(18), "open "+random(18)
	stop := c.busy(sealed, open)
	defer stop()
	for name, pid := range map[string]int{"server": s.cmd.Process.Pid, "key process": s.kms()} {
		looks, others := 0, 0
		s.await("what is not sealed is in the memory of the "+name, func() bool {
			mem := look(t, pid)
			if n, keys := mem.countTexts([]string{sealed}), mem.countKey(c.key); n+keys > 0 {
				t.Fatalf("the memory of the %s holds sealed values (%d) or the CMEK key (%d)", name, n, keys)
			}
			looks++
			others += mem.countTexts([]string{open})
			return looks >= 5 && others > 0
		})
		t.Logf("%s: in %d looks what is not sealed was there %d times", name, looks, others)
	}
}
