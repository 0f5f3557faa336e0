package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

// postWorkers is how many messages are posted at once.
const postWorkers = 32

// poster brings the lines of a file into a thread, many at once. Order is that
// of their times. A line waits for the one before it when both have one time,
// and for the line that it answers.
type poster struct {
	c      *client.Client
	thread string
	plan   *msgPlan
	bar    cli.Bar

	// Owned by the reader of the file.
	present presence
	targets map[string]*posting // lines that others answer, by their ID in the file
	last    *posting            // the line before
	already int                 // lines that the thread had before

	mu      sync.Mutex
	written int           // owned by mu
	failure error         // the first one; owned by mu
	failed  chan struct{} // closed with the first failure
}

// posting is a line on its way.
type posting struct {
	msgLine
	before []*posting    // must be in the thread first
	answer *posting      // the line that this one answers, when it is in the file
	done   chan struct{} // closed when id is final
	id     string        // in the thread; empty when it did not get there
}

var (
	errStopped = errors.New("stopped")
	errEarlier = errors.New("an earlier line was not imported")
)

// run imports the whole file. At the first error, or when ctx ends, it begins
// no more posts and lets those under way finish.
func (p *poster) run(ctx context.Context) error {
	f, err := os.Open(p.plan.file)
	if err != nil {
		return err
	}
	defer f.Close()
	work, release := outlive(ctx, finishTime)
	defer release()
	p.targets, p.failed = map[string]*posting{}, make(chan struct{})
	queue := make(chan *posting)
	var wg sync.WaitGroup
	for range postWorkers {
		wg.Go(func() {
			for m := range queue {
				p.post(work, m)
			}
		})
	}
	err = readLines(f, p.plan.plain, func(l msgLine) error { return p.dispatch(ctx, queue, l) })
	close(queue)
	wg.Wait()
	switch {
	case p.failure != nil:
		return p.failure
	case errors.Is(err, errStopped):
		return ctx.Err()
	}
	return err
}

// dispatch hands a line to the workers, unless the thread has it.
func (p *poster) dispatch(ctx context.Context, queue chan<- *posting, l msgLine) error {
	m := p.prepare(l)
	if m.id != "" {
		p.already++
		p.bar.Add()
		return nil
	}
	select {
	case <-ctx.Done():
		return errStopped
	case <-p.failed:
		return errStopped
	case queue <- m:
		return nil
	}
}

// prepare finds a line in the thread, or what it must wait for.
func (p *poster) prepare(l msgLine) *posting {
	m := &posting{msgLine: l, done: make(chan struct{})}
	m.TS = p.plan.time(l)
	if m.id = p.present.take(mark(m.TS, m.Role, m.Body)); m.id != "" {
		close(m.done)
	}
	if p.last != nil && p.last.TS == m.TS {
		m.before = append(m.before, p.last)
	}
	if t := p.targets[l.ReplyTo]; t != nil {
		m.answer, m.before = t, append(m.before, t)
	}
	if l.id != "" && p.plan.repliedTo[l.id] {
		p.targets[l.id] = m
	}
	p.last = m
	return m
}

func (p *poster) post(ctx context.Context, m *posting) {
	defer close(m.done)
	for _, b := range m.before {
		<-b.done
		if b.id == "" {
			p.fail(m, errEarlier)
			return
		}
	}
	m.before = nil // or a chain of lines would keep all of them
	if m.answer != nil {
		m.ReplyTo = m.answer.id
	}
	got, err := p.c.PostMessage(ctx, p.thread, m.PostMessage)
	if err != nil {
		p.fail(m, err)
		return
	}
	m.id = got.ID
	p.mu.Lock()
	p.written++
	p.mu.Unlock()
	p.bar.Add()
}

// fail keeps the first failure and stops the reader.
func (p *poster) fail(m *posting, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failure == nil {
		p.failure = fmt.Errorf("line %d: %w", m.no, err)
		close(p.failed)
	}
}
