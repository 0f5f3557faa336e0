package main

import (
	"slices"
	"testing"

	"github.com/keyfold/keyfold/internal/kmsapi"
)

func TestTheStatusSaysWhetherTheStoreAnswers(t *testing.T) {
	for why, want := range map[string]string{"": "answers", "it is away": "does not answer: it is away"} {
		rows := statusRows(&kmsapi.Status{Store: why})
		if !slices.ContainsFunc(rows, func(row []string) bool { return slices.Equal(row, []string{"store", want}) }) {
			t.Errorf("%q: %q", why, rows)
		}
	}
}
