package thread

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// twinBreakGlass opens all items of a read with the one key of a twinKMS that the
// read names, which it asks behind the back of what makes that one fail.
type twinBreakGlass struct {
	kms   *twinKMS
	reads []OfflineRead
	fail  error
	one   error // fails the first item
}

func (b *twinBreakGlass) OpenOffline(_ context.Context, r OfflineRead) ([]kmsapi.DecryptResult, error) {
	b.reads = append(b.reads, r)
	if b.fail != nil {
		return nil, b.fail
	}
	out := make([]kmsapi.DecryptResult, len(r.Items))
	key, err := b.kms.key(r.DEK.KeyID)
	if err != nil {
		return nil, err
	}
	for i, item := range r.Items {
		out[i].Plaintext, out[i].Err = key.Open(item.Ciphertext, item.AAD)
	}
	if b.one != nil {
		out[0] = kmsapi.DecryptResult{Err: b.one}
	}
	return out, nil
}

// newBrokenWorld is a world with break-glass, a thread of three messages, and
// the list of it as the KMS answers it.
func newBrokenWorld(t *testing.T) (w *world, b *twinBreakGlass, th api.Thread, ids []string, page string) {
	t.Helper()
	w = newWorld(t)
	b = &twinBreakGlass{kms: w.kms}
	w.breakGlass = b
	th = w.thread(t, owner, "a title")
	for i := range 3 {
		ids = append(ids, w.say(t, th.ID, fmt.Sprint("text ", i)))
	}
	raw, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
	if err != nil || len(b.reads) > 0 {
		t.Fatalf("with the KMS up: %v, %d reads by break-glass", err, len(b.reads))
	}
	return w, b, th, ids, string(raw)
}

var away = fault.New(fault.Unavailable, "gone")

func TestWithTheKMSAwayReadsGoByBreakGlassAndNothingElseDoes(t *testing.T) {
	w, b, th, ids, page := newBrokenWorld(t)
	w.kms.fail = away
	before := w.dump(t)

	raw, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
	if err != nil || string(raw) != page {
		t.Errorf("the page: %v\n%s", err, raw)
	}
	raw, err = w.GetMessage(t.Context(), owner, th.ID, ids[1])
	if m := decodeAs[api.Message](t, raw); err != nil || string(m.Body) != `"text 1"` {
		t.Errorf("one message: %v, %s", err, raw)
	}
	for i, want := range [][2]string{{ids[0], ids[2]}, {ids[1], ids[1]}} {
		r := b.reads[i]
		if r.Reader != owner.Ref() || r.ThreadID != th.ID || r.First != want[0] || r.Last != want[1] || r.DEK.KeyID == "" || string(r.DEK.WrappedDEK) != "wrapped" {
			t.Errorf("read %d is said to be %+v", i, r)
		}
	}

	_, err = w.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("more")})
	wantCode(t, err, fault.Unavailable)
	_, err = w.Create(t.Context(), owner, api.CreateThread{Title: "more"})
	wantCode(t, err, fault.Unavailable)
	for _, p := range []access.Principal{nobody, mate, stranger} {
		if _, err := w.ListMessages(t.Context(), p, th.ID, MessageQuery{}); err == nil {
			t.Errorf("%q reads", p.Ref())
		}
	}
	if _, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{After: ids[2]}); err != nil {
		t.Errorf("an empty page: %v", err)
	}
	if len(b.reads) != 2 {
		t.Errorf("%d reads by break-glass", len(b.reads))
	}
	w.unchanged(t, before)

	w.kms.fail = nil
	if w.list(t, owner, th.ID, MessageQuery{}); len(b.reads) != 2 {
		t.Error("with the KMS back it still reads by break-glass")
	}
}

func TestWithoutBreakGlassReadsFailWhileTheKMSIsAway(t *testing.T) {
	w, b, th, ids, _ := newBrokenWorld(t)
	w.breakGlass, w.kms.fail = nil, away
	_, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
	wantCode(t, err, fault.Unavailable)
	_, err = w.GetMessage(t.Context(), owner, th.ID, ids[0])
	wantCode(t, err, fault.Unavailable)
	if len(b.reads) > 0 {
		t.Error("somebody broke the glass")
	}
}

