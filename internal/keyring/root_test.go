package keyring_test

import (
	"path/filepath"
	"testing"

	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/keyring/roottest"
)

func TestAFileRootKeepsTheContract(t *testing.T) {
	path := filepath.Join(t.TempDir(), "root.key")
	if _, err := keyring.CreateFileRoot(path); err != nil {
		t.Fatal(err)
	}
	roottest.Run(t, "file", func(t testing.TB) keyring.Root {
		root, err := keyring.OpenFileRoot(path)
		if err != nil {
			t.Fatal(err)
		}
		return root
	})
}

func TestAMemoryRootKeepsTheContractWhileItLives(t *testing.T) {
	root, err := keyring.MemoryRoot()
	if err != nil {
		t.Fatal(err)
	}
	roottest.Run(t, "file", func(testing.TB) keyring.Root { return root })
}
