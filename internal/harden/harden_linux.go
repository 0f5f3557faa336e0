package harden

import (
	"fmt"

	"golang.org/x/sys/unix"
)

var protections = []func() string{forbidDumps, forbidTracing, lockMemory}

// forbidDumps sets the size limit of core files to 0, for good.
func forbidDumps() string {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Sprintf("core dumps are not forbidden (%v): set LimitCORE=0 in the unit, or ulimit -c 0", err)
	}
	return ""
}

// forbidTracing closes /proc/self/mem and ptrace to other processes of this
// user, and core dumps that go to a program, which no size limit stops.
func forbidTracing() string {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Sprintf("other processes of this user can read its memory (%v): run it as a user of its own", err)
	}
	return ""
}

// lockMemory keeps all memory, present and future, out of swap, each page once
// it is used. Under a finite limit it does not try: the Go runtime could then
// get no more memory when the limit is reached, and would end the process.
func lockMemory() string {
	const flags = unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT
	reason := "the limit of locked memory is finite"
	if mayLockAll() {
		err := unix.Mlockall(flags)
		if err == nil {
			return ""
		}
		reason = err.Error()
	}
	return fmt.Sprintf("memory is not locked, so swap may hold keys (%s): set LimitMEMLOCK=infinity in the unit, give it CAP_IPC_LOCK, or turn swap off", reason)
}

// mayLockAll reports whether no limit of locked memory applies, and raises the
// soft limit where the hard one is infinite.
func mayLockAll() bool {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err == nil && limit.Max == unix.RLIM_INFINITY {
		limit.Cur = limit.Max
		return unix.Setrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil
	}
	var caps [2]unix.CapUserData // the second holds capabilities 32 and up
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return unix.Capget(&head, &caps[0]) == nil && caps[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}
