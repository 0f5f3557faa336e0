package client_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/keyfoldtest"
)

// sealedVault is a vault of a server's, with a client that has both keys.
type sealedVault struct {
	s          *keyfoldtest.Server
	c          *client.Client
	id         string
	old, fresh *cmek.Key
	seen       *recorder
}

func newSealedVault(t *testing.T, opt client.EnableOptions) sealedVault {
	t.Helper()
	v := sealedVault{s: keyfoldtest.Start(t), old: cmek.Generate(), fresh: cmek.Generate(), seen: &recorder{}}
	v.c = newClient(t, v.s, client.WithCMEKKey(v.old, v.fresh), client.WithTransport(v.seen))
	v.id = newVault(t, v.c)
	if _, err := v.c.EnableCMEKWith(t.Context(), v.id, client.LocalKey(v.old), opt); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v sealedVault) rotate(t *testing.T, opt client.RotateHereOptions) (client.RotatedHere, error) {
	t.Helper()
	return v.c.RotateCMEKHere(t.Context(), v.id, client.LocalKey(v.old), client.LocalKey(v.fresh), opt)
}

// under is how many versions are under which key.
func (v sealedVault) under(t *testing.T) map[string]int {
	t.Helper()
	s, err := v.c.CMEKStatus(t.Context(), v.id)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]string{v.old.Fingerprint(): "old", v.fresh.Fingerprint(): "fresh"}
	out := map[string]int{}
	for _, k := range s.Keys {
		name := names[k.Fingerprint]
		if name == "" {
			name = "other"
		}
		out[name] = k.Versions
	}
	return out
}

// putRaw writes a value as another client does that declares no key.
func (v sealedVault) putRaw(t *testing.T, path, value string) {
	t.Helper()
	body, err := json.Marshal(api.PutSecret{Value: &value})
	if err != nil {
		t.Fatal(err)
	}
	v.call(t, "PUT", "secrets/"+path, body)
}

func (v sealedVault) call(t *testing.T, method, path string, body []byte) []byte {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, v.s.URL+"/v1/vaults/"+v.id+"/"+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+v.s.APIKey)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode > 299 {
		t.Fatalf("%s %s = %d %s %v", method, path, resp.StatusCode, answer, err)
	}
	return answer
}

func (v sealedVault) want(t *testing.T, path string, n int, value string) {
	t.Helper()
	got, err := v.c.GetVersion(t.Context(), v.id, path, n)
	if err != nil || string(got.Value) != value {
		t.Errorf("%s, version %d: %v", path, n, err)
	}
}

