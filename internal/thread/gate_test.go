package thread

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// noID is of no message.
const noID = "00000000000000000001-000000"

// onThread is every method that names a thread.
var onThread = map[string]func(s *Service, ctx context.Context, p access.Principal, thread string) error{
	"Get": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.Get(ctx, p, t))
	},
	"Delete": (*Service).Delete,
	"Post": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.Post(ctx, p, t, api.PostMessage{Body: json.RawMessage(`1`)}))
	},
	"Follow": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		f, err := s.Follow(ctx, p, t, "")
		if err == nil {
			f.Close()
		}
		return err
	},
	"ListMessages": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.ListMessages(ctx, p, t, MessageQuery{}))
	},
	"GetMessage": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.GetMessage(ctx, p, t, noID))
	},
	"PostWith": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.PostWith(ctx, p, t, api.PostMessage{Body: json.RawMessage(`1`)}, PostOptions{IdempotencyKey: "k"}))
	},
	"Page": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.Page(ctx, p, t, MessageQuery{}))
	},
	"Count": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.Count(ctx, p, t))
	},
	"EditMessage": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.EditMessage(ctx, p, t, noID, api.EditMessage{Role: "x"}))
	},
	"EditWith": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.EditWith(ctx, p, t, noID, api.EditMessage{Role: "x"}, PostOptions{IdempotencyKey: "k"}))
	},
	"DeleteMessage": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return s.DeleteMessage(ctx, p, t, noID)
	},
	"ListVersions": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.ListVersions(ctx, p, t, noID, 0, ""))
	},
	"React": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.React(ctx, p, t, noID, api.Reaction{Reaction: "x"}))
	},
	"Unreact": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return s.Unreact(ctx, p, t, noID, "")
	},
	"ListReactions": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.ListReactions(ctx, p, t, noID))
	},
	"Rename": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.Rename(ctx, p, t, api.UpdateThread{Title: "x"}))
	},
	"Export": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return s.Export(ctx, p, nil, t, io.Discard)
	},
	"Import": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.Import(ctx, p, t, nil))
	},
	"Participants": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.Participants(ctx, p, t))
	},
	"SetParticipant": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return second(s.SetParticipant(ctx, p, t, "u1", api.PutParticipant{Part: "read", EndUser: true}))
	},
	"RemoveParticipant": func(s *Service, ctx context.Context, p access.Principal, t string) error {
		return s.RemoveParticipant(ctx, p, t, "u1", true)
	},
}

// onNone is every other method.
var onNone = map[string]func(s *Service, ctx context.Context, p access.Principal) error{
	"Create": func(s *Service, ctx context.Context, p access.Principal) error {
		return second(s.Create(ctx, p, api.CreateThread{}))
	},
	"List": func(s *Service, ctx context.Context, p access.Principal) error {
		return second(s.List(ctx, p, ListQuery{}))
	},
	"PageThreads": func(s *Service, ctx context.Context, p access.Principal) error {
		return second(s.PageThreads(ctx, p, ThreadQuery{}))
	},
	"PostFirst": func(s *Service, ctx context.Context, p access.Principal) error {
		return second(s.PostFirst(ctx, p, api.PostMessage{Body: json.RawMessage(`1`)}, PostOptions{}))
	},
}

// ofOrgs are the methods of those who run an org; see hold_test.go and purge_test.go.
var ofOrgs = []string{"Hold", "GetHold", "Release", "Retention", "SetRetention", "PreviewRetention"}

func second[T any](_ T, err error) error { return err }

// Methods without a principal are the operator's, who asks for nothing of what a thread says.
func TestTheGateTablesNameEveryMethod(t *testing.T) {
	var methods []string
	for m := range reflect.TypeFor[*Service]().Methods() {
		if slices.Contains(slices.Collect(m.Type.Ins()), reflect.TypeFor[access.Principal]()) {
			methods = append(methods, m.Name)
		}
	}
	named := slices.Sorted(maps.Keys(onThread))
	named = append(named, slices.Sorted(maps.Keys(onNone))...)
	named = append(named, ofOrgs...)
	slices.Sort(named)
	if diff := cmp.Diff(methods, named); diff != "" {
		t.Error("a method has no row in the gate's tests:\n" + diff)
	}
}

