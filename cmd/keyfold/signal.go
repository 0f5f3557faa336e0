package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// untilSignal is for work that must not end half way: it returns a context
// that the first Ctrl-C or SIGTERM ends. The second ends the process, as the
// first does wherever nobody has called this.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
