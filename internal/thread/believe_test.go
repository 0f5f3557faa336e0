package thread

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/job"
	"github.com/keyfold/keyfold/internal/layout"
)

// always is Config.Believe where a server did not encrypt once.
func always(context.Context) (bool, error) { return true, nil }

func believes(s *Service) bool {
	is, err := s.InClear(context.Background())
	return is && err == nil
}

// forge puts a row in clear in the place of the first message, and returns its ID.
func (x *shift) forge() string {
	id := x.ids[0]
	x.overwrite(x.t, layout.Message(x.thread, id), []byte(`{"id":"`+id+`","thread":"`+x.thread+`","author":"`+owner.ID+`","role":"user","ts":1,"body":"forged"}`))
	return id
}

func TestARowInClearIsRefusedInAThreadThatIsEncrypted(t *testing.T) {
	x := newPlain(t, 12)
	x.encryptExisting(x.store, EncryptArgs{})
	always := newShift(t, 12)
	for _, y := range []*shift{x, always} {
		id := y.forge()
		for _, s := range []*Service{y.another(), y.plainServer()} {
			wantCode(t, second(s.GetMessage(t.Context(), owner, y.thread, id)), fault.Damaged)
			wantCode(t, second(s.ListMessages(t.Context(), owner, y.thread, MessageQuery{})), fault.Damaged)
			wantCode(t, second(s.EditMessage(t.Context(), owner, y.thread, id, api.EditMessage{Body: quoted("x")})), fault.Damaged)
		}
	}
}

// The thread's record proves nothing: whoever writes to the store can write that,
// too.
func TestARowInClearIsRefusedWhereNoServerEverStoredSuch(t *testing.T) {
	for what, change := range map[string]func(*meta){
		"as without a DEK":   func(m *meta) { m.Plain, m.KMS = true, kmsMeta{} },
		"as being encrypted": func(m *meta) { m.Moving = &moving{Last: "9"} },
	} {
		x := newShift(t, 3)
		x.editMeta(t, x.thread, change)
		id := x.forge()
		for believes, want := range map[bool]bool{true: true, false: false} {
			s := New(Config{Store: x.store, KMS: x.kms, Gate: x.asked, Now: x.now, Believe: func(context.Context) (bool, error) { return believes, nil }})
			text, err := s.GetMessage(t.Context(), owner, x.thread, id)
			if strings.Contains(string(text), "forged") != want || (err == nil) != want {
				t.Errorf("%s, believes %v: %s, %v", what, believes, text, err)
			}
		}
		s := New(Config{Store: x.store, KMS: x.kms, Gate: x.asked, Now: x.now})
		if j := x.encryptBy(s, EncryptArgs{}); j.Failed == 0 {
			t.Errorf("%s: the job ended as %+v and names no failure", what, j)
		}
		if text, err := s.GetMessage(t.Context(), owner, x.thread, id); err == nil {
			t.Errorf("%s, after the job: %s", what, text)
		}
	}
}

// A server that does not know whether rows in clear are to be believed answers no row
// and makes no thread in clear, and asks again.
func TestWhetherRowsInClearAreBelievedIsAskedUntilItIsAnswered(t *testing.T) {
	x := newPlain(t, 3)
	asked := 0
	answer := error(fault.New(fault.Unavailable, "away"))
	ask := func(context.Context) (bool, error) { asked++; return true, answer }
	s := New(Config{Store: x.store, KMS: x.kms, Gate: x.asked, Now: x.now, Believe: ask})
	plain := New(Config{Store: x.store, KMS: x.kms, Gate: x.asked, Now: x.now, Believe: ask, Plain: true})
	for range 2 {
		wantCode(t, second(s.GetMessage(t.Context(), owner, x.thread, x.ids[0])), fault.Unavailable)
		wantCode(t, second(plain.Create(t.Context(), owner, api.CreateThread{})), fault.Unavailable)
	}
	asked, answer = 0, nil
	for range 2 {
		x.must(second(s.GetMessage(t.Context(), owner, x.thread, x.ids[0])))
		x.must(second(plain.Create(t.Context(), owner, api.CreateThread{})))
	}
	if asked != 2 {
		t.Errorf("two servers asked %d times", asked)
	}
	later := func(context.Context) (bool, error) {
		if asked++; asked == 3 {
			return false, fault.New(fault.Unavailable, "away")
		}
		return true, nil
	}
	s = New(Config{Store: x.store, KMS: x.kms, Gate: x.asked, Now: x.now, Believe: later})
	if j := x.encryptBy(s, EncryptArgs{}); j.Status != job.Completed || j.Failed > 0 {
		t.Errorf("the job that had to wait ended as %+v", j)
	}
}

