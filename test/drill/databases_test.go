package drill

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/store/pgstore/pgtest"
)

// The script of the compose file's database makes one for the server and one for the
// keys, and neither user enters the other's.
func TestTheDatabasesOfTheComposeFileAreMadeApart(t *testing.T) {
	s := pgtest.New(t)
	secrets := t.TempDir()
	for name, password := range map[string]string{"server_db_password": "it's a\\ \"password\" $(x)", "kms_db_password": "other"} {
		if err := os.WriteFile(filepath.Join(secrets, name), []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	psql := func(args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "PATH="+pgtest.Bin(t)+":"+os.Getenv("PATH"), "PGHOST=127.0.0.1", fmt.Sprint("PGPORT=", s.Port), "KEYFOLD_SECRETS="+secrets)
		return cmd
	}
	if out, err := psql("bash", "../../deploy/compose/databases.sh").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, user := range []string{"keyfold", "keyfold_kms"} {
		for _, database := range []string{"keyfold", "keyfold_kms"} {
			out, err := psql("psql", "--no-psqlrc", "-U", user, "-d", database, "-c", "SELECT 1").CombinedOutput()
			if enters := err == nil; enters != (user == database) {
				t.Errorf("%s in %s: %v\n%s", user, database, err, out)
			}
		}
	}
	if hash := s.Exec(t, "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'keyfold'"); !strings.HasPrefix(hash, "SCRAM-SHA-256$") {
		t.Errorf("the password is stored as %q", hash)
	}
}
