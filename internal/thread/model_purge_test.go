package thread

import (
	"context"
	"slices"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"pgregory.net/rapid"
)

func (m *model) hold(t *rapid.T) {
	th := m.some(t)
	p := m.anybody(t)
	_, err := m.at(t).Hold(context.Background(), p, th.ID, api.PutHold{Reason: "case 7"})
	if m.answered(t, err, th.mayHold(p)) {
		th.held = true
	}
}

func (m *model) release(t *rapid.T) {
	th := m.some(t)
	if held := slices.DeleteFunc(slices.Clone(m.threads), func(th *modelThread) bool { return !th.held }); len(held) > 0 {
		th = pick(t, "held", held)
	}
	p := m.anybody(t)
	if m.answered(t, m.at(t).Release(context.Background(), p, th.ID), th.mayHold(p)) {
		th.held = false
	}
}

func (m *model) setRetention(t *rapid.T) {
	days := []int{0, 0, 1, 3, 30}
	p, want := m.anybody(t), fault.Code("")
	if !leads(p) {
		want = fault.Forbidden
	}
	policy := api.Retention{DeletedDays: pick(t, "deleted", days), MessageDays: pick(t, "messages", days)}
	_, err := m.at(t).SetRetention(context.Background(), p, policy)
	if m.answered(t, err, want) {
		m.policies[p.OrgID] = policy
	}
	got, err := m.at(t).Retention(context.Background(), p)
	if m.answered(t, err, want) {
		m.equal(t, m.policies[p.OrgID], got)
	}
}

// expired is what the policy of a thread's org says of it at a time: that all of it
// goes, or which messages.
func (m *model) expired(th *modelThread, now int64) (whole bool, messages []*modelMessage) {
	policy := m.policies[th.by.OrgID]
	old := func(ts int64, days int) bool { return days > 0 && ts <= now-int64(days)*int64(day) }
	if th.purged || th.Deleted && old(th.DeletedTS, policy.DeletedDays) {
		return !th.purged, nil
	}
	for _, msg := range th.messages {
		if old(msg.TS, policy.MessageDays) || msg.Deleted && old(msg.UpdatedTS, policy.DeletedDays) {
			messages = append(messages, msg)
		}
	}
	return false, messages
}

// purge runs retention to its end, with restarts in between, after a look at what it
// will do.
func (m *model) purge(t *rapid.T) {
	s, want, total := m.at(t), map[string]api.RetentionPreview{}, 0
	now := m.clock.Load()
	for _, th := range m.threads {
		seen := want[th.by.OrgID]
		switch whole, messages := m.expired(th, now); {
		case !whole && len(messages) == 0:
		case th.held:
			seen.Held++
		case whole:
			seen.Threads++
			total++
		default:
			seen.Messages += len(messages)
			total += len(messages)
		}
		want[th.by.OrgID] = seen
	}
	for _, p := range people {
		if leads(p) {
			got, err := s.PreviewRetention(context.Background(), p, nil)
			m.answered(t, err, "")
			m.equal(t, want[p.OrgID], got)
		}
	}
	j, err := s.StartPurge(context.Background(), m)
	m.answered(t, err, "")
	run := m.jobs[j.ID]
	for m.jobs[j.ID] != nil {
		m.step(t, j.ID)
		if between(t, "restart", 0, 5) == 0 {
			m.restartAll(t)
		}
	}
	if run.Processed != total {
		t.Fatalf("%d threads and messages were purged, want %d", run.Processed, total)
	}
	for _, th := range m.threads {
		m.purgeThread(t, th, now)
	}
	m.keysAreNamed(t)
}

// purgeThread takes out of the model what a run has purged, of which who follows hears,
// and the requests that it has forgotten.
func (m *model) purgeThread(t *rapid.T, th *modelThread, now int64) {
	for key, sent := range th.sent {
		if sent.at < now-int64(sweepAge) {
			delete(th.sent, key)
		}
	}
	if th.held {
		return
	}
	whole, messages := m.expired(th, now)
	if th.purged = th.purged || whole; whole {
		th.messages = nil
	}
	last := ""
	for _, msg := range messages {
		if !msg.Deleted && !th.Deleted {
			last = msg.ID
		}
		at, _ := th.place(msg.ID)
		th.messages = slices.Delete(th.messages, at, at+1)
		th.lost = append(th.lost, msg.ID)
	}
	if whole || last == "" {
		return
	}
	said := ""
	for _, c := range m.newChanges(t, th) { // one of each batch
		if c.Kind != changePurged || c.Message <= said {
			t.Fatalf("after %q was purged: %+v", said, c)
		}
		said = c.Message
	}
	if said != last {
		t.Fatalf("who follows hears that all up to %q was purged, and it was %q", said, last)
	}
}
