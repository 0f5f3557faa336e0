package allinone

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// lines counts those that hold a text.
type lines struct {
	text string
	n    atomic.Int64
}

func (l *lines) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(l.text)) {
		l.n.Add(1)
	}
	return len(line), nil
}

func TestAServerThatDoesNotEncryptAllSaysSoEveryHour(t *testing.T) {
	for text, plain := range map[string]bool{"encryption is off": true, "encryption was off": false} {
		synctest.Test(t, func(t *testing.T) {
			said := lines{text: text}
			times := func() int { synctest.Wait(); return int(said.n.Load()) }
			cfg := Config{Log: slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelError})), Plain: plain}
			var left atomic.Bool
			n := new(Node)
			n.sayClear(cfg, func(context.Context) (bool, error) { return left.Load() || plain, nil })
			if !plain && times() != 0 {
				t.Error("a server that encrypts says that it does not")
			}
			if left.Store(true); !plain {
				n.sayClear(cfg, func(context.Context) (bool, error) { return left.Load(), nil })
			}
			for hours := 1; hours < 4; hours++ {
				if times() != hours {
					t.Errorf("%s: after %d hours it was said %d times", text, hours-1, times())
				}
				time.Sleep(time.Hour)
			}
			before := times()
			if left.Store(false); plain {
				if err := n.closeParts(); err != nil {
					t.Error(err)
				}
			}
			time.Sleep(3 * time.Hour)
			if times() != before {
				t.Errorf("%s: it is said after the end", text)
			}
			if err := n.closeParts(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestThatNotAllIsEncryptedIsSaidOnceTheKMSIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		said := lines{text: leftWarning}
		var away atomic.Bool
		away.Store(true)
		n := new(Node)
		n.sayClear(Config{Log: slog.New(slog.NewTextHandler(&said, nil))}, func(context.Context) (bool, error) {
			if away.Load() {
				return false, errors.New("away")
			}
			return true, nil
		})
		time.Sleep(10 * time.Minute)
		if said.n.Load() != 0 {
			t.Error("it is said of what nobody knows")
		}
		away.Store(false)
		time.Sleep(plainAgain)
		synctest.Wait()
		if said.n.Load() != 1 {
			t.Errorf("said %d times", said.n.Load())
		}
		if err := n.closeParts(); err != nil {
			t.Error(err)
		}
	})
}
