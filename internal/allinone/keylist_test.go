package allinone

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/kmsserver"
)

// adminKey makes an operator's key.
func (r *running) adminKey() string {
	r.t.Helper()
	org, err := r.Identity.CreateOrg(r.t.Context(), "operators", "enterprise")
	if err != nil {
		r.t.Fatal(err)
	}
	key, err := r.Identity.CreateAdminKey(r.t.Context(), org.ID)
	if err != nil {
		r.t.Fatal(err)
	}
	return key
}

// withRoles serves a KMS to a server in these roles, and is how that reaches it.
func withRoles(t *testing.T, keys *kms.Service, roles kmsserver.Roles, overTLS bool) (cfg Config) {
	t.Helper()
	own := uint32(os.Geteuid())
	endpoint, caller, files := socket(t), kmsserver.Caller{UID: &own, Roles: roles}, (*kmsserver.TLSFiles)(nil)
	if overTLS {
		dir := filepath.Dir(endpoint)
		if err := kmsserver.MakeTLS(dir); err != nil {
			t.Fatal(err)
		}
		in := func(name string) string { return filepath.Join(dir, name) }
		endpoint, caller = "127.0.0.1:0", kmsserver.Caller{Name: "keyfold-server", Roles: roles}
		files = &kmsserver.TLSFiles{Cert: in("server.crt"), Key: in("server.key"), CA: in("ca.crt")}
		cfg.KMSTLS = TLSFiles{Cert: in("keyfold-server.crt"), Key: in("keyfold-server.key"), CA: in("ca.crt")}
	}
	s, err := kmsserver.New(kmsserver.Config{KMS: keys, Callers: []kmsserver.Caller{caller}})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := s.Listen(endpoint, files)
	if err != nil {
		t.Fatal(err)
	}
	cfg.KMSURL = "unix://" + endpoint
	if overTLS {
		cfg.KMSURL = "https://" + ln.Addr().String()
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	t.Cleanup(func() {
		if err := errors.Join(s.Close(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	})
	return cfg
}

// The list needs the role list and no more of what admin may; without it the
// operator is told which role to give, and all else works.
func TestWithoutTheRoleTheListOfKEKsSaysWhichToGive(t *testing.T) {
	const base = kmsserver.Crypto | kmsserver.Shred
	for name, c := range map[string]struct {
		roles kmsserver.Roles
		tls   bool
		want  string
	}{
		"socket":               {base | kmsserver.List, false, `"available":true`},
		"mTLS":                 {base | kmsserver.List, true, `"available":true`},
		"admin":                {base | kmsserver.Admin, false, `"available":true`},
		"without it on socket": {base, false, `"available":false,"message":"the key process does not tell this server of its keys: add the role list`},
		"without it on mTLS":   {base, true, `"available":false,"message":"the key process does not tell this server of its keys: add the role list`},
	} {
		t.Run(name, func(t *testing.T) {
			keys, _ := newKMS(t)
			cfg := withRoles(t, keys, c.roles, c.tls)
			cfg.MaxAge = api.KeyAges{KEK: 3600, CMEK: 60}
			r := start(t, cfg)
			key := r.user()
			paths := r.fill(key)
			r.readable(key, paths)
			status, body := r.call(r.adminKey(), "GET", "/admin/encryption/keys", "")
			if status != 200 || !strings.Contains(body, c.want) || !strings.Contains(body, `"max_age":{"kek":3600,"cmek":60}`) {
				t.Errorf("%d %s", status, body)
			}
			if told := strings.Contains(body, `"vault-`) && strings.Contains(body, `"root":{`); told != strings.Contains(c.want, "true") {
				t.Errorf("it tells: %s", body)
			}
			id := strings.Split(paths[1], "/")[3]
			status, body = r.call(r.adminKey(), "GET", "/admin/encryption/deks?thread_id="+id, "")
			if told := strings.Contains(body, `"seals":`); status != 200 || !strings.Contains(body, c.want) || told != strings.Contains(c.want, "true") || !strings.Contains(body, `"state":"enabled"`) {
				t.Errorf("%d %s", status, body)
			}
			r.stop()
		})
	}
}

// older is a KMS from before the call.
type older struct{ KMS }

func (older) ListKEKs(context.Context, kmsapi.ListQuery) (kmsapi.KEKList, error) {
	return kmsapi.KEKList{}, errNoRoute
}

func (older) ListDEKs(context.Context, []string) (kmsapi.DEKList, error) {
	return kmsapi.DEKList{}, errNoRoute
}

var errNoRoute = fault.New(fault.NotFound, "there is no such route; check the path")

func TestAnOlderKeyProcessListsNoKEKs(t *testing.T) {
	r := start(t, Config{WrapKMS: func(k KMS) KMS { return older{k} }})
	status, body := r.call(r.adminKey(), "GET", "/admin/encryption/keys", "")
	if status != 200 || !strings.Contains(body, `"available":false,"message":"the key process is of a version`) || !strings.Contains(body, `"keks":[]`) {
		t.Errorf("%d %s", status, body)
	}
	r.stop()
}

// The list of another key store than the one of the data would mislead.
func TestTheKEKsOfAnotherKeyStoreAreNotListed(t *testing.T) {
	sock, dir := socket(t), t.TempDir()
	first, _ := newKMS(t)
	stop := serveKMS(t, first, sock)
	r := start(t, Config{DataDir: dir, KMSURL: "unix://" + sock})
	thread := strings.Split(r.fill(r.user())[1], "/")[3]
	key := r.adminKey()
	r.stop()
	stop()

	cfg := Config{DataDir: dir, KMSURL: "unix://" + sock}
	r = start(t, cfg) // while none is there
	second, _ := newKMS(t)
	stop = serveKMS(t, second, sock)
	for _, call := range []string{"keys", "deks?thread_id=" + thread} {
		if status, body := r.call(key, "GET", "/admin/encryption/"+call, ""); status != 503 || strings.Contains(body, "kek_") {
			t.Errorf("%s: %d %s", call, status, body)
		}
	}
	r.stop()
	stop()
}

// Whoever sees the state of a vault's CMEK key sees when it is due.
func TestAMemberSeesHowOldACMEKKeyMayBecome(t *testing.T) {
	r := start(t, Config{MaxAge: api.KeyAges{CMEK: 86400}})
	key := r.user()
	_, body := r.call(key, "POST", "/v1/vaults", `{"name":"v"}`)
	_, id, _ := strings.Cut(body, `"id":"`)
	cmek := "/v1/vaults/" + id[:36] + "/cmek"
	if status, body := r.call(key, "GET", cmek, ""); status != 200 || strings.Contains(body, "max_age") {
		t.Errorf("without a key: %d %s", status, body)
	}
	if status, body := r.call(key, "POST", cmek, `{"fingerprint":"`+strings.Repeat("ab", 32)+`"}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	for _, query := range []string{"", "?keys=false"} {
		if status, body := r.call(key, "GET", cmek+query, ""); status != 200 || !strings.Contains(body, `"max_age":86400`) {
			t.Errorf("%d %s", status, body)
		}
	}
	r.stop()
}
