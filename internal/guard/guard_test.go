package guard

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

// world is a Gate whose rules and trail are in the test's hands.
type world struct {
	*Gate
	rules  []access.Rule
	asked  []string // of Rules
	fail   error    // answers Rules
	events []access.Event
	refuse error // answers Record
}

func (w *world) Rules(_ context.Context, vaultID string, kind access.Kind, id string) ([]access.Rule, error) {
	w.asked = append(w.asked, vaultID+" "+string(kind)+":"+id)
	return w.rules, w.fail
}

func (w *world) Record(_ context.Context, e access.Event) error {
	w.events = append(w.events, e)
	return w.refuse
}

var now = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

func newWorld() *world {
	w := &world{rules: []access.Rule{{Pattern: "db/*", Permissions: []access.Permission{access.Read}, Expires: now.Add(time.Minute)}}}
	w.Gate = New(Config{Rules: w, Recorder: w, Now: func() time.Time { return now }})
	return w
}

var (
	owner = access.Principal{Kind: access.User, ID: "u1", OrgID: "o", Credential: "k1", Addr: netip.MustParseAddr("192.0.2.7"), RequestID: "r1"}
	agent = access.Principal{Kind: access.Agent, ID: "a1", OrgID: "o", Ceiling: &access.Ceiling{Scopes: []string{"**"}}}
	thing = access.Resource{OrgID: "o", OwnerID: "u1", VaultID: "v", Path: "db/x", Type: "secret", ID: "db/x"}
)

