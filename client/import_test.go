package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
)

// exported is a thread as lines of an export, in the clear.
func exported(t *testing.T, c *client.Client, thread string) (lines []api.ThreadExportLine) {
	t.Helper()
	for m, err := range c.ExportThread(t.Context(), thread) {
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, api.ThreadExportLine{
			ID: m.ID, Thread: m.Thread, Author: m.Author, EndUser: m.EndUser, Role: m.Role, TS: m.TS, Body: m.Body,
			ReplyTo: m.ReplyTo, Version: m.Version, UpdatedTS: m.UpdatedTS, Deleted: m.Deleted, Reactions: m.Reactions,
		})
	}
	return lines
}

// told is what an import has to bring of lines.
func told(lines []api.ThreadExportLine) (out []string) {
	for _, l := range lines {
		out = append(out, fmt.Sprint(l.TS, l.Role, string(l.Body), max(l.Version, 1), l.Deleted, l.Reactions))
	}
	return out
}

// talk fills a thread with what an export can hold.
func (u underKey) talk(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	post := func(body, reply string, ts int64) string {
		m, err := u.c.PostMessage(ctx, u.thread, api.PostMessage{Body: json.RawMessage(body), TS: ts, ReplyTo: reply})
		if err != nil {
			t.Fatal(err)
		}
		return m.ID
	}
	edit := func(id, body string) {
		if _, err := u.c.EditMessage(ctx, u.thread, id, api.EditMessage{Body: json.RawMessage(body), Role: "tool"}); err != nil {
			t.Fatal(err)
		}
	}
	first := post(canaryBody, "", 5)
	edit(first, `"canary two"`)
	edit(first, `12345678901234567890.10`)
	if _, err := u.c.React(ctx, u.thread, first, "+1"); err != nil {
		t.Fatal(err)
	}
	post(`"canary twin"`, first, 7)
	post(`"canary twin"`, "", 7)
	gone := post(`"canary gone"`, "", 8)
	edit(gone, `"canary gone for good"`)
	if err := u.c.DeleteMessage(ctx, u.thread, gone); err != nil {
		t.Fatal(err)
	}
	post(`[ 1, "<&>" ]`, "", 9)
}

// Versions of a sealed thread are opened under the one and sealed anew under the other,
// and lines that are sent again, whole or in part, are known.
func TestAnImportSealsWhatAnExportOpened(t *testing.T) {
	u := newUnderKey(t)
	u.talk(t)
	lines := exported(t, u.c, u.thread)
	fresh := cmek.Generate()
	c := newClient(t, u.s, client.WithCMEKKey(u.key, fresh), client.WithTransport(u.seen))
	for name, key := range map[string]*cmek.Key{"the same key": u.key, "another key": fresh} {
		to, err := c.CreateThread(t.Context(), api.CreateThread{CMEKFingerprint: key.Fingerprint()})
		if err != nil {
			t.Fatal(err)
		}
		bring := func(lines []api.ThreadExportLine, want api.ImportedMessages) {
			t.Helper()
			if got, err := c.ImportThread(t.Context(), to.ID, lines); err != nil || got != want {
				t.Errorf("%s: %+v, %v; want %+v", name, got, err, want)
			}
		}
		bring(lines[:2], api.ImportedMessages{Imported: 1})             // a part, as of an import that broke off
		bring(lines[:5], api.ImportedMessages{Imported: 2, Present: 1}) // with one more version, and twins
		bring(lines, api.ImportedMessages{Imported: 2, Present: 3})
		bring(lines, api.ImportedMessages{Present: 5})
		if got, want := told(exported(t, c, to.ID)), told(lines); !slices.Equal(got, want) {
			t.Errorf("%s: there is %q, want %q", name, got, want)
		}
		messages, err := c.ListMessages(t.Context(), to.ID, client.MessageQuery{})
		if err != nil || messages[1].ReplyTo != messages[0].ID {
			t.Errorf("%s: a reply answers %q, %v", name, messages[1].ReplyTo, err)
		}
	}
	if u.seen.holds("canary") {
		t.Error("a body left in the clear")
	}
	u.s.MustNotHold(t, "canary")
}

// A blob in the place of another's message, or of one that does not open, is none of the lines.
func TestAnImportTakesNothingElseForAMessageThatItBrought(t *testing.T) {
	u := newUnderKey(t)
	foreign, err := cmek.EncryptBoundValue(cmek.Generate(), cmek.MessageContext(u.thread), []byte(`"x"`))
	if err != nil {
		t.Fatal(err)
	}
	quoted, _ := json.Marshal(foreign)
	other := u.send(t, u.thread, quoted) // that the client cannot open
	lines := []api.ThreadExportLine{{TS: other.TS, Body: json.RawMessage(`"x"`)}, {TS: 1, Body: json.RawMessage(`"y"`)}}
	for _, want := range []api.ImportedMessages{{Imported: 2}, {Present: 2}} {
		if got, err := u.c.ImportThread(t.Context(), u.thread, lines); err != nil || got != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

func TestAnImportIsSealedOrRefused(t *testing.T) {
	u := newUnderKey(t)
	lines := []api.ThreadExportLine{{TS: 1, Body: json.RawMessage(canaryBody)}}
	keyless := newClient(t, u.s, client.WithTransport(u.seen))
	if _, err := keyless.ImportThread(t.Context(), u.thread, lines); err == nil {
		t.Error("there is no key")
	} else if _, ok := errors.AsType[*client.KeyError](err); !ok {
		t.Error(err)
	}
	careful := newClient(t, u.s, client.WithCMEKKey(u.key), client.WithSealedThreads(), client.WithTransport(u.seen))
	clear := newThread(t, newClient(t, u.s), "")
	if _, err := careful.ImportThread(t.Context(), clear, lines); !errors.Is(err, client.ErrThreadNotSealed) {
		t.Errorf("into a thread under no key: %v", err)
	}
	if _, err := careful.ImportThread(t.Context(), u.thread, lines); err != nil {
		t.Error(err)
	}
	if u.seen.holds("canary") {
		t.Error("a body left in the clear")
	}
	if got, err := keyless.ImportThread(t.Context(), clear, []api.ThreadExportLine{{TS: 1, Body: json.RawMessage(`1`)}}); err != nil || got.Imported != 1 {
		t.Errorf("in the clear: %+v, %v", got, err)
	}
}
