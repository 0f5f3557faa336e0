package thread

import (
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"pgregory.net/rapid"
)

// people are all who do something, in two orgs. The first and the last but one have
// the same ID in different orgs. The end user is named by a backend key, and may
// react as others.
var people = []access.Principal{
	{Kind: access.User, ID: "0198aaaa-0000-7000-8000-000000000001", OrgID: "org1", Role: access.Owner},
	{Kind: access.User, ID: "0198aaaa-0000-7000-8000-000000000002", OrgID: "org1", Role: access.Admin},
	{Kind: access.User, ID: "0198aaaa-0000-7000-8000-000000000003", OrgID: "org1", Role: access.Member},
	{Kind: access.User, ID: "0198aaaa-0000-7000-8000-000000000004", OrgID: "org1", Role: access.Member},
	{Kind: access.Agent, ID: "0198aaaa-0000-7000-8000-000000000005", OrgID: "org1"},
	{Kind: access.EndUser, ID: "a:b/ü %\"\\", OrgID: "org1", Role: access.Backend},
	{Kind: access.User, ID: "0198aaaa-0000-7000-8000-000000000001", OrgID: "org2", Role: access.Admin},
	{Kind: access.User, ID: "0198aaaa-0000-7000-8000-000000000007", OrgID: "org2", Role: access.Member},
}

func (m *model) anybody(t *rapid.T) access.Principal { return pick(t, "who", people) }

// somebody is anybody, but mostly one who has to do with the thread.
func (m *model) somebody(t *rapid.T, th *modelThread) access.Principal {
	if between(t, "anybody", 0, 3) == 0 {
		return m.anybody(t)
	}
	who := []access.Principal{th.by}
	for _, p := range people {
		if p.OrgID == th.by.OrgID && th.partOf(p) != "" {
			who = append(who, p)
		}
	}
	return pick(t, "who", who)
}

// author is mostly who wrote a message.
func (m *model) author(t *rapid.T, th *modelThread, msg *modelMessage) access.Principal {
	for _, p := range people {
		if p.OrgID == th.by.OrgID && wrote(p, msg.Message) && between(t, "author", 0, 3) > 0 {
			return p
		}
	}
	return m.somebody(t, th)
}

func isPart(part api.Participant, p access.Principal) bool {
	return part.ID == p.ID && part.EndUser == (p.Kind == access.EndUser)
}

func wrote(p access.Principal, msg api.Message) bool {
	return msg.Author == p.ID && msg.EndUser == (p.Kind == access.EndUser)
}

func leads(p access.Principal) bool {
	return p.Kind == access.User && (p.Role == access.Owner || p.Role == access.Admin)
}

// isKnown reports whether a user or an agent of an org has that ID.
func isKnown(org, id string) bool {
	for _, p := range people {
		if p.OrgID == org && p.ID == id && p.Kind != access.EndUser {
			return true
		}
	}
	return false
}

// speaksForOthers reports whether p may react under other identities.
func speaksForOthers(p access.Principal) bool {
	return p.Kind == access.EndUser && p.Role == access.Backend
}

// What the gate should say of p and a thread; "": yes.

func (th *modelThread) mayRead(p access.Principal) fault.Code {
	return th.may(p, "read", "write")
}

func (th *modelThread) mayWrite(p access.Principal) fault.Code {
	return th.may(p, "write")
}

func (th *modelThread) mayOwn(p access.Principal) fault.Code {
	return th.may(p)
}

func (th *modelThread) mayHold(p access.Principal) fault.Code {
	switch {
	case th.purged || p.OrgID != th.by.OrgID:
		return fault.NotFound
	case !leads(p):
		return fault.Forbidden
	}
	return ""
}

func (th *modelThread) may(p access.Principal, parts ...string) fault.Code {
	if th.Deleted || th.purged || p.OrgID != th.by.OrgID {
		return fault.NotFound
	}
	if p.ID == th.by.ID && p.Kind == th.by.Kind {
		return ""
	}
	part := th.partOf(p)
	for _, enough := range parts {
		if part == enough {
			return ""
		}
	}
	return fault.Forbidden
}

// partOf is the part that p has in the thread; "": none.
func (th *modelThread) partOf(p access.Principal) string {
	for _, part := range th.parts {
		if isPart(part, p) {
			return part.Part
		}
	}
	return ""
}
