//go:build goexperiment.runtimesecret

package aead

import "runtime/secret"

// Erasing runs f inside runtime/secret.Do; see the form for other programs.
func Erasing(f func()) { secret.Do(f) }
