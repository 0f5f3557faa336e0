package httpx

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// Whatever happens to it, and whether or not somebody waits, a deadline says
// what a context of the standard library says.
func TestADeadlineEndsAsAContextOfTheLibraryDoes(t *testing.T) {
	for name, c := range map[string]struct {
		parent time.Duration // its timeout; 0: none
		at     time.Duration
		do     func(cancelParent, end func())
	}{
		"nothing":                   {0, time.Second, func(_, _ func()) {}},
		"the time passes":           {0, time.Second, func(_, _ func()) { time.Sleep(2 * time.Second) }},
		"it was over at the start":  {0, -time.Second, func(_, _ func()) {}},
		"it ends":                   {0, time.Second, func(_, end func()) { end() }},
		"it ends twice":             {0, time.Second, func(_, end func()) { end(); end() }},
		"the client leaves":         {0, time.Second, func(cancel, _ func()) { cancel() }},
		"the client leaves, late":   {0, time.Second, func(cancel, end func()) { end(); cancel() }},
		"the request's time passes": {time.Second, 3 * time.Second, func(_, _ func()) { time.Sleep(2 * time.Second) }},
		"both times pass":           {time.Second, 2 * time.Second, func(_, _ func()) { time.Sleep(3 * time.Second) }},
	} {
		for _, waits := range []string{"nobody waits", "one waits first", "one waits last", "a child waits"} {
			t.Run(name+", "+waits, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					request := func() (context.Context, context.CancelFunc) {
						if c.parent > 0 {
							return context.WithTimeout(context.Background(), c.parent)
						}
						return context.WithCancel(context.Background())
					}
					p1, cancel1 := request()
					defer cancel1()
					p2, cancel2 := request()
					defer cancel2()
					ours := &deadline{Context: p1, at: time.Now().Add(c.at)}
					theirs, end := context.WithTimeout(p2, c.at)
					defer end()
					defer ours.end()
					var ourChild, theirChild context.Context = ours, theirs
					switch waits {
					case "one waits first":
						ours.Done()
					case "a child waits":
						var stop1, stop2 func()
						ourChild, stop1 = context.WithCancel(ours)
						theirChild, stop2 = context.WithCancel(theirs)
						defer stop1()
						defer stop2()
					}
					c.do(func() { cancel1(); cancel2() }, func() { ours.end(); end() })
					synctest.Wait()
					if waits == "one waits last" {
						ours.Done()
					}
					if ours.Err() != theirs.Err() || ourChild.Err() != theirChild.Err() {
						t.Errorf("ours is %v (child %v), the library's %v (child %v)", ours.Err(), ourChild.Err(), theirs.Err(), theirChild.Err())
					}
					at1, _ := ours.Deadline()
					if at2, ok := theirs.Deadline(); !ok || !at1.Equal(at2) {
						t.Errorf("the time is %v, not %v", at1, at2)
					}
					if closed(ours.Done()) != closed(theirs.Done()) {
						t.Error("Done differs")
					}
				})
			})
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
