package server_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/server"
)

// things are what the owner has, by the name of a row's parameter.
func (w *world) things() *strings.Replacer {
	w.t.Helper()
	vault, thread := w.vault(false), w.thread()
	w.do(scenario{call: "PUT " + vault + "/secrets/db/1", body: `{"value":"` + canary + `"}`, status: 201})
	w.do(scenario{call: "PUT " + vault + "/secrets/db", body: `{"value":"` + canary + `"}`, status: 201}) // so that db/1 is a version, too
	m := w.do(scenario{call: "POST " + thread + "/messages", body: `{"body":"` + canary + `"}`, status: 200, reads: true})
	return strings.NewReplacer(
		"/v1/vaults/{vault}", vault, "{path...}", "db/1",
		"/v1/threads/{thread}", thread, "{message}", decode[api.Message](w.t, m).ID)
}

// goodBody is a body that the row takes.
func goodBody(row httpx.Row) string {
	switch {
	case row.MaxBody == 0:
		return ""
	case strings.HasSuffix(row.Pattern, "/cmek"):
		return `{"fingerprint":"` + fingerprint + `"}`
	}
	return `{"name":"n","title":"t","value":"v","body":1}`
}

// private is the rows that are not public, those that delete last.
func private() (rows []httpx.Row) {
	var last []httpx.Row
	for _, row := range server.Rows() {
		switch {
		case row.Who == httpx.Public:
		case row.Method == http.MethodDelete:
			last = append(last, row)
		default:
			rows = append(rows, row)
		}
	}
	return append(rows, last...)
}

// isAdmin reports whether a row is an operator's; see admin_test.go.
func isAdmin(row httpx.Row) bool { return strings.HasPrefix(row.Pattern, "/admin/") }

func TestEveryPrivateRowRefusesARequestWithoutALiveKey(t *testing.T) {
	w := newWorld(t)
	things := w.things()
	rows := private()
	if len(rows) < 20 {
		t.Fatalf("only %d rows", len(rows))
	}
	w.unchanged(func() {
		for _, row := range rows {
			call := row.Method + " " + things.Replace(row.Pattern)
			for _, header := range [][]string{nil,
				{"Authorization", "Bearer 1ck_" + strings.Repeat("A", 43)},
				{"Authorization", "Bearer " + w.APIKey + "x"},
				{"Authorization", "Bearer " + strings.ToUpper(w.APIKey)},
				{"Authorization", "Basic " + w.APIKey},
				{"Authorization", "Bearer user:" + w.Owner.ID},
				{"Authorization", "Bearer plt_" + strings.Repeat("A", 43)},
				{"X-API-Key", "1ck_" + strings.Repeat("A", 43)},
				{"X-User-ID", w.Owner.ID},
				{"Cookie", "Authorization=" + w.APIKey},
			} {
				w.do(scenario{key: "-", call: call, header: header, body: goodBody(row), status: 401, headers: []string{"Www-Authenticate: Bearer"}})
			}
			w.do(scenario{key: "-", call: call + "?access_token=" + w.APIKey, body: goodBody(row), status: 401})
		}
	})
}

// Whether a path exists in another's vault, or a vault in another org, shows in
// no answer.
func TestARefusalTellsNothingApart(t *testing.T) {
	w := newWorld(t)
	vault, thread := w.vault(false), w.thread()
	w.do(scenario{call: "PUT " + vault + "/secrets/there", body: `{"value":"x"}`, status: 201})
	nowhere := "/v1/vaults/" + strings.Repeat("0", 8) + vault[len("/v1/vaults/")+8:]
	for _, pair := range [][3]string{
		{w.mate, vault + "/secrets/there", vault + "/secrets/not"},
		{w.mate, vault + "/secret-versions/there", vault + "/secret-versions/not"},
		{w.mate, vault + "/secret-version/there/1", vault + "/secret-version/there/9"},
		{w.stranger, vault, nowhere},
		{w.stranger, vault + "/secrets/there", nowhere + "/secrets/there"},
		{w.stranger, vault + "/secrets/there", vault + "/secrets/not"},
		{w.stranger, thread, "/v1/threads/x"},
		{w.stranger, thread + "/messages", "/v1/threads/x/messages"},
	} {
		same := []string{"X-Request-Id", "same"}
		status := map[bool]int{true: 403, false: 404}[pair[0] == w.mate]
		a := w.do(scenario{key: pair[0], call: "GET " + pair[1], header: same, status: status})
		b := w.do(scenario{key: pair[0], call: "GET " + pair[2], header: same, status: status})
		if a.body != b.body {
			t.Errorf("%s and %s are told apart:\n%s\n%s", pair[1], pair[2], a.body, b.body)
		}
	}
}
