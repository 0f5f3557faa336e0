package many

import (
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
)

// host is a network namespace: a machine of its own, as far as the network goes. It
// has two cables, one for callers and one for the database, so that it can be cut off
// from either.
type host struct {
	t    testing.TB
	name string
	n    int // of the host; part of its addresses
}

// separate reports whether this test may make network namespaces.
func separate() bool { return os.Getuid() == 0 }

// hosts counts those of this process.
var hosts atomic.Int64

// newHost makes a host. Its addresses are taken from a block that no network of the
// machine should use (RFC 2544 gives 198.18.0.0/15 to tests).
func newHost(t testing.TB) *host {
	t.Helper()
	n := int(hosts.Add(1))
	h := &host{t: t, name: fmt.Sprintf("kf%d-%d", os.Getpid(), n), n: (os.Getpid()*8 + n) % 256}
	h.must("netns", "add", h.name)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", h.name).Run() })
	h.must("-n", h.name, "link", "set", "lo", "up")
	for i, cable := range []string{"calls", "rows"} {
		h.must("link", "add", h.cable(cable), "type", "veth", "peer", "name", cable, "netns", h.name)
		h.must("addr", "add", h.near(i)+"/30", "dev", h.cable(cable))
		h.must("link", "set", h.cable(cable), "up")
		h.must("-n", h.name, "addr", "add", h.far(i)+"/30", "dev", cable)
		h.must("-n", h.name, "link", "set", cable, "up")
	}
	return h
}

// cable is the machine's end of a cable.
func (h *host) cable(name string) string { return fmt.Sprintf("kf%d%c", h.n, name[0]) }

// near and far are the addresses of the machine and the host on the cable for
// callers (0) or for the database (1).
func (h *host) near(cable int) string { return fmt.Sprintf("198.%d.%d.1", 18+cable, h.n) }
func (h *host) far(cable int) string  { return fmt.Sprintf("198.%d.%d.2", 18+cable, h.n) }

// cut drops, without a word to either side, what the host and the database send each
// other; mend ends that.
func (h *host) cut() {
	h.must("netns", "exec", h.name, "nft", `table ip cut {
		chain in { type filter hook input priority 0; iifname rows drop; }
		chain out { type filter hook output priority 0; oifname rows drop; }
	}`)
}

func (h *host) mend() { h.must("netns", "exec", h.name, "nft", "delete table ip cut") }

func (h *host) must(args ...string) {
	h.t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		h.t.Fatalf("ip %v: %v: %s", args, err, out)
	}
}
