// Package external tests Keyfold as it runs: real processes of keyfold and
// keyfold-kms, killed, starved and looked into. It builds both, and the search of
// scripts/canary. It needs Go, and Linux for /proc.
package external

import (
	"fmt"
	"os"
	"runtime"
	"testing"
)

func TestMain(m *testing.M) {
	if runtime.GOOS != "linux" {
		fmt.Println("skipping: these tests read /proc, which Linux alone has")
		return
	}
	os.Exit(m.Run())
}
