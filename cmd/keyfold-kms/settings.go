package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/cli"
	"github.com/keyfold/keyfold/internal/config"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/keyring/rootspec"
	"github.com/keyfold/keyfold/internal/kmsnode"
	"github.com/keyfold/keyfold/internal/kmsserver"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// settings is the configuration file, which init writes, and what the
// environment puts over it. Paths that are not absolute begin where the command
// runs.
type settings struct {
	DataDir  string        `yaml:"data_dir" env:"KEYFOLD_KMS_DATA_DIR"`
	Store    config.Secret `yaml:"store" env:"KEYFOLD_KMS_STORE"` // a URL may hold a password
	Endpoint string        `yaml:"endpoint" env:"KEYFOLD_KMS_ENDPOINT"`
	Root     string        `yaml:"root" env:"KEYFOLD_KMS_ROOT"`
	AuditDir string        `yaml:"audit_dir" env:"KEYFOLD_KMS_AUDIT_DIR"`
	Callers  []caller      `yaml:"callers" env:"KEYFOLD_KMS_CALLERS"`
	Log      cli.Log       `yaml:"log" env:"KEYFOLD_KMS_LOG"`

	// AllowKEKImport lets who has the role admin bring material of the threads' KEK.
	AllowKEKImport bool `yaml:"allow_kek_import" env:"KEYFOLD_KMS_ALLOW_KEK_IMPORT"`

	// TLS is the server's side: CA is that of the callers' certificates.
	TLS struct {
		Cert string `yaml:"cert" env:"KEYFOLD_KMS_TLS_CERT"`
		Key  string `yaml:"key" env:"KEYFOLD_KMS_TLS_KEY"`
		CA   string `yaml:"ca" env:"KEYFOLD_KMS_TLS_CA"`
	} `yaml:"tls"`

	// Client is what this command shows to a running process.
	Client struct {
		Cert string `yaml:"cert" env:"KEYFOLD_KMS_CERT"`
		Key  string `yaml:"key" env:"KEYFOLD_KMS_KEY"`
		CA   string `yaml:"ca" env:"KEYFOLD_KMS_CA"`
	} `yaml:"client"`
}

// caller is an entry of the allowlist: "uid:1000 crypto", "cert:NAME
// crypto+shred+list". The role alone, crypto, may be left out.
type caller kmsserver.Caller

var roles = []struct {
	name string
	role kmsserver.Roles
}{{"crypto", kmsserver.Crypto}, {"shred", kmsserver.Shred}, {"list", kmsserver.List}, {"admin", kmsserver.Admin}, {"cmek", kmsserver.CMEK}}

func roleOf(name string) kmsserver.Roles {
	for _, r := range roles {
		if r.name == name {
			return r.role
		}
	}
	return 0
}

func (c *caller) UnmarshalText(text []byte) error {
	const form = `write "uid:NUMBER ROLES" or "cert:NAME ROLES", where ROLES is one of crypto, shred, list, admin and cmek, or some, as in crypto+shred+list`
	who, given, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	kind, name, _ := strings.Cut(who, ":")
	*c = caller{Roles: kmsserver.Crypto}
	if given = strings.TrimSpace(given); given != "" {
		c.Roles = 0
		for name := range strings.SplitSeq(given, "+") {
			role := roleOf(name)
			if role == 0 {
				return errors.New(form)
			}
			c.Roles |= role
		}
	}
	switch uid, err := strconv.ParseUint(name, 10, 32); {
	case kind == "uid" && err == nil:
		n := uint32(uid)
		c.UID = &n
	case kind == "cert" && name != "":
		c.Name = name
	default:
		return errors.New(form)
	}
	return nil
}

func (c caller) String() string {
	who := "cert:" + c.Name
	if c.UID != nil {
		who = fmt.Sprintf("uid:%d", *c.UID)
	}
	var names []string
	for _, r := range roles {
		if c.Roles&r.role != 0 {
			names = append(names, r.name)
		}
	}
	return who + " " + strings.Join(names, "+")
}

func (a *app) addFlags(cmd *cobra.Command) {
	f := cmd.PersistentFlags()
	f.StringVar(&a.configFile, "config", a.getenv("KEYFOLD_KMS_CONFIG"), "configuration file, as init writes one (env KEYFOLD_KMS_CONFIG)")
	f.StringVar(&a.flags.DataDir, "data-dir", "", "directory of the key store; beside it is what is not named otherwise (env KEYFOLD_KMS_DATA_DIR)")
	f.StringVar((*string)(&a.flags.Store), "store", "", "the key store where it is not in --data-dir: pebble:DIR or postgres://USER@HOST/DATABASE; one with a password belongs in KEYFOLD_KMS_STORE, or the file that KEYFOLD_KMS_STORE_FILE names")
	f.StringVar(&a.flags.Endpoint, "endpoint", "", "path of a Unix socket, fd:N of one that systemd passes, or HOST:PORT for mutual TLS; commands also take several of unix://PATH and https://HOST:PORT, separated by commas; kms.sock beside the data directory when empty (env KEYFOLD_KMS_ENDPOINT)")
	f.StringVar(&a.flags.Root, "root", "", "the root key, such as file:PATH or pkcs11:...; root.key beside the data directory when empty (env KEYFOLD_KMS_ROOT, or KEYFOLD_KMS_ROOT_FILE for file:PATH)")
	f.StringVar(&a.flags.AuditDir, "audit-dir", "", "directory of the audit; DATA-DIR.audit when empty (env KEYFOLD_KMS_AUDIT_DIR)")
	f.StringVar(&a.flags.Client.Cert, "cert", "", "certificate to show to a process on TCP, PEM (env KEYFOLD_KMS_CERT)")
	f.StringVar(&a.flags.Client.Key, "key", "", "its key, PEM (env KEYFOLD_KMS_KEY)")
	f.StringVar(&a.flags.Client.CA, "ca", "", "CA of the process's certificate, PEM (env KEYFOLD_KMS_CA)")
}

