package pgstore

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// limitSilence has the system break a TCP connection whose bytes nobody has
// acknowledged for so long; without it that takes a quarter of an hour.
func limitSilence(network, _ string, c syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	outer := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(silence.Milliseconds()))
	})
	if outer != nil {
		return outer
	}
	return err
}