func TestADecisionIsRecordedWithAllThatIsKnown(t *testing.T) {
	w := newWorld()
	r := thing
	r.As, r.Details = "secret.versions", map[string]string{"more": "facts"}
	if err := w.Check(t.Context(), owner, access.SecretRead, r); err != nil {
		t.Fatal(err)
	}
	if err := w.Check(t.Context(), agent, access.SecretWrite, thing); !errors.Is(err, fault.Forbidden) {
		t.Fatal(err)
	}
	reason := access.Allow(agent, access.SecretWrite, thing, nil, now).Error()
	want := []access.Event{
		{
			OrgID: "o", ActorType: "user", ActorID: "u1", Action: "secret.versions", ResourceType: "secret", ResourceID: "db/x", Outcome: access.Allowed,
			Details: map[string]string{"vault_id": "v", "path": "db/x", "more": "facts", "credential_id": "k1"}, Addr: owner.Addr, RequestID: "r1",
		},
		{
			OrgID: "o", ActorType: "agent", ActorID: "a1", Action: "secret.write", ResourceType: "secret", ResourceID: "db/x", Outcome: access.Refused,
			Details: map[string]string{"vault_id": "v", "path": "db/x", "reason": reason},
		},
	}
	if diff := cmp.Diff(want, w.events, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestWhatTookEffectIsRecordedOrItsCallerHearsOfIt(t *testing.T) {
	w := newWorld()
	r := thing
	r.As, r.Details = "secret.written", map[string]string{"version": "3"}
	if err := w.Done(t.Context(), owner, access.SecretWrite, r); err != nil {
		t.Fatal(err)
	}
	if e := w.events[0]; len(w.events) != 1 || e.Action != "secret.written" || e.Outcome != access.Done || e.ActorID != "u1" || e.Details["version"] != "3" || e.Details["vault_id"] != "v" || len(w.asked) > 0 {
		t.Errorf("%+v, asked %q", w.events, w.asked)
	}
	w.refuse = errors.New("disk full")
	if err := w.Done(t.Context(), owner, access.SecretWrite, r); !errors.Is(err, fault.Unavailable) {
		t.Errorf("%v", err)
	}
	w.Noter, w.events = noter{w}, nil
	if err := w.Done(t.Context(), owner, access.SecretWrite, r); err != nil || w.events[0].RequestID != "noted" {
		t.Errorf("%v, %+v", err, w.events)
	}
}

type noter struct{ w *world }

func (n noter) Note(e access.Event) error {
	e.RequestID = "noted"
	n.w.events = append(n.w.events, e)
	return nil
}

func TestEachIsRecordedInTheTrailOfItsActor(t *testing.T) {
	w := newWorld()
	for _, c := range []struct {
		p           access.Principal
		a           access.Action
		org, actor  string
		wantRefused bool
	}{
		{access.Principal{Kind: access.User, ID: "s", OrgID: "o2"}, access.SecretRead, "o2", "user", true},
		{access.Principal{}, access.SecretRead, "", "anonymous", true},
		{access.Principal{Kind: access.Operator, ID: "op", OrgID: "o"}, access.Operate, "", "operator", false},
		{access.Principal{Kind: access.Operator, ID: "op", OrgID: "o"}, access.SecretRead, "", "operator", true},
	} {
		w.events = nil
		err := w.Check(t.Context(), c.p, c.a, thing)
		if len(w.events) != 1 || w.events[0].OrgID != c.org || w.events[0].ActorType != c.actor || (w.events[0].Outcome == access.Refused) != c.wantRefused || (err != nil) != c.wantRefused {
			t.Errorf("%s by %s: %v, %+v", c.a, c.p.Ref(), err, w.events)
		}
	}
}

func TestWhatIsNotRecordedIsNotDone(t *testing.T) {
	w := newWorld()
	w.refuse = errors.New("disk full")
	for _, p := range []access.Principal{owner, agent, {}} {
		for _, a := range []access.Action{access.SecretRead, access.SecretWrite, access.VaultDelete} {
			if err := w.Check(t.Context(), p, a, thing); !errors.Is(err, fault.Unavailable) || !errors.Is(err, w.refuse) {
				t.Errorf("%s by %s: %v", a, p.Ref(), err)
			}
		}
	}
}

func TestANameThatIsTooLongToRecordIsTheCallersMistake(t *testing.T) {
	w := newWorld()
	w.refuse = fault.New(fault.Invalid, "too long")
	if err := w.Check(t.Context(), owner, access.SecretRead, thing); fault.Of(err).Code != fault.Invalid {
		t.Errorf("%v", err)
	}
}

func TestWithoutTheRulesNothingIsDecided(t *testing.T) {
	w := newWorld()
	w.fail = fault.New(fault.Damaged, "policies of this vault are damaged")
	if err := w.Check(t.Context(), agent, access.SecretRead, thing); fault.Of(err).Code != fault.Damaged || !errors.Is(err, w.fail) {
		t.Errorf("Check: %v", err)
	}
	if _, err := w.Filter(t.Context(), agent, access.SecretRead, thing); fault.Of(err).Code != fault.Damaged {
		t.Errorf("Filter: %v", err)
	}
	w.fail = errors.New("something")
	if err := w.Check(t.Context(), agent, access.SecretRead, thing); fault.Of(err).Code != fault.Internal {
		t.Errorf("Check: %v", err)
	}
	if err := w.Check(t.Context(), owner, access.SecretRead, thing); err != nil {
		t.Errorf("the creator needs no rules: %v", err)
	}
}

func TestRulesAreReadOnceAndOnlyWhereTheyCount(t *testing.T) {
	w := newWorld()
	w.rules = nil
	for _, c := range []struct {
		what string
		p    access.Principal
		a    access.Action
		r    access.Resource
		want int
	}{
		{"the creator", owner, access.SecretRead, thing, 0},
		{"another org's", access.Principal{Kind: access.User, ID: "s", OrgID: "o2"}, access.SecretRead, thing, 0},
		{"nobody", access.Principal{}, access.SecretRead, thing, 0},
		{"no vault", agent, access.AgentWrite, access.Resource{OrgID: "o"}, 0},
		{"an agent", agent, access.SecretRead, thing, 1},
		{"a mate", access.Principal{Kind: access.User, ID: "m", OrgID: "o"}, access.VaultRead, thing, 1},
	} {
		w.asked = nil
		_ = w.Check(t.Context(), c.p, c.a, c.r)
		if len(w.asked) != c.want || c.want == 1 && w.asked[0] != "v "+c.p.Ref() {
			t.Errorf("%s: asked for %q", c.what, w.asked)
		}
	}
}

func TestMessageTrafficIsRecordedOnlyWhenRefused(t *testing.T) {
	w := newWorld()
	own, others := access.Resource{OrgID: "o", OwnerID: "u1"}, access.Resource{OrgID: "o", OwnerID: "u2"}
	for _, a := range []access.Action{access.MessageAppend, access.MessageRead, access.ThreadRead} {
		w.events, w.refuse = nil, nil
		if err := w.Check(t.Context(), owner, a, own); err != nil || len(w.events) != 0 {
			t.Errorf("%s: %v, %d events", a, err, len(w.events))
		}
		if err := w.Check(t.Context(), owner, a, others); !errors.Is(err, fault.Forbidden) || len(w.events) != 1 {
			t.Errorf("%s of another's: %v, %d events", a, err, len(w.events))
		}
	}
	w.events = nil
	for _, a := range []access.Action{access.ThreadCreate, access.ThreadDelete} {
		if err := w.Check(t.Context(), owner, a, own); err != nil {
			t.Error(err)
		}
	}
	if len(w.events) != 2 {
		t.Errorf("%d events", len(w.events))
	}
}

func TestFilterReadsOnceAndRecordsNothing(t *testing.T) {
	w := newWorld()
	whole := thing
	whole.Path = ""
	for _, c := range []struct {
		p       access.Principal
		allowed string
		reads   int
	}{
		{owner, "db/x db/y web/x", 0},
		{agent, "db/x db/y", 1},
		{access.Principal{Kind: access.Agent, ID: "a1", OrgID: "o", Ceiling: &access.Ceiling{Scopes: []string{"*/x"}}}, "db/x", 1},
		{access.Principal{Kind: access.User, ID: "s", OrgID: "o2"}, "", 0},
	} {
		w.asked = nil
		may, err := w.Filter(t.Context(), c.p, access.SecretRead, whole)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, path := range []string{"db/x", "db/y", "web/x"} {
			if may(path) {
				got += " " + path
			}
		}
		if got != "" {
			got = got[1:]
		}
		if got != c.allowed || len(w.asked) != c.reads || len(w.events) != 0 {
			t.Errorf("%s: %q, %d reads, %d events", c.p.Ref(), got, len(w.asked), len(w.events))
		}
	}
}

// Else a list costs the product of its length and that of all conditions.
func TestFilterJudgesConditionsOnce(t *testing.T) {
	w := newWorld()
	w.rules[0].Conditions = []byte(`{"ip_allowlist":["192.0.2.7"]}`)
	reader := owner
	reader.ID = "u2"
	may, err := w.Filter(t.Context(), reader, access.SecretRead, access.Resource{OrgID: "o", OwnerID: "u1", VaultID: "v"})
	if err != nil || !may("db/x") {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { may("db/x") }); n != 0 {
		t.Errorf("a path costs %v allocations", n)
	}
}

func TestRulesCountByTheClock(t *testing.T) {
	w := newWorld()
	if err := w.Check(t.Context(), agent, access.SecretRead, thing); err != nil {
		t.Error(err)
	}
	w.Now = func() time.Time { return now.Add(time.Minute) }
	if err := w.Check(t.Context(), agent, access.SecretRead, thing); !errors.Is(err, fault.Forbidden) {
		t.Errorf("expired: %v", err)
	}
}
