package thread

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
)

func TestAThreadUnderACustomersKeyTakesBoundBlobsAlone(t *testing.T) {
	w := newWorld(t)
	rich := owner
	rich.Plan = access.Business
	key := cmek.Generate()
	create := func(p access.Principal, fingerprint string) (api.Thread, error) {
		return w.Create(t.Context(), p, api.CreateThread{CMEKFingerprint: fingerprint})
	}
	for _, bad := range []string{"x", strings.Repeat("g", 64), key.Fingerprint()[1:], key.Fingerprint() + "0"} {
		_, err := create(rich, bad)
		wantCode(t, err, fault.Invalid)
	}
	_, err := create(owner, key.Fingerprint())
	wantCode(t, err, fault.Forbidden)
	th, err := create(rich, strings.ToUpper(key.Fingerprint()))
	if err != nil || th.CMEKFingerprint != key.Fingerprint() {
		t.Fatalf("%+v, %v", th, err)
	}
	if got, err := w.Get(t.Context(), rich, th.ID); err != nil || got.CMEKFingerprint != key.Fingerprint() {
		t.Errorf("%+v, %v", got, err)
	}
	bound, err1 := cmek.EncryptBoundValue(key, cmek.Context{VaultID: "thread:" + th.ID, Path: "message"}, []byte(`{"a":1}`))
	plain, err2 := cmek.EncryptValue(key, []byte(`{"a":1}`))
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	m := w.post(t, rich, th.ID, api.PostMessage{Body: quoted(bound)})
	before := w.dump(t)
	for name, body := range map[string]json.RawMessage{
		"text": quoted(canary), "an object": json.RawMessage(`{"` + canary + `":1}`), "version 1": quoted(plain), "hex": quoted(strings.Repeat("ab", 100)),
		"a blob in an array": json.RawMessage(`["` + bound + `"]`), "cut off": quoted(bound[:len(bound)-3]), "empty": quoted(""), "with a space": quoted(bound + " "),
	} {
		for _, err := range []error{
			second(w.Post(t.Context(), rich, th.ID, api.PostMessage{Body: body})),
			second(w.EditMessage(t.Context(), rich, th.ID, m.ID, api.EditMessage{Body: body})),
		} {
			if !errorIs(err, fault.Invalid) || fault.Of(err).Type != api.ProblemCMEKBlobRequired || strings.Contains(chain(err), canary) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	w.unchanged(t, before)
	if _, err := w.EditMessage(t.Context(), rich, th.ID, m.ID, api.EditMessage{Role: "tool"}); err != nil {
		t.Error("an edit without a body:", err)
	}
	if _, err := w.EditMessage(t.Context(), rich, th.ID, m.ID, api.EditMessage{Body: json.RawMessage(` "` + bound + `" `)}); err != nil {
		t.Error("an edit:", err)
	}
}
