package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/keyfoldtest"
)

func newClient(t testing.TB, s *keyfoldtest.Server, options ...client.Option) *client.Client {
	t.Helper()
	c, err := client.New(s.URL, s.APIKey, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func newVault(t testing.TB, c *client.Client) string {
	t.Helper()
	v, err := c.CreateVault(t.Context(), api.CreateVault{Name: "v"})
	if err != nil {
		t.Fatal(err)
	}
	return v.ID
}

// newSealed returns a vault that is sealed with key.
func newSealed(t testing.TB, c *client.Client, key *cmek.Key) string {
	t.Helper()
	v := newVault(t, c)
	if _, err := c.EnableCMEK(t.Context(), v, key.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	return v
}

func put(t testing.TB, c *client.Client, vault, path, value string) {
	t.Helper()
	if _, err := c.Put(t.Context(), vault, path, []byte(value), client.PutOptions{}); err != nil {
		t.Fatal(err)
	}
}

// putUnsealed is put where the vault is not sealed and the client has a key.
func putUnsealed(t testing.TB, c *client.Client, vault, path, value string) {
	t.Helper()
	if _, err := c.Put(t.Context(), vault, path, []byte(value), client.PutOptions{AllowUnsealed: true}); err != nil {
		t.Fatal(err)
	}
}

func TestEveryValueComesBackByteForByte(t *testing.T) {
	s := keyfoldtest.Start(t)
	key := cmek.Generate()
	c := newClient(t, s, client.WithCMEKKey(key))
	vaults := map[string]string{"open": newVault(t, c), "sealed": newSealed(t, c, key)}
	for name, vault := range vaults {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(r *rapid.T) {
				value := []byte(rapid.OneOf(
					rapid.String(),
					rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
					rapid.SampledFrom([]string{"", "\x00", "a\r\nb\n", "<&>\u2028", "AQID", `"`, "\xff\xfe", "\xed\xa0\x80", "\ufffd"}),
				).Draw(r, "value"))
				if _, err := c.Put(t.Context(), vault, "a/b-c", value, client.PutOptions{Metadata: map[string]any{"k": "v"}, AllowUnsealed: true}); err != nil {
					r.Fatal(err)
				}
				got, err := c.Get(t.Context(), vault, "a/b-c")
				if err != nil {
					r.Fatal(err)
				}
				if !bytes.Equal(got.Value, value) || got.CMEKEncrypted != (name == "sealed") {
					r.Fatalf("put %q, got %q (sealed %v)", value, got.Value, got.CMEKEncrypted)
				}
			})
		})
	}
}

func TestAMegabyteOfNoiseComesBack(t *testing.T) {
	s := keyfoldtest.Start(t)
	key := cmek.Generate()
	c := newClient(t, s, client.WithCMEKKey(key))
	value := bytes.Repeat([]byte{0xff, 0x00, 0x80, 0x7f, 0x0a}, 200_000)
	for _, vault := range []string{newVault(t, c), newSealed(t, c, key)} {
		if _, err := c.Put(t.Context(), vault, "big", value, client.PutOptions{AllowUnsealed: true}); err != nil {
			t.Fatal(err)
		}
		got, err := c.Get(t.Context(), vault, "big")
		if err != nil || !bytes.Equal(got.Value, value) {
			t.Fatalf("the value is not the same: %v", err)
		}
	}
}

func TestASealedValueNeverLeavesInTheClear(t *testing.T) {
	const canary = "canary-5f2a-never-in-the-clear"
	s := keyfoldtest.Start(t)
	key := cmek.Generate()
	seen := &recorder{}
	c := newClient(t, s, client.WithCMEKKey(key), client.WithTransport(seen))
	put(t, c, newSealed(t, c, key), "a", canary)
	if seen.holds(canary) || seen.holds(string(key.Bytes())) {
		t.Error("the value or the key went over the wire")
	}
	if !seen.holds(key.Fingerprint()) {
		t.Error("the recorder saw nothing: the write declares no fingerprint")
	}
	s.MustNotHold(t, canary)
}

func TestAValueForASealedVaultIsNotSentWithoutItsKey(t *testing.T) {
	const canary = "canary-71bb-without-key"
	s := keyfoldtest.Start(t)
	key, other := cmek.Generate(), cmek.Generate()
	vault := newSealed(t, newClient(t, s), key)
	for name, options := range map[string][]client.Option{
		"no key": nil, "another key": {client.WithCMEKKey(other)},
	} {
		seen := &recorder{}
		c := newClient(t, s, append(options, client.WithTransport(seen))...)
		_, err := c.Put(t.Context(), vault, "a", []byte(canary), client.PutOptions{})
		need, ok := errors.AsType[*client.KeyError](err)
		if !ok || need.Fingerprint != key.Fingerprint() || !strings.HasPrefix(err.Error(), "the vault is sealed with") {
			t.Errorf("%s: %v", name, err)
		}
		if seen.holds(canary) {
			t.Errorf("%s: the value was sent", name)
		}
	}
}

