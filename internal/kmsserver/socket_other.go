//go:build !linux

package kmsserver

import (
	"errors"
	"net"
)

var errNoSocket = errors.New("sockets of the KMS need Linux, which tells who is at the other end; listen on TCP with certificates")

func listenUnix(string) (net.Listener, error) { return nil, errNoSocket }
func peerUID(net.Conn) (uint32, error)        { return 0, errNoSocket }
func inherit(string) (net.Listener, error)    { return nil, errNoSocket }
