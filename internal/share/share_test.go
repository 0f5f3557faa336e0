package share

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

func TestALinkOpensAShareAndItsIDAloneDoesNot(t *testing.T) {
	r := newRig(t)
	id, text := r.share(nil)
	if len(text) != 36+1+43 {
		t.Errorf("the link is %q", text)
	}
	r.opens("by link", nobody, text, "", 1)
	r.opens("by its maker", maker, id, "", 2)
	r.opens("a signed-in stranger with the link", stranger, text, "", 3)
	for what, try := range map[string]string{
		"by ID alone":   id,
		"a dot":         id + ".",
		"another link":  id + "." + strings.Repeat("A", 43),
		"its hash":      id + "." + hashLink(text[37:]),
		"unknown":       secretID + text[36:],
		"no ID":         "x:y" + text[36:],
		"empty":         "",
		"half the link": text[:60],
	} {
		r.refused(what, nobody, try, "", fault.NotFound)
	}
	for _, p := range []access.Principal{mate, agent, stranger, {Kind: access.Agent, ID: maker.ID, OrgID: orgID}, {Kind: access.User, ID: maker.ID, OrgID: stranger.OrgID}} {
		r.refused("somebody else's credentials "+p.Ref(), p, id, "", fault.NotFound)
	}
}

func TestTheStoreHoldsNoLinkAndNoPassphrase(t *testing.T) {
	r := newRig(t)
	_, text := r.share(func(q *api.CreateShare) { q.Passphrase = "open sesame" })
	r.opens("open", nobody, text, "open sesame", 1)
	rows, err := r.Store.Scan(t.Context(), store.Range{}, store.ScanOptions{})
	if err != nil || len(rows) != 3 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	for _, rec := range rows {
		all := rec.Key + strings.ReplaceAll(string(rec.Value), "hash of open sesame", "")
		for _, secret := range []string{text[37:], "sesame", value} {
			if strings.Contains(all, secret) {
				t.Errorf("%s holds %q", rec.Key, secret)
			}
		}
	}
	events, _ := json.Marshal(r.events)
	for _, secret := range []string{text[37:], "sesame", value} {
		if strings.Contains(string(events), secret) {
			t.Errorf("the trail holds %q", secret)
		}
	}
}

