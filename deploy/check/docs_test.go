package check

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
)

var (
	fenced  = regexp.MustCompile("(?s)```sh\n(.*?)```")
	inline  = regexp.MustCompile("`((?:keyfold|keyfold-kms) [^`]+)`")
	printed = regexp.MustCompile(`(?:^|[|;&] *|-- +)(keyfold|keyfold-kms) +([^|;&#]*)`)
	compose = regexp.MustCompile(`docker compose run --rm (?:-[ev] \S+ )*(\S+) ([^#\n]*)`)
	word    = regexp.MustCompile(`^[a-z][a-z-]*$`)
)

// checkDocument looks whether each command of ours that a page prints is one, with
// its flags, as far as its help says so.
func checkDocument(t *testing.T, text string) (found problems) {
	t.Helper()
	check := func(program, line string) {
		r := run{where: "the page", program: program}
		for _, arg := range strings.Fields(line) {
			if strings.HasPrefix(arg, "-") || word.MatchString(arg) {
				r.args = append(r.args, arg)
			} else {
				r.args = append(r.args, "--") // a value, after which no word is a command
			}
		}
		found = append(found, checkRun(t, r)...)
	}
	n := 0
	for _, block := range fenced.FindAllStringSubmatch(text, -1) {
		for line := range strings.Lines(block[1]) {
			for _, m := range printed.FindAllStringSubmatch(line, -1) {
				n++
				check(m[1], m[2])
			}
			for _, m := range compose.FindAllStringSubmatch(line, -1) {
				n++
				program := "keyfold-kms"
				if strings.HasPrefix(m[1], "server") || m[1] == "cli" {
					program = "keyfold"
				}
				check(program, m[2])
			}
		}
	}
	for _, m := range inline.FindAllStringSubmatch(text, -1) {
		n++
		program, args, _ := strings.Cut(m[1], " ")
		check(program, args)
	}
	if n < 8 {
		found.addf("only %d commands were found", n)
	}
	return found
}

func TestEveryCommandOfTheRunbooksIsOne(t *testing.T) {
	t.Run("operations.md", func(t *testing.T) {
		holds(t, read(t, tree, "docs", "operations.md"), checkDocument, []breaking{
			{"keyfold-kms restore --in", "keyfold-kms restore --from", "no flag --from"},
			{"`keyfold-kms destroy-kek KEK VERSION`", "`keyfold-kms destroy KEK VERSION`", "no command keyfold-kms destroy"},
			{"keyfold admin rewrap --all\n", "keyfold admin rewarp --all\n", "no command keyfold admin rewarp"},
		})
	})
	t.Run("deploy/README.md", func(t *testing.T) {
		holds(t, read(t, "../README.md"), checkDocument, []breaking{
			{"run --rm operator backup --out", "run --rm operator backup --to", "no flag --to"},
			{"run --rm kms-1 init ", "run --rm kms-1 start ", "no command keyfold-kms start"},
		})
	})
}

// The addresses that the directions print are of databases that are told from others
// by a CA that the pod has.
func TestTheDirectionsForKubernetesVerifyTheDatabase(t *testing.T) {
	m := regexp.MustCompile("`url`: `(postgres://\\S+)`").FindStringSubmatch(read(t, "../README.md"))
	if m == nil {
		t.Fatal("no address is printed")
	}
	u, err := url.Parse(m[1])
	if err != nil || u.Query().Get("sslmode") != "verify-full" {
		t.Errorf("%s: %v", m[1], err)
	}
	ca := u.Query().Get("sslrootcert")
	for name, p := range podsOf(t, objects(t, manifests(t))) {
		for _, mount := range p.spec.Containers[0].VolumeMounts {
			if mount.Name == "store" && mount.MountPath+"/ca.crt" != ca {
				t.Errorf("%s has the CA in %s, and the address names %s", name, mount.MountPath, ca)
			}
		}
	}
}
