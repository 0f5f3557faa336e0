package thread

import (
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/storetest/fresh"
	"pgregory.net/rapid"
)

// The model test has eight people of two orgs do what they like, on two servers that
// share a store and the real KMS, while an operator rotates KEKs and DEKs, destroys
// what was rotated out, purges, and restarts all of it. The model says what each call
// answers. It lies in these files:
//
//	model_test.go          the model, and how many operations are done
//	model_rig_test.go      servers, KMS, stores, clock and restarts
//	model_kms_test.go      the KMS behind a socket or mutual TLS, as KEYFOLD_TEST_KMS says
//	model_people_test.go   who they are and what each may
//	model_threads_test.go  operations on threads
//	model_messages_test.go operations that change messages
//	model_reads_test.go    reads, in all ways
//	model_transfer_test.go export and import
//	model_events_test.go   those who follow
//	model_jobs_test.go     rotations and encryption, a step at a time
//	model_purge_test.go    retention and legal holds

// model is what the servers should hold.
type model struct {
	*rig
	threads  []*modelThread // in the order of their making
	policies map[string]api.Retention
	jobs     map[string]*modelJob // that are under way, by what they are for
	follows  []*modelFollower

	done map[string]int // operations, by name
	fine map[string]int // those that were not refused
	now  string         // name of the operation that is at work
}

type modelThread struct {
	api.Thread // as its owner sees it, without the facts of its DEK
	by         access.Principal
	parts      []api.Participant
	held       bool
	purged     bool
	messages   []*modelMessage // sorted by ID
	lost       []string        // IDs of messages that were purged
	sent       map[string]modelRequest
	changes    []change // as its store has them, in order
}

// modelMessage is a message as it is answered now, and was: all its versions.
type modelMessage struct {
	api.Message
	versions []api.Message
	posted   []byte // its first body, to the byte
}

// modelRequest is a request with an idempotency key, a post or an edit, and what it made.
type modelRequest struct {
	post    api.PostMessage
	edit    api.EditMessage
	message string
	version int // 1: it was a post
	at      int64
}

// operation is something that somebody does.
type operation struct {
	name   string
	weight int
	do     func(*rapid.T)
}

func (m *model) operations() []operation {
	return []operation{
		{"create", 2, m.create}, {"delete thread", 1, m.deleteThread}, {"rename", 1, m.rename}, {"get thread", 1, m.getThread}, {"list threads", 2, m.listThreads},
		{"share", 3, m.share}, {"unshare", 1, m.unshare}, {"participants", 1, m.participants},
		{"post", 12, m.post}, {"edit", 5, m.edit}, {"delete message", 3, m.deleteMessage}, {"react", 4, m.react},
		{"page", 8, m.page}, {"get message", 2, m.getMessage}, {"versions", 3, m.history}, {"count", 1, m.number}, {"stats", 1, m.stats},
		{"export", 1, m.export}, {"import", 1, m.importThread},
		{"follow", 2, m.follow}, {"hear", 4, m.hear},
		{"rotate DEK", 6, m.rotateDEK}, {"rotate all DEKs", 3, m.rotateAllDEKs}, {"rotate KEK", 3, m.rotateKEK}, {"destroy KEK version", 1, m.destroyKEKVersion}, {"encrypt existing", 3, m.encryptExisting},
		{"hold", 1, m.hold}, {"release", 1, m.release}, {"set retention", 1, m.setRetention}, {"purge", 1, m.purge},
		{"wait", 2, m.wait}, {"wait days", 1, m.waitDays}, {"restart", 2, m.restart},
	}
}

func TestTheServersDoWhatTheirModelDoes(t *testing.T) {
	long := os.Getenv("KEYFOLD_LONG") != ""
	want, steps, checks := 15_000, "300", "1"
	if testing.Short() {
		want, checks = 3000, "5" // of which rapid makes a fifth
	}
	if long {
		want, steps = 100_000, "1000"
	} else if fresh.Postgres() {
		want = 3000
	}
	setFlags(t, map[string]string{"rapid.steps": steps, "rapid.checks": checks, "rapid.nofailfile": "true"})
	done, fine, began := map[string]int{}, map[string]int{}, time.Now()
	total := func() (n int) {
		for _, one := range done {
			n += one
		}
		return n
	}
	for total() < want && !t.Failed() {
		rapid.Check(t, func(r *rapid.T) {
			dir := ""
			if long {
				dir = t.TempDir()
			}
			m := newModel(r, dir, fresh.Store(t), fresh.Store(t))
			m.done, m.fine = done, fine
			defer m.close()
			r.Repeat(map[string]func(*rapid.T){"operation": m.something()})
			m.settle(r)
		})
	}
	if t.Failed() {
		return
	}
	for _, op := range new(model).operations() {
		t.Logf("%-20s %6d, %6d of them not refused", op.name, done[op.name], fine[op.name])
		if fine[op.name] == 0 && want > 10_000 {
			t.Errorf("%q was never done", op.name)
		}
	}
	t.Logf("%d operations in %v", total(), time.Since(began).Round(time.Second))
}

// setFlags sets flags for the time of a test.
func setFlags(t *testing.T, flags map[string]string) {
	for name, value := range flags {
		before := flag.Lookup(name).Value.String()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { flag.Set(name, before) })
	}
}

