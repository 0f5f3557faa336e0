package fault

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestIsSeesTheCodeThroughWrapping(t *testing.T) {
	err := fmt.Errorf("reading: %w", Wrap(NotFound, errors.New("row gone"), "no such vault"))
	if !errors.Is(err, NotFound) || errors.Is(err, Gone) {
		t.Errorf("errors.Is(%v): wrong code", err)
	}
}

func TestTheCauseStaysOutOfTheMessage(t *testing.T) {
	err := Wrap(Internal, errors.New("canary"), "failed")
	if strings.Contains(err.Error(), "canary") {
		t.Errorf("Error() = %q shows the cause", err.Error())
	}
	if errors.Unwrap(err) == nil {
		t.Error("the cause is lost to the log")
	}
}

func TestOfHidesAnErrorThatNobodyNamed(t *testing.T) {
	got := Of(errors.New("canary"))
	if got.Code != Internal || strings.Contains(got.Message, "canary") {
		t.Errorf("Of = %v %q", got.Code, got.Message)
	}
}

func TestWithLeavesTheOriginalAlone(t *testing.T) {
	e := New(Conflict, "no")
	if e.WithType("x").Type != "x" || e.Type != "" {
		t.Error("WithType must copy")
	}
	if e.WithRetryAfter(1).RetryAfter != 1 || e.RetryAfter != 0 {
		t.Error("WithRetryAfter must copy")
	}
}
