//go:build !linux

package harden

import "runtime"

var protections = []func() string{func() string {
	return "memory is not protected on " + runtime.GOOS + ": keys may be swapped out, dumped and read by other processes of this user; run it on Linux"
}}
