package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/allinone"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

// checked returns what is found of variables over a configuration that is good,
// and a server that has been there.
func checked(t *testing.T, env map[string]string) findings {
	t.Helper()
	a := &app{getenv: func(name string) string {
		if value, ok := env[name]; ok {
			return value
		}
		return map[string]string{"KEYFOLD_PUBLIC_URL": "https://localhost", "KEYFOLD_DATA": "data", "KEYFOLD_KMS": "unix:///nowhere/kms.sock"}[name]
	}}
	_, f := a.check(t.Context(), "")
	return f
}

// worldOfFiles makes, in a directory of its own, what checks look at.
func worldOfFiles(t *testing.T) {
	t.Helper()
	t.Chdir(t.TempDir())
	node, err := allinone.Open(t.Context(), allinone.Config{DataDir: "data"})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		node.Close(t.Context()), kmsserver.MakeTLS("tls"), kmsserver.MakeTLS("other"),
		os.Mkdir("shared", 0o700), os.Chmod("shared", 0o777), os.Mkdir("seen", 0o700), os.Chmod("seen", 0o755),
		os.CopyFS("lost", os.DirFS("data")), os.Chmod("lost", 0o700), os.Remove("lost/root.key"),
		os.CopyFS("open", os.DirFS("data")), os.Chmod("open", 0o700), os.Chmod("open/root.key", 0o644),
		os.WriteFile("readable.key", must(os.ReadFile("tls/server.key"))(t), 0o600), os.Chmod("readable.key", 0o644),
		os.WriteFile("file", nil, 0o600), os.WriteFile("lines", []byte("secret89abcdef0123456789abcdef\nsecret89abcdef0123456789abcdef\n"), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestACheckFindsWhatIsWrong(t *testing.T) {
	worldOfFiles(t)
	before := tree(t)
	const kmsFiles = "KEYFOLD_KMS=https://127.0.0.1:1 KEYFOLD_KMS_CERT=tls/keyfold-server.crt KEYFOLD_KMS_KEY=tls/keyfold-server.key "
	const tlsFiles = "KEYFOLD_TLS_CERT=tls/server.crt KEYFOLD_TLS_KEY=tls/server.key "
	for _, c := range []struct{ env, want string }{
		{"", ""},
		{"KEYFOLD_ADDR=7420", "error: addr: write HOST:PORT"},
		{"KEYFOLD_ADDR=127.0.0.1:70000", "error: addr: write HOST:PORT"},
		{"KEYFOLD_ADDR=:443", "warning: addr: plain HTTP beyond this machine"},
		{"KEYFOLD_ADDR=0.0.0.0:443 KEYFOLD_PROXIES=10.0.0.7", ""},
		{"KEYFOLD_ADDR=:443 " + tlsFiles, ""},
		{"KEYFOLD_PUBLIC_URL=", "warning: public_url: not set, so there are no passkeys"},
		{"KEYFOLD_PUBLIC_URL=http://keys.example.com", "error: public_url: passwords and keys travel there; write https://"},
		{"KEYFOLD_PUBLIC_URL=http://localhost:7420", ""},
		{"KEYFOLD_PUBLIC_URL=https://10.0.0.7", "warning: public_url: passkeys are for names"},
		{"KEYFOLD_PUBLIC_URL=https://keys.example.com/", "error: public_url: write it in lower case, without a path"},
		{"KEYFOLD_PUBLIC_URL=https://keys.example.com:443", "error: public_url: write it"},
		{"KEYFOLD_PUBLIC_URL=https://secret:secret@keys.example.com", "error: public_url: write it"},
		{"KEYFOLD_PUBLIC_URL=https://Keys.example.com", "error: public_url: write it"},
		{"KEYFOLD_PUBLIC_URL=keys.example.com", "error: public_url: write it"},
		{"KEYFOLD_TLS_CERT=tls/server.crt", "error: tls: tls.cert and tls.key go together"},
		{"KEYFOLD_TLS_KEY=tls/server.key", "error: tls: tls.cert and tls.key go together"},
		{"KEYFOLD_TLS_CERT=tls/server.crt KEYFOLD_TLS_KEY=other/server.key", "error: tls: tls: private key does not match"},
		{"KEYFOLD_TLS_CERT=nowhere KEYFOLD_TLS_KEY=tls/server.key", "error: tls: open nowhere"},
		{"KEYFOLD_TLS_CERT=tls/server.crt KEYFOLD_TLS_KEY=readable.key", "warning: tls.key: anybody on this machine"},
		{"KEYFOLD_PUBLIC_URL=https://keys.example.com " + tlsFiles, "warning: tls.cert: it is not for keys.example.com"},
		{"KEYFOLD_DATA=", "error: data: not set"},
		{"KEYFOLD_DATA=file", "error: data: file is not a directory"},
		{"KEYFOLD_DATA=file/under", "error: data: stat file/under: not a directory"},
		{"KEYFOLD_DATA=new/under", ""},
		{"KEYFOLD_DATA=shared", "error: data: others can put files into shared; run: chmod 700 \"shared\""},
		{"KEYFOLD_DATA=seen", "warning: data: others can look into seen; run: chmod 700 \"seen\""},
		{"KEYFOLD_KMS=", "error: kms.url: not set"},
		{"KEYFOLD_KMS=embedded", "warning: kms.url: embedded"},
		{"KEYFOLD_KMS=Embedded", "error: kms: the KMS endpoint is neither"},
		{"KEYFOLD_KMS=http://127.0.0.1:1", "error: kms: the KMS endpoint is neither"},
		{"KEYFOLD_KMS=unix://kms.sock", "error: kms: the KMS endpoint \"unix://kms.sock\" is not unix:///path"},
		{"KEYFOLD_KMS=embedded KEYFOLD_DATA=open", "warning: kms.url: embedded|error: data: the root key file open/root.key has mode 0644"},
		{"KEYFOLD_KMS=embedded KEYFOLD_DATA=lost", "warning: kms.url: embedded|warning: data: lost has keys, but root.key is missing"},
		{"KEYFOLD_DATA=open", ""}, // the keys are elsewhere
		{"KEYFOLD_KMS_CA=tls/ca.crt", "warning: kms: kms.cert, kms.key and kms.ca are for a key process at https://"},
		{"KEYFOLD_KMS=https://127.0.0.1:1", "error: kms: a key process at https:// wants mutual TLS"},
		{kmsFiles, "error: kms: a key process at https:// wants mutual TLS"},
		{kmsFiles + "KEYFOLD_KMS_CA=tls/ca.crt", ""},
		{kmsFiles + "KEYFOLD_KMS_CA=file", "error: kms: the CA of the KMS cannot be read"},
		{kmsFiles + "KEYFOLD_KMS_CA=tls/ca.crt KEYFOLD_KMS_KEY=other/server.key", "error: kms: the KMS client's certificate and key"},
		{"KEYFOLD_BREAKGLASS_ROOT=data/root.key", "error: breakglass: breakglass.root and breakglass.keyring go together"},
		{"KEYFOLD_BREAKGLASS_KEYRING=file", "error: breakglass: breakglass.root and breakglass.keyring go together"},
		{"KEYFOLD_BREAKGLASS_ROOT=open/root.key KEYFOLD_BREAKGLASS_KEYRING=file", "error: breakglass: set up break-glass: the root key file open/root.key has mode 0644"},
		{"KEYFOLD_BREAKGLASS_ROOT=data/root.key KEYFOLD_BREAKGLASS_KEYRING=file", "error: breakglass: set up break-glass: file:"},
		{"KEYFOLD_BREAKGLASS_ROOT=data/root.key KEYFOLD_BREAKGLASS_KEYRING=file KEYFOLD_KMS=embedded", "error: breakglass: it is for a server whose key process|warning: kms.url"},
		{"KEYFOLD_ENCRYPTION=on", ""},
		{"KEYFOLD_ENCRYPTION=off", "warning: encryption: messages of new threads are stored in clear"},
		{"KEYFOLD_ENCRYPTION=false", "error: KEYFOLD_ENCRYPTION: write on, or off to have"},
		{"KEYFOLD_SIGN_UP=secret", "error: sign_up: write open, invited or closed"},
		{"KEYFOLD_SIGN_UP=open", "warning: sign_up: anybody who reaches the server"},
		{"KEYFOLD_SIGN_UP=closed", ""},
		{"KEYFOLD_DEFAULT_PLAN=secret", "error: default_plan: write free, pro, business or enterprise"},
		{"KEYFOLD_PROXIES=10.0.0.0/8,192.0.2.7,2001:db8::/32 KEYFOLD_PROXY_HEADER=Forwarded", ""},
		{"KEYFOLD_PROXIES=10.0.0.0/33", "error: KEYFOLD_PROXIES: write an address or a network"},
		{"KEYFOLD_PROXIES=secret", "error: KEYFOLD_PROXIES: write an address or a network"},
		{"KEYFOLD_PROXIES=::ffff:10.0.0.1", "error: KEYFOLD_PROXIES: write an address or a network"},
		{"KEYFOLD_PROXIES=0.0.0.0/0", "error: proxies.trusted: with 0.0.0.0/0 anybody can say"},
		{"KEYFOLD_PROXY_HEADER=Forwarded", "error: proxies: proxies.header counts only from proxies.trusted"},
		{"KEYFOLD_PROXIES=10.0.0.7 KEYFOLD_PROXY_HEADER=X-Real-IP", "error: proxies.header: write X-Forwarded-For or Forwarded"},
		{"KEYFOLD_LIMIT_PRINCIPAL=none KEYFOLD_LIMIT_ADDRESS=none", "warning: limits.principal: none|warning: limits.address: none"},
		{"KEYFOLD_LIMIT_PRINCIPAL=30/m KEYFOLD_LIMIT_ADDRESS=5/s", ""},
		{"KEYFOLD_LIMIT_PRINCIPAL=secret", "error: KEYFOLD_LIMIT_PRINCIPAL: write calls per second or minute"},
		{"KEYFOLD_LIMIT_PRINCIPAL=0/s", "error: KEYFOLD_LIMIT_PRINCIPAL: write calls"},
		{"KEYFOLD_LIMIT_PRINCIPAL=200", "error: KEYFOLD_LIMIT_PRINCIPAL: write calls"},
		{"KEYFOLD_CORS_ORIGINS=https://app.example.com,http://localhost:3000,*", ""},
		{"KEYFOLD_CORS_ORIGINS=https://app.example.com/", "error: cors_origins: write each as a browser sends it"},
		{"KEYFOLD_CORS_ORIGINS=app.example.com", "error: cors_origins: write each"},
		{"KEYFOLD_METRICS_TOKEN=0123456789abcdef0123456789abcdef", ""},
		{"KEYFOLD_METRICS_TOKEN=secret6789abcdef0123456789abcde", "error: metrics.token: it must be 32 characters or more of ASCII, none of them a space; make one: openssl rand -hex 32"},
		{"KEYFOLD_METRICS_TOKEN=secret6789abcdef\u00a00123456789abcdef0", "error: metrics.token: it must be 32"},
		{"KEYFOLD_METRICS_TOKEN=1ck_secretsecretsecretsecretsecretsecret", "error: metrics.token: it is a key that opens more than the metrics; make one"},
		{"KEYFOLD_METRICS_TOKEN_FILE=file", "error: KEYFOLD_METRICS_TOKEN_FILE: file is empty"},
		{"KEYFOLD_METRICS_TOKEN_FILE=nowhere", "error: KEYFOLD_METRICS_TOKEN_FILE: open nowhere"},
		{"KEYFOLD_METRICS_TOKEN_FILE=lines", "error: metrics.token: it must be 32"},
		{"KEYFOLD_METRICS_TOKEN_FILE=file KEYFOLD_METRICS_TOKEN=secret", "error: both KEYFOLD_METRICS_TOKEN and KEYFOLD_METRICS_TOKEN_FILE are set"},
		{"KEYFOLD_LOG=loud", "error: KEYFOLD_LOG: write debug, info, warn or error"},
		{"KEYFOLD_STORE=postgres://me:secret@db", ""},
		{"KEYFOLD_STORE=postgres://me:secret@db KEYFOLD_DATA=", ""},
		{"KEYFOLD_STORE=postgres://me:secret@db KEYFOLD_KMS=embedded", "warning: kms.url: embedded|warning: store: the data is in a database, and the keys to it are in "},
		{"KEYFOLD_STORE=postgres://me:secret@db KEYFOLD_KMS=embedded KEYFOLD_DATA=", "error: data: not set|warning: kms.url|warning: store"},
		{"KEYFOLD_STORE=postgres://me:sec/ret@db", "error: store: the URL has a character"},
		{"KEYFOLD_STORE=secret", "error: store: write pebble:DIR or postgres://"},
		{"KEYFOLD_STORE=secret KEYFOLD_STORE_FILE=secret", "error: both KEYFOLD_STORE and KEYFOLD_STORE_FILE are set"},
		{"KEYFOLD_DATA= KEYFOLD_KMS= KEYFOLD_LOG=loud KEYFOLD_SIGN_UP=x", "error: data: not set|error: kms.url: not set|error: KEYFOLD_LOG|error: sign_up"},
	} {
		env := map[string]string{}
		for pair := range strings.FieldsSeq(c.env) {
			name, value, _ := strings.Cut(pair, "=")
			env[name] = value
		}
		var got []string
		for _, f := range checked(t, env) {
			got = append(got, f.Level+": "+f.Text)
		}
		if !begin(got, c.want) || strings.Contains(strings.Join(got, ""), "secret") {
			t.Errorf("%s:\n%s\nwant %s", c.env, strings.Join(got, "\n"), c.want)
		}
	}
	if after := tree(t); !slices.Equal(before, after) {
		t.Errorf("the checks changed something:\n%v\n%v", before, after)
	}
}

// begin reports whether got has one line for each beginning in want.
func begin(got []string, want string) bool {
	starts := strings.Split(want, "|")
	if want == "" {
		starts = nil
	}
	for _, s := range starts {
		if !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, s) }) {
			return false
		}
	}
	return len(got) == len(starts)
}