func TestNoOtherAnswerOfTheKMSLeadsToBreakGlass(t *testing.T) {
	for _, code := range []fault.Code{
		fault.Invalid, fault.Unauthenticated, fault.Forbidden, fault.NotFound, fault.Timeout, fault.Conflict, fault.Gone,
		fault.TooLarge, fault.Unopenable, fault.Damaged, fault.Internal,
	} {
		w, b, th, _, _ := newBrokenWorld(t)
		w.kms.fail = fault.Wrap(code, away, "no") // whatever its cause
		if _, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{}); err == nil || len(b.reads) > 0 {
			t.Errorf("%s: %v, %d reads", code, err, len(b.reads))
		}
	}
	for name, change := range map[string]func(w *world){
		"an error without a name": func(w *world) { w.kms.fail = errors.New("no") },
		"too few answers":         func(w *world) { w.kms.shorten = true },
		"a key it does not have":  func(w *world) { clear(w.kms.keys) },
	} {
		w, b, th, _, _ := newBrokenWorld(t)
		change(w)
		if _, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{}); err == nil || len(b.reads) > 0 {
			t.Errorf("%s: %v, %d reads", name, err, len(b.reads))
		}
	}
}

// itemsKMS answers Decrypt with these results.
type itemsKMS struct {
	KMS
	errs []error
}

func (k itemsKMS) Decrypt(context.Context, []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	out := make([]kmsapi.DecryptResult, len(k.errs))
	for i, err := range k.errs {
		out[i].Err = err
	}
	return out, nil
}

func TestItemsThatTheKMSCannotAnswerLeadToBreakGlassUnlessOneSaysMore(t *testing.T) {
	unopenable := fault.New(fault.Unopenable, "no")
	for _, c := range []struct {
		errs []error
		want int
		code fault.Code
	}{
		{[]error{away, away, away}, 1, ""},
		{[]error{nil, away, nil}, 1, ""},
		{[]error{away, unopenable, away}, 0, fault.Unavailable},
		{[]error{unopenable, away, away}, 0, fault.Damaged},
	} {
		w, b, th, _, page := newBrokenWorld(t)
		w.Service.kms = itemsKMS{w.kms, c.errs}
		raw, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
		if len(b.reads) != c.want || c.code == "" && string(raw) != page || c.code != "" && !errors.Is(err, c.code) {
			t.Errorf("%v: %d reads, %v", c.errs, len(b.reads), err)
		}
	}
}

func TestACallerWhoIsGoneBreaksNoGlass(t *testing.T) {
	w, b, th, _, _ := newBrokenWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.kms.fail, w.kms.before = away, cancel
	_, err := w.ListMessages(ctx, owner, th.ID, MessageQuery{})
	wantCode(t, err, fault.Unavailable)
	if len(b.reads) > 0 {
		t.Error("it was read by break-glass")
	}
}

// The KMS may open what break-glass does not: the answer stays that it is away.
func TestABreakGlassThatFailsIsAKMSThatIsAway(t *testing.T) {
	for _, cause := range []error{away, errors.New("no"), fault.New(fault.Unopenable, "no"), fault.New(fault.Conflict, "no"), fault.New(fault.Damaged, "no")} {
		w, b, th, _, _ := newBrokenWorld(t)
		w.kms.fail, b.fail = away, cause
		raw, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
		if f := fault.Of(err); raw != nil || f.Code != fault.Unavailable || f.Message != "the KMS is away; nothing was stored or read, try again" {
			t.Errorf("%v: %s, %v", cause, raw, err)
		}
	}
}

func TestAMessageThatDoesNotOpenByBreakGlassIsDamaged(t *testing.T) {
	w, b, th, _, _ := newBrokenWorld(t)
	w.kms.fail, b.one = away, fault.New(fault.Unopenable, "no")
	_, err := w.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
	wantCode(t, err, fault.Damaged)
}
