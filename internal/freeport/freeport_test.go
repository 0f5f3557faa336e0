package freeport

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
)

// hold holds a port until the test ends.
func hold(t *testing.T) (addr string) {
	t.Helper()
	addr, release, err := Hold()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(release)
	return addr
}

func TestAHeldPortIsForOneWhoAsksForIt(t *testing.T) {
	addr := hold(t)
	if conn, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("somebody listens on %s: %v, %v", addr, conn, err)
	}
	for range 2 { // the second is a process that was started again
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Error(err)
		} else {
			conn.Close()
		}
		ln.Close()
	}
}

// A socket that does not say that it shares its port cannot have one that is held, which
// is how the system chooses for those that ask for any.
func TestAHeldPortIsGivenToNobodyElse(t *testing.T) {
	addr := hold(t)
	alone := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		return errors.Join(c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 0)
		}), err)
	}}
	if ln, err := alone.Listen(context.Background(), "tcp", addr); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("%s is held, and given away: %v, %v", addr, ln, err)
	}
	others := map[string]bool{addr: true}
	for range 100 {
		other := hold(t)
		if others[other] {
			t.Fatalf("%s is held twice", other)
		}
		others[other] = true
	}
}
