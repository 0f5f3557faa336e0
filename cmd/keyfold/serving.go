package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/tracing"
)

// closeTime is how long requests that are under way may take after a signal.
const closeTime = 10 * time.Second

// runs is RunE of a command that has a store open: until a signal, or until the
// store cannot go on.
func runs(ctx context.Context, run func(ctx context.Context, onFailure func(error)) error) error {
	ctx, stop := cli.UntilSignal(ctx)
	defer stop()
	return untilFailure(ctx, run)
}

// serve answers at ln until ctx ends, and then for drain, in which it says that it
// will end. announce is called once it answers.
func (a *app) serve(ctx context.Context, node *allinone.Node, ln net.Listener, drain time.Duration, announce func() error) error {
	served := make(chan error, 1)
	go func() { served <- node.Serve(ln) }()
	if err := announce(); err != nil {
		return err
	}
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
		a.Note("closing")
		node.Drain(context.WithoutCancel(ctx), drain)
		return nil
	}
}

// tracer makes the tracer that the environment asks for; nil: none.
func (a *app) tracer(log *slog.Logger) (*tracing.Tracer, error) {
	t, err := tracing.New("keyfold", cli.Version(), a.getenv, log)
	if err != nil {
		return nil, cli.Usagef("%w", err)
	}
	return t, nil
}

// endTraces sends the last spans.
func endTraces(t *tracing.Tracer) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = t.Close(ctx) // the log has it
}

// closeNode lets the requests under way finish, for closeTime.
func closeNode(node *allinone.Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return node.Close(ctx)
}

func listen(addr, hint string) (net.Listener, error) {
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		err = fmt.Errorf("%s is in use, perhaps by another server of ours", addr)
	} else if err != nil {
		err = fmt.Errorf("cannot listen on %s: %w", addr, err)
	}
	return ln, cli.Advise(err, hint)
}

// inUse helps where the data directory belongs to another process: who.
func inUse(err error, who, data, hint string) error {
	if errors.Is(err, fault.Conflict) {
		return cli.Advise(fmt.Errorf("%s uses %s: %w", who, data, err), hint)
	}
	return err
}
