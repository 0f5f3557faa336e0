package thread

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/store"
)

func (w *world) export(t testing.TB, p access.Principal, thread string) string {
	t.Helper()
	var out bytes.Buffer
	if err := w.Export(t.Context(), p, nil, thread, &out); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// lively is a thread with versions, reactions, replies and what was deleted.
func (w *world) lively(t testing.TB) string {
	t.Helper()
	th := w.thread(t, owner, "").ID
	first := w.post(t, owner, th, api.PostMessage{Body: json.RawMessage("{\"a\":\n1}"), TS: 10})
	for _, body := range []string{`"<&>"`, `3`} {
		if _, err := w.EditMessage(t.Context(), owner, th, first.ID, api.EditMessage{Body: json.RawMessage(body)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.React(t.Context(), owner, th, first.ID, api.Reaction{Reaction: "+1"}); err != nil {
		t.Fatal(err)
	}
	gone := w.post(t, owner, th, api.PostMessage{Body: quoted("gone"), TS: 10, ReplyTo: first.ID, Role: "tool"})
	w.post(t, owner, th, api.PostMessage{Body: quoted("twin"), TS: 11, ReplyTo: gone.ID})
	w.post(t, owner, th, api.PostMessage{Body: quoted("twin"), TS: 11})
	if err := w.DeleteMessage(t.Context(), owner, th, gone.ID); err != nil {
		t.Fatal(err)
	}
	return th
}

// bare is an export without what an import cannot bring back.
func bare(t testing.TB, text string) (out []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		var m api.Message
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		m.Thread, m.UpdatedTS = "", 0
		out = append(out, fmt.Sprintf("%+v %s", m, m.Body))
	}
	return out
}

func TestAnExportHasAllVersionsAndComesBackAsItWas(t *testing.T) {
	w := newWorld(t)
	from := w.lively(t)
	text := w.export(t, owner, from)
	if n := strings.Count(text, "\n"); n != 3+2+1+1+1 || !strings.HasSuffix(text, "}\n{\"end\":true,\"messages\":4}\n") {
		t.Fatalf("%d lines: %s", n, text)
	}
	to := w.thread(t, owner, "").ID
	got, err := w.Import(t.Context(), owner, to, []byte(text))
	if want := (api.ImportedMessages{Imported: 4}); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	if diff := cmp.Diff(bare(t, text), bare(t, w.export(t, owner, to))); diff != "" {
		t.Error(diff)
	}
	before := w.export(t, owner, to)
	got, err = w.Import(t.Context(), owner, to, []byte(text))
	if want := (api.ImportedMessages{Present: 4}); err != nil || got != want || w.export(t, owner, to) != before {
		t.Errorf("again: %+v, %v", got, err)
	}
}

// An import that ends at any commit, whether or not that took effect, is finished by the same lines.
func TestAnImportThatFailedIsFinishedByTheSameLines(t *testing.T) {
	w := newWorld(t)
	text := w.export(t, owner, w.lively(t))
	for _, hook := range []*func() error{&w.store.beforeCommit, &w.store.afterCommit} {
		failed := true
		n := 0
		for ; failed; n++ {
			to, left := w.thread(t, owner, "").ID, n
			*hook = func() error {
				if left--; left < 0 {
					return errors.New("broken")
				}
				return nil
			}
			_, err := w.Import(t.Context(), owner, to, []byte(text))
			failed, *hook = err != nil, nil
			if _, err := w.Import(t.Context(), owner, to, []byte(text)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(bare(t, text), bare(t, w.export(t, owner, to))); diff != "" {
				t.Fatalf("after %d commits: %s", n, diff)
			}
		}
		if n < 8 {
			t.Errorf("it failed at %d commits alone", n)
		}
	}
}

func TestTheSameImportTwiceAtOnceBringsEachMessageOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		th := w.thread(t, owner, "").ID
		const lines = `{"ts":1,"body":1}` + "\n" + `{"ts":2,"body":2}`
		free, commits := make(chan struct{}), 0
		w.store.beforeCommit = func() error {
			if commits++; commits == 1 {
				<-free
			}
			return nil
		}
		brought := make(chan int)
		bring := func(ctx context.Context) {
			got, err := w.Import(ctx, owner, th, []byte(lines))
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
			brought <- got.Imported
		}
		go bring(t.Context())
		synctest.Wait() // at its commit
		go bring(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		go bring(ctx)
		synctest.Wait()
		cancel()
		if n := <-brought; n != 0 || commits != 1 {
			t.Errorf("one that waited in vain brought %d; %d commits", n, commits)
		}
		close(free)
		if n := <-brought + <-brought; n != 2 || len(w.imports.busy) != 0 {
			t.Errorf("%d messages, and %d turns are left", n, len(w.imports.busy))
		}
	})
}

func TestAnImportPutsNoWordsIntoAnothersMouth(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "").ID
	lines := `{"id":"x","author":"ann","end_user":true,"role":"user","ts":5,"body":"hi","reactions":{"ann":"+1","` + owner.ID + `":"-1"}}`
	got, err := w.Import(t.Context(), owner, th, []byte(lines))
	if want := (api.ImportedMessages{Imported: 1, LeftOut: 1}); err != nil || got != want {
		t.Fatalf("%+v, %v", got, err)
	}
	var m api.Message
	line, _, _ := strings.Cut(w.export(t, owner, th), "\n")
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatal(err)
	}
	if m.Author != owner.ID || m.EndUser || !cmp.Equal(m.Reactions, map[string]string{owner.ID: "-1"}) {
		t.Errorf("%+v", m)
	}
}

