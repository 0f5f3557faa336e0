package main

import (
	"context"
	"fmt"
	"time"

	"github.com/keyfold/keyfold/internal/cli"
)

// failTime is how long what still works may take to end after a failure.
const failTime = time.Second

// untilFailure runs run and returns its error, or, when run tells onFailure
// that a store cannot go on, that failure: ctx is then cancelled, and run has
// failTime to end.
//
// onFailure does not return. If it did, the engine could panic before the
// failure is told, and what it holds locked would stay so anyway. The goroutine
// ends with the process, which follows.
func untilFailure(ctx context.Context, run func(ctx context.Context, onFailure func(error)) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failed, ended := make(chan error), make(chan error, 1)
	onFailure := func(err error) {
		failed <- err // the first is received
		select {}
	}
	go func() { ended <- run(ctx, onFailure) }()
	select {
	case err := <-ended:
		return err
	case err := <-failed:
		cancel()
		select {
		case <-ended:
		case <-time.After(failTime):
		}
		return cli.Advise(fmt.Errorf("the server cannot go on: %w", err), "look for its cause above; then start it again, which recovers what was stored")
	}
}
