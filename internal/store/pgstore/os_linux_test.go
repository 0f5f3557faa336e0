package pgstore

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// TestASilentNetworkBreaksAConnection looks that the system was asked to notice.
func TestASilentNetworkBreaksAConnection(t *testing.T) {
	t.Parallel()
	connections := 0
	s := openWith(t, pgtest.URL(t), Options{wrap: func(c net.Conn) net.Conn {
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		for name, option := range map[string]struct{ level, option, want int }{
			"the bound for bytes that nobody acknowledges": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 10_000},
			"probes":                       {unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			"the idle time before a probe": {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 5},
			"the time between probes":      {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 2},
			"the count of probes":          {unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3},
		} {
			if err := raw.Control(func(fd uintptr) {
				if got, err := unix.GetsockoptInt(int(fd), option.level, option.option); err != nil || got != option.want {
					t.Errorf("%s: %d, %v; want %d", name, got, err, option.want)
				}
			}); err != nil {
				t.Error(err)
			}
		}
		connections++
		return c
	}})
	defer s.Close()
	put(t, s, "k", "v")
	if connections == 0 {
		t.Error("no connection was made")
	}
}
