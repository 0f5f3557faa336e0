package thread

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
)

// versions reads all pages of the versions of a message.
func (w *world) versionPages(t testing.TB, thread, id string, limit int) (out []api.Message, pages int) {
	t.Helper()
	for cursor := ""; ; pages++ {
		raw, err := w.ListVersions(t.Context(), owner, thread, id, limit, cursor)
		if err != nil {
			t.Fatal(err)
		}
		page := decodeAs[api.MessageVersions](t, raw)
		if page.ID != id || limit > 0 && len(page.Versions) > limit {
			t.Fatalf("limit %d: %d versions of %q", limit, len(page.Versions), page.ID)
		}
		out = append(out, page.Versions...)
		if cursor = page.NextCursor; cursor == "" {
			return out, pages + 1
		}
	}
}

func TestVersionsComeInPagesOldestFirst(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	id, other := w.say(t, th.ID, "0"), w.say(t, th.ID, "other")
	want := []string{`"0"`}
	for i := 1; i < 12; i++ {
		text := fmt.Sprint(i)
		w.edit(t, owner, th.ID, id, text)
		w.edit(t, owner, th.ID, other, text)
		want = append(want, `"`+text+`"`)
	}
	for _, limit := range []int{0, 1, 5, 6, 11, 12, 13, MaxPage} {
		got, pages := w.versionPages(t, th.ID, id, limit)
		if diff := cmp.Diff(want, texts(got)); diff != "" || limit > 0 && pages > 12/limit+1 {
			t.Errorf("limit %d, %d pages: %s", limit, pages, diff)
		}
	}
	w.unsay(t, th.ID, id)
	if got, _ := w.versionPages(t, th.ID, id, 4); cmp.Diff(append(want, ""), texts(got)) != "" || !got[12].Deleted || got[12].Version != 13 {
		t.Errorf("of a deleted message: %v", got)
	}
	w.store.reset()
	calls := w.kms.calls.Load()
	w.versionsOf(t, owner, th.ID, other)
	if g, s, n := w.store.gets.Load(), w.store.scans.Load(), w.store.scanned.Load(); g != 2 || s != 1 || n != 11 || w.kms.calls.Load()-calls != 1 {
		t.Errorf("%d gets, %d scans of %d records, %d KMS calls", g, s, n, w.kms.calls.Load()-calls)
	}
}

func TestLargeVersionsEndAPageEarly(t *testing.T) {
	if testing.Short() {
		t.Skip("megabytes, in one goroutine: in the run without -short")
	}
	w := newWorld(t)
	th := w.thread(t, owner, "t")
	id := w.say(t, th.ID, "")
	for i := range 9 {
		w.edit(t, owner, th.ID, id, fmt.Sprint(i)+strings.Repeat("x", maxPageBytes/4-100))
	}
	got, pages := w.versionPages(t, th.ID, id, 0)
	if len(got) != 10 || pages != 3 {
		t.Errorf("%d versions in %d pages", len(got), pages)
	}
}

// The versions are those of one moment, whatever is edited while they are read.
func TestAnEditMeanwhileLeavesNoGap(t *testing.T) {
	for _, limit := range []int{0, 3} {
		w := newWorld(t)
		th := w.thread(t, owner, "t")
		id := w.say(t, th.ID, "0")
		w.edit(t, owner, th.ID, id, "1")
		server, once := w.another(), false
		w.Service = New(Config{Store: &beforeScan{w.store, func() {
			if once {
				return
			}
			once = true
			for i := 2; i < 5; i++ {
				if _, err := server.EditMessage(context.Background(), owner, th.ID, id, api.EditMessage{Body: quoted(fmt.Sprint(i))}); err != nil {
					t.Error(err)
				}
			}
		}}, KMS: w.kms, Gate: w.asked})
		got, _ := w.versionPages(t, th.ID, id, limit)
		want := []string{`"0"`, `"1"`, `"2"`, `"3"`, `"4"`}
		if limit == 0 {
			want = want[:2]
		}
		if diff := cmp.Diff(want, texts(got)); diff != "" {
			t.Errorf("limit %d: %s", limit, diff)
		}
	}
}

func TestAWrongQueryOfVersionsIsRefused(t *testing.T) {
	w := newWorld(t)
	th, other := w.thread(t, owner, "t"), w.thread(t, owner, "other")
	id, elsewhere := w.say(t, th.ID, "x"), w.say(t, other.ID, "y")
	for _, cursor := range []string{"x", "0", "-1", "01", "+1", "1 ", "10000000000", "99999999999999999999", "../meta", "\xff"} {
		_, err := w.ListVersions(t.Context(), owner, th.ID, id, 0, cursor)
		wantCode(t, err, fault.Invalid)
	}
	for _, limit := range []int{-1, MaxPage + 1} {
		_, err := w.ListVersions(t.Context(), owner, th.ID, id, limit, "")
		wantCode(t, err, fault.Invalid)
	}
	for _, bad := range append([]string{elsewhere, noID}, badMessageIDs...) {
		if _, err := w.ListVersions(t.Context(), owner, th.ID, bad, 0, ""); !errorIs(err, fault.NotFound) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	raw, err := w.ListVersions(t.Context(), owner, th.ID, id, 0, "7")
	if want := `{"id":"` + id + `","versions":[]}`; err != nil || string(raw) != want {
		t.Errorf("behind the newest: %s, %v", raw, err)
	}
}