// tree is every file and when it was written.
func tree(t *testing.T) (all []string) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		all = append(all, fmt.Sprint(path, info.Mode(), info.Size(), info.ModTime()))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestALimitIsReadAsItIsWritten(t *testing.T) {
	for text, want := range map[string]rate{
		"200/s": {PerSecond: 200}, "30/m": {PerSecond: 0.5}, "200/s burst 400": {PerSecond: 200, Burst: 400}, "none": {},
	} {
		got := rate{PerSecond: 1}
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "200", "200/h", "/s", "-1/s", "1.5/s", "200/s burst", "200/s burst 0", "200/s burst x", "200/s 400", "None"} {
		if err := new(rate).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is a rate", text)
		}
	}
}

// A key process that is away is no mistake; one that refuses this server is.
func TestACheckAsksTheKeyProcess(t *testing.T) {
	root := must(keyring.MemoryRoot())(t)
	keys := must(kms.New(t.Context(), kms.Config{Store: memstore.New(), Root: root}))(t)
	defer keys.Close()
	dir := must(os.MkdirTemp("", "kf"))(t) // short enough for a socket
	defer os.RemoveAll(dir)
	us, nobody := uint32(os.Geteuid()), uint32(1<<31)
	ask := func() string {
		s := defaultSettings()
		s.KMS.URL = unixScheme + filepath.Join(dir, "kms.sock")
		var f findings
		s.callKMS(t.Context(), &f)
		if len(f) == 0 {
			return ""
		}
		return f[0].Level + ": " + f[0].Text
	}
	for _, c := range []struct {
		caller *uint32 // nil: nobody answers
		roles  kmsserver.Roles
		want   string
	}{
		{&us, kmsserver.Crypto | kmsserver.Shred | kmsserver.List, ""}, {&us, kmsserver.Crypto | kmsserver.Admin, ""},
		{&us, kmsserver.Crypto | kmsserver.Shred, "warning: kms.url: the key process does not tell this server of its keys"}, {&us, kmsserver.Crypto, "warning: kms.url: the key process lets this server destroy no DEKs"},
		{&nobody, kmsserver.Crypto, "error: kms.url: you are not in the KMS's list of callers"}, {nil, 0, "warning: kms.url: the KMS does not answer"},
	} {
		stop := func(context.Context) error { return nil }
		if c.caller != nil {
			s := must(kmsserver.New(kmsserver.Config{KMS: keys, Callers: []kmsserver.Caller{{UID: c.caller, Roles: c.roles}}}))(t)
			go s.Serve(must(s.Listen(filepath.Join(dir, "kms.sock"), nil))(t))
			stop = s.Close
		}
		if got := ask(); !strings.HasPrefix(got, c.want) || (got == "") != (c.want == "") {
			t.Errorf("%q, want %q", got, c.want)
		}
		if err := stop(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
}