func TestAWrongImportBringsNothing(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "").ID
	before := w.dump(t)
	good := `{"ts":1,"body":"` + canary + `"}` + "\n"
	for name, lines := range map[string]string{
		"no JSON": good + "canary", "a member of another kind": good + `{"ts":1,"body":1,"canary":2}`, "no time": good + `{"body":1}`, "a time before all": good + `{"ts":-1,"body":1}`,
		"no body": good + `{"ts":1}`, "cut off": good + `{"end":true,"messages":2}`, "lines after the end": good + `{"end":true,"messages":1}` + "\n" + good,
		"too many": strings.Repeat(good, MaxImport+2),
		"null":     good + `{"ts":1,"body":null}`, "too deep": good + `{"ts":1,"body":` + strings.Repeat("[", MaxDepth+1) + strings.Repeat("]", MaxDepth+1) + `}`,
		"too large": good + `{"ts":1,"body":"` + strings.Repeat("x", MaxBody) + `"}`, "a bad role": good + `{"ts":1,"body":1,"role":"\u0000"}`,
		"a bad reaction": good + `{"ts":1,"body":1,"reactions":{"a":""}}`, "a bad edit": `{"id":"a","ts":1,"body":1}` + "\n" + `{"id":"a","ts":1,"body":null}`,
		"the newest first": `{"id":"a","ts":1,"body":1,"version":2}` + "\n" + `{"id":"a","ts":1,"body":0}`,
	} {
		_, err := w.Import(t.Context(), owner, th, []byte(lines))
		if !errors.Is(err, fault.Invalid) && !errors.Is(err, fault.TooLarge) || strings.Contains(chain(err), canary) || !strings.Contains(err.Error(), "line") {
			t.Errorf("%s: %v", name, err)
		}
	}
	w.unchanged(t, before)
	if _, err := w.Import(t.Context(), mate, th, []byte(good)); !errors.Is(err, fault.Forbidden) {
		t.Errorf("another's thread: %v", err)
	}
	if err := w.Export(t.Context(), mate, nil, th, io.Discard); !errors.Is(err, fault.Forbidden) {
		t.Errorf("another's thread: %v", err)
	}
	if err := w.Export(t.Context(), stranger, nil, th, io.Discard); !errors.Is(err, fault.NotFound) {
		t.Errorf("another org's thread: %v", err)
	}
}

func TestAnExportOfManyPagesHasEachMessageOnce(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "").ID
	for i := range 2*MaxPage + 1 {
		m := w.post(t, owner, th, api.PostMessage{Body: json.RawMessage(fmt.Sprint(i)), TS: int64(i + 1)})
		if i%500 == 0 {
			if err := w.DeleteMessage(t.Context(), owner, th, m.ID); err != nil {
				t.Fatal(err)
			}
		}
	}
	var ids []string
	for line := range strings.Lines(w.export(t, owner, th)) {
		var m api.Message
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, m.ID)
	}
	ids = ids[:len(ids)-1] // the end
	if n := len(slices.Compact(slices.Clone(ids))); n != 2*MaxPage+1 || len(ids) != n+5 || !slices.IsSorted(ids) {
		t.Errorf("%d lines of %d messages", len(ids), n)
	}
}

// largestScan notes how much of values one scan returned at most.
type largestScan struct {
	store.Store
	bytes int
}

func (l *largestScan) Scan(ctx context.Context, r store.Range, opt store.ScanOptions) ([]store.Record, error) {
	recs, err := l.Store.Scan(ctx, r, opt)
	l.bytes = max(l.bytes, sizeOf(recs))
	return recs, err
}

