package check

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
)

const composeDir = "../compose"

// projectOf loads a compose file as Compose does: schema, anchors, references.
func projectOf(t *testing.T, text string) (*types.Project, error) {
	t.Helper()
	dir, err := filepath.Abs(composeDir)
	if err != nil {
		t.Fatal(err)
	}
	return loader.LoadWithContext(t.Context(), types.ConfigDetails{
		WorkingDir:  dir,
		ConfigFiles: []types.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml"), Content: []byte(text)}},
		Environment: types.Mapping{},
	}, func(o *loader.Options) { o.Profiles = []string{"*"} })
}

// ours is what a service of our images runs.
func ours(s types.ServiceConfig) (run, bool) {
	program, local := strings.CutSuffix(s.Image, ":local")
	r := run{where: s.Name, program: program, args: s.Command, env: map[string]string{}}
	for name, value := range s.Environment {
		if value != nil {
			r.env[name] = *value
		}
	}
	return r, local
}

func checkCompose(t *testing.T, text string) (found problems) {
	p, err := projectOf(t, text)
	if err != nil {
		return problems{err.Error()}
	}
	on := map[string][]string{} // network to services
	for _, name := range p.ServiceNames() {
		s := p.Services[name]
		for network := range s.Networks {
			on[network] = append(on[network], name)
		}
		found = append(found, checkService(t, p, s)...)
	}
	for network, want := range map[string][]string{
		"outside":    {"proxy"},
		"front":      {"cli", "proxy", "server-1", "server-2"},
		"keys":       {"kms-1", "kms-2", "operator", "server-1", "server-2"},
		"serverdata": {"postgres", "server-1", "server-2"},
		"kmsdata":    {"kms-1", "kms-2", "postgres"},
	} {
		if got := slices.Sorted(slices.Values(on[network])); !slices.Equal(got, want) {
			found.addf("on the network %s are %v; want %v", network, got, want)
		}
		if internal := p.Networks[network].Internal; internal == (network == "outside") {
			found.addf("the network %s: internal is %v", network, internal)
		}
	}
	return found
}

func checkService(t *testing.T, p *types.Project, s types.ServiceConfig) (found problems) {
	say := func(format string, args ...any) { found.addf(s.Name+": "+format, args...) }
	if !slices.Equal(s.CapDrop, []string{"ALL"}) || s.Privileged {
		say("has capabilities; write cap_drop: [ALL]")
	}
	if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") {
		say("may gain privileges")
	}
	if _, tag, ok := strings.Cut(s.Image, ":"); !ok || tag == "latest" {
		say("its image names no version")
	}
	if len(s.Ports) > 0 != (s.Name == "proxy") {
		say("publishes %d ports", len(s.Ports))
	}
	var given []string
	for _, secret := range s.Secrets {
		given = append(given, "/run/secrets/"+secret.Source)
	}
	for name, value := range s.Environment {
		if value != nil && strings.HasPrefix(*value, "/run/secrets/") && !slices.Contains(given, *value) {
			say("%s names %s, and no such secret is given to it", name, *value)
		}
	}
	r, local := ours(s)
	if s.Name != "postgres" && !s.ReadOnly {
		say("can write to its root file system")
	}
	if !local {
		return found
	}
	if s.Ulimits["core"] == nil || s.Ulimits["core"].Single != 0 {
		say("leaves core dumps")
	}
	found = append(found, checkRun(t, r)...)
	if h := s.HealthCheck; h != nil {
		if h.Test[0] != "CMD" {
			say("its health check needs a shell")
		}
		found = append(found, checkRun(t, run{where: s.Name + " (health)", program: filepath.Base(h.Test[1]), args: h.Test[2:]})...)
	} else if len(s.Profiles) == 0 {
		say("has no health check")
	}
	for _, url := range strings.FieldsFunc(r.env["KEYFOLD_KMS"], func(c rune) bool { return c == ',' }) {
		host, port, _ := strings.Cut(strings.TrimPrefix(url, "https://"), ":")
		_, listens, _ := strings.Cut(value(p.Services[host], "KEYFOLD_KMS_ENDPOINT"), ":")
		if port != listens {
			say("KEYFOLD_KMS names %s, where no key process listens", url)
		}
	}
	return found
}

func value(s types.ServiceConfig, name string) string {
	if v := s.Environment[name]; v != nil {
		return *v
	}
	return "-:-"
}

