package httpx

import (
	"context"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
)

func TestACallThatTakesABodyMayAnswerNothing(t *testing.T) {
	m, _ := testMux(t)
	m.routes.add(&Row{Method: "POST", Pattern: "/done", MaxBody: 100, Handler: Done(func(_ context.Context, c *Call, in struct{ Name string }) error {
		if c.Bearer() != "good" {
			t.Errorf("the credential is %q", c.Bearer())
		}
		if in.Name != "a" {
			return fault.New(fault.Forbidden, "another name")
		}
		return nil
	})})
	if w := do(m, "POST", "/done", `{"Name":"a"}`); w.Code != 204 || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "" {
		t.Errorf("POST = %d %q, want 204 and nothing", w.Code, w.Body)
	}
	checkProblem(t, do(m, "POST", "/done", `{"Name":"b"}`), 403, "another name")
	checkProblem(t, do(m, "POST", "/done", ``), 400, "send a JSON object")
}
