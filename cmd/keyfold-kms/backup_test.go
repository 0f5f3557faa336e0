package main

import (
	"testing"

	"github.com/keyfold/keyfold/internal/kmsbackup"
)

func TestOneCustomersKeyAndTwoCustomersKeys(t *testing.T) {
	for n, want := range map[int]string{0: "", 1: ", 1 customer's key, opened", 2: ", 2 customers' keys, opened"} {
		if got := cmekCount(kmsbackup.Info{CMEKs: n}, ", opened"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