func TestASealedValueNeedsItsOwnKey(t *testing.T) {
	s := keyfoldtest.Start(t)
	key, other := cmek.Generate(), cmek.Generate()
	vault := newSealed(t, newClient(t, s), key)
	put(t, newClient(t, s, client.WithCMEKKey(key)), vault, "a", "v")

	_, err := newClient(t, s).Get(t.Context(), vault, "a")
	if e, ok := errors.AsType[*client.KeyError](err); !ok || e.Fingerprint != key.Fingerprint() || e.Given != "" || !strings.HasPrefix(err.Error(), "the value is sealed with") {
		t.Errorf("without a key: %v", err)
	}
	_, err = newClient(t, s, client.WithCMEKKey(other)).Get(t.Context(), vault, "a")
	if e, ok := errors.AsType[*client.KeyError](err); !ok || e.Fingerprint != key.Fingerprint() || e.Given != other.Fingerprint() {
		t.Errorf("with another key: %v", err)
	}
	both := newClient(t, s, client.WithCMEKKey(other, key))
	if got, err := both.Get(t.Context(), vault, "a"); err != nil || string(got.Value) != "v" {
		t.Errorf("with both keys: %v", err)
	}
}

func TestAClientNoticesThatAVaultWasSealedWithAnotherKey(t *testing.T) {
	s := keyfoldtest.Start(t)
	old, fresh := cmek.Generate(), cmek.Generate()
	c := newClient(t, s, client.WithCMEKKey(old, fresh))
	vault := newSealed(t, c, old)
	put(t, c, vault, "a", "1")

	admin := newClient(t, s)
	if _, err := admin.DisableCMEK(t.Context(), vault); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.EnableCMEK(t.Context(), vault, fresh.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	put(t, c, vault, "a", "2") // declared the old fingerprint first, and was refused
	got, err := c.Get(t.Context(), vault, "a")
	if err != nil || got.CMEKFingerprint != fresh.Fingerprint() || string(got.Value) != "2" {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAClientNoticesThatAVaultBecameSealed(t *testing.T) {
	s := keyfoldtest.Start(t)
	key := cmek.Generate()
	c := newClient(t, s, client.WithCMEKKey(key))
	vault := newVault(t, c)
	putUnsealed(t, c, vault, "a", "1")
	if _, err := newClient(t, s).EnableCMEK(t.Context(), vault, key.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	put(t, c, vault, "a", "2")
	if got, err := c.Get(t.Context(), vault, "a"); err != nil || !got.CMEKEncrypted {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestAVaultThatWasSealedIsNotWrittenInTheClear(t *testing.T) {
	const canary = "canary-90ac-downgrade"
	s := keyfoldtest.Start(t)
	key := cmek.Generate()
	seen := &recorder{}
	c := newClient(t, s, client.WithCMEKKey(key), client.WithTransport(seen))
	vault := newSealed(t, c, key)
	if _, err := newClient(t, s).DisableCMEK(t.Context(), vault); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := c.Put(t.Context(), vault, "a", []byte(canary), client.PutOptions{AllowUnsealed: true}); !errors.Is(err, client.ErrUnsealed) {
			t.Fatalf("the write answered %v", err)
		}
	}
	if seen.holds(canary) {
		t.Error("the value was sent in the clear")
	}
	if _, err := c.EnableCMEK(t.Context(), vault, key.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	put(t, c, vault, "a", canary)
	if _, err := c.DisableCMEK(t.Context(), vault); err != nil {
		t.Fatal(err)
	}
	putUnsealed(t, c, vault, "a", "this client disabled it, so this is meant")
}

func TestAKeyAtHandKeepsAValueFromAnOpenVault(t *testing.T) {
	const canary = "canary-28d3-open-vault"
	s := keyfoldtest.Start(t)
	key := cmek.Generate()
	vault := newVault(t, newClient(t, s))
	for name, source := range map[string]client.KeySource{
		"a key": func(context.Context, string) (client.CMEK, error) { return client.LocalKey(key), nil },
		"a source that fails": func(context.Context, string) (client.CMEK, error) {
			return nil, errors.New("the safe is closed")
		},
	} {
		seen := &recorder{}
		c := newClient(t, s, client.WithKeySource(source), client.WithTransport(seen))
		_, err := c.Put(t.Context(), vault, "a", []byte(canary), client.PutOptions{})
		if err == nil || errors.Is(err, client.ErrNotSealed) != (name == "a key") {
			t.Errorf("%s: %v", name, err)
		}
		if seen.holds(canary) {
			t.Errorf("%s: the value was sent", name)
		}
		putUnsealed(t, c, vault, "a", "meant")
	}
	none := func(context.Context, string) (client.CMEK, error) { return nil, nil }
	put(t, newClient(t, s, client.WithKeySource(none)), vault, "a", "a source with no key for it")
}

func TestARefusedOpenVaultIsAskedAboutAgain(t *testing.T) {
	s := keyfoldtest.Start(t)
	key := cmek.Generate()
	c := newClient(t, s, client.WithCMEKKey(key))
	vault := newVault(t, c)
	putUnsealed(t, c, vault, "a", "1") // remembers that it is open
	if _, err := c.Put(t.Context(), vault, "a", nil, client.PutOptions{}); !errors.Is(err, client.ErrNotSealed) {
		t.Fatalf("an open vault: %v", err)
	}
	if _, err := newClient(t, s).EnableCMEK(t.Context(), vault, key.Fingerprint()); err != nil {
		t.Fatal(err)
	}
	put(t, c, vault, "a", "2")
	if got, err := c.Get(t.Context(), vault, "a"); err != nil || !got.CMEKEncrypted {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestTheLifeOfASecret(t *testing.T) {
	s := keyfoldtest.Start(t)
	c := newClient(t, s)
	ctx, vault := t.Context(), newVault(t, c)
	at := s.Now().Add(time.Hour)
	m, err := c.Put(ctx, vault, "db/main", []byte("one"), client.PutOptions{Type: "password", ExpiresAt: at, MaxAccessCount: 3, Metadata: map[string]any{"env": "prod"}})
	if err != nil || m.Path != "db/main" || m.Version != 1 || m.Type != "password" || !m.ExpiresAt.Equal(at) || string(m.Metadata) != `{"env":"prod"}` {
		t.Fatalf("put: %+v, %v", m, err)
	}
	put(t, c, vault, "db/main", "two")
	if _, err := c.Put(ctx, vault, "db/main", []byte("x"), client.PutOptions{IfMatch: 1}); !client.IsConflict(err) {
		t.Errorf("a write on a version that is not the newest: %v", err)
	}
	if v1, err := c.GetVersion(ctx, vault, "db/main", 1); err != nil || string(v1.Value) != "one" || v1.CreatedBy != "user:"+s.Owner.ID {
		t.Errorf("version 1: %v, %v", v1, err)
	}
	if err := c.Disable(ctx, vault, "db/main", 1); err != nil {
		t.Error(err)
	}
	if _, err := c.GetVersion(ctx, vault, "db/main", 1); !client.IsGone(err) {
		t.Errorf("a disabled version: %v", err)
	}
	if vs, err := c.Versions(ctx, vault, "db/main"); err != nil || len(vs) != 2 || vs[0].IsDisabled || !vs[1].IsDisabled {
		t.Errorf("versions: %+v, %v", vs, err)
	}
	put(t, c, vault, "other", "x")
	if list, err := c.List(ctx, vault, "db/"); err != nil || len(list) != 1 || list[0].Version != 2 {
		t.Errorf("list: %+v, %v", list, err)
	}
	length := 40
	if _, err := c.Generate(ctx, vault, "db/main", api.GenerateSecret{Length: &length}); err != nil {
		t.Error(err)
	}
	if got, err := c.Get(ctx, vault, "db/main"); err != nil || len(got.Value) != 40 || got.Version != 3 {
		t.Errorf("generated: %v, %v", got, err)
	}
	if err := c.Delete(ctx, vault, "db/main"); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(ctx, vault, "db/main"); !client.IsGone(err) {
		t.Errorf("a deleted secret: %v", err)
	}
	if err := c.DeleteVault(ctx, vault); err != nil {
		t.Error(err)
	}
	if _, err := c.GetVault(ctx, vault); !client.IsNotFound(err) {
		t.Errorf("a deleted vault: %v", err)
	}
}

func TestAGeneratedValueIsNeverMisreadAsBase64(t *testing.T) {
	s := keyfoldtest.Start(t)
	c := newClient(t, s)
	vault := newVault(t, c)
	put(t, c, vault, "a", "\xff")
	put(t, c, vault, "a/b", "text")
	if _, err := c.Generate(t.Context(), vault, "a", api.GenerateSecret{}); err == nil {
		t.Error("a value was generated under the mark of base64")
	}
	put(t, c, vault, "a", "text")
	put(t, c, vault, "a/b", "\xff") // is another secret
	if _, err := c.Generate(t.Context(), vault, "a", api.GenerateSecret{}); err != nil {
		t.Error(err)
	}
}

func TestGenerateReadsNoOldVersions(t *testing.T) {
	s := keyfoldtest.Start(t)
	seen := &recorder{}
	c := newClient(t, s, client.WithTransport(seen))
	vault := newVault(t, c)
	put(t, c, vault, "a", "text")
	if _, err := c.Generate(t.Context(), vault, "a", api.GenerateSecret{}); err != nil {
		t.Fatal(err)
	}
	if seen.holds("/secret-version") || !seen.holds("/secrets?prefix=a") {
		t.Error("it asked for more than the newest version's metadata")
	}
}

func TestTheEncodingMarkIsTheClientsOwn(t *testing.T) {
	s := keyfoldtest.Start(t)
	c := newClient(t, s)
	vault := newVault(t, c)
	_, err := c.Put(t.Context(), vault, "a", []byte("AAAA"), client.PutOptions{Metadata: map[string]any{client.MetadataEncoding: "base64"}})
	if err == nil {
		t.Error("a text was stored that reads as base64")
	}
}

func TestNoIDOrPathLeadsToAnotherCall(t *testing.T) {
	s := keyfoldtest.Start(t)
	c := newClient(t, s)
	vault := newVault(t, c)
	put(t, c, vault, "a", "v")
	for _, path := range []string{"", "..", "../..", "a/../a", ".", "a//a", "/a", "a/", "a%2Fa", "a?x=1", "a#f", "a b", "\x00", "ä", strings.Repeat("a", 600)} {
		if got, err := c.Get(t.Context(), vault, path); err == nil {
			t.Errorf("path %q answers %v", path, got)
		}
		if err := c.Delete(t.Context(), vault, path); err == nil {
			t.Errorf("path %q can be deleted", path)
		}
	}
	for _, id := range []string{"", "..", ".", vault + "/secrets", "%2e%2e", vault + "?"} {
		if err := c.DeleteVault(t.Context(), id); err == nil {
			t.Errorf("vault ID %q can be deleted", id)
		}
	}
	if got, err := c.Get(t.Context(), vault, "a"); err != nil || string(got.Value) != "v" {
		t.Errorf("afterwards: %v, %v", got, err)
	}
}

func TestNothingPrintsAValueOrAKey(t *testing.T) {
	const canary = "canary-3c1d-printed"
	s := keyfoldtest.Start(t)
	c := newClient(t, s)
	vault := newVault(t, c)
	put(t, c, vault, "a", canary)
	got, err := c.Get(t.Context(), vault, "a")
	if err != nil {
		t.Fatal(err)
	}
	printed := fmt.Sprintf("%v %+v %#v %s %v %+v %#v", got, got, got, got, *got, *got, *got) + fmt.Sprintf("%v %+v %#v %s", c, c, c, c)
	hex := strings.TrimPrefix(fmt.Sprintf("%#v", []byte(canary)), "[]byte")
	for _, text := range []string{canary, s.APIKey, fmt.Sprint([]byte(canary)), hex} {
		if strings.Contains(printed, text) {
			t.Errorf("printed: %s", printed)
		}
	}
}

func TestAKeySourceIsAskedForTheKeyThatIsNeeded(t *testing.T) {
	s := keyfoldtest.Start(t)
	key := cmek.Generate()
	var asked []string
	c := newClient(t, s, client.WithKeySource(func(_ context.Context, fingerprint string) (client.CMEK, error) {
		asked = append(asked, fingerprint)
		if fingerprint == key.Fingerprint() {
			return client.LocalKey(key), nil
		}
		return nil, errors.New("the safe is closed")
	}))
	vault := newSealed(t, c, key)
	put(t, c, vault, "a", "v")
	if _, err := c.Get(t.Context(), vault, "a"); err != nil {
		t.Error(err)
	}
	if len(asked) != 2 || asked[0] != key.Fingerprint() || asked[1] != key.Fingerprint() {
		t.Errorf("asked for %v", asked)
	}
	other := newSealed(t, c, cmek.Generate())
	if _, err := c.Put(t.Context(), other, "a", nil, client.PutOptions{}); err == nil || !strings.Contains(err.Error(), "the safe is closed") {
		t.Errorf("a source that fails: %v", err)
	}
}