func TestARotationHereKeepsAllButTheKeyAndSendsNone(t *testing.T) {
	const canary = "canary-77aa-rotated-here"
	v := newSealedVault(t, client.EnableOptions{})
	expires := v.s.Now().Add(time.Hour).UTC().Truncate(time.Second)
	if _, err := v.c.Put(t.Context(), v.id, "db/a", []byte(canary), client.PutOptions{Type: "password", Metadata: map[string]any{"k": "v"}, ExpiresAt: expires}); err != nil {
		t.Fatal(err)
	}
	put(t, v.c, v.id, "db/a", canary+"2")
	put(t, v.c, v.id, "empty", "")
	blob, err := cmek.Encrypt(v.old, []byte("older form"))
	if err != nil {
		t.Fatal(err)
	}
	v.putRaw(t, "hex", hex.EncodeToString(blob[1:]))
	before, err := v.c.Versions(t.Context(), v.id, "db/a")
	if err != nil {
		t.Fatal(err)
	}
	var progress []int
	done, err := v.rotate(t, client.RotateHereOptions{All: true, OnProgress: func(n, of int) { progress = append(progress, n, of) }})
	if err != nil || done.Reencrypted != 4 || len(done.Kept) != 0 {
		t.Fatalf("%+v, %v", done, err)
	}
	if want := []int{1, 4, 2, 4, 3, 4, 4, 4}; !equalInts(progress, want) {
		t.Errorf("progress %v", progress)
	}
	after, err := v.c.Versions(t.Context(), v.id, "db/a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	only := newClient(t, v.s, client.WithCMEKKey(v.fresh))
	for path, value := range map[string]string{"db/a": canary + "2", "empty": "", "hex": "older form"} {
		got, err := only.Get(t.Context(), v.id, path)
		if err != nil || string(got.Value) != value {
			t.Errorf("%s: %v", path, err)
		}
	}
	v.want(t, "db/a", 1, canary)
	var s api.Secret
	if err := json.Unmarshal(v.call(t, "GET", "secrets/hex", nil), &s); err != nil {
		t.Fatal(err)
	}
	if info, err := cmek.Inspect(s.Value); err != nil || info.Form != cmek.FormHex {
		t.Errorf("the older form became %+v, %v", info, err)
	}
	wantNotSent(t, v.seen, v.old, v.fresh)
	if v.seen.holds(canary) || v.seen.holds(base64.StdEncoding.EncodeToString([]byte(canary))) {
		t.Error("a value went over the wire")
	}
	if got := v.under(t); got["old"] != 0 || got["fresh"] != 4 {
		t.Errorf("under %v", got)
	}
	if status, err := v.c.CMEKStatus(t.Context(), v.id); err != nil || status.KeyCheck != v.fresh.Check(v.id) {
		t.Errorf("key check %q, %v", status.KeyCheck, err)
	}
}

func TestWhatARotationHereLeavesIsNamedWithItsReason(t *testing.T) {
	v := newSealedVault(t, client.EnableOptions{})
	limited := func(path string, max, reads int) {
		t.Helper()
		if _, err := v.c.Put(t.Context(), v.id, path, []byte("v"), client.PutOptions{MaxAccessCount: max}); err != nil {
			t.Fatal(err)
		}
		for range reads {
			if _, err := v.c.Get(t.Context(), v.id, path); err != nil {
				t.Fatal(err)
			}
		}
	}
	put(t, v.c, v.id, "a", "1")
	put(t, v.c, v.id, "a", "2")
	put(t, v.c, v.id, "deleted", "v")
	put(t, v.c, v.id, "disabled", "v")
	limited("last-read", 2, 1)
	limited("limited", 3, 1)
	limited("read-out", 1, 1)
	foreign, err := cmek.EncryptValue(cmek.Generate(), []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	v.putRaw(t, "wrong", foreign)
	if err := v.c.Delete(t.Context(), v.id, "deleted"); err != nil {
		t.Fatal(err)
	}
	if err := v.c.Disable(t.Context(), v.id, "disabled", 1); err != nil {
		t.Fatal(err)
	}
	kept := func(opt client.RotateHereOptions, reencrypted int) map[string]string {
		t.Helper()
		done, err := v.rotate(t, opt)
		if err != nil || done.Reencrypted != reencrypted {
			t.Errorf("%+v, %v", done, err)
		}
		out := map[string]string{}
		for _, k := range done.Kept {
			out[fmt.Sprint(k.Path, " ", k.Version)] = k.Why
			if (k.Why == client.KeptFailed) != (k.Err != nil) {
				t.Errorf("%s: %s, %v", k.Path, k.Why, k.Err)
			}
		}
		return out
	}
	want := map[string]string{
		"a 1": client.KeptOlder, "deleted 1": api.CMEKDeleted, "disabled 1": api.CMEKDisabled, "last-read 1": client.KeptLimited,
		"limited 1": client.KeptLimited, "read-out 1": api.CMEKReadOut, "wrong 1": client.KeptFailed,
	}
	if diff := cmp.Diff(want, kept(client.RotateHereOptions{}, 1)); diff != "" {
		t.Error(diff)
	}
	delete(want, "limited 1")
	delete(want, "a 1")
	if diff := cmp.Diff(want, kept(client.RotateHereOptions{All: true, ReadLimited: true}, 2)); diff != "" {
		t.Error(diff)
	}
	v.want(t, "a", 1, "1")
	if _, err := v.c.Get(t.Context(), v.id, "limited"); err != nil { // the third of three
		t.Error(err)
	}
	if _, err := v.c.Get(t.Context(), v.id, "limited"); !client.IsGone(err) {
		t.Errorf("the limit of reads: %v", err)
	}
	if _, err := v.c.Get(t.Context(), v.id, "last-read"); err != nil {
		t.Errorf("its last read is used up: %v", err)
	}
}

// failing is a transport that breaks the n-th write of a version, before it is
// sent or after.
type failing struct {
	*http.Transport
	writes atomic.Int64
	at     int64
	after  bool
}

func (f *failing) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != "PUT" || f.writes.Add(1) < f.at {
		return f.Transport.RoundTrip(r)
	}
	if f.after {
		if resp, err := f.Transport.RoundTrip(r); err == nil {
			resp.Body.Close()
		}
	}
	return nil, errors.New("the machine fell asleep")
}

// silent is a transport past a proxy that takes the server's headers away.
type silent struct{ *http.Transport }

func (s silent) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := s.Transport.RoundTrip(r)
	if err == nil {
		resp.Header.Del(api.HeaderCMEKFingerprint)
	}
	return resp, err
}

