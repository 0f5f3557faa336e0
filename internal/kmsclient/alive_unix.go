//go:build unix

package kmsclient

import (
	"net"
	"syscall"
)

// alive reports whether nothing came on an idle connection: no data, which
// nobody asked for, and no end.
func alive(c net.Conn) bool {
	if counted, ok := c.(*countedConn); ok {
		c = counted.Conn
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && quiet
}
