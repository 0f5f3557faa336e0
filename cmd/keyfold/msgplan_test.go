package main

import (
	"math"
	"os"
	"testing"
	"time"
)

func TestLinesWithoutATimeComeAfterTheThreadOrNotAtAll(t *testing.T) {
	for newest, fits := range map[int64]bool{0: true, math.MaxInt64 - 3: true, math.MaxInt64 - 2: false, math.MaxInt64: false} {
		p, err := planImport(writeTemp(t, "f.txt", "a\nb\nc\n"), true)
		if err != nil {
			t.Fatal(err)
		}
		err = p.chooseBase("t", newest, time.Unix(0, 7), false)
		if (err == nil) != fits {
			t.Errorf("after %d: %v", newest, err)
		}
		from, to := p.window()
		if fits && (from <= newest || to != from+2) {
			t.Errorf("after %d: times %d to %d", newest, from, to)
		}
		if _, err := os.Stat(p.file + stateSuffix); (err == nil) != fits {
			t.Errorf("after %d: the state: %v", newest, err)
		}
	}
}
