package server

import (
	"context"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
)

// Check asks a part that the server needs whether it works.
type Check struct {
	Name string // as callers read it: "store", KeyProcess
	Do   func(ctx context.Context) error
}

// KeyProcess is the name of the check of the KMS.
const KeyProcess = "key process"

type health struct {
	checks  []Check
	closing func() bool // see Config
	version string
	plain   bool                                // see Config
	inClear func(context.Context) (bool, error) // see thread.Service; nil: never
	several func() (answering, of int)          // see Config.KeyProcesses
}

// alive says that the process answers, and nothing of what it needs.
func (h health) alive(context.Context, *httpx.Call) (api.Health, error) {
	return api.Health{Status: "ok"}, nil
}

// ready is Unavailable while a part is away or the server is closing, so that a balancer looks elsewhere.
func (h health) ready(ctx context.Context, _ *httpx.Call) (api.Health, error) {
	if h.closing != nil && h.closing() {
		return api.Health{}, fault.New(fault.Unavailable, "this server is closing; ask another one, or try again")
	}
	if err := h.check(ctx); err != nil {
		return api.Health{}, err
	}
	return api.Health{Status: "ok", Version: h.version, Encryption: h.encryption(ctx), KeyProcesses: h.keyProcesses()}, nil
}

// status tells people and clients what ready tells machines, always with 200. A
// server that does not encrypt, or has not encrypted all, does its work and is not
// healthy.
func (h health) status(ctx context.Context, _ *httpx.Call) (api.Health, error) {
	out := api.Health{Status: "healthy", Version: h.version, Encryption: h.encryption(ctx), KeyProcesses: h.keyProcesses()}
	if out.Encryption != "" || out.KeyProcesses.Answering < out.KeyProcesses.Of || h.check(ctx) != nil {
		out.Status = "degraded"
	}
	return out, nil
}

// keyProcesses is api.Health's. It names none: which they are is not for everybody.
func (h health) keyProcesses() (k api.KeyProcesses) {
	if h.several != nil {
		k.Answering, k.Of = h.several()
	}
	return k
}

// encryption is api.Health's. Where the key process does not tell, health is degraded
// without it.
func (h health) encryption(ctx context.Context) string {
	if h.plain {
		return "off"
	}
	if h.inClear != nil {
		ctx, cancel := context.WithTimeout(ctx, checkTime)
		defer cancel()
		if is, err := h.inClear(ctx); is && err == nil {
			return "incomplete"
		}
	}
	return ""
}

// keys tells whether the KEKs can be used: ok or unavailable, always with 200.
func (h health) keys(ctx context.Context, _ *httpx.Call) (api.Health, error) {
	for _, c := range h.checks {
		if c.Name == KeyProcess && c.within(ctx, checkTime) != nil {
			return api.Health{Status: "unavailable"}, nil
		}
	}
	return api.Health{Status: "ok"}, nil
}

// checkTime is how long one part may take to say that it works: less than the
// rows' timeout, so that the part that hangs is named.
const checkTime = 2 * time.Second

func (h health) check(ctx context.Context) error {
	for _, c := range h.checks {
		if err := c.within(ctx, checkTime); err != nil {
			return fault.Wrap(fault.Unavailable, err, "the %s does not answer; try again", c.Name)
		}
	}
	return nil
}

func (c Check) within(ctx context.Context, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return c.Do(ctx)
}
