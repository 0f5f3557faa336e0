package many

import (
	"bytes"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long a process may take to do what it must; a test that runs
// into it fails.
const patience = 2 * time.Minute

// process is a program of ours that can be started again as it was.
type process struct {
	t      testing.TB
	name   string
	args   []string // the program and its arguments
	env    []string
	output output

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
}

// start starts the process, and kills it when the test ends.
func (p *process) start() {
	p.t.Helper()
	cmd, ended := exec.Command(p.args[0], p.args[1:]...), make(chan struct{})
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME")}, p.env...)
	cmd.Stdout, cmd.Stderr = &p.output, &p.output
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal is for "ip netns exec" and what it became
	cmd.WaitDelay = time.Second                           // a PostgreSQL outlives its Patroni, and keeps our pipe
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		cmd.Wait()
		close(ended)
	}()
	p.cmd, p.ended = cmd, ended
	p.t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGCONT)
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
	})
}

// told prints the end of what the process said when the test failed. Call it once.
func (p *process) told() {
	p.t.Cleanup(func() {
		if p.t.Failed() {
			text := p.output.String()
			p.t.Logf("the end of what %s said: %s", p.name, text[max(0, len(text)-3000):])
		}
	})
}

func (p *process) signal(sig syscall.Signal) { syscall.Kill(-p.cmd.Process.Pid, sig) }

// kill ends the process without goodbye.
func (p *process) kill() {
	p.signal(syscall.SIGKILL)
	<-p.ended
}

func (p *process) gone() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// await waits until ok, or until the process has ended.
func (p *process) await(what string, ok func() bool) {
	p.t.Helper()
	for until := time.Now().Add(patience); !ok(); time.Sleep(10 * time.Millisecond) {
		if p.gone() {
			p.t.Fatalf("%s ended: %s", p.name, p.output.String())
		}
		if time.Now().After(until) {
			p.t.Fatalf("waited in vain for %s: %s", p.name, what)
		}
	}
}

// output is what a process says, read while it is written.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}
