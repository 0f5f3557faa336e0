package trail

import "time"

// Stats is how a Trail stands.
type Stats struct {
	Waiting int       // events that are not on stable storage yet
	Last    time.Time // when the last commit of events was done by this process; zero: none yet
	Failed  uint64    // events that were refused since a commit failed
}

// Stats tells how t stands.
func (t *Trail) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Stats{Last: t.stored, Failed: t.failed, Waiting: t.committed}
	for _, g := range t.waiting {
		s.Waiting += len(g.records)
	}
	return s
}

// begins notes that a commit of n events begins.
func (t *Trail) begins(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.committed = n
}

// done notes how it ended.
func (t *Trail) done(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.failed += uint64(t.committed)
	} else {
		t.stored = t.now()
	}
	t.committed = 0
}
