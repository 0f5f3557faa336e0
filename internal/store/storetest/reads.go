package storetest

import (
	"context"

	"github.com/keyfold/keyfold/internal/store"
)

// Reads is a store that notes what it is told to read together, and what is read.
type Reads struct {
	store.Store
	Told, Got []string
}

func (r *Reads) Ahead(ctx context.Context, keys ...string) context.Context {
	r.Told = append(r.Told, keys...)
	return ctx
}

func (r *Reads) Get(ctx context.Context, key string) (store.Record, error) {
	r.Got = append(r.Got, key)
	return r.Store.Get(ctx, key)
}
