package main

import (
	"context"
	"errors"
	"strings"
	"testing"
)

func TestAStoreThatCannotGoOnEndsTheCommand(t *testing.T) {
	broken := errors.New("the disk is gone")
	for name, run := range map[string]func(context.Context, func(error)) error{
		"while it serves": func(ctx context.Context, onFailure func(error)) error {
			go onFailure(broken)
			<-ctx.Done()
			return nil
		},
		"in two stores": func(ctx context.Context, onFailure func(error)) error {
			go onFailure(broken)
			go onFailure(broken)
			<-ctx.Done()
			return nil
		},
		"while it starts, and never ends": func(_ context.Context, onFailure func(error)) error {
			onFailure(broken)
			return errors.New("onFailure returned")
		},
	} {
		err := untilFailure(t.Context(), run)
		if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "the server cannot go on") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, want := range []error{nil, broken} {
		err := untilFailure(t.Context(), func(context.Context, func(error)) error { return want })
		if err != want {
			t.Errorf("without a failure: %v, want %v", err, want)
		}
	}
}