func TestARotationHereCountsNothingThatItDidNotReencrypt(t *testing.T) {
	v := newSealedVault(t, client.EnableOptions{})
	put(t, v.c, v.id, "a", "1")
	c := newClient(t, v.s, client.WithTransport(silent{client.NewTransport()}))
	done, err := c.RotateCMEKHere(t.Context(), v.id, client.LocalKey(v.old), client.LocalKey(v.fresh), client.RotateHereOptions{})
	if got := v.under(t); err != nil || done.Reencrypted != got["fresh"] || got["old"] != 0 {
		t.Errorf("%+v, %v; versions are under %v", done, err, got)
	}
	v.want(t, "a", 1, "1")
}

// meeting is a transport that does something before the first request of a method
// for a value.
type meeting struct {
	*http.Transport
	method string
	do     func()
	once   sync.Once
}

func (m *meeting) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == m.method && strings.Contains(r.URL.Path, "/secret-version/") {
		m.once.Do(m.do)
	}
	return m.Transport.RoundTrip(r)
}

// What somebody else gives another key meanwhile is not under the new one.
func TestARotationHereCountsNothingThatAnotherKeyHas(t *testing.T) {
	for _, method := range []string{"GET", "PUT"} { // before it is read, and after
		v := newSealedVault(t, client.EnableOptions{})
		put(t, v.c, v.id, "a", "1")
		put(t, v.c, v.id, "b", "1")
		third := cmek.Generate()
		other := newClient(t, v.s, client.WithCMEKKey(v.old, v.fresh, third))
		m := &meeting{Transport: client.NewTransport(), method: method, do: func() {
			for _, k := range []*cmek.Key{v.fresh, v.old} {
				if _, err := other.RotateCMEKHere(t.Context(), v.id, client.LocalKey(k), client.LocalKey(third), client.RotateHereOptions{}); err != nil {
					t.Error(err)
				}
			}
			if _, err := other.EnableCMEKWith(t.Context(), v.id, client.LocalKey(v.fresh), client.EnableOptions{Replaces: third.Fingerprint()}); err != nil {
				t.Error(err)
			}
		}}
		c := newClient(t, v.s, client.WithTransport(m))
		done, err := c.RotateCMEKHere(t.Context(), v.id, client.LocalKey(v.old), client.LocalKey(v.fresh), client.RotateHereOptions{Concurrency: 1})
		if err != nil || done.Reencrypted != 0 || len(done.Kept) != 2 || done.Kept[0].Why != client.KeptOther || done.Kept[1].Why != client.KeptOther {
			t.Errorf("met by a %s: %+v, %v; under %v", method, done, err, v.under(t))
		}
	}
}

