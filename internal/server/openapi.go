package server

import (
	"context"
	_ "embed"

	"github.com/keyfold/keyfold/internal/httpx"
)

// The document is what the table of operations, beside the tests, makes of the
// rows and of package api; a test finds one that is stale.
//
//go:generate go test -run ^TestTheDocumentIsFresh$ . -update

//go:embed openapi.json
var document []byte

// showDocument answers GET /v1/openapi.json: the OpenAPI document of all routes.
func showDocument(_ context.Context, c *httpx.Call) error {
	c.SetHeader("Cache-Control", "public, max-age=300")
	c.Send(200, httpx.JSON, document)
	return nil
}
