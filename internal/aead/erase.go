//go:build !goexperiment.runtimesecret

package aead

// Erasing runs f, which makes or unwraps keys. In a program that was built with
// GOEXPERIMENT=runtimesecret it runs inside runtime/secret.Do: registers and
// stack that f used are erased when it returns, and what f allocated once the
// garbage collector finds it unreachable; so a key schedule does not outlive
// its key. It then costs some microseconds, which is why nothing runs in it
// that uses a key for data. In every other program it does nothing more than f.
//
// f must not call C: a cgo call inside runtime/secret.Do ends the program.
func Erasing(f func()) { f() }