func TestWhoMayNotIsRefusedBeforeAnythingIsTouched(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "a thread")
	w.say(t, th.ID, "a message")
	gone := w.thread(t, owner, "deleted")
	if err := w.Delete(t.Context(), owner, gone.ID); err != nil {
		t.Fatal(err)
	}
	before, calls := w.dump(t), w.kms.calls.Load()

	for name, call := range onThread {
		for _, c := range []struct {
			who    string
			p      access.Principal
			thread string
			want   fault.Code
		}{
			{"nobody", nobody, th.ID, fault.Unauthenticated},
			{"nobody, unknown thread", nobody, uuid.NewString(), fault.Unauthenticated},
			{"a stranger", stranger, th.ID, fault.NotFound},
			{"a stranger, deleted thread", stranger, gone.ID, fault.NotFound},
			{"a mate", mate, th.ID, fault.Forbidden},
			{"a mate, deleted thread", mate, gone.ID, fault.NotFound},
			{"the owner, deleted thread", owner, gone.ID, fault.NotFound},
			{"the owner, unknown thread", owner, uuid.NewString(), fault.NotFound},
		} {
			if err := call(w.Service, t.Context(), c.p, c.thread); !errorIs(err, c.want) {
				t.Errorf("%s by %s: %v, want %v", name, c.who, err, c.want)
			}
		}
	}
	for name, call := range onNone {
		if err := call(w.Service, t.Context(), nobody); !errorIs(err, fault.Unauthenticated) {
			t.Errorf("%s by nobody: %v, want %v", name, err, fault.Unauthenticated)
		}
	}
	w.unchanged(t, before)
	if w.kms.calls.Load() != calls {
		t.Error("the KMS was called for someone who may not")
	}
}

func TestUnknownDeletedAndForeignThreadsAnswerAlikeToTheByte(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "a thread")
	gone := w.thread(t, owner, "deleted")
	if err := w.Delete(t.Context(), owner, gone.ID); err != nil {
		t.Fatal(err)
	}
	for name, call := range onThread {
		want := fault.Of(call(w.Service, t.Context(), stranger, th.ID)) // another org's
		for what, err := range map[string]error{
			"deleted":          call(w.Service, t.Context(), owner, gone.ID),
			"deleted, foreign": call(w.Service, t.Context(), stranger, gone.ID),
			"unknown":          call(w.Service, t.Context(), owner, uuid.NewString()),
			"empty":            call(w.Service, t.Context(), owner, ""),
			"key-like":         call(w.Service, t.Context(), owner, th.ID+":msg:1"),
			"slashes":          call(w.Service, t.Context(), owner, "../"+th.ID),
			"braces":           call(w.Service, t.Context(), owner, "{"+th.ID+"}"),
			"very long":        call(w.Service, t.Context(), owner, strings.Repeat("a", 1<<20)),
			"not UTF-8":        call(w.Service, t.Context(), owner, "\xff\x00"),
		} {
			got := fault.Of(err)
			if got.Code != want.Code || got.Message != want.Message || got.Type != want.Type {
				t.Errorf("%s of %s thread: %v %q, want %v %q", name, what, got.Code, got.Message, want.Code, want.Message)
			}
		}
	}
}

func TestAMalformedThreadIDBecomesNoKeyOfTheStore(t *testing.T) {
	w := newWorld(t)
	for name, call := range onThread {
		for _, id := range []string{"", "x", "x:msg:1", "../x", strings.Repeat("a", 36), strings.Repeat("a", 1<<20), "urn:uuid:" + uuid.NewString()} {
			if err := call(w.Service, t.Context(), owner, id); !errorIs(err, fault.NotFound) {
				t.Errorf("%s of %.40q: %v", name, id, err)
			}
		}
	}
	if n := w.store.gets.Load() + w.store.scans.Load(); n != 0 {
		t.Errorf("%d reads of the store", n)
	}
}

func errorIs(err error, code fault.Code) bool { return err != nil && fault.Of(err).Code == code }
