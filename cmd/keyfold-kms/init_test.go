package main

import (
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/config"
	"github.com/keyfold/keyfold/internal/store/storespec"
)

// Who starts the process without the store's URL must not be led to a second store.
func TestAStoreWhoseURLIsASecretIsNamedByItsVariable(t *testing.T) {
	const secret = "postgres://me:canary@db/keys"
	for name, c := range map[string]struct {
		env         map[string]string
		store, want string
	}{
		"a file":      {map[string]string{storeEnv + "_FILE": "/etc/kms_store"}, secret, "KEYFOLD_KMS_STORE_FILE=/etc/kms_store "},
		"a variable":  {map[string]string{storeEnv: secret}, secret, `KEYFOLD_KMS_STORE="$KEYFOLD_KMS_STORE" `},
		"a flag":      {nil, secret, "KEYFOLD_KMS_STORE_FILE=FILE "},
		"no password": {map[string]string{storeEnv: "postgres://me@db/keys"}, "postgres://me@db/keys", ""},
	} {
		a := &app{getenv: func(name string) string { return c.env[name] }}
		a.set.DataDir, a.set.Store = "d/kms", config.Secret(c.store)
		var err error
		if a.store, err = storespec.Parse(c.store); err != nil {
			t.Fatal(err)
		}
		if got := a.storeInEnv(); got != c.want {
			t.Errorf("%s: %q", name, got)
		}
		text, err := a.configText()
		if err != nil || strings.Contains(text, "canary") || strings.Contains(text, "\nstore: \"elsewhere\"\n") != (c.want != "") {
			t.Errorf("%s: %v\n%s", name, err, text)
		}
	}
}
