package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/keyfoldtest"
)

const canaryBody = `{"text":"canary <&> body"}`

// underKey is a thread under a key, with a client that has it and a record of what that one sent.
type underKey struct {
	s      *keyfoldtest.Server
	key    *cmek.Key
	c      *client.Client
	seen   *recorder
	thread string
}

func newUnderKey(t *testing.T) underKey {
	u := underKey{s: keyfoldtest.Start(t), key: cmek.Generate(), seen: &recorder{}}
	u.c = newClient(t, u.s, client.WithCMEKKey(u.key), client.WithTransport(u.seen))
	th, err := u.c.CreateThread(t.Context(), api.CreateThread{CMEKFingerprint: strings.ToUpper(u.key.Fingerprint())})
	if err != nil || th.CMEKFingerprint != u.key.Fingerprint() {
		t.Fatalf("%+v, %v", th, err)
	}
	u.thread = th.ID
	return u
}

func (u underKey) post(t *testing.T, body string) api.Message {
	t.Helper()
	m, err := u.c.PostMessage(t.Context(), u.thread, api.PostMessage{Body: json.RawMessage(body)})
	if err != nil || string(m.Body) != body {
		t.Fatalf("%s, %v", m.Body, err)
	}
	return m
}

// stored is a body as the server has it.
func (u underKey) stored(t *testing.T, thread, message string) json.RawMessage {
	t.Helper()
	req, _ := http.NewRequestWithContext(t.Context(), "GET", u.s.URL+"/v1/threads/"+thread+"/messages/"+message, nil)
	req.Header.Set("Authorization", "Bearer "+u.s.APIKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m api.Message
	if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m.Body
}

// send posts a body as it is.
func (u underKey) send(t *testing.T, thread string, body json.RawMessage) api.Message {
	t.Helper()
	plain, _ := json.Marshal(api.PostMessage{Body: body})
	req, _ := http.NewRequestWithContext(t.Context(), "POST", u.s.URL+"/v1/threads/"+thread+"/messages", strings.NewReader(string(plain)))
	req.Header.Set("Authorization", "Bearer "+u.s.APIKey)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var m api.Message
	if json.NewDecoder(resp.Body).Decode(&m); resp.StatusCode != 200 {
		t.Fatalf("%d", resp.StatusCode)
	}
	return m
}

func TestTheServerNeverSeesABodyOfAThreadUnderAKey(t *testing.T) {
	u := newUnderKey(t)
	ctx := t.Context()
	const edited = `["canary","edited"]`
	m := u.post(t, canaryBody)
	if got, err := u.c.EditMessage(ctx, u.thread, m.ID, api.EditMessage{Body: json.RawMessage(edited)}); err != nil || string(got.Body) != edited {
		t.Fatalf("%s, %v", got.Body, err)
	}
	if got, err := u.c.EditMessage(ctx, u.thread, m.ID, api.EditMessage{Role: "tool"}); err != nil || string(got.Body) != edited {
		t.Fatalf("an edit without a body: %s, %v", got.Body, err)
	}
	if got, err := u.c.React(ctx, u.thread, m.ID, "+1"); err != nil || string(got.Body) != edited {
		t.Fatalf("%s, %v", got.Body, err)
	}
	if u.seen.holds("canary") || strings.Contains(string(u.stored(t, u.thread, m.ID)), "canary") {
		t.Error("a body left in the clear")
	}
	u.s.MustNotHold(t, "canary")
}

func TestEveryReadOfAThreadUnderAKeyOpens(t *testing.T) {
	u := newUnderKey(t)
	ctx := t.Context()
	m := u.post(t, canaryBody)
	if _, err := u.c.EditMessage(ctx, u.thread, m.ID, api.EditMessage{Body: json.RawMessage(`2`)}); err != nil {
		t.Fatal(err)
	}
	gone := u.post(t, `"gone"`)
	if err := u.c.DeleteMessage(ctx, u.thread, gone.ID); err != nil {
		t.Fatal(err)
	}
	fresh := newClient(t, u.s, client.WithCMEKKey(cmek.Generate(), u.key)) // that has to ask
	if got, err := fresh.GetMessage(ctx, u.thread, m.ID); err != nil || string(got.Body) != `2` {
		t.Errorf("get: %s, %v", got.Body, err)
	}
	list, err := fresh.ListMessages(ctx, u.thread, client.MessageQuery{IncludeDeleted: true})
	if err != nil || len(list) != 2 || string(list[0].Body) != `2` || !list[1].Deleted || list[1].Body != nil {
		t.Errorf("list: %+v, %v", list, err)
	}
	var versions []string
	for v, err := range fresh.MessageVersions(ctx, u.thread, m.ID) {
		if err != nil {
			t.Fatal(err)
		}
		versions = append(versions, string(v.Body))
	}
	if len(versions) != 2 || versions[0] != canaryBody || versions[1] != `2` {
		t.Errorf("versions: %q", versions)
	}
	follow, stop := context.WithCancel(ctx)
	defer stop()
	for e, err := range fresh.Follow(follow, u.thread, m.ID) {
		if err != nil || e.Message == nil || e.Message.ID == m.ID && string(e.Message.Body) != `2` {
			t.Errorf("follow: %+v, %v", e.Message, err)
		}
		break
	}
}

func TestAThreadUnderAKeyNeedsThatKey(t *testing.T) {
	u := newUnderKey(t)
	m := u.post(t, canaryBody)
	for name, keys := range map[string][]*cmek.Key{"none": nil, "another": {cmek.Generate()}} {
		seen := &recorder{}
		c := newClient(t, u.s, client.WithCMEKKey(keys...), client.WithTransport(seen))
		_, posted := c.PostMessage(t.Context(), u.thread, api.PostMessage{Body: json.RawMessage(canaryBody)})
		_, edited := c.EditMessage(t.Context(), u.thread, m.ID, api.EditMessage{Body: json.RawMessage(canaryBody)})
		_, read := c.GetMessage(t.Context(), u.thread, m.ID)
		_, listed := c.ListMessages(t.Context(), u.thread, client.MessageQuery{})
		for what, err := range map[string]error{"post": posted, "edit": edited, "get": read, "list": listed} {
			if e, ok := errors.AsType[*client.KeyError](err); !ok || e.Fingerprint != u.key.Fingerprint() || !strings.Contains(err.Error(), "the thread is sealed") {
				t.Errorf("%s with key %s: %v", what, name, err)
			}
		}
		if seen.holds("canary") {
			t.Errorf("with key %s the body left in the clear", name)
		}
	}
}

func TestABlobOfAnotherPlaceDoesNotOpenInAThread(t *testing.T) {
	u := newUnderKey(t)
	other, err := u.c.CreateThread(t.Context(), api.CreateThread{CMEKFingerprint: u.key.Fingerprint()})
	if err != nil {
		t.Fatal(err)
	}
	m := u.post(t, canaryBody)
	moved := u.send(t, other.ID, u.stored(t, u.thread, m.ID))
	if _, err := u.c.GetMessage(t.Context(), other.ID, moved.ID); !errors.Is(err, cmek.ErrDecrypt) {
		t.Errorf("of another thread: %v", err)
	}
	if _, err := u.c.ListMessages(t.Context(), other.ID, client.MessageQuery{}); !errors.Is(err, cmek.ErrDecrypt) {
		t.Errorf("in a list: %v", err)
	}
	again := u.send(t, u.thread, u.stored(t, u.thread, m.ID))
	if got, err := u.c.GetMessage(t.Context(), u.thread, again.ID); err != nil || string(got.Body) != canaryBody {
		t.Errorf("in its own thread: %s, %v", got.Body, err)
	}
}

func TestAServerThatAnswersWithAPlainOrUnboundBodyIsRefused(t *testing.T) {
	key := cmek.Generate()
	unbound, err := cmek.EncryptValue(key, []byte(canaryBody))
	if err != nil {
		t.Fatal(err)
	}
	noJSON, err := cmek.EncryptBoundValue(key, cmek.MessageContext("t"), []byte("no JSON"))
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string]any{"plain": map[string]string{"text": "x"}, "text": "x", "unbound": unbound, "no JSON": noJSON} {
		liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/t") {
				_ = json.NewEncoder(w).Encode(api.Thread{ID: "t", CMEKFingerprint: key.Fingerprint()})
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"id": "m", "body": body})
		}))
		c, err := client.New(liar.URL, "", client.WithCMEKKey(key))
		if err != nil {
			t.Fatal(err)
		}
		if m, err := c.GetMessage(t.Context(), "t", "m"); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%s: %s, %v", name, m.Body, err)
		}
		c.Close()
		liar.Close()
	}
}

