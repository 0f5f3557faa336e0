package check

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const systemdDir = "../systemd"

// What `systemd-analyze security` says at most, in tenths of its points. A service
// without any protection has 96.
const (
	alone     = 5  // without a network
	onNetwork = 12 // with one
)

var (
	execStart = regexp.MustCompile(`(?m)^ExecStart=(/usr/bin/(keyfold\S*) (.+))$`)
	named     = regexp.MustCompile(`KEYFOLD_[A-Z_]+[A-Z]`)
)

// checkUnit has systemd read unit, a service of ours, beside the other units. dropIn
// is what is put over it, or ""; exposure is how far a service may be from contained.
func checkUnit(t *testing.T, unit, text, dropIn string, exposure int) (found problems) {
	dir := t.TempDir()
	// systemd looks for the programs, which are not installed here.
	local := func(text string) string {
		return execStart.ReplaceAllStringFunc(text, func(line string) string {
			m := execStart.FindStringSubmatch(line)
			found = append(found, checkRun(t, run{where: unit, program: m[2], args: strings.Fields(m[3])})...)
			return "ExecStart=/bin/true " + m[3]
		})
	}
	write(t, filepath.Join(dir, unit), local(text), 0o600)
	write(t, filepath.Join(dir, "keyfold-kms.socket"), read(t, systemdDir, "keyfold-kms.socket"), 0o600)
	if unit == "keyfold-kms.socket" {
		write(t, filepath.Join(dir, unit), text, 0o600)
		write(t, filepath.Join(dir, "keyfold-kms.service"), local(read(t, systemdDir, "keyfold-kms.service")), 0o600)
	}
	if dropIn != "" {
		write(t, filepath.Join(dir, unit+".d", "network.conf"), local(dropIn), 0o600)
	}
	for _, name := range named.FindAllString(text+dropIn, -1) {
		program := "keyfold"
		if strings.HasPrefix(unit, "keyfold-kms") {
			program = "keyfold-kms"
		}
		if !slices.Contains(variables()[program], name) {
			found.addf("%s: %s reads no variable %s", unit, program, name)
		}
	}
	analyze := func(args ...string) {
		cmd := exec.Command("systemd-analyze", args...)
		cmd.Dir = dir
		// What it says besides an exit code, as of a setting that it does not know, is a problem, too.
		if out, err := cmd.CombinedOutput(); err != nil || args[0] == "verify" && len(out) > 0 {
			found.addf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	analyze("verify", "--man=no", "./"+unit)
	if strings.HasSuffix(unit, ".service") {
		analyze("security", "--no-pager", "--offline=true", "--threshold="+strconv.Itoa(exposure), "./"+unit)
	}
	return found
}

// A minute of drain, and ten seconds for the requests under way.
func TestAServerEndsInOrderBeforeSystemdKillsIt(t *testing.T) {
	m := regexp.MustCompile(`(?m)^TimeoutStopSec=(\S+)$`).FindStringSubmatch(read(t, systemdDir, "keyfold.service"))
	if m == nil {
		t.Fatal("TimeoutStopSec is not set")
	}
	if d, err := time.ParseDuration(m[1]); err != nil || d < 75*time.Second {
		t.Errorf("it gets %s, %v", m[1], err)
	}
}

func TestTheUnitsAreSoundAndKeepTheirProcessesIn(t *testing.T) {
	misspelt := breaking{"NoNewPrivileges=yes", "NoNewPrivilege=yes", "Unknown key"}
	open := breaking{"SystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n" +
		"# What it needs of them: to lock its memory, and to forbid core dumps.\nSystemCallFilter=setrlimit prlimit64\n", "", "SystemCallFilter"}
	t.Run("keyfold.service", func(t *testing.T) {
		holds(t, read(t, systemdDir, "keyfold.service"), func(t *testing.T, text string) problems {
			return checkUnit(t, "keyfold.service", text, "", onNetwork)
		}, []breaking{
			misspelt, open,
			{"CapabilityBoundingSet=\n", "", "CAP_SYS_ADMIN"},
			{"server --config", "server --conf", "no flag --conf"},
			{"MemoryDenyWriteExecute=yes\nSystemCallArchitectures=native", "", "MemoryDenyWriteExecute"},
			{"KEYFOLD_METRICS_TOKEN_FILE", "KEYFOLD_METRIC_TOKEN_FILE", "KEYFOLD_METRIC_TOKEN_FILE"},
			{"After=network-online.target", "After=network-online.target\nKEYFOLD_DATUM", "KEYFOLD_DATUM"},
		})
	})
	t.Run("keyfold-kms.service", func(t *testing.T) {
		holds(t, read(t, systemdDir, "keyfold-kms.service"), func(t *testing.T, text string) problems {
			return checkUnit(t, "keyfold-kms.service", text, "", alone)
		}, []breaking{
			misspelt, open,
			{"PrivateNetwork=yes\n", "PrivateNetwork=maybe\n", "boolean"},
			{"PrivateNetwork=yes\n", "", "PrivateNetwork"},
			{"--endpoint fd:3", "--endpont fd:3", "no flag --endpont"},
			{"KEYFOLD_KMS_CALLERS=", "KEYFOLD_KMS_CALERS=", "KEYFOLD_KMS_CALERS"},
		})
	})
	t.Run("keyfold-kms.service on the network", func(t *testing.T) {
		holds(t, read(t, systemdDir, "keyfold-kms-network.conf"), func(t *testing.T, text string) problems {
			return checkUnit(t, "keyfold-kms.service", read(t, systemdDir, "keyfold-kms.service"), text, onNetwork)
		}, []breaking{
			{"ExecStart=\n", "", "more than one ExecStart"},
			{"[Service]", "[Service]\nSystemCallFilter=\nProtectSystem=no\nCapabilityBoundingSet=~\nNoNewPrivileges=no", "CAP_SYS_ADMIN"},
		})
	})
	t.Run("keyfold-kms.socket", func(t *testing.T) {
		holds(t, read(t, systemdDir, "keyfold-kms.socket"), func(t *testing.T, text string) problems {
			return checkUnit(t, "keyfold-kms.socket", text, "", 0)
		}, []breaking{{"ListenStream=/run", "ListenStream=run", "ListenStream"}, {"SocketMode=0600", "SocketMod=0600", "Unknown key"}})
	})
	t.Run("keyfold.sysusers.conf", func(t *testing.T) {
		holds(t, read(t, systemdDir, "keyfold.sysusers.conf"), func(t *testing.T, text string) (found problems) {
			file := filepath.Join(t.TempDir(), "keyfold.conf")
			write(t, file, text, 0o600)
			if out, err := exec.Command("systemd-sysusers", "--dry-run", "--root", t.TempDir(), file).CombinedOutput(); err != nil || strings.Contains(string(out), "conf:") {
				found.addf("%v\n%s", err, out)
			}
			for _, user := range []string{"keyfold", "keyfold-kms"} {
				if !regexp.MustCompile(`(?m)^u ` + user + ` `).MatchString(text) {
					found.addf("no user %s is made, as whom a unit runs", user)
				}
			}
			return found
		}, []breaking{{"u keyfold-kms", "u kms", "no user keyfold-kms"}, {"u keyfold ", "usr keyfold ", "no user keyfold"}})
	})
}
