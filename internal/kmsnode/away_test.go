package kmsnode

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

func TestAProcessWhoseDatabaseIsAwaySaysThatItIs(t *testing.T) {
	r, db := newRig(t), pgtest.New(t)
	var err error
	r.Store, err = storespec.Parse(db.Database(t))
	r.must(err)
	r.AuditDir = AuditDir(r.DataDir) + "-of-database"
	r.must(Init(t.Context(), r.Config))
	c, _ := r.start()
	says := func(away bool) {
		t.Helper()
		for until := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			s, err := c.Status(t.Context())
			r.must(err)
			if s.Locked != "" {
				t.Fatalf("locked: %s", s.Locked)
			}
			if s.Store != "" == away {
				return
			}
			if time.Now().After(until) {
				t.Fatalf("the store: %q", s.Store)
			}
		}
	}
	says(false)
	for _, step := range []struct {
		name       string
		end, begin func()
	}{
		{"it says nothing", db.Pause, db.Resume},
		{"it is stopped", func() { db.Stop(t) }, func() { db.Start(t) }},
	} {
		step.end()
		says(true)
		began := time.Now()
		err := c.Health(t.Context())
		if !errors.Is(err, fault.Unavailable) || !strings.Contains(err.Error(), "key store does not answer") {
			t.Errorf("%s: %v after %v", step.name, err, time.Since(began))
		}
		step.begin()
		says(false)
	}
}
