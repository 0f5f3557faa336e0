// Package config reads settings, strictly, into a plain struct: a YAML file
// first, then the environment over it.
//
// It owns nothing and keeps nothing. It trusts whoever wrote the file and set
// the environment to mean it, and not to write without mistakes: a setting that
// is not known, given twice or of the wrong form is an error, which names where
// it stands and what to write instead, and never quotes a value.
//
// A struct that is read into holds exported fields of these kinds: string, bool,
// int and uint of any size, [time.Duration], [Secret], types that implement
// [encoding.TextUnmarshaler], slices of all these, pointers to them, and structs.
// Each field has its name in the file as the tag `yaml`, and may have the tag
// `env` with the name of its variable; a field without `yaml` is not in the file.
// A slice in the environment is a list with commas. What is not set, or empty,
// stays as it was: set the defaults first.
//
//	type Config struct {
//		Endpoint string        `yaml:"endpoint" env:"KEYFOLD_KMS_ENDPOINT"`
//		PIN      config.Secret `env:"KEYFOLD_KMS_PIN"` // or the contents of KEYFOLD_KMS_PIN_FILE
//	}
package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"reflect"
	"strings"
)

const (
	maxFile   = 1 << 20  // bytes of a configuration file
	maxSecret = 64 << 10 // bytes of the file of a secret
)

// Secret is a setting that is not for the configuration file, or need not be a secret
// and then has the tag `yaml` too. The variable of
// its tag `env` holds it, or, with _FILE after its name, names a file whose
// contents it is, but for a newline at the end; an empty one is an error. It prints as [redacted].
type Secret string

// String returns "[redacted]".
func (Secret) String() string { return "[redacted]" }

// Format writes "[redacted]", whatever the verb.
func (Secret) Format(s fmt.State, _ rune) { io.WriteString(s, "[redacted]") }

// LogValue returns "[redacted]".
func (Secret) LogValue() slog.Value { return slog.StringValue("[redacted]") }

// Load sets the fields of *into, a struct, from the YAML file at path, "" for
// none, and then from the environment. Its error holds all mistakes of both, a
// line each; what they leave alone is set.
func Load(into any, path string, getenv func(string) string) error {
	v := reflect.ValueOf(into).Elem()
	var inFile error
	if path != "" {
		inFile = loadFile(v, path)
	}
	return errors.Join(inFile, loadEnv(v, getenv))
}

func loadEnv(v reflect.Value, getenv func(string) string) error {
	var errs []error
	for f, field := range v.Fields() {
		name := f.Tag.Get("env")
		switch {
		case field.Kind() == reflect.Struct && name == "":
			errs = append(errs, loadEnv(field, getenv))
		case name != "":
			errs = append(errs, setEnv(field, name, getenv))
		}
	}
	return errors.Join(errs...)
}

func setEnv(field reflect.Value, name string, getenv func(string) string) error {
	text := getenv(name)
	if field.Type() == reflect.TypeFor[Secret]() {
		var err error
		if text, err = secret(text, name, getenv); err != nil {
			return err
		}
	}
	if text == "" {
		return nil
	}
	if field.Kind() != reflect.Slice {
		return named(setText(field, text), name)
	}
	field.SetZero()
	for part := range strings.SplitSeq(text, ",") {
		item := reflect.New(field.Type().Elem()).Elem()
		if err := setText(item, strings.TrimSpace(part)); err != nil {
			return named(err, name)
		}
		field.Set(reflect.Append(field, item))
	}
	return nil
}

// secret returns text, the value of name, or what is in the file of name_FILE.
func secret(text, name string, getenv func(string) string) (string, error) {
	path := getenv(name + "_FILE")
	switch {
	case path == "":
		return text, nil
	case text != "":
		return "", fmt.Errorf("both %s and %s_FILE are set; unset one of them", name, name)
	}
	content, err := readFile(path, maxSecret)
	defer clear(content)
	text = strings.TrimSuffix(strings.TrimSuffix(string(content), "\n"), "\r")
	if err == nil && text == "" {
		err = fmt.Errorf("%s is empty; write into it what it is for, or unset the variable", path)
	}
	return text, named(err, name+"_FILE")
}

// readFile is os.ReadFile of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s is over %d bytes; it is not what it is named for", path, limit)
	}
	return text, err
}

// named says before err where it is from.
func named(err error, where string) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", where, err)
}
