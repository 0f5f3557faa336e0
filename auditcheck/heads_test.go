package auditcheck

import (
	"strings"
	"testing"
	"time"
)

// heads is what these events say; each is "seconds action outcome path version",
// all of vault v.
func heads(lines ...string) *Heads {
	h := new(Heads)
	for _, line := range lines {
		f := strings.Fields(line)
		after, err := time.ParseDuration(f[0])
		if err != nil {
			panic(err)
		}
		e := &Event{Chain: chainA, Seq: 1, Time: t0.Add(after).UnixNano(), Action: f[1], Outcome: f[2], Details: map[string]string{"vault_id": "v"}}
		if len(f) > 3 {
			e.Details["path"] = f[3]
		}
		if len(f) > 4 {
			e.Details["version"] = f[4]
		}
		h.Event(e)
	}
	return h
}

func TestAHeadThatWasPutBackIsToldByTheTrail(t *testing.T) {
	for _, c := range []struct {
		events string
		shown  int    // the newest version, by the server
		want   string // in what is wrong; "": nothing is
		there  bool   // it must be there
	}{
		{"0s secret.written done a 1; 1s secret.written done a 2", 2, "", true},
		{"0s secret.written done a 1; 1s secret.written done a 2", 3, "", true}, // written since
		{"0s secret.written done a 1; 1s secret.written done a 2", 1, "version 2 was written", true},
		{"0s secret.written done a 2; 1s secret.written done a 1", 1, "version 2 was written", true}, // recorded in another order
		{"0s secret.written allowed a 2", 1, "", false},
		{"0s secret.write allowed a; 1s secret.written done b 9", 1, "", false},
		{"0s secret.written done a 2; 1s secret.delete allowed a; 2s secret.deleted done a 2", 2, "deleted at version 2", false},
		{"0s secret.written done a 2; 1s secret.deleted done a 2; 2s secret.written done a 3", 3, "", true},
		{"0s secret.written done a 2; 1s secret.deleted done a 2; 2s secret.written done a 3", 1, "deleted at version 2", true},
		{"0s secret.written done a 2; 1s secret.delete allowed a", 2, "", false},
		{"0s secret.delete allowed a; 59s secret.written done a 2", 2, "", false}, // it may still come
		{"0s secret.delete allowed a; 61s secret.written done a 2", 2, "", true},
		{"0s secret.delete refused a; 1s secret.written done a 2", 2, "", true},
		{"0s secret.written done a -5; 1s secret.written done a 99999999999999999999", 1, "", false},
	} {
		h := heads(strings.Split(c.events, "; ")...).Of("v", "a")
		if what := h.Wrong(c.shown); (what == "") != (c.want == "") || !strings.Contains(what, c.want) || h.There() != c.there {
			t.Errorf("%s: at version %d: %q, there %v", c.events, c.shown, what, h.There())
		}
	}
}

func TestAVaultMayBeGoneOnlyWhenItsDeletionWasAllowed(t *testing.T) {
	for outcome, want := range map[string]bool{"allowed": true, "refused": false} {
		if h := heads("0s vault.delete " + outcome); h.MayBeGone("v") != want || h.MayBeGone("w") {
			t.Errorf("%s: %v", outcome, h.MayBeGone("v"))
		}
	}
}

func TestEachIsGivenEveryEventOfAnExport(t *testing.T) {
	s, n := newSample(), 0
	report, err := VerifyExport(strings.NewReader(s.text(t)), Options{Each: func(e *Event) {
		if e.Hash() != s.hashes[n] {
			t.Errorf("event %d is another", n)
		}
		n++
	}})
	if err != nil || !report.OK() || n != len(s.events) {
		t.Errorf("%d events, %v, %+v", n, err, report)
	}
}
