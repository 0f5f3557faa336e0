package vault

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/fault"
)

// model is what one vault must do, in the plainest words.
type model struct {
	fingerprint string
	secrets     map[string]*modelSecret
}

type modelSecret struct {
	id       string
	versions []modelVersion // version n is at n-1
	deleted  int
}

type modelVersion struct {
	value, typ, metadata, fingerprint string
	expires                           *time.Time
	limit, reads                      int
	disabled                          bool
}

// read answers what a read of version n must answer; 0 is the newest.
func (m *model) read(path string, n int, now time.Time) (*modelVersion, int, error) {
	s := m.secrets[path]
	if s == nil {
		return nil, 0, fault.NotFound
	}
	if n == 0 {
		n = len(s.versions)
	}
	if n < 1 || n > len(s.versions) {
		return nil, 0, fault.NotFound
	}
	v := &s.versions[n-1]
	if n <= s.deleted || v.disabled || v.expires != nil && !now.Before(*v.expires) || v.limit > 0 && v.reads >= v.limit {
		return nil, 0, fault.Gone
	}
	v.reads++
	return v, n, nil
}

func (m *model) live(path string) *modelSecret {
	if s := m.secrets[path]; s != nil && s.deleted < len(s.versions) {
		return s
	}
	return nil
}

var modelPaths = []string{"a", "a/b", "ab", "B", "c_d"}

