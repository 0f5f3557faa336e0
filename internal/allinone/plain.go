package allinone

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
)

// inClear is the note that a server on this store did not encrypt, and that not all
// is encrypted since. It is sealed by the key process: whoever can write to the
// store can take it away or put an old one back, but not make one where there never
// was any, and without it no row in clear is believed.
type inClear struct {
	store store.Store
	box   *sealed.Box
}

var inClearName = sealed.Name{Kind: "inclear", Owner: "server", ID: "threads"}

// known reports whether the note is there, and makes it where plain says that this
// server does not encrypt.
func (c inClear) known(ctx context.Context, plain bool) (bool, error) {
	_, err := c.box.Get(ctx, inClearName)
	if !errors.Is(err, fault.NotFound) || !plain {
		return err == nil, ignore(err, fault.NotFound)
	}
	err = store.Retry(ctx, func() error {
		b := new(store.Batch)
		if err := c.box.Put(ctx, b, inClearName, []byte("threads")); err != nil {
			return err
		}
		_, err := c.store.Commit(ctx, b)
		return err
	})
	return err == nil, store.Fault(err)
}

// forget takes the note away: all is encrypted.
func (c inClear) forget(ctx context.Context) error {
	b := new(store.Batch)
	c.box.Delete(b, inClearName)
	_, err := c.store.Commit(ctx, b)
	return store.Fault(err)
}

// ignore is err, unless it is of the code.
func ignore(err error, code fault.Code) error {
	if errors.Is(err, code) {
		return nil
	}
	return err
}

const (
	plainWarning = "encryption is off: messages of new threads are stored in clear, and whoever reads the data directory or a backup of it reads them; " +
		"to end this, start the server with encryption on and call POST /admin/encryption/encrypt-existing"
	leftWarning = "encryption was off: some threads are not encrypted yet, and whoever reads the data directory or a backup of it reads them; " +
		"to end this, call POST /admin/encryption/encrypt-existing"
)

// unscrubbed is what to add where the store cannot take what lay in clear out of its
// files by itself.
func (n *Node) unscrubbed() string {
	if _, ok := store.As[store.Scrubber](n.Store); ok {
		return ""
	}
	return "; what lay in clear stays in the database's files and logs after that, until it writes them anew: have it run VACUUM FULL keyfold_records, and let old logs and backups go"
}

// plainOften is how often the log says so, and plainAgain when it is asked again
// whether it is so.
const (
	plainOften = time.Hour
	plainAgain = time.Minute
)

// sayClear says now, and every hour until the node is closed, that nothing is
// encrypted, or not all, for as long as inClear says so.
func (n *Node) sayClear(cfg Config, inClear func(context.Context) (bool, error)) {
	ctx, end := context.WithCancel(context.Background())
	var saying sync.WaitGroup
	saying.Go(func() {
		for {
			next := plainOften
			switch is, err := inClear(ctx); {
			case ctx.Err() != nil:
				return
			case err != nil: // the key process is away
				next = plainAgain
			case cfg.Plain:
				cfg.Log.Error(plainWarning + n.unscrubbed())
			case is:
				cfg.Log.Error(leftWarning + n.unscrubbed())
			default:
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(next):
			}
		}
	})
	n.opened = append(n.opened, func() error {
		end()
		saying.Wait()
		return nil
	})
}
