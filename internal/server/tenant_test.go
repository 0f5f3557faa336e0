package server_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// nobodys is an ID that nothing has.
const nobodys = "01900000-0000-7000-8000-00000000abcd"

// nowhere are names in the matrix that are no IDs of an org's things: paths,
// times, credentials, and what an operator's calls name, whose they all are.
var nowhere = []string{"{path...}", "{soon}", "{email}", "{bearer}", "{agentkey}", "{account}", "{refresh}", "{org}", "{job}", "{sealed}", "{code}", "{passkey}", "{owner}", "{name...}"}

// Whoever names another org's thing, in a path or in a body, hears what he would
// hear of an ID that nobody has, and changes nothing: not there, and not here.
func TestAnotherOrgsIDsAreNobodys(t *testing.T) {
	c := newCast(t)
	for _, r := range matrix {
		call, body := renames.Replace(r.call), r.body
		for _, name := range slices.Compact(slices.Sorted(slices.Values(placeholder.FindAllString(call+" "+body, -1)))) {
			if slices.Contains(nowhere, name) {
				continue
			}
			t.Run(r.call+" "+name, func(t *testing.T) {
				c.t = t
				c.home.fill(call + body)
				mixed := c.home.but(name, c.abroad.fill(name))
				wrong := c.home.but(name, nobodys)
				c.unchanged(func() {
					theirs := c.call(c.home.owner.tracked(), mixed.fill(call), mixed.fill(body))
					none := c.call(c.home.owner.tracked(), wrong.fill(call), wrong.fill(body))
					if inPath := strings.Contains(call, name); inPath && theirs.status != 404 && !strings.Contains(call, " /admin/") {
						t.Errorf("another org's %s = %d: %s", name, theirs.status, theirs.body)
					}
					if theirs.status != none.status || strings.ReplaceAll(theirs.body, mixed.names[name], "ID") != strings.ReplaceAll(none.body, nobodys, "ID") {
						t.Errorf("another org's %s is told from nobody's:\n%d %s\n%d %s", name, theirs.status, theirs.body, none.status, none.body)
					}
				})
			})
		}
	}
	c.t = t
}

// What stands in the place of an ID may be a key that went astray.
func TestATextInPlaceOfAnIDIsNotRecorded(t *testing.T) {
	c := newCast(t)
	const astray = "1ck_astray"
	for _, r := range matrix {
		text := renames.Replace(r.call + " " + r.body)
		for _, name := range slices.Compact(slices.Sorted(slices.Values(placeholder.FindAllString(text, -1)))) {
			if name == "{path...}" || name == "{email}" {
				continue // which are names, and recorded
			}
			call, body := strings.ReplaceAll(renames.Replace(r.call), name, astray), strings.ReplaceAll(r.body, name, astray)
			for _, who := range []string{"owner", "operator", "agent", "frontend"} {
				c.call(c.callers[who], c.home.fill(call), c.home.fill(body))
			}
		}
	}
	for _, who := range []string{"owner", "operator"} {
		for line := range strings.Lines(c.call(c.callers[who], "GET /v1/audit/export", "").body) {
			if strings.Contains(line, astray) {
				t.Error(line)
			}
		}
	}
}

// but is o with another thing of this name.
func (o *org) but(name, id string) *org {
	out := *o
	out.names = maps.Clone(o.names)
	out.names[name] = id
	return &out
}

// tracked is the caller with a request ID that is always the same.
func (who caller) tracked() caller {
	return caller{who.bearer, append(slices.Clip(who.header), "X-Request-Id", "same")}
}

// Each agent of a batch is decided by itself; what a caller may not delete
// stays.
func TestABatchDeletesNoAgentOfAnothers(t *testing.T) {
	c := newCast(t)
	agents := c.home.fill(`{"agent_ids":["{agent}"]}`)
	c.unchanged(func() {
		for _, who := range []string{"other", "mate", "reader", "agent", "elsewhere"} {
			a := c.call(c.callers[who], "POST /v1/agents/batch-delete", agents)
			if a.status == 200 && !strings.Contains(a.body, `"deleted":0,"failed":1`) {
				t.Errorf("%s: %s", who, a.body)
			}
		}
	})
}

func TestAnOrgsKeyThatGoesAstrayIsInTheTrail(t *testing.T) {
	c := newCast(t)
	c.call(c.callers["frontend"].tracked(), "GET /v1/vaults/"+c.vault, "")
	trail := c.call(c.home.owner, "GET /v1/audit/events?action=route.call", "")
	for _, want := range []string{`"actor_type":"org_key"`, `"outcome":"refused"`, `"resource_id":"GET /v1/vaults/{vault}"`, `"request_id":"same"`, `"ip_address":"203.0.113.`} {
		if !strings.Contains(trail.body, want) {
			t.Errorf("the trail lacks %s: %s", want, trail.body)
		}
	}
}