func TestAShareForAPrincipalNeedsItsCredentials(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct {
		kind, who, email string
		is               access.Principal
	}{
		{api.ShareUser, mate.ID, "", mate},
		{api.ShareUser, "", "mate@example.com", mate},
		{api.ShareAgent, agent.ID, "", agent},
		{api.ShareCreator, "", "", maker},
	} {
		id, text := r.share(func(q *api.CreateShare) { q.RecipientType, q.RecipientID, q.Email = c.kind, c.who, c.email })
		if text != id {
			t.Errorf("%s: it has a link: %q", c.kind, text)
		}
		r.opens(c.kind, c.is, id, "", 1)
		unlike := map[access.Kind]access.Kind{access.User: access.Agent, access.Agent: access.User}[c.is.Kind]
		for _, p := range []access.Principal{mate, agent, stranger, nobody, {Kind: unlike, ID: c.is.ID, OrgID: orgID}} {
			if p.Ref() != c.is.Ref() || p.OrgID != c.is.OrgID {
				r.refused(c.kind+" opened by "+p.Ref(), p, id, "", fault.NotFound)
			}
		}
		r.refused("with some link", c.is, id+"."+strings.Repeat("A", 43), "", fault.NotFound)
		in, err := r.Inbound(t.Context(), c.is)
		if err != nil || len(in.Shares) == 0 || in.Shares[0].ID != id || in.Shares[0].IsAccepted {
			t.Errorf("%s: Inbound = %+v, %v", c.kind, in, err)
		}
	}
	for _, bad := range []api.CreateShare{{RecipientType: api.ShareUser, RecipientID: stranger.OrgID}, {RecipientType: api.ShareAgent, RecipientID: mate.ID}} {
		bad.ExpiresAt = ptr(r.clock().Add(time.Hour))
		if _, err := r.Create(t.Context(), maker, secretID, bad); !errors.Is(err, fault.NotFound) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestACeilingBindsWhoOpensAShare(t *testing.T) {
	r := newRig(t)
	id, _ := r.share(func(q *api.CreateShare) { q.RecipientType, q.RecipientID = api.ShareAgent, agent.ID })
	for what, c := range map[string]access.Ceiling{
		"no scopes":     {},
		"other scopes":  {Scopes: []string{"web/*"}},
		"another vault": {Scopes: []string{"**"}, Vaults: []string{secretID}},
	} {
		p := agent
		p.Ceiling = &c
		r.refused(what, p, id, "", fault.Forbidden)
	}
	p := agent
	p.Ceiling = &access.Ceiling{Scopes: []string{"db/*"}, Vaults: []string{vaultID}}
	r.opens("in scope and bound", p, id, "", 1)
	p.Ceiling = &access.Ceiling{Scopes: []string{"db/*"}, Intents: true}
	r.refused("signs through intents", p, id, "", fault.Forbidden)
}

func TestOnlyWhoMayShareSharesAndOnlyAsLongAsHeMay(t *testing.T) {
	r := newRig(t)
	req := api.CreateShare{RecipientType: api.ShareLink, ExpiresAt: ptr(r.clock().Add(time.Hour))}
	for _, p := range []access.Principal{mate, agent, {}, {Kind: access.EndUser, ID: maker.ID, OrgID: orgID}} {
		if _, err := r.Create(t.Context(), p, secretID, req); !errors.Is(err, fault.Forbidden) && !errors.Is(err, fault.NotFound) {
			t.Errorf("%s shares: %v", p.Ref(), err)
		}
	}
	if _, err := r.Create(t.Context(), stranger, secretID, req); !errors.Is(err, fault.NotFound) {
		t.Errorf("another org's: %v", err)
	}
	_, text := r.share(nil)
	r.may = false
	r.refused("the maker may no more", nobody, text, "", fault.NotFound)
	if e := r.last(); e.Details["reason"] != "maker_may_not" {
		t.Errorf("recorded %+v", e)
	}
	r.may, r.gone = true, true
	r.refused("the maker is no more", nobody, text, "", fault.NotFound)
	r.gone, r.left = false, true
	r.refused("the maker is of another org", nobody, text, "", fault.NotFound)
	r.left = false
	r.opens("he may again", nobody, text, "", 1)
	if r.asked.ID != maker.ID || r.asked.Addr != nobody.Addr {
		t.Errorf("the gate was asked about %+v", r.asked)
	}
}

func TestAShareEndsByTimeByCountByItsMakerAndByItsRecipient(t *testing.T) {
	r := newRig(t)
	id, text := r.share(func(q *api.CreateShare) { q.MaxAccessCount = ptr(2) })
	r.opens("first", nobody, text, "", 1)
	r.opens("second", nobody, text, "", 2)
	r.refused("third", nobody, text, "", fault.NotFound)
	out, err := r.Outbound(t.Context(), maker)
	if err != nil || len(out.Shares) != 1 || !out.Shares[0].IsExpired || out.Shares[0].AccessCount != 2 || out.Shares[0].ID != id {
		t.Errorf("Outbound = %+v, %v", out, err)
	} else if s := out.Shares[0]; s.VaultID != vaultID || s.SecretID != secretID {
		t.Errorf("it is a share of secret %s in vault %s", s.SecretID, s.VaultID)
	}

	_, text = r.share(nil)
	r.advance(time.Hour - time.Nanosecond)
	r.opens("just before the end", nobody, text, "", 1)
	r.advance(time.Nanosecond)
	r.refused("at the end", nobody, text, "", fault.NotFound)

	id, text = r.share(nil)
	for _, p := range []access.Principal{mate, stranger, nobody, {Kind: access.Agent, ID: maker.ID, OrgID: orgID}} {
		if err := r.Revoke(t.Context(), p, id); err != errNone {
			t.Errorf("%s revokes: %v", p.Ref(), err)
		}
	}
	if err := r.Revoke(t.Context(), maker, id); err != nil {
		t.Error(err)
	}
	r.refused("revoked", nobody, text, "", fault.NotFound)
	if err := r.Revoke(t.Context(), maker, id); err != errNone {
		t.Errorf("revoked twice: %v", err)
	}

	id, _ = r.share(func(q *api.CreateShare) { q.RecipientType, q.RecipientID = api.ShareUser, mate.ID })
	for _, p := range []access.Principal{maker, agent, stranger, nobody} {
		if err := r.Accept(t.Context(), p, id); err != errNone {
			t.Errorf("%s accepts: %v", p.Ref(), err)
		}
		if err := r.Decline(t.Context(), p, id); err != errNone {
			t.Errorf("%s declines: %v", p.Ref(), err)
		}
	}
	if err := r.Accept(t.Context(), mate, id); err != nil {
		t.Error(err)
	}
	if in, err := r.Inbound(t.Context(), mate); err != nil || len(in.Shares) != 1 || !in.Shares[0].IsAccepted {
		t.Errorf("Inbound = %+v, %v", in, err)
	}
	if err := r.Decline(t.Context(), mate, id); err != nil {
		t.Error(err)
	}
	r.refused("declined", mate, id, "", fault.NotFound)
	if in, err := r.Inbound(t.Context(), mate); err != nil || len(in.Shares) != 0 {
		t.Errorf("Inbound = %+v, %v", in, err)
	}
}

func TestManyAtOnceGetExactlyAsManyAsTheCountAllows(t *testing.T) {
	r := newRig(t)
	_, text := r.share(func(q *api.CreateShare) { q.MaxAccessCount = ptr(7) })
	var got atomic.Int32
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			switch out, err := r.Open(t.Context(), nobody, text, ""); {
			case err == nil && out.Value == value:
				got.Add(1)
			case err != errNone:
				t.Errorf("Open = %v, %v", out, err)
			}
		})
	}
	wg.Wait()
	if got.Load() != 7 {
		t.Errorf("%d of 7 got the value", got.Load())
	}
}

