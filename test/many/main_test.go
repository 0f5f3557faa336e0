// Package many tests Keyfold as it runs on many machines: several servers and several
// key processes over one PostgreSQL with a synchronous standby, under load, while
// any of them is killed, stopped or cut off. It builds the programs and needs
// PostgreSQL; the network namespaces in which a server is cut off need root.
package many

import (
	"fmt"
	"os"
	"runtime"
	"testing"
)

func TestMain(m *testing.M) {
	if runtime.GOOS != "linux" {
		fmt.Println("skipping: these tests stop processes and cut networks as Linux does")
		return
	}
	os.Exit(m.Run())
}
