package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
)

// fakeTrail is a server whose trail says that secrets a to e of the vault were
// written at version 2, and f deleted.
type fakeTrail struct {
	events []string // "action outcome path version"
	again  []string // those that came while the secrets were compared
	asked  int      // exports
	list   string   // the answer to a list of the vault: "path version path version", or a status
	look   map[string]string
}

func (f *fakeTrail) export(t *testing.T) []byte {
	t.Helper()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	pub := key.Public().(ed25519.PublicKey)
	lines := []api.AuditExportLine{{Export: &api.AuditExport{Format: auditcheck.Format, OrgID: "o1", To: start.Add(time.Hour), CreatedAt: start.Add(time.Hour),
		Keys: []api.AuditKey{{ID: auditcheck.KeyID(pub), Algorithm: "Ed25519", PublicKey: pub, CreatedAt: start}}}}}
	all := f.events
	if f.asked > 0 {
		all = append(all, f.again...)
	}
	f.asked++
	var prev auditcheck.Hash
	chain := auditcheck.Chain{0x8a}
	for i, text := range all {
		w := strings.Fields(text)
		e := auditcheck.Event{Org: "o1", Chain: chain, Seq: uint64(i + 1), Time: start.Add(time.Duration(i) * time.Second).UnixNano(), Prev: prev,
			Action: w[0], Outcome: w[1], Details: map[string]string{"vault_id": "v", "path": w[2], "version": w[3]}}
		prev = e.Hash()
		wire := e.Wire(prev)
		lines = append(lines, api.AuditExportLine{Event: &wire})
	}
	lines = append(lines, api.AuditExportLine{End: &api.AuditExportEnd{Events: len(all)}})
	var out []byte
	for _, l := range lines {
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		out = append(append(out, text...), '\n')
	}
	return out
}

func (f *fakeTrail) serve(t *testing.T) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := func(text string, write func([]string)) {
			if status, err := strconv.Atoi(text); err == nil {
				w.Header().Set("Content-Type", "application/problem+json")
				w.WriteHeader(status)
				json.NewEncoder(w).Encode(api.Problem{Status: status, Detail: "no"})
				return
			}
			write(strings.Fields(text))
		}
		secret := func(path, version string) api.SecretMetadata {
			n, _ := strconv.Atoi(version)
			return api.SecretMetadata{ID: "i", Path: path, Type: "generic", Version: n}
		}
		switch path := r.URL.Path; {
		case path == "/v1/audit/export":
			w.Write(f.export(t))
		case path == "/v1/vaults/v/secrets":
			answer(f.list, func(words []string) {
				out := api.Secrets{Secrets: []api.ListedSecret{}}
				for i := 0; i < len(words); i += 2 {
					out.Secrets = append(out.Secrets, api.ListedSecret{SecretMetadata: secret(words[i], words[i+1])})
				}
				json.NewEncoder(w).Encode(out)
			})
		case strings.HasPrefix(path, "/v1/vaults/v/secret-versions/"):
			name := path[strings.LastIndex(path, "/")+1:]
			answer(f.look[name], func(words []string) {
				json.NewEncoder(w).Encode(api.Versions{Versions: []api.VersionMetadata{{ListedSecret: api.ListedSecret{SecretMetadata: secret(name, words[1])}}}})
			})
		default:
			json.NewEncoder(w).Encode(api.AuditKeys{})
		}
	}))
}

func TestSecretsAreComparedWithTheTrail(t *testing.T) {
	events := []string{"secret.written done a 1", "secret.written done a 2", "secret.written done b 2", "secret.deleted done b 2"}
	for name, c := range map[string]struct {
		fakeTrail
		code      int
		say, deny string
	}{
		"as the trail has it":             {fakeTrail{list: "a 2"}, 0, "Secrets compared     2", "Problem"},
		"written since":                   {fakeTrail{list: "a 3 b 3"}, 0, "Secrets compared     2", "Problem"},
		"put back":                        {fakeTrail{list: "a 1"}, 1, "secret a: its newest version is 1, and version 2 was written", "secret b"},
		"deleted and put back":            {fakeTrail{list: "a 2 b 2"}, 1, "secret b: it is there at version 2, and was deleted", "secret a"},
		"not there":                       {fakeTrail{look: map[string]string{"a": "404"}}, 1, "secret a: it is not there", "secret b"},
		"not for the caller":              {fakeTrail{look: map[string]string{"a": "403"}}, 0, "Not for you to read  1", "Problem"},
		"there at a second look":          {fakeTrail{look: map[string]string{"a": "a 2"}}, 0, "Secrets compared     2", "Problem"},
		"deleted meanwhile":               {fakeTrail{again: []string{"secret.delete allowed a 0"}, look: map[string]string{"a": "404"}}, 0, "Secrets compared     2", "Problem"},
		"written meanwhile":               {fakeTrail{again: []string{"secret.written done a 3"}, look: map[string]string{"a": "404"}}, 0, "Secrets compared     2", "Problem"},
		"the vault is not there":          {fakeTrail{list: "404"}, 1, "secret a: it is not there", "secret b"},
		"the vault was deleted":           {fakeTrail{again: []string{"vault.delete allowed - 0"}, list: "404"}, 0, "nothing is wrong", "Problem"},
		"the vault is not for the caller": {fakeTrail{list: "403"}, 0, "Not for you to read  2", "Problem"},
		"no answer":                       {fakeTrail{list: "400"}, 1, "", "Result"},
	} {
		t.Run(name, func(t *testing.T) {
			f := c.fakeTrail
			f.events = events
			s := f.serve(t)
			defer s.Close()
			sh := &shell{t: t, env: map[string]string{"KEYFOLD_URL": s.URL, "KEYFOLD_API_KEY": "1ck_x"}}
			code, out, stderr := sh.try("", "audit", "verify", "--secrets")
			if code != c.code || !strings.Contains(out, c.say) || strings.Contains(out, c.deny) {
				t.Errorf("exit %d: %s%s", code, out, stderr)
			}
			f.asked = 0
			if code, out, _ := sh.try("", "audit", "verify", "--secrets", "--json"); code != c.code || c.say != "" && !strings.Contains(out, `"compared": {`) {
				t.Errorf("exit %d: %s", code, out)
			}
		})
	}
}
