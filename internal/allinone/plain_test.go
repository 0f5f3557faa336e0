package allinone

import (
	"bytes"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// lines counts those that say that encryption is off.
type lines struct{ atomic.Int64 }

func (l *lines) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("encryption is off")) {
		l.Add(1)
	}
	return len(line), nil
}

func TestAServerThatDoesNotEncryptSaysSoEveryHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var said lines
		log := slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelError}))
		times := func() int { return int(said.Load()) }
		n := new(Node)
		n.sayPlain(Config{Log: log})
		if times() != 0 || len(n.opened) != 0 {
			t.Error("a server that encrypts says that it does not")
		}
		n.sayPlain(Config{Log: log, Plain: true})
		for hours := 1; hours < 4; hours++ {
			if times() != hours {
				t.Errorf("after %d hours it was said %d times", hours-1, times())
			}
			time.Sleep(time.Hour)
			synctest.Wait()
		}
		if err := n.closeParts(); err != nil {
			t.Error(err)
		}
		before := times()
		time.Sleep(3 * time.Hour)
		if times() != before {
			t.Error("it is said after the end")
		}
	})
}
