package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/keyfold/keyfold/internal/cli"
)

const (
	kmsProgram  = "keyfold-kms"
	kmsUpLimit  = 20 * time.Second       // a key process listens within this time, or the start fails
	kmsGone     = 2 * time.Second        // one whose server was killed ends within this time
	kmsLeast    = 100 * time.Millisecond // before one that ended is started again; doubles
	kmsMost     = 5 * time.Second
	kmsSettled  = 10 * time.Second // one that ran so long is started again after the least time
	maxSockPath = 100              // bytes; systems take some 104 to 108
)

// keyProcess is a keyfold-kms that we run: started again when it ends, ended
// when we end. On Linux it ends with us even when we are killed.
type keyProcess struct {
	command func(context.Context) *exec.Cmd
	log     *slog.Logger
	cancel  context.CancelFunc
	first   chan error    // how the first process ended
	ended   chan struct{} // closed when there is none any more
}

// startKMS makes the key store of dir where there is nothing yet, and runs a
// keyfold-kms on it that listens on socket. It returns once that is so. What
// the process says goes to out.
func startKMS(ctx context.Context, dir, socket string, out io.Writer, log *slog.Logger) (*keyProcess, error) {
	program, err := findKMS()
	if err != nil {
		return nil, err
	}
	if len(socket) > maxSockPath {
		return nil, cli.Advise(fmt.Errorf("the path of the key process's socket is too long for the system: %s", socket), "keyfold dev --data DIR, with a shorter path")
	}
	if err := vacant(ctx, socket); err != nil {
		return nil, err
	}
	fresh, err := isFresh(dir)
	if err != nil {
		return nil, err
	}
	on := []string{"--data-dir", filepath.Join(dir, "kms"), "--root", "file:" + filepath.Join(dir, "root.key")}
	if fresh {
		if err := child(ctx, out, program, append([]string{"init"}, on...)...).Run(); err != nil {
			return nil, fmt.Errorf("%s could not make the keys in %s: %w", kmsProgram, dir, err)
		}
	}
	serve := append([]string{"serve", "--endpoint", socket, "--allow-kek-import"}, on...)
	p := &keyProcess{
		command: func(ctx context.Context) *exec.Cmd { return child(ctx, out, program, serve...) },
		log:     log, first: make(chan error, 1), ended: make(chan struct{}),
	}
	return p, p.start(ctx, socket)
}

// child is a command that gets SIGTERM when ctx ends, and nothing of what our
// environment says to us: it gets all it needs as flags.
func child(ctx context.Context, out io.Writer, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "KEYFOLD_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, closeTime
	cmd.SysProcAttr = ownGroup()
	return cmd
}

// findKMS is the keyfold-kms beside this program, or in PATH.
func findKMS() (string, error) {
	if self, err := os.Executable(); err == nil {
		if path, err := exec.LookPath(filepath.Join(filepath.Dir(self), kmsProgram)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(kmsProgram)
	if err != nil {
		err = cli.Advise(fmt.Errorf("there is no %s beside this program, and none in PATH", kmsProgram),
			"build both, in Keyfold's sources: go build -o bin/ ./cmd/...; then run bin/keyfold dev --kms external")
	}
	return path, err
}

// vacant waits until nobody listens on socket: a key process whose server was
// killed a moment ago is about to end.
func vacant(ctx context.Context, socket string) error {
	for limit := time.After(kmsGone); listens(socket); {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return cli.Advise(fmt.Errorf("another key process listens on %s", socket),
				"end the development server that it belongs to, or take another directory: keyfold dev --data DIR")
		}
	}
	return nil
}

func listens(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// isFresh reports whether dir has no key store yet. It is an error when it has
// data whose keys would then be missing.
func isFresh(dir string) (bool, error) {
	files, err := os.ReadDir(filepath.Join(dir, "kms"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) || len(files) > 0 {
		return false, err
	}
	if _, err := os.Stat(filepath.Join(dir, "server")); err == nil {
		return false, cli.Advise(fmt.Errorf("%s holds data, but %s has no keys to it", filepath.Join(dir, "server"), filepath.Join(dir, "kms")),
			"restore both from one backup; or name the key process that has the keys: keyfold dev --kms unix:///PATH")
	}
	return true, nil
}

// start runs the process and waits until it listens on socket.
func (p *keyProcess) start(ctx context.Context, socket string) error {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	go p.run(running)
	for limit := time.After(kmsUpLimit); !listens(socket); {
		var err error
		select {
		case err = <-p.first:
			err = fmt.Errorf("%s did not start: %w", kmsProgram, err)
		case <-ctx.Done():
			err = ctx.Err()
		case <-limit:
			err = fmt.Errorf("%s does not listen on %s", kmsProgram, socket)
		case <-time.After(5 * time.Millisecond):
			continue
		}
		p.stop()
		return err
	}
	return nil
}

// run runs one process after the other until ctx ends.
func (p *keyProcess) run(ctx context.Context) {
	defer close(p.ended)
	runtime.LockOSThread() // whose end is what a child on Linux is told of
	for wait := kmsLeast; ; wait = min(2*wait, kmsMost) {
		began := time.Now()
		err := p.command(ctx).Run()
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errors.New("it ended by itself")
		}
		select {
		case p.first <- err:
		default:
		}
		if time.Since(began) > kmsSettled {
			wait = kmsLeast
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		p.log.Warn("the key process ended and is started again", "after", wait, "error", err)
	}
}

// stop ends the process in order and waits for it.
func (p *keyProcess) stop() {
	p.cancel()
	<-p.ended
}
