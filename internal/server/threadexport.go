package server

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/thread"
)

// transfer answers the calls that take a thread out as lines and bring lines in.
type transfer struct{ service *thread.Service }

// maxImport bounds an import's body, in bytes; a message of the greatest size fits, with an edit.
const maxImport = 2*thread.MaxBody + maxSmall

func (h transfer) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "GET", Pattern: "/v1/threads/{thread}/export", Keys: true, Room: 4 * thread.MaxBody, Timeout: time.Hour, Handler: httpx.Stream(jsonLines, h.export)},
		{Method: "POST", Pattern: "/v1/threads/{thread}/import", Keys: true, MaxBody: maxImport, Lines: true, Timeout: 2 * time.Minute, Handler: httpx.NoBody(http.StatusOK, h.bring)},
	}
}

func (h transfer) export(ctx context.Context, c *httpx.Call, w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	if err := h.service.Export(ctx, c.Principal, c.Again, c.Param("thread"), out); err != nil {
		return err
	}
	return out.Flush()
}

func (h transfer) bring(ctx context.Context, c *httpx.Call) (api.ImportedMessages, error) {
	return h.service.Import(ctx, c.Principal, c.Param("thread"), c.Bytes())
}