func TestAnImportReadsMessagesOfOneTimeInPages(t *testing.T) {
	if testing.Short() {
		t.Skip("megabytes, in one goroutine: in the run without -short")
	}
	w := newWorld(t)
	largest := &largestScan{Store: w.store.Store}
	w.store.Store = largest
	th := w.thread(t, owner, "").ID
	const size, n = 1 << 20, 24
	for i := range n {
		w.post(t, owner, th, api.PostMessage{Body: quoted(strings.Repeat(fmt.Sprint(i%10), size) + fmt.Sprint(i)), TS: 7})
	}
	last := string(quoted(strings.Repeat(fmt.Sprint((n-1)%10), size) + fmt.Sprint(n-1)))
	got, err := w.Import(t.Context(), owner, th, []byte(`{"ts":7,"body":"new"}`+"\n"+`{"ts":7,"body":`+last+`}`))
	if want := (api.ImportedMessages{Imported: 1, Present: 1}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if largest.bytes > maxPageBytes+2*size {
		t.Errorf("a scan returned %d bytes", largest.bytes)
	}
}

// A run that is purging a message has taken its oldest versions.
func TestAMessageWhoseOldestVersionsArePurgedIsExportedAndImportedOnce(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "").ID
	m := w.post(t, owner, th, api.PostMessage{Body: quoted("1"), TS: 7})
	for n := range 5 {
		if _, err := w.EditMessage(t.Context(), owner, th, m.ID, api.EditMessage{Body: quoted(fmt.Sprint(n + 2))}); err != nil {
			t.Fatal(err)
		}
	}
	var b store.Batch
	b.Delete(pastRow(m.ID, 1).key(th))
	b.Delete(pastRow(m.ID, 2).key(th))
	if _, err := w.store.Store.Commit(t.Context(), &b); err != nil {
		t.Fatal(err)
	}
	if text := w.export(t, owner, th); strings.Count(text, "\n") != 5 {
		t.Errorf("versions 3 to 6 and the end are %s", text)
	}
	got, err := w.Import(t.Context(), owner, th, []byte(`{"ts":7,"body":"6"}`))
	if want := (api.ImportedMessages{Present: 1}); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

// cutWriter does something at the first write.
type cutWriter struct {
	strings.Builder
	do func()
}

func (c *cutWriter) Write(p []byte) (int, error) {
	if c.do != nil {
		c.do()
		c.do = nil
	}
	return c.Builder.Write(p)
}

// A page is 1,000 messages, or a part of the versions of one.
func TestAnExportAsksForEachPageWhoCalls(t *testing.T) {
	w := newWorld(t)
	th := w.thread(t, owner, "").ID
	for i := range MaxPage + 1 {
		w.post(t, owner, th, api.PostMessage{Body: quoted("x"), TS: int64(i + 2)})
	}
	for _, lives := range []int{0, 1, 2} {
		asked := 0
		again := func(context.Context) (access.Principal, error) {
			if asked++; asked > lives {
				return access.Principal{}, fault.New(fault.Unauthenticated, "the key was revoked")
			}
			return owner, nil
		}
		var out bytes.Buffer
		err := w.Export(t.Context(), owner, again, th, &out)
		if lives < 2 {
			if wantCode(t, err, fault.Unauthenticated); strings.Contains(out.String(), `"end"`) || asked != lives+1 {
				t.Errorf("asked %d times, and it has its end", asked)
			}
		} else if err != nil || asked != 2 {
			t.Errorf("asked %d times: %v", asked, err)
		}
	}
	m := w.post(t, owner, th, api.PostMessage{Body: quoted("1"), TS: 1})
	w.edit(t, owner, th, m.ID, "2")
	revoked := func(context.Context) (access.Principal, error) {
		return access.Principal{}, fault.New(fault.Unauthenticated, "the key was revoked")
	}
	var out bytes.Buffer
	if wantCode(t, w.Export(t.Context(), owner, revoked, th, &out), fault.Unauthenticated); out.Len() > 0 {
		t.Errorf("after the revocation came %s", out.String())
	}
}

func TestAnExportEndsWithThePartOfWhoMakesIt(t *testing.T) {
	w := newOffice(t)
	th := w.thread(t, owner, "").ID
	w.giveTo(t, th, colleague, access.Reader)
	for i := range 2 {
		m := w.post(t, owner, th, api.PostMessage{Body: quoted("first"), TS: int64(i + 1)})
		if _, err := w.EditMessage(t.Context(), owner, th, m.ID, api.EditMessage{Body: quoted("second")}); err != nil {
			t.Fatal(err)
		}
	}
	out := cutWriter{do: func() {
		if err := w.RemoveParticipant(t.Context(), owner, th, colleague.ID, false); err != nil {
			t.Error(err)
		}
	}}
	err := w.Export(t.Context(), colleague, nil, th, &out)
	if !errors.Is(err, fault.Forbidden) || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("%v after %s", err, out.String())
	}
}
