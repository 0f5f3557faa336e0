package main

import (
	"bytes"
	"crypto/fips140"
	"os"
	"testing"
)

// skipIfEnforced skips where the standard library refuses GCM with a given
// nonce, which fixed vectors need.
func skipIfEnforced(t *testing.T) {
	if fips140.Enforced() {
		t.Skip("GODEBUG=fips140=only allows no GCM with a given nonce")
	}
}

func TestTheVectorsFileIsFresh(t *testing.T) {
	skipIfEnforced(t)
	got, err := os.ReadFile("../../testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, generate()) {
		t.Error("testdata/vectors.json is not what the generator writes; run: go generate ./cmek")
	}
}

func TestTheGeneratorIsDeterministic(t *testing.T) {
	skipIfEnforced(t)
	if !bytes.Equal(generate(), generate()) {
		t.Error("two runs differ")
	}
}
