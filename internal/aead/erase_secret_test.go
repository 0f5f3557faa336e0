//go:build goexperiment.runtimesecret

package aead

import (
	"runtime/secret"
	"testing"
)

func TestErasingIsTheRuntimesAndEndsWithItsFunction(t *testing.T) {
	inside := false
	Erasing(func() { Erasing(func() {}); inside = secret.Enabled() })
	if !inside || secret.Enabled() {
		t.Errorf("inside %v, after it %v", inside, secret.Enabled())
	}
}
