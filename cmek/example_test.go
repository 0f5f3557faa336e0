package cmek_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/keyfold/keyfold/cmek"
)

func ExampleEncryptValue() {
	key := cmek.Generate()
	value, err := cmek.EncryptValue(key, []byte("my-secret-value"))
	if err != nil {
		panic(err)
	}
	plaintext, err := cmek.DecryptValue(key, value)
	fmt.Println(len(value), string(plaintext), err)
	// Output: 60 my-secret-value <nil>
}

func ExampleDecryptValue() {
	value, _ := cmek.EncryptValue(cmek.Generate(), []byte("my-secret-value"))
	_, err := cmek.DecryptValue(cmek.Generate(), value) // another key
	fmt.Println(errors.Is(err, cmek.ErrDecrypt))
	// Output: true
}

func ExampleInspect() {
	info, err := cmek.Inspect("AQECAwQFBgcICQoLDGiTd6aJ94LjOI8VJnxmj7xT6QmJI/izlA7zW+fshR0=")
	fmt.Println(info.Form, info.Version, info.PlaintextSize, err)
	_, err = cmek.Inspect("my-secret-value")
	fmt.Println(errors.Is(err, cmek.ErrNotBlob))
	// Output:
	// base64 1 15 <nil>
	// true
}

func ExampleKey_Fingerprint() {
	key, err := cmek.ParseKeyText("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	if err != nil {
		panic(err)
	}
	fmt.Println(key.Fingerprint())
	fmt.Println(key)
	// Output:
	// 630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd
	// [redacted]
}

func ExampleWriteKeyFile() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	key, path := cmek.Generate(), filepath.Join(dir, "vault.key")
	if err := cmek.WriteKeyFile(path, key, cmek.KeyFileInfo{Created: time.Now()}); err != nil {
		panic(err)
	}
	again, err := cmek.ReadKeyFile(path)
	fmt.Println(again.Fingerprint() == key.Fingerprint(), err)
	// Output: true <nil>
}
