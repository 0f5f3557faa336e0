package server_test

import "testing"

// What was meant to set a policy does not clear it.
func TestAPolicyOfRetentionThatIsNoneIsRefused(t *testing.T) {
	w := newWorld(t)
	const set = `{"deleted_days":30,"message_days":365}`
	w.do(scenario{call: "PUT /v1/retention", body: set, status: 200})
	for body, want := range map[string]string{
		`{"deleted_day":30}`: "does not know", `{"Deleted_days":30}`: "does not know", `{"retention":{}}`: "does not know",
		`null`: "send a JSON object", " null\n": "send a JSON object", ``: "send a JSON object", `[]`: "body", `30`: "body",
	} {
		w.do(scenario{call: "PUT /v1/retention", body: body, status: 400, want: []string{want}})
	}
	w.do(scenario{call: "GET /v1/retention", status: 200, want: []string{set}})
	w.do(scenario{call: "PUT /v1/retention", body: `{}`, status: 200, want: []string{`{}`}}) // which clears it
}