func TestVaultsDoWhatTheModelDoes(t *testing.T) {
	key := cmek.Generate()
	blobs := []string{blob(t, key, ""), blob(t, key, "x"), oldForm(t, key, "y")}
	r := newRig(t)
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		vaultID := r.vault()
		m := &model{secrets: map[string]*modelSecret{}}
		agree := func(what string, got error, want error) bool {
			t.Helper()
			if (got == nil) != (want == nil) || want != nil && fault.Of(got).Code != want {
				t.Fatalf("%s: %v, the model says %v", what, got, want)
			}
			return got == nil
		}
		path := func() string { return rapid.SampledFrom(modelPaths).Draw(t, "path") }
		number := func() int { return rapid.IntRange(0, 6).Draw(t, "n") }
		wrote := func(p string, meta api.SecretMetadata, v modelVersion) {
			if m.secrets[p] == nil {
				m.secrets[p] = &modelSecret{id: meta.ID}
			}
			s := m.secrets[p]
			s.versions = append(s.versions, v)
			if meta.ID != s.id || meta.Version != len(s.versions) || meta.Type != v.typ || string(meta.Metadata) != v.metadata {
				t.Fatalf("wrote %+v, the model has %+v", meta, s)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				p := path()
				v := modelVersion{
					value: rapid.OneOf(rapid.String(), rapid.SampledFrom(blobs)).Draw(t, "value"),
					typ:   rapid.SampledFrom(api.SecretTypes).Draw(t, "type"), fingerprint: m.fingerprint,
				}
				req := api.PutSecret{Value: &v.value, Type: v.typ}
				if rapid.Bool().Draw(t, "metadata") {
					v.metadata = fmt.Sprintf(`{"n": %d}`, rapid.Int().Draw(t, "n"))
					req.Metadata = json.RawMessage(v.metadata)
				}
				if rapid.IntRange(0, 3).Draw(t, "limited") == 0 {
					v.limit = rapid.IntRange(1, 3).Draw(t, "limit")
					req.MaxAccessCount = &v.limit
				}
				if rapid.IntRange(0, 3).Draw(t, "expires") == 0 {
					v.expires = ptr(r.present().Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "hours")) * time.Hour).UTC())
					req.ExpiresAt = v.expires
				}
				opt := PutOptions{IfMatch: rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "match")}
				if rapid.IntRange(0, 3).Draw(t, "declared") == 0 {
					opt.DeclaredFingerprint = key.Fingerprint()
				}
				var wanted error
				newest := 0
				if s := m.live(p); s != nil {
					newest = len(s.versions)
				}
				switch {
				case opt.DeclaredFingerprint != "" && opt.DeclaredFingerprint != m.fingerprint:
					wanted = fault.Conflict
				case m.fingerprint != "" && !slices.Contains(blobs, v.value):
					wanted = fault.Invalid
				case opt.IfMatch != 0 && opt.IfMatch != newest:
					wanted = fault.PreconditionFailed
				}
				meta, err := r.Put(ctx, owner, vaultID, p, req, opt)
				if agree("Put", err, wanted) {
					wrote(p, meta, v)
				}
			},
			"generate": func(t *rapid.T) {
				p := path()
				s := m.live(p)
				var wanted error
				switch {
				case m.fingerprint != "":
					wanted = fault.Invalid
				case s == nil:
					wanted = fault.NotFound
				}
				meta, err := r.Generate(ctx, owner, vaultID, p, api.GenerateSecret{})
				if !agree("Generate", err, wanted) {
					return
				}
				old := s.versions[len(s.versions)-1]
				got, err := r.read(vaultID, p)
				if err != nil {
					t.Fatal(err)
				}
				wrote(p, meta, modelVersion{value: got.Secret.Value, typ: old.typ, metadata: old.metadata})
			},
			"read": func(t *rapid.T) {
				p, n := path(), number()
				read := func() (Read, error) { return r.ReadVersion(ctx, owner, vaultID, p, n) }
				v, at, wanted := m.read(p, n, r.present())
				if n == 0 { // the newest, by the other method
					read = func() (Read, error) { return r.Read(ctx, owner, vaultID, p) }
				}
				got, err := read()
				if agree("Read", err, wanted) && (got.Secret.Value != v.value || got.Secret.Version != at ||
					got.Secret.Type != v.typ || string(got.Secret.Metadata) != v.metadata || got.CMEKFingerprint != v.fingerprint) {
					t.Fatalf("Read = %+v, the model has %+v", got, v)
				}
			},
			"delete": func(t *rapid.T) {
				p := path()
				s := m.live(p)
				err := r.DeleteSecret(ctx, owner, vaultID, p)
				if s == nil {
					agree("DeleteSecret", err, fault.NotFound)
				} else if agree("DeleteSecret", err, nil) {
					s.deleted = len(s.versions)
				}
			},
			"disable": func(t *rapid.T) {
				p, n := path(), number()
				s := m.live(p)
				err := r.DisableVersion(ctx, owner, vaultID, p, n)
				if s == nil || n <= s.deleted || n > len(s.versions) {
					agree("DisableVersion", err, fault.NotFound)
				} else if agree("DisableVersion", err, nil) {
					s.versions[n-1].disabled = true
				}
			},
			"cmek": func(t *rapid.T) {
				if rapid.Bool().Draw(t, "enable") {
					_, err := r.EnableCMEK(ctx, owner, vaultID, api.EnableCMEK{Fingerprint: key.Fingerprint()})
					if m.fingerprint != "" {
						agree("EnableCMEK", err, fault.Invalid)
					} else if agree("EnableCMEK", err, nil) {
						m.fingerprint = key.Fingerprint()
					}
					return
				}
				_, err := r.DisableCMEK(ctx, owner, vaultID)
				if m.fingerprint == "" {
					agree("DisableCMEK", err, fault.Invalid)
				} else if agree("DisableCMEK", err, nil) {
					m.fingerprint = ""
				}
			},
			"time": func(t *rapid.T) {
				r.advance(time.Duration(rapid.IntRange(1, 120).Draw(t, "minutes")) * time.Minute)
			},
			"restart": func(t *rapid.T) { r.restart() },
			"": func(t *rapid.T) {
				prefix := rapid.SampledFrom([]string{"", "a", "a/", "B", "z"}).Draw(t, "prefix")
				var wanted []string
				for _, p := range slices.Sorted(maps.Keys(m.secrets)) {
					if s := m.live(p); s != nil && strings.HasPrefix(p, prefix) {
						wanted = append(wanted, fmt.Sprint(p, " ", s.id, " ", len(s.versions)))
					}
				}
				list, err := r.ListSecrets(ctx, owner, vaultID, prefix, false)
				var got []string
				for _, e := range list.Secrets {
					got = append(got, fmt.Sprint(e.Path, " ", e.ID, " ", e.Version))
				}
				if err != nil || !slices.Equal(got, wanted) {
					t.Fatalf("ListSecrets(%q) = %q, %v, the model has %q", prefix, got, err, wanted)
				}
				p := path()
				versions, err := r.Versions(ctx, owner, vaultID, p, false)
				s := m.live(p)
				if s == nil {
					agree("Versions", err, fault.NotFound)
					return
				}
				if !agree("Versions", err, nil) || len(versions.Versions) != len(s.versions)-s.deleted {
					t.Fatalf("Versions = %+v, the model has %+v", versions, s)
				}
				for i, e := range versions.Versions {
					n := len(s.versions) - i
					if v := s.versions[n-1]; e.Version != n || e.IsDisabled != v.disabled || e.Type != v.typ || e.ID != s.id {
						t.Fatalf("Versions[%d] = %+v, the model has %+v", i, e, v)
					}
				}
			},
		})
		if err := r.Delete(ctx, owner, vaultID); err != nil {
			t.Fatal(err)
		}
		if rows := r.rowsOf(vaultID); len(rows) != 0 {
			t.Fatalf("rows: %q", rows)
		}
	})
}