func TestTheComposeFileIsSound(t *testing.T) {
	holds(t, read(t, composeDir, "compose.yaml"), checkCompose, []breaking{
		{"read_only: true\n  cap_drop", "readonly: true\n  cap_drop", "readonly"},
		{"read_only: true\n  cap_drop", "cap_drop", "can write to its root file system"},
		{"  cap_drop: [ALL]\n", "", "has capabilities"},
		{"networks: [outside, front]", "networks: [outside, front, keys]", "on the network keys are"},
		{"networks: [serverdata, kmsdata]", "networks: [serverdata, kmsdata, keys]", "on the network keys are"},
		{"keys: {internal: true}", "keys: {}", "the network keys: internal is false"},
		{"https://kms-2:7421", "https://kms-3:7421", "where no key process listens"},
		{"https://kms-2:7421", "https://kms-2:7422", "where no key process listens"},
		{"secrets: [kms_store, root_key,", "secrets: [kms_store,", "no such secret is given"},
		{"KEYFOLD_METRICS_TOKEN_FILE: /run/secrets/metrics_token", "KEYFOLD_METRICS_TOKEN: 0123456789abcdef0123456789abcdef", "what others can read"},
		{"server_key, kms_ca, metrics_token]", "server_key, kms_ca]", "no such secret is given"},
		{"root_key: {file: secrets/root.key}", "rootkey: {file: secrets/root.key}", "root_key"},
		{"KEYFOLD_KMS_CERT: /run/secrets/server_cert", "KEYFOLD_KMSCERT: /run/secrets/server_cert", "reads no variable KEYFOLD_KMSCERT"},
		{"command: [serve]", "command: [server]", "no command keyfold-kms server"},
		{"command: [server]", "command: [server, --data, /x]", "no flag --data"},
		{"mem_limit: 256m", "mem_limit: 256m\n    environment: {KEYFOLD_X: x}\n    privileged: true", "has capabilities"},
		{"POSTGRES_PASSWORD_FILE: /run/secrets/postgres_password", "POSTGRES_PASSWORD_FILE: /run/secrets/password", "no such secret is given"},
		{"core: 0", "core: 1", "leaves core dumps"},
		{"    test: [CMD, /usr/bin/keyfold, server, ready]", "    test: /usr/bin/keyfold server ready", "needs a shell"},
		{"networks: [serverdata, kmsdata]", "networks: [serverdata, kmsdata]\n    ports: [\"5432:5432\"]", "postgres: publishes 1 ports"},
	})
}

var backend = regexp.MustCompile(`(?m)^\s+server (\S+) (\S+)$`)

// checkProxy has haproxy read its configuration, with files in the place of those
// that are secret, and compares the servers with those of the compose file.
func checkProxy(t *testing.T, text string) (found problems) {
	dir := t.TempDir()
	pem := filepath.Join(dir, "proxy.pem")
	write(t, pem, read(t, certs(t), "server.crt")+read(t, certs(t), "server.key"), 0o600)
	conf := filepath.Join(dir, "haproxy.cfg")
	// Names of services are known where Compose runs.
	local := regexp.MustCompile(`(\s)server-\d:`).ReplaceAllString(text, "${1}127.0.0.1:")
	write(t, conf, strings.ReplaceAll(local, "/run/secrets/proxy_pem", pem), 0o600)
	if out, err := exec.Command(haproxyPath(), "-c", "-f", conf).CombinedOutput(); err != nil || strings.Contains(string(out), "[WARNING]") {
		found.addf("haproxy: %v\n%s", err, out)
	}
	p, err := projectOf(t, read(t, composeDir, "compose.yaml"))
	if err != nil {
		return append(found, err.Error())
	}
	maxconn := 0
	if m := regexp.MustCompile(`(?m)^ +maxconn (\d+)$`).FindStringSubmatch(text); m != nil {
		maxconn, _ = strconv.Atoi(m[1])
	}
	if files := p.Services["proxy"].Ulimits["nofile"]; maxconn == 0 || files == nil || files.Single < 2*maxconn+100 {
		found.addf("haproxy may not open as many files as maxconn %d needs", maxconn)
	}
	want := map[string]bool{}
	for _, s := range p.Services {
		if r, _ := ours(s); r.env["KEYFOLD_ADDR"] != "" {
			_, port, _ := strings.Cut(r.env["KEYFOLD_ADDR"], ":")
			want[s.Name+":"+port] = true
		}
	}
	seen := map[string]int{}
	for _, m := range backend.FindAllStringSubmatch(text, -1) {
		if seen[m[2]]++; !want[m[2]] {
			found.addf("haproxy sends calls to %s, which is no server of the compose file", m[2])
		}
	}
	for address := range want {
		if n := strings.Count(text, "\nbackend "); seen[address] != n {
			found.addf("%s is in %d of %d backends", address, seen[address], n)
		}
	}
	return found
}

func TestTheProxysConfigurationIsSound(t *testing.T) {
	holds(t, read(t, composeDir, "haproxy.cfg"), checkProxy, []breaking{
		{"balance leastconn", "balance leastcon", "balance"},
		{"default_backend ready", "default_backend redy", "redy"},
		{"maxconn 20000", "maxconn 40000", "as many files"},
		{"timeout server 130s", "timeout sever 130s", "sever"},
		{"server server-2 server-2:7420", "server server-2 server-2:7421", "no server of the compose file"},
		{"    server server-2 server-2:7420\n", "", "is in 1 of 2 backends"},
	})
}
