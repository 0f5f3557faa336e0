package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"
)

func TestOnlyAServerThatIsNotReachedIsAskedFor(t *testing.T) {
	dir := t.TempDir()
	_, noFile := os.Stat(filepath.Join(dir, "missing"))
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, notReadable := io.ReadAll(f)
	_, refused := net.Dial("tcp", "127.0.0.1:1")
	for name, c := range map[string]struct {
		err  error
		want bool
	}{
		"refused":   {fmt.Errorf("calling: %w", refused), true},
		"no file":   {noFile, false},
		"directory": {notReadable, false},
		"closing":   {errors.Join(nil, fmt.Errorf("closing: %w", context.DeadlineExceeded)), false},
		"interrupt": {&net.OpError{Op: "dial", Err: context.Canceled}, false},
	} {
		if hint := generalHint(c.err); c.err == nil || (hint != "") != c.want {
			t.Errorf("%s: %v has the hint %q", name, c.err, hint)
		}
	}
}
