package keylist

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/sealed"
	"github.com/keyfold/keyfold/internal/vault"
)

// fake is a key process, and the threads.
type fake struct {
	keks  kmsapi.KEKList
	deks  kmsapi.DEKList
	named []api.DEK
	err   error

	query kmsapi.ListQuery
	ids   []string
}

func (f *fake) ListKEKs(_ context.Context, q kmsapi.ListQuery) (kmsapi.KEKList, error) {
	f.query = q
	return f.keks, f.err
}

func (f *fake) ListDEKs(_ context.Context, ids []string) (kmsapi.DEKList, error) {
	f.ids = ids
	return f.deks, f.err
}

func (f *fake) DEKs(_ context.Context, threads []string) ([]api.DEK, error) {
	if threads[0] == "damaged" {
		return nil, fault.New(fault.Damaged, "damaged")
	}
	return append([]api.DEK{}, f.named...), nil
}

var day = time.Date(2026, 11, 21, 10, 0, 0, 0, time.UTC)

func TestAKEKIsNamedByWhatItIsOf(t *testing.T) {
	n := 3
	f := &fake{keks: kmsapi.KEKList{Root: "pkcs11", Locked: true, WrapLimit: 9, Next: "z", KEKs: []kmsapi.ListedKEK{
		{KEK: kmsapi.KEK{ID: vault.KEKPrefix + "7", Versions: []kmsapi.KEKVersion{{Version: 1, State: "destroyed", Released: true}, {Version: 2, State: "enabled", Created: day, Wraps: 5, Imported: true}}}},
		{KEK: kmsapi.KEK{ID: kmsapi.ThreadsKEK, Versions: []kmsapi.KEKVersion{{Version: 1, State: "enabled", DEKs: &n}}}},
		{KEK: kmsapi.KEK{ID: sealed.KEK}, Damaged: true},
		{KEK: kmsapi.KEK{ID: "audit"}},
	}}}
	ages := api.KeyAges{KEK: 60}
	got, err := New(f, f, ages).KEKs(t.Context(), Query{Limit: 4, Cursor: "a", Count: true})
	if err != nil {
		t.Fatal(err)
	}
	want := api.EncryptionKeys{
		Available: true, Root: &api.RootKey{Kind: "pkcs11", State: "locked"}, WrapLimit: 9, MaxAge: ages, Pagination: api.Pagination{Count: 4, HasMore: true, NextCursor: "z"},
		KEKs: []api.KEK{
			{ID: "vault-7", Of: "vault", VaultID: "7", Versions: []api.KEKVersion{{Version: 1, State: "destroyed", Released: true}, {Version: 2, State: "enabled", CreatedAt: day, Wraps: 5, Imported: true}}},
			{ID: "threads", Of: "threads", Versions: []api.KEKVersion{{Version: 1, State: "enabled", ThreadDEKs: &n}}},
			{ID: sealed.KEK, Of: "server", Damaged: true, Versions: []api.KEKVersion{}},
			{ID: "audit", Of: "key-process", Versions: []api.KEKVersion{}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if f.query != (kmsapi.ListQuery{After: "a", Limit: 4, Count: true}) {
		t.Errorf("it asked for %+v", f.query)
	}
}

func TestADEKIsWhatTheKeyProcessSaysOfIt(t *testing.T) {
	dek := func(id, state string) api.DEK {
		return api.DEK{ThreadID: "t", KeyID: id, State: state, KEKVersion: 1, CreatedAt: day}
	}
	f := &fake{
		named: []api.DEK{dek("a", "enabled"), dek("b", "decrypt-only"), dek("c", "enabled"), dek("d", "enabled")},
		deks: kmsapi.DEKList{SealLimit: 9, DEKs: []kmsapi.ListedDEK{
			{DEK: kmsapi.DEK{KeyID: "b", KEKVersion: 2, Created: day.Add(1), Seals: 7}}, {DEK: kmsapi.DEK{KeyID: "c"}, Damaged: true}, {DEK: kmsapi.DEK{KeyID: "a", KEKVersion: 1, Created: day, Seals: 4096}},
		}},
	}
	got, err := New(f, f, api.KeyAges{}).DEKs(t.Context(), []string{"t"})
	if err != nil {
		t.Fatal(err)
	}
	a, b, c, d := dek("a", "enabled"), dek("b", "decrypt-only"), dek("c", "damaged"), dek("d", "missing")
	a.Seals, b.Seals, b.KEKVersion, b.CreatedAt = 4096, 7, 2, day.Add(1)
	if diff := cmp.Diff(api.EncryptionDEKs{Available: true, SealLimit: 9, DEKs: []api.DEK{a, b, c, d}}, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"a", "b", "c", "d"}, f.ids); diff != "" {
		t.Error(diff)
	}
}

func TestWhatTheKeyProcessDoesNotTellIsSaidInWords(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{fault.New(fault.Forbidden, "no role"), "add the role list to the server's entry"},
		{fault.New(fault.NotFound, "no such route"), "install the keyfold-kms of this server's version"},
	} {
		f := &fake{err: c.err, named: []api.DEK{{KeyID: "a", State: "enabled"}}}
		s := New(f, f, api.KeyAges{DEK: 1})
		keks, err := s.KEKs(t.Context(), Query{})
		if err != nil || keks.Available || keks.Root != nil || keks.KEKs == nil || !strings.Contains(keks.Message, c.want) || keks.MaxAge.DEK != 1 {
			t.Errorf("%+v, %v", keks, err)
		}
		deks, err := s.DEKs(t.Context(), []string{"t"})
		if err != nil || deks.Available || !strings.Contains(deks.Message, c.want) || len(deks.DEKs) != 1 || deks.DEKs[0].State != "enabled" {
			t.Errorf("%+v, %v", deks, err)
		}
	}
	f := &fake{err: fault.New(fault.Unavailable, "away")}
	s := New(f, f, api.KeyAges{})
	if keks, err := s.KEKs(t.Context(), Query{}); !errors.Is(err, fault.Unavailable) || keks.Message != "" {
		t.Errorf("%+v, %v", keks, err)
	}
	if deks, err := s.DEKs(t.Context(), []string{"t"}); !errors.Is(err, fault.Unavailable) || deks.DEKs != nil {
		t.Errorf("%+v, %v", deks, err)
	}
}

func TestAListIsAskedForInItsForm(t *testing.T) {
	f := &fake{}
	s := New(f, f, api.KeyAges{})
	for _, limit := range []int{-1, MaxPage + 1} {
		if _, err := s.KEKs(t.Context(), Query{Limit: limit}); !errors.Is(err, fault.Invalid) {
			t.Errorf("a limit of %d: %v", limit, err)
		}
	}
	threads := make([]string, MaxThreads+1)
	for i := range threads {
		threads[i] = fmt.Sprint(i)
	}
	for _, named := range [][]string{nil, threads} {
		if _, err := s.DEKs(t.Context(), named); !errors.Is(err, fault.Invalid) {
			t.Errorf("of %d threads: %v", len(named), err)
		}
	}
	if got, err := s.DEKs(t.Context(), threads[1:]); err != nil || !got.Available || got.DEKs == nil || f.ids == nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.DEKs(t.Context(), []string{"damaged"}); !errors.Is(err, fault.Damaged) {
		t.Error(err)
	}
}