func TestTheLastAccessAndARevocationAreDecidedByWhoCommits(t *testing.T) {
	r := newRig(t)
	_, text := r.share(func(q *api.CreateShare) { q.MaxAccessCount = ptr(1) })
	r.meanwhile = func() { r.opens("another was faster", nobody, text, "", 1) }
	r.refused("used up meanwhile", nobody, text, "", fault.NotFound)

	id, text := r.share(nil)
	r.meanwhile = func() {
		if err := r.Revoke(t.Context(), maker, id); err != nil {
			t.Error(err)
		}
	}
	r.refused("revoked meanwhile", nobody, text, "", fault.NotFound)

	_, text = r.share(nil)
	r.meanwhile = func() { r.opens("another", nobody, text, "", 1) }
	r.opens("both count", nobody, text, "", 2)
}

func TestAPassphraseIsAskedForAndCannotBeGuessed(t *testing.T) {
	r := newRig(t)
	_, text := r.share(func(q *api.CreateShare) { q.Passphrase = "open sesame" })
	r.refused("none", nobody, text, "", fault.Forbidden)
	for range MaxTries - 1 {
		r.refused("wrong", nobody, text, "open", fault.Forbidden)
	}
	r.opens("the last try is right", nobody, text, "open sesame", 1)
	r.refused("too long", nobody, text, strings.Repeat("x", MaxPassphrase+1), fault.Forbidden)
	var looked atomic.Int32
	var wg sync.WaitGroup
	for range 3 * MaxTries {
		wg.Go(func() {
			if _, err := r.Open(t.Context(), nobody, text, "guess"); errors.Is(err, fault.Forbidden) {
				looked.Add(1)
			} else if err != errNone {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if looked.Load() != MaxTries {
		t.Errorf("%d guesses were looked at, not %d", looked.Load(), MaxTries)
	}
	r.refused("over", nobody, text, "open sesame", fault.NotFound)
}

func TestAShareOpensFromItsAddressesAlone(t *testing.T) {
	r := newRig(t)
	_, text := r.share(func(q *api.CreateShare) { q.IPAllowlist = []string{"192.0.2.7", "2001:db8::/32", "198.51.100.77/24"} })
	for addr, ok := range map[string]bool{
		"192.0.2.7": true, "192.0.2.8": false, "::ffff:192.0.2.7": true, "2001:db8::1": true, "2001:db9::1": false, "198.51.100.1": true,
	} {
		p := access.Principal{Addr: netip.MustParseAddr(addr)}
		_, err := r.Open(t.Context(), p, text, "")
		if ok != (err == nil) || !ok && !errors.Is(err, fault.Forbidden) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	r.refused("from nowhere", access.Principal{}, text, "", fault.Forbidden)
}

func TestASealedValueIsSharedWithWhoHasTheKeyAlone(t *testing.T) {
	r := newRig(t)
	end := r.clock().Add(time.Hour)
	a, b := strings.Repeat("a1", 32), strings.Repeat("b2", 32)
	_, plain := r.share(nil)
	r.secret.CMEKFingerprint, r.secret.Secret.CMEKEncrypted = a, true
	for what, req := range map[string]api.CreateShare{
		"not said":    {},
		"another key": {RecipientHasKey: true, CMEKFingerprint: b},
	} {
		req.RecipientType, req.ExpiresAt = api.ShareLink, &end
		_, err := r.Create(t.Context(), maker, secretID, req)
		if f := fault.Of(err); f.Code != fault.Conflict || f.Type != api.ProblemShareSealed || !strings.Contains(f.Message, "recipient_has_key") {
			t.Errorf("%s: %v", what, err)
		}
	}
	r.refused("sealed since", nobody, plain, "", fault.Conflict)
	_, text := r.share(func(q *api.CreateShare) { q.RecipientHasKey, q.CMEKFingerprint = true, strings.ToUpper(a) })
	out, err := r.Open(t.Context(), nobody, text, "")
	if err != nil || !out.CMEKEncrypted || out.CMEKFingerprint != a {
		t.Errorf("Open = %+v, %v", out, err)
	}
	r.secret.CMEKFingerprint = b
	r.refused("rotated since", nobody, text, "", fault.Conflict)
}

func TestWhatIsWrongInARequestIsSaid(t *testing.T) {
	r := newRig(t)
	for what, edit := range map[string]func(*api.CreateShare){
		"no end":        func(q *api.CreateShare) { q.ExpiresAt = nil },
		"an end by now": func(q *api.CreateShare) { *q.ExpiresAt = r.clock() },
		"a zero end":    func(q *api.CreateShare) { *q.ExpiresAt = time.Time{} },
		"the year 10000": func(q *api.CreateShare) {
			*q.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -3600))
		},
		"count 0":          func(q *api.CreateShare) { q.MaxAccessCount = ptr(0) },
		"count too large":  func(q *api.CreateShare) { q.MaxAccessCount = ptr(1 << 31) },
		"write":            func(q *api.CreateShare) { q.Permissions = []string{"read", "write"} },
		"no such type":     func(q *api.CreateShare) { q.RecipientType = "everyone" },
		"no recipient":     func(q *api.CreateShare) { q.RecipientType = api.ShareUser },
		"agent by email":   func(q *api.CreateShare) { q.RecipientType, q.Email = api.ShareAgent, "a@example.com" },
		"no email":         func(q *api.CreateShare) { q.RecipientType = api.ShareEmail },
		"a named email":    func(q *api.CreateShare) { q.RecipientType, q.Email = api.ShareEmail, "A <a@example.com>" },
		"short passphrase": func(q *api.CreateShare) { q.Passphrase = "abc" },
		"long passphrase":  func(q *api.CreateShare) { q.Passphrase = strings.Repeat("a", 257) },
		"no address":       func(q *api.CreateShare) { q.IPAllowlist = []string{"example.com"} },
		"a zone":           func(q *api.CreateShare) { q.IPAllowlist = []string{"fe80::1%eth0"} },
		"a mapped range":   func(q *api.CreateShare) { q.IPAllowlist = []string{"::ffff:0:0/96"} },
		"many addresses":   func(q *api.CreateShare) { q.IPAllowlist = slices.Repeat([]string{"192.0.2.1"}, 101) },
		"a key unnamed":    func(q *api.CreateShare) { q.RecipientHasKey = true },
		"a key unsaid":     func(q *api.CreateShare) { q.CMEKFingerprint = strings.Repeat("a", 64) },
	} {
		req := api.CreateShare{RecipientType: api.ShareLink, ExpiresAt: ptr(r.clock().Add(time.Hour))}
		edit(&req)
		if _, err := r.Create(t.Context(), maker, secretID, req); !errors.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if rows, _ := r.Store.Scan(t.Context(), store.Range{}, store.ScanOptions{}); len(rows) > 0 {
		t.Errorf("%d rows were written", len(rows))
	}
}

func TestAKeyThatWentAstrayIsNotRecorded(t *testing.T) {
	r := newRig(t)
	if _, err := r.Create(t.Context(), agent, "ocv_not-a-secrets-id", api.CreateShare{}); !errors.Is(err, fault.Forbidden) {
		t.Error(err)
	}
}

func TestEveryUseIsInTheTrailOrIsNotDone(t *testing.T) {
	r := newRig(t)
	id, text := r.share(func(q *api.CreateShare) { q.Passphrase = "open sesame" })
	r.opens("open", nobody, text, "open sesame", 1)
	want := access.Event{
		OrgID: orgID, ActorType: "anonymous", Action: "share.read", ResourceType: "share", ResourceID: id, Outcome: access.Allowed,
		Details: map[string]string{"vault_id": vaultID, "path": "db/password", "secret_id": secretID, "recipient_type": api.ShareLink},
		Addr:    nobody.Addr, RequestID: "r1",
	}
	if diff := cmp.Diff(want, r.last(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	r.opens("by the maker", maker, id, "open sesame", 2)
	if e := r.last(); e.ActorType != "user" || e.ActorID != maker.ID {
		t.Errorf("recorded %+v", e)
	}
	for reason, try := range map[string][2]string{"wrong_passphrase": {text, "no"}, "no_passphrase": {text, ""}, "not_the_recipient": {id, "open sesame"}} {
		r.Open(t.Context(), nobody, try[0], try[1])
		if e := r.last(); e.Outcome != access.Refused || e.Details["reason"] != reason {
			t.Errorf("%s: recorded %+v", reason, e)
		}
	}
	n := len(r.events)
	r.refused("unknown", nobody, secretID, "", fault.NotFound)
	if len(r.events) != n {
		t.Error("a share that is not there fills somebody's trail")
	}
	r.broken = errors.New("disk full")
	r.refused("unrecorded", nobody, text, "open sesame", fault.Unavailable)
	if err := r.Revoke(t.Context(), maker, id); !errors.Is(err, fault.Unavailable) {
		t.Errorf("Revoke = %v", err)
	}
	if _, err := r.Create(t.Context(), maker, secretID, api.CreateShare{RecipientType: api.ShareLink, ExpiresAt: ptr(r.clock().Add(time.Hour))}); !errors.Is(err, fault.Unavailable) {
		t.Errorf("Create = %v", err)
	}
	r.broken = nil
	if out, err := r.Outbound(t.Context(), maker); err != nil || len(out.Shares) != 1 {
		t.Errorf("Outbound = %+v, %v", out, err)
	}
}

func TestAnAccessThatFailsIsNotCounted(t *testing.T) {
	r := newRig(t)
	_, text := r.share(func(q *api.CreateShare) { q.MaxAccessCount = ptr(1) })
	r.fails = fault.New(fault.Unavailable, "the KMS is away")
	r.refused("KMS away", nobody, text, "", fault.Unavailable)
	r.fails = fault.New(fault.Gone, "expired")
	r.refused("secret expired", nobody, text, "", fault.NotFound)
	r.fails = nil
	r.opens("then", nobody, text, "", 1)
	if out, err := r.Open(t.Context(), nobody, text, ""); err != errNone || out.Value != "" {
		t.Errorf("Open = %+v, %v", out, err)
	}
}

func TestOldSharesAreRemovedAndTheirNumberIsBounded(t *testing.T) {
	r := newRig(t)
	for range 3 {
		r.share(func(q *api.CreateShare) { q.RecipientType, q.RecipientID = api.ShareUser, mate.ID })
	}
	r.advance(time.Hour + Kept - time.Second)
	r.share(nil)
	if out, _ := r.Outbound(t.Context(), maker); len(out.Shares) != 4 {
		t.Errorf("%d shares are listed", len(out.Shares))
	}
	r.advance(2 * time.Second)
	r.share(nil)
	rows, err := r.Store.Scan(t.Context(), store.Range{}, store.ScanOptions{})
	if err != nil || len(rows) != 2*3 {
		t.Errorf("%d rows, %v", len(rows), err)
	}
	b := new(store.Batch)
	for i := range MaxShares {
		b.Put(layout.ShareBy(orgID, maker.ID, strconv.Itoa(i)), nil)
	}
	if _, err := r.Store.Commit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Create(t.Context(), maker, secretID, api.CreateShare{RecipientType: api.ShareLink, ExpiresAt: ptr(r.clock().Add(time.Hour))}); !errors.Is(err, fault.Conflict) {
		t.Errorf("one too many: %v", err)
	}
}

// Twenty outages are not twenty guesses.
func TestATryThatIsRightOrNotDecidedIsNoWrongOne(t *testing.T) {
	r := newRig(t)
	_, text := r.share(func(q *api.CreateShare) { q.Passphrase = "open sesame" })
	r.fails = fault.New(fault.Unavailable, "the KMS is away")
	for range MaxTries + 1 {
		r.refused("KMS away", nobody, text, "open sesame", fault.Unavailable)
	}
	r.fails, r.busy = nil, errors.New("too many at once")
	for range MaxTries + 1 {
		r.refused("hasher busy", nobody, text, "a guess", fault.Unavailable)
	}
	r.busy = nil
	r.opens("then", nobody, text, "open sesame", 1)
}

func TestWhoHasNoPartInAShareIsRecorded(t *testing.T) {
	r := newRig(t)
	id, _ := r.share(nil)
	for action, try := range map[string]func(context.Context, access.Principal, string) error{
		"share.revoke": r.Revoke, "share.decline": r.Decline, "share.accept": r.Accept,
	} {
		if err := try(t.Context(), mate, id); err != errNone {
			t.Errorf("%s: %v", action, err)
		}
		if e := r.last(); e.Action != action || e.Outcome != access.Refused || e.ActorID != mate.ID || e.ResourceID != id {
			t.Errorf("%s: recorded %+v", action, e)
		}
	}
}