// Only the end of a job that has encrypted everything ends the belief.
func TestRowsInClearAreBelievedUntilAllAreEncrypted(t *testing.T) {
	x := newPlain(t, 3)
	other := x.plainServer()
	rest, err := other.Create(t.Context(), owner, api.CreateThread{})
	x.must(err)
	told := 0
	s := New(Config{Store: x.store, KMS: x.kms, Gate: x.asked, Now: x.now, Believe: always, Encrypted: func(context.Context) error { told++; return nil }})
	for _, step := range []struct {
		args     EncryptArgs
		believes bool
	}{{EncryptArgs{Threads: []string{x.thread}}, true}, {EncryptArgs{Threads: []string{rest.ID}}, true}, {EncryptArgs{}, false}} {
		if j := x.encryptBy(s, step.args); j.Status != job.Completed || believes(s) != step.believes || (told == 1) == step.believes {
			t.Errorf("after %+v: %+v, believes %v, told %d times", step.args, j, believes(s), told)
		}
	}
}

// A thread that another job took away from this one, or whose rows are on their way
// out, may lie in clear: the job says so, and rows in clear are believed as before.
func TestAnEncryptionThatCannotVouchForAThreadNamesIt(t *testing.T) {
	for name, meanwhile := range map[string]func(*meta){
		"another job": func(m *meta) { m.Moving.Job = "another" },
		"a purge":     func(m *meta) { m.Deleted, m.Purge, m.KMS, m.Moving = true, &purging{}, kmsMeta{}, nil },
	} {
		x := newPlain(t, 60)
		told := 0
		s := New(Config{Store: x.store, KMS: x.kms, Gate: x.asked, Now: x.now, Believe: always, Encrypted: func(context.Context) error { told++; return nil }})
		s.moveBatch = 20
		n := 0
		x.store.afterCommit = func() error {
			if n++; n == 3 {
				x.editMeta(t, x.thread, meanwhile)
			}
			return nil
		}
		j := x.encryptBy(s, EncryptArgs{})
		if len(x.inClear()) == 0 {
			t.Errorf("%s: nothing is in clear; the test needs some", name)
		}
		if !slices.Equal(j.FailedOf, []string{"thread " + x.thread}) || told > 0 || !believes(s) {
			t.Errorf("%s: the job ended as %+v, said %d times that all is encrypted, and believes %v", name, j, told, believes(s))
		}
	}
}

// The last batch was committed, and then the server began to encrypt no more.
func TestAServerThatDoesNotEncryptDoesNotSayThatAllIsEncrypted(t *testing.T) {
	told := 0
	s := New(Config{Plain: true, Encrypted: func(context.Context) error { told++; return nil }})
	if err := s.EncryptKind().Done(t.Context(), job.Job{Args: []byte("{}")}); !errors.Is(err, fault.Conflict) || told > 0 {
		t.Errorf("%v, told %d times", err, told)
	}
}

// A row in clear is told by the ID of its message alone: in another one's place it is
// damaged.
func TestARowInClearIsNoOtherMessages(t *testing.T) {
	x := newPlain(t, 2)
	for _, s := range []*Service{x.plainServer(), x.another()} {
		x.overwrite(t, newestRow(x.ids[0]).key(x.thread), x.get(t, newestRow(x.ids[1]).key(x.thread)))
		wantCode(t, second(s.GetMessage(t.Context(), owner, x.thread, x.ids[0])), fault.Damaged)
		wantCode(t, second(s.ListMessages(t.Context(), owner, x.thread, MessageQuery{})), fault.Damaged)
	}
}
