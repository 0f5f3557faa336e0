package kmsserver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// listenUnix listens on a socket at path, mode 0600 from its first moment. A
// dead socket there is replaced; a live one, or anything else, is refused. A
// lock on the directory lets one process at a time look and replace.
func listenUnix(path string) (net.Listener, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if len(path) > 107 {
		return nil, fmt.Errorf("the path of the socket is over 107 bytes, which the system does not take: %s", path)
	}
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("the directory of the socket: %w", err)
	}
	defer unlock()
	if err := removeDead(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: ownerOnly}
	ln, err := lc.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	s := &socket{UnixListener: ln.(*net.UnixListener), path: path}
	s.SetUnlinkOnClose(false)
	if s.file, err = os.Lstat(path); err == nil && s.file.Mode().Perm()&^0o600 != 0 {
		err = fmt.Errorf("the socket %s is open to others (mode %v), whatever we do; choose another file system", path, s.file.Mode().Perm())
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// inherit takes the listening Unix socket that the process was started with as
// descriptor n. Its file belongs to whoever made it, who also removes it; it
// must be its owner's alone, as one of ours is.
func inherit(n string) (net.Listener, error) {
	fd, err := strconv.ParseUint(n, 10, 16)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("the endpoint fd:%s names no descriptor; systemd passes them from fd:3 up", n)
	}
	if listens, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listens == 0 {
		return nil, fmt.Errorf("the endpoint fd:%s is no listening socket; see ListenStream= of a systemd socket", n)
	}
	f := os.NewFile(uintptr(fd), "the endpoint")
	defer f.Close() // FileListener makes a copy
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	u, ok := ln.(*net.UnixListener)
	if !ok {
		ln.Close()
		return nil, fmt.Errorf("the endpoint fd:%s is not a Unix socket; for TCP name host:port", n)
	}
	u.SetUnlinkOnClose(false)
	info, err := os.Lstat(u.Addr().String())
	if err == nil && info.Mode().Perm()&^0o600 != 0 {
		err = fmt.Errorf("the socket %s is open to others (mode %v); set SocketMode=0600", u.Addr(), info.Mode().Perm())
	}
	if err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}

// ownerOnly runs between socket and bind: Linux gives the file that bind makes
// the mode of the socket itself.
func ownerOnly(_, _ string, c syscall.RawConn) error {
	var chmodErr error
	err := c.Control(func(fd uintptr) { chmodErr = unix.Fchmod(int(fd), 0o600) })
	return errors.Join(err, chmodErr)
}

// lockDir locks a directory against other starts of a KMS. It refuses one in
// which others could put a socket of theirs in the place of ours.
func lockDir(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	info, err := d.Stat()
	if err == nil && info.Mode().Perm()&0o002 != 0 && info.Mode()&fs.ModeSticky == 0 {
		err = fmt.Errorf("everybody may write to %s; choose one of your own, or chmod o-w", dir)
	}
	if err == nil {
		err = unix.Flock(int(d.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return func() { d.Close() }, nil // which unlocks
}

// removeDead removes a socket at which nobody listens.
func removeDead(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is there and is not a socket; it stays as it is: choose another endpoint", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, unix.ECONNREFUSED) { // answered, or cannot be told
		return fmt.Errorf("another process answers on %s; stop it, or choose another endpoint", path)
	}
	return os.Remove(path)
}

// socket removes its file when it is closed, if it is still there.
type socket struct {
	*net.UnixListener
	path string
	file os.FileInfo
	once sync.Once
	err  error
}

// Close removes the file first: while it is there, somebody answers on it.
func (s *socket) Close() error {
	s.once.Do(func() {
		if now, err := os.Lstat(s.path); err == nil && s.file != nil && os.SameFile(now, s.file) {
			s.err = os.Remove(s.path)
		}
		s.err = errors.Join(s.err, s.UnixListener.Close())
	})
	return s.err
}

// peerUID asks the kernel which user opened the other end of a connection. A
// user of another user namespace shows as the overflow UID, as a rule 65534.
func peerUID(c net.Conn) (uint32, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return 0, fmt.Errorf("%T has no peer credentials", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) { cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err := errors.Join(err, credErr); err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