func TestARotationHereCountsWhatAnotherClientWasFasterWith(t *testing.T) {
	v := newSealedVault(t, client.EnableOptions{})
	put(t, v.c, v.id, "a", "1")
	put(t, v.c, v.id, "b", "1")
	m := &meeting{Transport: client.NewTransport(), method: "PUT", do: func() {
		if done, err := v.rotate(t, client.RotateHereOptions{}); err != nil || done.Reencrypted != 2 {
			t.Errorf("%+v, %v", done, err)
		}
	}}
	c := newClient(t, v.s, client.WithTransport(m))
	done, err := c.RotateCMEKHere(t.Context(), v.id, client.LocalKey(v.old), client.LocalKey(v.fresh), client.RotateHereOptions{Concurrency: 1})
	if err != nil || done.Reencrypted != 2 || len(done.Kept) != 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

func TestARotationHereThatBrokeOffGoesOn(t *testing.T) {
	for _, after := range []bool{false, true} {
		v := newSealedVault(t, client.EnableOptions{})
		for i := range 20 {
			put(t, v.c, v.id, fmt.Sprint("s", i), fmt.Sprint("v", i))
		}
		breaks := newClient(t, v.s, client.WithTransport(&failing{Transport: client.NewTransport(), at: 7, after: after}))
		old, fresh := client.LocalKey(v.old), client.LocalKey(v.fresh)
		first, err := breaks.RotateCMEKHere(t.Context(), v.id, old, fresh, client.RotateHereOptions{Concurrency: 2})
		if err == nil || first.Reencrypted < 4 || first.Reencrypted > 6 {
			t.Fatalf("%+v, %v", first, err)
		}
		second, err := v.rotate(t, client.RotateHereOptions{})
		if err != nil || second.Reencrypted > 16 || second.Reencrypted < 12 {
			t.Errorf("%+v, %v", second, err)
		}
		third, err := v.rotate(t, client.RotateHereOptions{})
		if err != nil || third.Reencrypted != 0 {
			t.Errorf("%+v, %v", third, err)
		}
		for i := range 20 {
			v.want(t, fmt.Sprint("s", i), 1, fmt.Sprint("v", i))
		}
		if got := v.under(t); got["old"] != 0 {
			t.Errorf("under %v", got)
		}
	}
}

func TestWritesDuringARotationHereAreNotLost(t *testing.T) {
	v := newSealedVault(t, client.EnableOptions{})
	const paths, writes = 6, 15
	for i := range paths {
		put(t, v.c, v.id, fmt.Sprint("s", i), "first")
	}
	var wg sync.WaitGroup
	begun := make(chan struct{})
	for i := range paths {
		wg.Go(func() {
			c := newClient(t, v.s, client.WithCMEKKey(v.old, v.fresh))
			for n := range writes {
				if n == 3 && i == 0 {
					close(begun)
				}
				if _, err := c.Put(t.Context(), v.id, fmt.Sprint("s", i), []byte(fmt.Sprint("w", n)), client.PutOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	<-begun
	for range 2 { // two clients at once
		wg.Go(func() {
			c := newClient(t, v.s)
			if _, err := c.RotateCMEKHere(t.Context(), v.id, client.LocalKey(v.old), client.LocalKey(v.fresh), client.RotateHereOptions{All: true}); err != nil && !client.IsConflict(err) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if _, err := v.rotate(t, client.RotateHereOptions{All: true}); err != nil {
		t.Error(err)
	}
	only := newClient(t, v.s, client.WithCMEKKey(v.fresh))
	for i := range paths {
		for n := range writes + 1 {
			want := "first"
			if n > 0 {
				want = fmt.Sprint("w", n-1)
			}
			got, err := only.GetVersion(t.Context(), v.id, fmt.Sprint("s", i), n+1)
			if err != nil || string(got.Value) != want {
				t.Errorf("s%d, version %d: %v", i, n+1, err)
			}
		}
	}
	if got := v.under(t); got["old"] != 0 || got["other"] != 0 {
		t.Errorf("under %v", got)
	}
}

// brokenKey cannot seal, or opens to something else.
type brokenKey struct {
	client.CMEK
	seal error
}

func (k brokenKey) Seal(ctx context.Context, at cmek.Context, version int, plaintext []byte) (string, error) {
	if k.seal != nil {
		return "", k.seal
	}
	return k.CMEK.Seal(ctx, at, version, append(plaintext, 'x'))
}

func TestAVaultGetsNoKeyThatCannotBeUsed(t *testing.T) {
	v := newSealedVault(t, client.EnableOptions{})
	put(t, v.c, v.id, "a", "v")
	other := cmek.Generate()
	wiped := cmek.Generate()
	wiped.Wipe()
	old, fresh := client.LocalKey(v.old), client.LocalKey(v.fresh)
	for name, keys := range map[string][2]client.CMEK{
		"not the vault's key":      {client.LocalKey(other), fresh},
		"the same key":             {old, old},
		"a wiped key":              {old, client.LocalKey(wiped)},
		"a key that does not seal": {old, brokenKey{fresh, errors.New("the safe is closed")}},
		"a key that seals wrong":   {old, brokenKey{fresh, nil}},
		"an old key that is none":  {brokenKey{old, nil}, fresh},
	} {
		done, err := v.c.RotateCMEKHere(t.Context(), v.id, keys[0], keys[1], client.RotateHereOptions{})
		if err == nil || done.Reencrypted != 0 {
			t.Errorf("%s: %+v, %v", name, done, err)
		}
	}
	if got := v.under(t); got["old"] != 1 || len(got) != 1 {
		t.Errorf("under %v", got)
	}
	if vault, err := v.c.GetVault(t.Context(), v.id); err != nil || vault.CMEKFingerprint != v.old.Fingerprint() {
		t.Errorf("%+v, %v", vault, err)
	}
	if _, err := v.c.DisableCMEK(t.Context(), v.id); err != nil {
		t.Fatal(err)
	}
	if _, err := v.rotate(t, client.RotateHereOptions{}); err == nil {
		t.Error("a vault that is not sealed got a key")
	}
}

func TestABoundVaultTakesBoundBlobsThatOpenAtTheirPathAlone(t *testing.T) {
	v := newSealedVault(t, client.EnableOptions{Bound: true})
	put(t, v.c, v.id, "a", "of a")
	put(t, v.c, v.id, "b", "of b")
	form := func() {
		t.Helper()
		var s api.Secret
		if err := json.Unmarshal(v.call(t, "GET", "secrets/a", nil), &s); err != nil {
			t.Fatal(err)
		}
		if info, err := cmek.Inspect(s.Value); err != nil || info.Version != 2 {
			t.Errorf("%+v, %v", info, err)
		}
	}
	swapped := newClient(t, v.s, client.WithCMEKKey(v.old, v.fresh), client.WithTransport(swapping{}))
	refused := func() {
		t.Helper()
		v.want(t, "a", 1, "of a")
		if _, err := swapped.Get(t.Context(), v.id, "a"); !errors.Is(err, cmek.ErrDecrypt) {
			t.Errorf("b's blob in a's place: %v", err)
		}
		form()
	}
	refused()
	if done, err := v.rotate(t, client.RotateHereOptions{}); err != nil || done.Reencrypted != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	refused()
	put(t, v.c, v.id, "a", "of a too")
	form()
}

// swapping is a server that answers b for a.
type swapping struct{}

func (swapping) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Path = strings.Replace(r.URL.Path, "/secrets/a", "/secrets/b", 1)
	return http.DefaultTransport.RoundTrip(r)
}

func TestAWriteWithAKeyThatDidNotMakeTheKeyCheckIsRefused(t *testing.T) {
	const canary = "canary-01fe-key-check"
	v := newSealedVault(t, client.EnableOptions{})
	put(t, v.c, v.id, "a", "fits")
	if _, err := v.c.DisableCMEK(t.Context(), v.id); err != nil {
		t.Fatal(err)
	}
	// What a server has that lies about the fingerprint, or a mix-up of vaults.
	body, _ := json.Marshal(api.EnableCMEK{Fingerprint: v.old.Fingerprint(), KeyCheck: v.fresh.Check(v.id)})
	v.call(t, "POST", "cmek", body)
	seen := &recorder{}
	c := newClient(t, v.s, client.WithCMEKKey(v.old), client.WithTransport(seen))
	_, err := c.Put(t.Context(), v.id, "a", []byte(canary), client.PutOptions{})
	if !errors.Is(err, client.ErrKeyCheck) || seen.holds("cmek_fingerprint") || seen.holds("\"value\"") {
		t.Errorf("%v", err)
	}
	if _, err := v.rotate(t, client.RotateHereOptions{}); !errors.Is(err, client.ErrKeyCheck) {
		t.Errorf("a rotation: %v", err)
	}
}

func TestWritersGoThroughARotationByTheServer(t *testing.T) {
	v := newSealedVault(t, client.EnableOptions{})
	const paths, writes = 4, 30
	for i := range 150 {
		put(t, v.c, v.id, fmt.Sprint("old/", i), fmt.Sprint("v", i))
	}
	var wg sync.WaitGroup
	for i := range paths {
		wg.Go(func() {
			c := newClient(t, v.s, client.WithCMEKKey(v.old, v.fresh))
			for n := range writes {
				if _, err := c.Put(t.Context(), v.id, fmt.Sprint("new/", i), []byte(fmt.Sprint("w", n)), client.PutOptions{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	job, err := v.c.RotateCMEK(t.Context(), v.id, v.old, v.fresh, client.RotateOptions{})
	if err != nil || job.Status != "completed" {
		t.Fatalf("%+v, %v", job, err)
	}
	wg.Wait()
	wantNotSent(t, v.seen, v.old, v.fresh)
	only := newClient(t, v.s, client.WithCMEKKey(v.fresh))
	for i := range paths {
		for n := range writes {
			got, err := only.GetVersion(t.Context(), v.id, fmt.Sprint("new/", i), n+1)
			if err != nil || string(got.Value) != fmt.Sprint("w", n) {
				t.Errorf("new/%d, version %d: %v", i, n+1, err)
			}
		}
	}
	if got := v.under(t); got["old"] != 0 || got["fresh"] != 150+paths*writes {
		t.Errorf("under %v", got)
	}
	jobs, err := v.c.CMEKRotations(t.Context(), v.id)
	if err != nil || len(jobs) != 1 || jobs[0].ID != job.ID {
		t.Errorf("%+v, %v", jobs, err)
	}
	if again, err := v.c.CMEKRotation(t.Context(), v.id, job.ID); err != nil || again.Status != "completed" {
		t.Errorf("%+v, %v", again, err)
	}
	if again, err := v.c.CancelCMEKRotation(t.Context(), v.id, job.ID); err != nil || again.Status != "completed" {
		t.Errorf("%+v, %v", again, err)
	}
}