func newModel(t *rapid.T, dir string, rows, keys store.Store) *model {
	m := &model{rig: newRig(t, dir, rows, keys), policies: map[string]api.Retention{}, jobs: map[string]*modelJob{}}
	m.encrypts = rapid.Bool().Draw(t, "encrypts")
	m.believes = !m.encrypts
	m.open(t)
	return m
}

// something is one of the operations, each as often as it has weight. It never skips:
// rapid ends a run in which many do.
func (m *model) something() func(*rapid.T) {
	var all []operation
	for _, op := range m.operations() {
		all = append(all, slices.Repeat([]operation{op}, op.weight)...)
	}
	return func(t *rapid.T) {
		op := all[between(t, "operation", 0, len(all)-1)]
		t.Log(op.name)
		m.now = op.name
		m.gate.Asked() // or it would remember all
		refused := m.refused
		op.do(t)
		m.done[op.name]++
		if m.refused == refused {
			m.fine[op.name]++
		}
	}
}

// between draws a number from low to high, all as often: rapid's own draws prefer small ones.
func between(t *rapid.T, what string, low, high int) int {
	const bits = 10
	return rapid.Custom(func(t *rapid.T) (n int) {
		for range bits {
			n *= 2
			if rapid.Bool().Draw(t, "bit") {
				n++
			}
		}
		return low + n*(high-low+1)>>bits
	}).Draw(t, what)
}

func pick[T any](t *rapid.T, what string, from []T) T { return from[between(t, what, 0, len(from)-1)] }

// answered fails the test when err is not of the code want; "": nil. It reports
// whether err is nil.
func (m *model) answered(t *rapid.T, err error, want fault.Code) bool {
	t.Helper()
	if want == "" && err != nil || want != "" && !errorIs(err, want) {
		t.Fatalf("%s: error %v (%v), want %q", m.now, err, fault.Of(err).Code, want)
	}
	if want != "" {
		m.refused++
	}
	return want == ""
}

// settle takes all jobs to their ends, and looks at all once more.
func (m *model) settle(t *rapid.T) {
	m.now = "the end"
	for _, what := range slices.Sorted(maps.Keys(m.jobs)) {
		for m.jobs[what] != nil {
			m.step(t, what)
		}
	}
	m.restartAll(t)
	for _, f := range slices.Clone(m.follows) {
		m.hearOne(t, f)
	}
	for _, th := range m.threads {
		if !th.purged && !th.Deleted {
			m.exported(t, th.by, th)
		}
	}
	m.keysAreNamed(t)
	m.rowsAreWhole(t)
	m.clearIsGone(t)
}

// some is a thread, mostly one that is there.
func (m *model) some(t *rapid.T) *modelThread {
	live := slices.DeleteFunc(slices.Clone(m.threads), func(th *modelThread) bool { return th.Deleted || th.purged })
	if len(live) == 0 || len(m.threads) < 3 {
		return m.makeThread(t, m.anybody(t))
	}
	if between(t, "any", 0, 9) == 0 {
		return pick(t, "thread", m.threads)
	}
	return pick(t, "live thread", live)
}

// one is a message of a thread, which gets one if it has none.
func (m *model) one(t *rapid.T, th *modelThread) *modelMessage {
	if len(th.messages) == 0 {
		if th.Deleted || th.purged {
			return &modelMessage{Message: api.Message{ID: "00000000000000000001-999999", Deleted: true}}
		}
		m.postAs(t, th.by, th, api.PostMessage{Body: quoted("first")}, "")
	}
	return pick(t, "message", th.messages)
}

// find is the message of an ID; nil: there is none.
func (th *modelThread) find(id string) *modelMessage {
	if at, ok := th.place(id); ok {
		return th.messages[at]
	}
	return nil
}

func (th *modelThread) place(id string) (int, bool) { return placeOf(th.messages, id) }

func placeOf(messages []*modelMessage, id string) (int, bool) {
	return slices.BinarySearchFunc(messages, id, func(m *modelMessage, id string) int { return strings.Compare(m.ID, id) })
}

// live are the messages that are not deleted.
func (th *modelThread) live() (out []*modelMessage) {
	for _, msg := range th.messages {
		if !msg.Deleted {
			out = append(out, msg)
		}
	}
	return out
}

// has reports whether there is a message of that ID that is not deleted.
func (th *modelThread) has(id string) bool {
	msg := th.find(id)
	return msg != nil && !msg.Deleted
}

// add puts a message that was just posted where it belongs.
func (th *modelThread) add(t *rapid.T, msg api.Message, body []byte) {
	at, there := th.place(msg.ID)
	if there {
		t.Fatalf("two messages have ID %s", msg.ID)
	}
	if at < len(th.messages) && th.messages[at].TS == msg.TS && len(th.lost) == 0 {
		t.Fatalf("%s was stored after %s", msg.ID, th.messages[at].ID)
	}
	th.messages = slices.Insert(th.messages, at, &modelMessage{Message: msg, versions: []api.Message{msg}, posted: body})
}

// next makes now the newest version.
func (msg *modelMessage) next(now api.Message) {
	msg.Message = now
	if !now.Deleted {
		now.Reactions = nil
	}
	msg.versions = append(msg.versions, now)
}
