package policy

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
)

var updateReaders = flag.Bool("update-readers", false, "write testdata/readers.json anew")

const readersFile = "testdata/readers.json"

// readers is what testdata/readers.json holds: what the server decided in many cases.
// The dashboard works out who can read a secret (web/ui/src/decide.ts, glob.ts), and
// its tests hold it to the same file; so neither can drift from the other.
type readers struct {
	From    []netip.Addr `json:"from"` // where the calls come from
	Matches []matchCase  `json:"matches"`
	Cases   []readerCase `json:"cases"`
}

type matchCase struct {
	Pattern string `json:"pattern"`
	Path    string `json:"path"`
	Matches bool   `json:"matches"`
}

// readerCase is a principal, a path, and the policies of the vault.
type readerCase struct {
	Kind     access.Kind        `json:"kind"`
	ID       string             `json:"id"`
	Agent    *readerAgent       `json:"agent,omitempty"`
	Path     string             `json:"path"`
	Policies []api.CreatePolicy `json:"policies"`
	Calls    []readerCalls      `json:"calls"`
}

type readerAgent struct {
	Scopes   []string `json:"scopes"`
	VaultIDs []string `json:"vault_ids"`
}

// readerCalls are calls of one moment, one from each address of readers.From.
type readerCalls struct {
	Now   time.Time `json:"now"`
	Reads string    `json:"reads"` // "1" for each that reads, "0" for each that does not
}

func TestWhoReadsIsWhatTheDashboardIsHeldTo(t *testing.T) {
	if *updateReaders {
		writeReaders(t)
	}
	raw, err := os.ReadFile(readersFile)
	if err != nil {
		t.Fatal(err)
	}
	var file readers
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&file); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, c := range file.Matches {
		if got := access.Match(c.Pattern, c.Path); got != c.Matches {
			t.Errorf("Match(%q, %q) = %t", c.Pattern, c.Path, got)
		}
		seen[fmt.Sprint("matches ", c.Matches)]++
	}
	for i, c := range file.Cases {
		rules, ceiling := c.stored(t)
		for _, calls := range c.Calls {
			if got := c.reads(file.From, rules, ceiling, calls.Now); got != calls.Reads {
				t.Errorf("case %d at %s: %s, the file says %s", i, calls.Now, got, calls.Reads)
			}
			seen[outcome(calls.Reads)]++
		}
	}
	for _, what := range []string{"matches true", "matches false", "all", "none", "some"} {
		if seen[what] < 40 {
			t.Errorf("%d cases of %q; the file says little", seen[what], what)
		}
	}
}

func outcome(reads string) string {
	switch strings.Count(reads, "1") {
	case 0:
		return "none"
	case len(reads):
		return "all"
	}
	return "some"
}

