package thread

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access/accesstest"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

// site is a Service on the real KMS, both on disk in dir.
type site struct {
	*Service
	rows  store.Store
	close func()
}

func openSite(t testing.TB, dir string) *site {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	rootKey := filepath.Join(dir, "root.key")
	root, err := keyring.CreateFileRoot(rootKey)
	if errors.Is(err, fs.ErrExist) {
		root, err = keyring.OpenFileRoot(rootKey)
	}
	must(err)
	keys, err := pebblestore.Open(filepath.Join(dir, "kms"), pebblestore.Options{})
	must(err)
	rows, err := pebblestore.Open(filepath.Join(dir, "server"), pebblestore.Options{})
	must(err)
	k, err := kms.New(context.Background(), kms.Config{Store: keys, Root: root})
	must(err)
	return &site{Service: New(Config{Store: rows, KMS: k, Gate: new(accesstest.Gate)}), rows: rows, close: func() {
		k.Close()
		must(rows.Close())
		must(keys.Close())
	}}
}

// filesWith names the files under dir that hold a text.
func filesWith(t *testing.T, dir, text string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		if bytes.Contains(data, []byte(text)) {
			files = append(files, path)
		}
		if errors.Is(err, fs.ErrNotExist) { // a file of Pebble's that went meanwhile
			return nil
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestEveryMessageIsReadableAfterARestart(t *testing.T) {
	dir := t.TempDir()
	s := openSite(t, dir)
	th, err := s.Create(t.Context(), owner, api.CreateThread{Title: "a title"})
	if err != nil {
		t.Fatal(err)
	}
	var posted [][]byte
	for _, body := range append(bodies, string(quoted(canary))) {
		raw, err := s.Post(t.Context(), owner, th.ID, api.PostMessage{Body: []byte(body), Role: canary})
		if err != nil {
			t.Fatal(err)
		}
		posted = append(posted, raw)
	}
	s.close()

	s = openSite(t, dir)
	got, err := s.ListMessages(t.Context(), owner, th.ID, MessageQuery{})
	want := `{"thread":"` + th.ID + `","messages":[` + string(bytes.Join(posted, []byte(","))) + `]}`
	if err != nil || string(got) != want {
		t.Errorf("after a restart: %v, %d bytes, want %d", err, len(got), len(want))
	}
	_, err = s.ListMessages(t.Context(), mate, th.ID, MessageQuery{})
	wantCode(t, err, fault.Forbidden)
	s.close()

	if files := filesWith(t, dir, canary); len(files) > 0 {
		t.Errorf("%q hold the canary", files)
	}
}

func TestWithTheRealKMSAMovedOrFlippedRowDoesNotOpen(t *testing.T) {
	s := openSite(t, t.TempDir())
	defer s.close()
	w := newWorldOn(s.rows)
	w.Service = s.Service
	a, b := w.thread(t, owner, "a"), w.thread(t, owner, "b")
	a1, a2, b1 := w.say(t, a.ID, "a1"), w.say(t, a.ID, "a2"), w.say(t, b.ID, "b1")
	row := layout.Message(a.ID, a1)
	good := w.get(t, row)
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	for what, value := range map[string][]byte{
		"of the same thread": w.get(t, layout.Message(a.ID, a2)), "of another thread": w.get(t, layout.Message(b.ID, b1)),
		"flipped": flipped, "cut off": good[:len(good)-1], "short": good[:5], "empty": nil,
	} {
		w.overwrite(t, row, value)
		w.closed(t, what, layout.Message(a.ID, a1))
	}
	w.overwrite(t, row, good)
	var keyA, keyB string
	w.editMeta(t, a.ID, func(m *meta) { keyA = m.KMS.KeyID })
	w.editMeta(t, b.ID, func(m *meta) { keyB, m.KMS.KeyID = m.KMS.KeyID, keyA })
	w.editMeta(t, a.ID, func(m *meta) { m.KMS.KeyID = keyB })
	w.closed(t, "keys swapped", layout.Message(a.ID, a1))
	w.closed(t, "keys swapped", layout.Message(b.ID, b1))
	for _, keyID := range []string{"dek-unknown", "../" + keyA, strings.ToUpper(keyA)} {
		w.editMeta(t, a.ID, func(m *meta) { m.KMS.KeyID = keyID })
		w.closed(t, "key "+keyID, layout.Message(a.ID, a1))
		_, err := w.Post(t.Context(), owner, a.ID, api.PostMessage{Body: quoted("x")})
		wantCode(t, err, fault.Damaged)
	}
}

func TestAClosedKMSIsUnavailable(t *testing.T) {
	s := openSite(t, t.TempDir())
	defer s.close()
	th, err := s.Create(t.Context(), owner, api.CreateThread{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")}); err != nil {
		t.Fatal(err)
	}
	s.kms.(*kms.Service).Close()
	wantCode(t, second(s.Create(t.Context(), owner, api.CreateThread{})), fault.Unavailable)
	wantCode(t, second(s.Post(t.Context(), owner, th.ID, api.PostMessage{Body: quoted("x")})), fault.Unavailable)
	wantCode(t, second(s.ListMessages(t.Context(), owner, th.ID, MessageQuery{})), fault.Unavailable)
}
