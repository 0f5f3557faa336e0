// Package freeport holds ports for tests that give an address to a process and start
// it after that. A port that was free when it was asked for, and let go of, is given to
// whoever asks next, such as another test.
package freeport

import (
	"errors"
	"fmt"
	"syscall"
)

// Hold returns an address of the loopback, HOST:PORT, that nobody listens on. A socket
// holds the port until release is called, so that no other process is given it: one
// that asks for it by its number may listen, as net.Listen does.
func Hold() (addr string, release func(), err error) {
	syscall.ForkLock.RLock() // or a child that starts now holds the port as well
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return "", nil, fmt.Errorf("holding a port: %w", err)
	}
	port, err := bind(fd)
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("holding a port: %w", err), syscall.Close(fd))
	}
	return fmt.Sprint("127.0.0.1:", port), func() { syscall.Close(fd) }, nil
}

// bind gives fd a port, which another may bind too if it asks as fd does.
func bind(fd int) (port int, err error) {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return 0, err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, err
	}
	return name.(*syscall.SockaddrInet4).Port, nil
}