// stored gives the policies by way of a Service, and returns what is decided by.
func (c readerCase) stored(t *testing.T) ([]access.Rule, *access.Ceiling) {
	t.Helper()
	w := newWorld(t)
	for _, req := range c.Policies {
		if _, err := w.Create(t.Context(), owner, v1, req); err != nil {
			t.Fatal(err)
		}
	}
	table := NewTable(w.hookStore)
	rules, err := table.Rules(t.Context(), v1, c.Kind, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	if c.Agent == nil {
		return rules, nil
	}
	ceiling := &access.Ceiling{Scopes: c.Agent.Scopes, Vaults: c.Agent.VaultIDs}
	if len(ceiling.Scopes) == 0 { // what a token is given then
		if ceiling.Scopes, err = table.Patterns(t.Context(), access.Agent, c.ID); err != nil {
			t.Fatal(err)
		}
	}
	return rules, ceiling
}

func (c readerCase) reads(from []netip.Addr, rules []access.Rule, ceiling *access.Ceiling, now time.Time) string {
	var out strings.Builder
	for _, addr := range from {
		p := access.Principal{Kind: c.Kind, ID: c.ID, OrgID: "o", Role: access.Admin, Ceiling: ceiling, Addr: addr}
		r := access.Resource{OrgID: "o", OwnerID: owner.ID, VaultID: v1, Type: "secret", Path: c.Path}
		if access.Allow(p, access.SecretRead, r, rules, now) == nil {
			out.WriteByte('1')
		} else {
			out.WriteByte('0')
		}
	}
	return out.String()
}

// writeReaders draws the cases and writes down what is decided.
func writeReaders(t *testing.T) {
	d := drawer{rand.New(rand.NewPCG(7, 13))}
	file := readers{}
	for _, text := range []string{"9.9.9.9", "10.0.0.1", "10.1.2.1", "10.1.2.3", "2001:db8::7", "2001:db8::8", "2001:db9::1"} {
		file.From = append(file.From, netip.MustParseAddr(text))
	}
	for range 250 {
		c := matchCase{Pattern: d.pattern(), Path: d.path()}
		c.Matches = access.Match(c.Pattern, c.Path)
		file.Matches = append(file.Matches, c)
	}
	for range 250 {
		c := d.readerCase()
		rules, ceiling := c.stored(t)
		for _, now := range d.times() {
			c.Calls = append(c.Calls, readerCalls{now, c.reads(file.From, rules, ceiling, now)})
		}
		file.Cases = append(file.Cases, c)
	}
	if err := os.WriteFile(readersFile, file.lines(t), 0o644); err != nil {
		t.Fatal(err)
	}
}

// lines is the file as JSON, a case a line.
func (file readers) lines(t *testing.T) []byte {
	var out bytes.Buffer
	text := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	list := func(name string, n int, item func(int) any, end string) {
		fmt.Fprintf(&out, "%q: [\n", name)
		for i := range n {
			comma := ","
			if i == n-1 {
				comma = ""
			}
			out.WriteString(text(item(i)) + comma + "\n")
		}
		out.WriteString(end)
	}
	fmt.Fprintf(&out, "{\"from\": %s,\n", text(file.From))
	list("matches", len(file.Matches), func(i int) any { return file.Matches[i] }, "],\n")
	list("cases", len(file.Cases), func(i int) any { return file.Cases[i] }, "]}\n")
	return out.Bytes()
}

// drawer draws what the cases are made of.
type drawer struct{ *rand.Rand }

func oneOf[T any](d drawer, from ...T) T { return from[d.IntN(len(from))] }

func (d drawer) chance(of int) bool { return d.IntN(of) == 0 }

func (d drawer) joined(from ...string) string {
	parts := make([]string, 1+d.IntN(4))
	for i := range parts {
		parts[i] = oneOf(d, from...)
	}
	return strings.Join(parts, "/")
}

func (d drawer) path() string    { return d.joined("a", "b", "c") }
func (d drawer) pattern() string { return d.joined("a", "b", "*", "**", "**", "a*") }

// wide matches more often than pattern.
func (d drawer) wide() string {
	if d.chance(4) {
		return d.pattern()
	}
	return oneOf(d, "**", "**", "*/**", "a/**", "**/b")
}

func (d drawer) readerCase() readerCase {
	c := readerCase{Kind: oneOf(d, access.User, access.Agent), ID: oneOf(d, mateID, mateID, mateID, mateID, mateID, owner.ID), Path: d.path(), Policies: []api.CreatePolicy{}}
	if c.Kind == access.Agent {
		c.ID, c.Agent = agentID, &readerAgent{Scopes: []string{}, VaultIDs: oneOf(d, []string{}, []string{}, []string{}, []string{v1}, []string{v2, v1}, []string{v2})}
		for range d.IntN(3) {
			c.Agent.Scopes = append(c.Agent.Scopes, oneOf(d, "vaults:read", "**", d.wide(), d.pattern()))
		}
	}
	for range d.IntN(6) {
		c.Policies = append(c.Policies, d.policy(c))
	}
	return c
}

func (d drawer) policy(c readerCase) api.CreatePolicy {
	p := api.CreatePolicy{
		SecretPathPattern: d.wide(), PrincipalType: string(c.Kind), PrincipalID: c.ID, Priority: d.IntN(3), Effect: oneOf(d, "allow", "allow", "deny"),
		Permissions: oneOf(d, []string{"read"}, []string{"read"}, []string{"read", "write"}, []string{"read", "delete"}, []string{"write", "delete", "rotate"}),
	}
	if d.chance(8) { // another's
		p.PrincipalID = "01900000-0000-7000-8000-00000000000d"
	}
	if d.chance(4) {
		end := d.moment()
		p.ExpiresAt = &end
	}
	if d.chance(2) {
		p.Conditions = d.conditions()
	}
	return p
}

// conditions draws until they are some that a policy can have.
func (d drawer) conditions() json.RawMessage {
	for {
		var c api.PolicyConditions
		if !d.chance(3) {
			for range 1 + d.IntN(3) {
				c.IPAllowlist = append(c.IPAllowlist, oneOf(d, "10.1.2.3", "10.0.0.0/8", "10.1.2.99/24", "::ffff:10.0.0.0/104", "::ffff:10.1.2.3", "2001:db8::/32", "2001:DB8:0::7", "0.0.0.0/0", "::/0"))
			}
		}
		if d.chance(2) {
			c.TimeWindow = d.window()
		}
		if d.chance(20) {
			c.EnvironmentIn = []string{"production"}
		}
		if raw, err := json.Marshal(c); err == nil && access.CheckConditions(raw) == nil {
			return raw
		}
	}
}

func (d drawer) window() *api.TimeWindow {
	clock := func() string {
		if d.chance(4) {
			return ""
		}
		return fmt.Sprintf("%02d:%02d", d.IntN(24), oneOf(d, 0, 0, 30, 59))
	}
	w := &api.TimeWindow{After: clock(), Before: clock(), Timezone: oneOf(d, "", "UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")}
	if d.chance(2) {
		days := []string{"mon", "Tuesday", "wed", "thu", "FRI", "sat", "sun"}
		d.Shuffle(len(days), func(i, j int) { days[i], days[j] = days[j], days[i] })
		w.Weekdays = days[:1+d.IntN(6)]
	}
	return w
}

// moment is a minute of weeks in which clocks change.
func (d drawer) moment() time.Time {
	start := oneOf(d, time.Date(2026, 3, 7, 0, 0, 0, 0, time.UTC), time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 3, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 24, 0, 0, 0, 0, time.UTC))
	return start.Add(time.Duration(d.IntN(8*24*60)) * time.Minute)
}

func (d drawer) times() []time.Time {
	times := []time.Time{d.moment(), d.moment(), d.moment()}
	slices.SortFunc(times, time.Time.Compare)
	return times
}
