package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type pair struct{ A, B string }

func (p *pair) UnmarshalText(text []byte) error {
	var ok bool
	if p.A, p.B, ok = strings.Cut(string(text), "="); !ok {
		return errors.New("write A=B")
	}
	return nil
}

type settings struct {
	Name  string        `yaml:"name" env:"T_NAME"`
	Count uint8         `yaml:"count" env:"T_COUNT"`
	Depth *int          `yaml:"depth" env:"T_DEPTH"`
	On    bool          `yaml:"on" env:"T_ON"`
	Wait  time.Duration `yaml:"wait" env:"T_WAIT"`
	Pairs []pair        `yaml:"pairs" env:"T_PAIRS"`
	TLS   struct {
		Cert string `yaml:"cert" env:"T_CERT"`
	} `yaml:"tls"`
	PIN Secret `env:"T_PIN"`
}

// load loads text, as c.yaml, and env.
func load(t *testing.T, text string, env map[string]string) (s settings, err error) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile("c.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s = settings{Name: "default", Wait: time.Second}
	err = Load(&s, "c.yaml", func(name string) string { return env[name] })
	return s, err
}

func TestTheFileIsOverTheDefaultsAndTheEnvironmentOverTheFile(t *testing.T) {
	const text = `# a comment
name: "from the file"
count: 7
depth: -3
on: true
pairs:
  - a=1
  - b=2
tls:
  cert: c.pem
wait:
`
	depth := -3
	want := settings{Name: "from the file", Count: 7, Depth: &depth, On: true, Wait: time.Second, Pairs: []pair{{"a", "1"}, {"b", "2"}}}
	want.TLS.Cert = "c.pem"
	if got, err := load(t, text, nil); err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
	depth = 4
	want = settings{Name: "env", Count: 8, Depth: &depth, Wait: time.Minute, Pairs: []pair{{"c", "3"}, {"d", "4"}}, PIN: "1234"}
	want.TLS.Cert = "env.pem"
	env := map[string]string{"T_NAME": "env", "T_COUNT": "8", "T_DEPTH": "4", "T_ON": "false", "T_WAIT": "1m", "T_PAIRS": "c=3, d=4", "T_CERT": "env.pem", "T_PIN": "1234"}
	if got, err := load(t, text, env); err != nil || !cmp.Equal(got, want) {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
}

func TestAnEmptyFileSetsNothing(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "\n\n"} {
		if s, err := load(t, text, nil); err != nil || s.Name != "default" {
			t.Errorf("%q: %+v, %v", text, s, err)
		}
	}
}

func TestAMistakeIsRefusedWithItsPlaceAndWhatToWrite(t *testing.T) {
	for text, want := range map[string]string{
		"name: a\nnmae: b\n":               `c.yaml:2: "nmae" is not a setting of the file; known are: name, count, depth, on, wait, pairs, tls`,
		"tls:\n  crt: secret\n":            `c.yaml:2: "crt" is not a setting of tls; known are: cert`,
		"pin: secret\n":                    `c.yaml:1: "pin" is not a setting`,
		"Name: secret\n":                   `c.yaml:1: "Name" is not a setting`,
		"? [a, b]\n: c\n":                  `c.yaml:1: "" is not a setting`,
		"name: a\n\nname: secret\n":        `c.yaml:3: "name" is set in line 1 already; take out one of the two`,
		"count: secret\n":                  `c.yaml:1: count: write a whole number from 0 to 255`,
		"count: 256\n":                     `write a whole number from 0 to 255`,
		"count: 1.0\n":                     `write a whole number`,
		"depth: secret\n":                  `write a whole number from -9223372036854775808 to 9223372036854775807`,
		"on: yes\n":                        `c.yaml:1: on: write true or false`,
		"wait: 10\n":                       `c.yaml:1: wait: write a time such as 90s, 5m or 1h`,
		"wait: -1s\n":                      `write a time`,
		"name: [secret]\n":                 `c.yaml:1: name takes one value, a text`,
		"pairs: secret\n":                  `c.yaml:1: pairs takes a list`,
		"pairs:\n  - a=1\n  - secret\n":    `c.yaml:3: pairs: write A=B`,
		"tls: secret\n":                    `c.yaml:1: tls takes settings of the form "name: value": cert`,
		"secret\n":                         `c.yaml:1: the file takes settings of the form "name: value": name,`,
		"name: &x secret\ntls: {cert: *x}": `c.yaml:2: cert is an alias; write the value itself`,
		"name: [secret\n":                  `c.yaml:2: this is not YAML`,
		"name: a\n\tcount: secret\n":       `this is not YAML`,
		"name: a\n---\nname: secret\n":     `c.yaml: it goes on after the end of a document`,
		"name: a\n...\nsecret: [":          `c.yaml: it goes on after the end of a document`,
		"name: \"\\xff secret\n":           `this is not YAML`,
		"count: x\non: 1\n":                "c.yaml:1: count: write a whole number from 0 to 255\nc.yaml:2: on: write true or false",
	} {
		_, err := load(t, text, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error quotes the value: %v", text, err)
		}
	}
}

func TestAMistakeInTheEnvironmentNamesItsVariableBesideThoseOfTheFile(t *testing.T) {
	env := map[string]string{"T_COUNT": "secret", "T_PAIRS": "a=1,secret", "T_PIN": "secret", "T_PIN_FILE": "f"}
	_, err := load(t, "on: secret\n", env)
	for _, want := range []string{"c.yaml:1: on: write true or false", "T_COUNT: write a whole number from 0 to 255", "T_PAIRS: write A=B", "both T_PIN and T_PIN_FILE are set; unset one of them"} {
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%v; want %q", err, want)
		}
	}
}

func TestASecretComesFromItsFileAndIsNeverPrinted(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(path, []byte("12 34\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := load(t, "", map[string]string{"T_PIN_FILE": path})
	if err != nil || string(s.PIN) != "12 34" {
		t.Errorf("%q, %v", string(s.PIN), err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		if text := fmt.Sprintf(verb, s.PIN) + fmt.Sprintf(verb, s); strings.Contains(text, "12 34") || !strings.Contains(text, "[redacted]") {
			t.Errorf("%s prints %s", verb, text)
		}
	}
	if got := s.PIN.LogValue().String(); got != "[redacted]" {
		t.Errorf("the log has %s", got)
	}
}

func TestAFileThatIsNotThereOrTooLargeIsRefused(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), large, dir} {
		var s settings
		if err := Load(&s, path, os.Getenv); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if _, err := load(t, "", map[string]string{"T_PIN_FILE": large}); err == nil || !strings.Contains(err.Error(), "T_PIN_FILE") {
		t.Errorf("a secret of a megabyte: %v", err)
	}
}

// Whoever names a file means what is to be in it: an empty one is no setting that is left out.
func TestAnEmptyFileOfASecretIsRefused(t *testing.T) {
	for _, content := range []string{"", "\n", "\r\n"} {
		path := filepath.Join(t.TempDir(), "pin")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := load(t, "", map[string]string{"T_PIN_FILE": path}); err == nil || !strings.Contains(err.Error(), "T_PIN_FILE: "+path+" is empty") {
			t.Errorf("%q: %v", content, err)
		}
	}
}
