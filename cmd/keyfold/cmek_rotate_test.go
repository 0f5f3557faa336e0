package main

import (
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

func TestARotationThatIsInTheWayIsNamedWithTheCommandThatCancelsIt(t *testing.T) {
	var out strings.Builder
	r := rotation{app: &app{App: cli.App{Name: "keyfold", Err: &out}}}
	r.Explain = r.explain
	r.Fail(r.advise(&client.Error{Status: 409, Type: api.ProblemCMEKRotating, Detail: "a rotation to another key has begun"}))
	if !strings.Contains(out.String(), "hint: see which there are: keyfold cmek rotations VAULT; cancel one: keyfold cmek rotation cancel VAULT ROTATION") {
		t.Error(out.String())
	}
}

func TestOneVersionNeedsAndTwoNeed(t *testing.T) {
	for n, want := range map[int]string{1: "1 version still needs it", 2: "2 versions still need it"} {
		if got := stillNeed(n, "it"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
