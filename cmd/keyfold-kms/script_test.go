package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/keyfold/keyfold/internal/store/pebblestore"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"keyfold-kms": main, "make-store": makeStore})
}

// makeStore makes a store without keys, as the server's is one.
func makeStore() {
	s, err := pebblestore.Open(os.Args[1], pebblestore.Options{})
	if err == nil {
		err = s.Close()
	}
	if err != nil {
		panic(err)
	}
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata"})
}