// settle puts flags over environment over file.
func (a *app) settle(cmd *cobra.Command) error {
	if err := a.rootFromEnv(); err != nil {
		return err
	}
	file := a.configFile
	if _, err := os.Stat(file); cmd.Name() == "init" && errors.Is(err, fs.ErrNotExist) {
		file = "" // it is to be made
	}
	if err := config.Load(&a.set, file, a.getenv); err != nil {
		return err
	}
	if f := cmd.Flags().Lookup("allow-kek-import"); f != nil && f.Changed {
		a.set.AllowKEKImport = f.Value.String() == "true"
	}
	for name, to := range map[string]*string{
		"data-dir": &a.set.DataDir, "store": (*string)(&a.set.Store), "endpoint": &a.set.Endpoint, "root": &a.set.Root, "audit-dir": &a.set.AuditDir,
		"cert": &a.set.Client.Cert, "key": &a.set.Client.Key, "ca": &a.set.Client.CA,
	} {
		if f := cmd.Flags().Lookup(name); f != nil && f.Changed {
			*to = f.Value.String()
		}
	}
	return nil
}

// rootFromEnv lets KEYFOLD_KMS_ROOT_FILE name the root key file, as the _FILE
// form of a secret does.
func (a *app) rootFromEnv() error {
	file, getenv := a.getenv(rootspec.EnvFile), a.getenv
	if file == "" {
		return nil
	}
	if getenv(rootspec.Env) != "" {
		return fmt.Errorf("both %s and %s are set; unset one of them", rootspec.Env, rootspec.EnvFile)
	}
	a.getenv = func(name string) string {
		if name == rootspec.Env {
			return "file:" + file
		}
		return getenv(name)
	}
	return nil
}

// hasStore reports whether a key store is named, right or wrong.
func (s settings) hasStore() bool { return s.DataDir != "" || s.Store != "" }

// on is the key store as the settings have it.
func (a *app) on(root keyring.Root) kmsnode.Config {
	return kmsnode.Config{DataDir: a.set.DataDir, Store: a.store, AuditDir: a.set.AuditDir, Root: root}
}

// storePlace is where the key store is, for people, and storeFlags names it and its root
// key to a command.
func (a *app) storePlace() string {
	if a.store.IsZero() {
		return a.set.DataDir
	}
	return a.store.String()
}

func (a *app) storeFlags() string {
	var flags []string
	if a.set.DataDir != "" {
		flags = append(flags, "--data-dir", a.set.DataDir)
	}
	if !a.store.IsZero() && !a.store.HasPassword() {
		flags = append(flags, "--store", a.store.String())
	}
	if a.set.DataDir == "" || a.set.Root != "file:"+kmsnode.RootFile(a.set.DataDir) {
		flags = append(flags, "--root", a.set.Root)
	}
	return strings.Join(flags, " ")
}

// storeInEnv goes before a command that is to find a store whose URL is a secret.
func (a *app) storeInEnv() string {
	switch file := a.getenv(storeEnv + "_FILE"); {
	case !a.store.HasPassword():
		return ""
	case file != "":
		return storeEnv + "_FILE=" + file + " "
	case a.getenv(storeEnv) != "":
		return fmt.Sprintf("%s=\"$%[1]s\" ", storeEnv)
	}
	return storeEnv + "_FILE=FILE " // it was a flag
}

const storeEnv = "KEYFOLD_KMS_STORE"

// elsewhere is store in a configuration whose store's URL is a secret: the environment
// has it, and without that no process takes the data directory for the store.
const elsewhere = "elsewhere"

// needStore is an error of usage unless it is known where the key store is. It
// fills in what follows from that.
func (a *app) needStore() error {
	if a.set.Store == elsewhere {
		return cli.Usagef("the configuration does not hold where the key store is, a URL with a password: set %s_FILE to a file that does, or %[1]s", storeEnv)
	}
	var err error
	if a.store, err = storespec.Parse(string(a.set.Store)); err != nil {
		return cli.Usagef("the store: %w", err)
	}
	switch beside := a.set.Root == "" || a.set.AuditDir == "" || a.set.Endpoint == ""; {
	case a.set.DataDir == "" && a.store.IsZero():
		return cli.Usagef("name the key store: --data-dir DIR, or --store postgres://USER@HOST/DATABASE")
	case a.set.DataDir == "" && beside:
		return cli.Usagef("name a directory for what is not in the store, --data-dir DIR, or all of --root, --audit-dir and --endpoint")
	}
	if a.set.Root == "" {
		a.set.Root = "file:" + kmsnode.RootFile(a.set.DataDir)
	}
	if _, err := rootspec.Parse(a.set.Root, a.getenv); err != nil {
		return cli.Usagef("%w", err)
	}
	if a.set.AuditDir == "" {
		a.set.AuditDir = kmsnode.AuditDir(a.set.DataDir)
	}
	return a.needEndpoint()
}

// needEndpoint is an error of usage unless it is known where a process listens.
func (a *app) needEndpoint() error {
	if a.set.Endpoint == "" && a.set.DataDir == "" {
		return cli.Usagef("name the key process: --endpoint PATH or HOST:PORT, or --data-dir DIR of the store that it has")
	}
	if a.set.Endpoint == "" {
		a.set.Endpoint = kmsnode.Endpoint(a.set.DataDir)
	}
	return nil
}

// absolute is path from the root of the file system on, for a file that is read
// from elsewhere.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	return filepath.Abs(path)
}
