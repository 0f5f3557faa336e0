package allinone

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/store"
)

// idemBox keeps what package idem must not have lie in clear among the server's own
// secrets.
type idemBox struct {
	store store.Store
	box   *sealed.Box
}

var idemKey = sealed.Name{Kind: "idemkey", Owner: "server", ID: "1"}

func (x idemBox) Key(ctx context.Context) ([]byte, error) {
	return siteKey(ctx, x.store, x.box, idemKey)
}

// siteKey returns 32 random bytes that all servers over a store have under a name. It
// makes them if there are none; of servers that meet, one does.
func siteKey(ctx context.Context, s store.Store, box *sealed.Box, name sealed.Name) (key []byte, err error) {
	err = store.Retry(ctx, func() error {
		if key, err = box.Get(ctx, name); !errors.Is(err, fault.NotFound) {
			return err
		}
		key = make([]byte, 32)
		rand.Read(key) // never fails: see crypto/rand
		var b store.Batch
		b.RequireAbsent(layout.Sealed(name.Kind, name.Owner, name.ID))
		if err := box.Put(ctx, &b, name, key); err != nil {
			return err
		}
		_, err := s.Commit(ctx, &b)
		return err
	})
	return key, store.Fault(err)
}

func idemAnswer(day int64, name string) sealed.Name {
	return sealed.Name{Kind: "idem", Owner: layout.IdemAnswer(day), ID: name}
}

func (x idemBox) Put(ctx context.Context, b *store.Batch, day int64, name string, value []byte) error {
	return x.box.Put(ctx, b, idemAnswer(day, name), value)
}

func (x idemBox) Get(ctx context.Context, day int64, name string) ([]byte, error) {
	return x.box.Get(ctx, idemAnswer(day, name))
}

// sweepEvery is how often rows of requests are removed that are forgotten.
const sweepEvery = time.Hour

// once makes what keeps the answers of writes, and removes those that are forgotten
// until the node closes.
func (n *Node) once(box *sealed.Box, recorder access.Recorder, cfg Config) *idem.Service {
	s := idem.New(idem.Config{Store: n.Store, Sealer: idemBox{n.Store, box}, Now: cfg.Now, Replayed: func(ctx context.Context, r idem.Request) error {
		p := r.Principal
		return recorder.Record(ctx, access.Event{
			OrgID: p.OrgID, ActorType: string(p.Kind), ActorID: p.ID, Action: "request.replayed", ResourceType: "route", ResourceID: r.Route,
			Outcome: access.Allowed, Details: map[string]string{}, Addr: p.Addr, RequestID: p.RequestID,
		})
	}})
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if err := s.Sweep(ctx); err != nil && ctx.Err() == nil {
				cfg.Log.WarnContext(ctx, "what is kept of old requests was not removed and is tried again", "error", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(sweepEvery):
			}
		}
	}()
	n.opened = append(n.opened, func() error { stop(); <-ended; return nil })
	return s
}
