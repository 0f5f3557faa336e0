package job

import (
	"testing"
	"time"
)

func TestAJobRestsWhileOthersWaitForTheMachine(t *testing.T) {
	w := newWorld(t, 10) // four batches, and the end
	r := w.open()
	busy, rests := 0, 0
	r.busy = func() bool { busy++; return busy > 2 }
	r.rest = func(d time.Duration) {
		if rests++; d <= 0 || d > maxPause {
			t.Errorf("it rests for %v", d)
		}
	}
	w.whole(w.finish(r, w.start(r).ID))
	r.Close()
	if busy != 4 || rests != 2 {
		t.Errorf("asked %d times, rested %d times", busy, rests)
	}
}