func TestAClientOfSealedThreadsDoesNotBelieveThatOneIsNot(t *testing.T) {
	s := keyfoldtest.Start(t)
	seen := &recorder{}
	c := newClient(t, s, client.WithCMEKKey(cmek.Generate()), client.WithSealedThreads(), client.WithTransport(seen))
	thread := newThread(t, newClient(t, s), "")
	m, err := newClient(t, s).PostMessage(t.Context(), thread, api.PostMessage{Body: json.RawMessage(`1`)})
	if err != nil {
		t.Fatal(err)
	}
	_, posted := c.PostMessage(t.Context(), thread, api.PostMessage{Body: json.RawMessage(canaryBody)})
	_, edited := c.EditMessage(t.Context(), thread, m.ID, api.EditMessage{Body: json.RawMessage(canaryBody)})
	if !errors.Is(posted, client.ErrThreadNotSealed) || !errors.Is(edited, client.ErrThreadNotSealed) || seen.holds("canary") {
		t.Errorf("%v, %v", posted, edited)
	}
	if got, err := c.GetMessage(t.Context(), thread, m.ID); err != nil || string(got.Body) != `1` {
		t.Errorf("a read: %s, %v", got.Body, err)
	}
}

func TestABodyThatIsNoneIsNotSealed(t *testing.T) {
	u := newUnderKey(t)
	for _, body := range []string{``, `null`, ` null `, `{`, `canary`} {
		if _, err := u.c.PostMessage(t.Context(), u.thread, api.PostMessage{Body: json.RawMessage(body)}); err == nil || strings.Contains(err.Error(), "canary") {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestAnExportIsOpenedAndOneThatIsCutOffIsAnError(t *testing.T) {
	u := newUnderKey(t)
	m := u.post(t, canaryBody)
	if _, err := u.c.EditMessage(t.Context(), u.thread, m.ID, api.EditMessage{Body: json.RawMessage(`2`)}); err != nil {
		t.Fatal(err)
	}
	if err := u.c.DeleteMessage(t.Context(), u.thread, m.ID); err != nil {
		t.Fatal(err)
	}
	var got []string
	for v, err := range u.c.ExportThread(t.Context(), u.thread) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(v.Body))
	}
	if len(got) != 3 || got[0] != canaryBody || got[1] != `2` || got[2] != "" {
		t.Errorf("%q", got)
	}
	for _, err := range newClient(t, u.s).ExportThread(t.Context(), u.thread) {
		if _, ok := errors.AsType[*client.KeyError](err); !ok {
			t.Error(err)
		}
	}
	for _, text := range []string{"", `{"id":"a","body":1}` + "\n", `{"id":"a","body":1}` + "\n" + `{"end":true,"messages":2}`, `{"id":"a","bo`} {
		cut := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/t") {
				_ = json.NewEncoder(w).Encode(api.Thread{ID: "t"})
				return
			}
			_, _ = w.Write([]byte(text))
		}))
		c, err := client.New(cut.URL, "")
		if err != nil {
			t.Fatal(err)
		}
		var last error
		for _, last = range c.ExportThread(t.Context(), "t") {
		}
		if !errors.Is(last, client.ErrCutOff) {
			t.Errorf("%q: %v", text, last)
		}
		c.Close()
		cut.Close()
	}
}
