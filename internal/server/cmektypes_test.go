package server_test

import (
	"os"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// The server hands on what the key process says of a rotation's keys.
func TestTheProblemTypesOfTheKeyProcessAreNamedInAPIAndDocument(t *testing.T) {
	document, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	for theirs, ours := range map[string]string{
		kmsapi.TypeCMEKOldKey: api.ProblemCMEKOldKey, kmsapi.TypeCMEKNewKey: api.ProblemCMEKNewKey, kmsapi.TypeCMEKKeyCheck: api.ProblemCMEKKeyCheck,
		kmsapi.TypeCMEKSealedKeys: api.ProblemCMEKSealedKeys, kmsapi.TypeCMEKKeyGone: api.ProblemCMEKRotationKeyGone,
		kmsapi.TypeCMEKFull: api.ProblemCMEKRotationsFull, kmsapi.TypeCMEKShare: api.ProblemCMEKShareUsed,
	} {
		if theirs != ours || !strings.Contains(string(document), "`"+ours+"`") {
			t.Errorf("the key process says %q, api %q; the document does not name it or the two differ", theirs, ours)
		}
	}
}
