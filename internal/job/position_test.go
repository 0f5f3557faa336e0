package job

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

func TestDecodeReadsWhatAtLeftAndRefusesAllElse(t *testing.T) {
	type position struct {
		After string `json:"after"`
	}
	args := struct {
		Vault string `json:"vault"`
	}{}
	at := position{After: "as set before"}
	j := Job{Kind: "some-kind", Args: []byte(`{"vault":"v"}`)}
	if err := j.Decode(&args, &at); err != nil || args.Vault != "v" || at.After != "as set before" {
		t.Errorf("at the start: %+v, %+v, %v", args, at, err)
	}
	s, err := Step{Processed: 3}.At(position{After: "b"})
	if err != nil || s.Processed != 3 {
		t.Fatalf("%+v, %v", s, err)
	}
	j.Cursor = s.Cursor
	if err := j.Decode(&args, &at); err != nil || at.After != "b" {
		t.Errorf("later: %+v, %v", at, err)
	}
	for _, bad := range []Job{
		{Kind: "some-kind"},
		{Kind: "some-kind", Args: []byte(`{"vault":"v","other":1}`)},
		{Kind: "some-kind", Args: []byte(`{}`), Cursor: `{"before":"b"}`},
	} {
		if err := bad.Decode(&args, &at); !errors.Is(err, fault.Damaged) || !strings.Contains(err.Error(), "some-kind") {
			t.Errorf("%s at %s: %v", bad.Args, bad.Cursor, err)
		}
	}
}

func TestArgumentsOfNoMembersSurviveTheRow(t *testing.T) {
	mem := memstore.New()
	defer mem.Close()
	kinds := []Kind{{Name: "some-kind", Step: func(context.Context, Job) (Step, error) { return Step{}, ErrInterrupted }}}
	r := New(Config{Store: mem, Kinds: kinds})
	defer r.Close()
	started, err := r.Start(t.Context(), "some-kind", struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	j, err := r.Get(t.Context(), started.ID)
	if err == nil {
		err = j.Decode(&struct{}{}, &struct{}{})
	}
	if err != nil {
		t.Errorf("a job of arguments %q: %v", j.Args, err)
	}
}
