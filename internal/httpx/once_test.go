package httpx

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/api"
)

// What a request was digested of before there was X-Identity stays what it is digested
// of without it: rows of then are known again.
func TestAHeaderThatCameLaterCountsWhereItIsSent(t *testing.T) {
	parts := func(headers ...string) []string {
		r, err := http.NewRequestWithContext(t.Context(), "POST", "/v1/a%20b?c=d", nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		return (&Call{r: r}).Parts()
	}
	first := []string{"POST", "/v1/a%20b", "c=d", "7", "ab", "old", "new"}
	all := []string{"If-Match", "7", api.HeaderCMEKFingerprint, "ab", api.HeaderCMEKOldKey, "old", api.HeaderCMEKNewKey, "new"}
	if diff := cmp.Diff(first, parts(all...)); diff != "" {
		t.Errorf("as of before -, as of now +:\n%s", diff)
	}
	if diff := cmp.Diff([]string{"POST", "/v1/a%20b", "c=d", "", "", "", ""}, parts()); diff != "" {
		t.Errorf("without any, as of before -, as of now +:\n%s", diff)
	}
	if diff := cmp.Diff(append(first, "X-Identity: ann"), parts(append(all, "X-Identity", "ann")...)); diff != "" {
		t.Errorf("with X-Identity: %s", diff)
	}
}

// Every header that a handler reads, as it is written there, is part of what an
// Idempotency-Key stands for, or there is a reason why not.
func TestAHeaderThatAHandlerReadsIsPartOfTheRequest(t *testing.T) {
	digestedAs := map[string]string{
		`"If-Match"`:                "If-Match",
		"headerIdentity":            "X-Identity",
		"api.HeaderCMEKFingerprint": api.HeaderCMEKFingerprint,
		"api.HeaderCMEKOldKey":      api.HeaderCMEKOldKey,
		"api.HeaderCMEKNewKey":      api.HeaderCMEKNewKey,
	}
	reasons := map[string]string{
		"header":                    "one of the two above",
		"api.HeaderIdempotencyKey":  "it is the key",
		"api.HeaderSession":         "where the browser keeps who the caller is, as it does the credential",
		`"Origin"`:                  "as above",
		`"User-Agent"`:              "which members of an answer the client takes",
		`"Accept-Encoding"`:         "of a GET",
		`"Last-Event-ID"`:           "of a GET",
		`"If-None-Match"`:           "it is refused",
		"api.HeaderSharePassphrase": "of a call that anybody may make",
	}
	for expr, name := range digestedAs {
		if !slices.Contains(digested, name) && !slices.Contains(digestedIfSent, name) {
			t.Errorf("%s is no part of a request", expr)
		}
	}
	read := map[string]bool{}
	for _, dir := range []string{"../server", "../generationc"} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			for n := range ast.Preorder(file) {
				if expr := headerRead(n); expr != "" {
					read[expr] = true
					if digestedAs[expr] == "" && reasons[expr] == "" {
						t.Errorf("%s reads the header %s: put it into digestedIfSent and docs/idempotency.md, or say here why not", path, expr)
					}
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if want := len(digestedAs) + len(reasons); len(read) != want {
		t.Errorf("%d headers are read, and this test knows %d: %v", len(read), want, read)
	}
}

// headerRead is the expression of the header that a node reads of a request, "" if none.
func headerRead(n ast.Node) string {
	switch n := n.(type) {
	case *ast.CallExpr: // c.Guard(x), c.Secret(x), c.Header(x), r.Header.Get(x), r.Header.Values(x)
		s, ok := n.Fun.(*ast.SelectorExpr)
		if !ok || len(n.Args) != 1 {
			return ""
		}
		of := types.ExprString(s.X)
		switch s.Sel.Name {
		case "Guard", "Secret", "Header":
			return types.ExprString(n.Args[0])
		case "Get", "Values":
			if strings.HasSuffix(of, ".Header") {
				return types.ExprString(n.Args[0])
			}
		}
	case *ast.IndexExpr: // r.Header[x]
		if strings.HasSuffix(types.ExprString(n.X), ".Header") {
			return types.ExprString(n.Index)
		}
	}
	return ""
}
