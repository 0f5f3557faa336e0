package storespec

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/freeport"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// database names a new, empty one.
func database(t *testing.T) Spec {
	t.Helper()
	s, err := Parse(pgtest.URL(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAStoreInADatabase(t *testing.T) {
	s := database(t)
	if there, err := s.Exists(t.Context()); there || err != nil || s.Vacant(t.Context()) != nil {
		t.Fatalf("before: %t, %v", there, err)
	}
	a, b := mustOpen(t, s), mustOpen(t, s) // two processes
	put(t, a, "k")
	if _, err := b.Get(t.Context(), "k"); err != nil {
		t.Error(err)
	}
	if there, err := s.Exists(t.Context()); !there || err != nil {
		t.Errorf("after: %t, %v", there, err)
	}
	if err := s.Vacant(t.Context()); err == nil || !strings.Contains(err.Error(), "there is a store in postgres://postgres@") {
		t.Error(err)
	}
	put(t, a, layout.StoreCopy())
	if err := errors.Join(a.Close(), b.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Open(t.Context(), Options{}); !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "run the same keyfold store copy again") {
		t.Errorf("an unfinished copy: %v", err)
	}
}

func TestManyProcessesOpenAnEmptyDatabaseAtOnce(t *testing.T) {
	s := database(t)
	errs := make([]error, 8)
	var opening sync.WaitGroup
	for i := range errs {
		opening.Go(func() {
			st, err := s.Open(t.Context(), Options{})
			if errs[i] = err; err == nil {
				errs[i] = st.Close()
			}
		})
	}
	opening.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

func TestADatabaseThatDoesNotOpenIsNamedWithoutItsPassword(t *testing.T) {
	addr, release, err := freeport.Hold()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	there := pgtest.Shared(t).Port
	for _, url := range []string{
		fmt.Sprintf("postgres://me:canary@127.0.0.1:%d/nowhere?sslmode=disable", there),
		fmt.Sprintf("postgres://postgres:canary@127.0.0.1:%d/nowhere?sslmode=disable", there),
		"postgres://me:canary@" + addr + "/k?sslmode=disable&connect_timeout=1",
		fmt.Sprintf("postgres://me:canary@127.0.0.1:%d/k?sslmode=canary", there),
	} {
		s, err := Parse(url)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Open(t.Context(), Options{})
		for cause := err; cause != nil; cause = errors.Unwrap(cause) {
			if text := fmt.Sprintf("%v %+v", cause, cause); strings.Contains(text, "canary") {
				t.Errorf("%s", text)
			}
		}
		if err == nil || !strings.Contains(err.Error(), s.String()) {
			t.Errorf("%v; want it to name %s", err, s)
		}
	}
}
