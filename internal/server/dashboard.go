package server

import (
	"bytes"
	"compress/gzip"
	"context"
	"io/fs"
	"net/http"
	"path"
	"strings"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/httpx"
)

// dashboard answers the files of the built dashboard, and its first page for every
// other path under /ui/, which is a place inside it. It is everybody's: it holds no
// data. Its rows are no part of the API. The files are held in memory, as they are
// and compressed.
type dashboard struct{ files map[string]webFile }

type webFile struct {
	plain, compressed []byte
	media             httpx.ContentType
}

// pagePolicy lets the page load its own files and call its own server, and nothing
// else: no inline code or style, no other origin, no frame around it, and no text
// that becomes markup by a script.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// firstPage is the file of the page.
const firstPage = "index.html"

// mediaTypes of the files that a build makes; what the machine says of them is not
// looked at.
var mediaTypes = map[string]string{
	".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8", ".ico": "image/x-icon", ".js": "text/javascript; charset=utf-8",
	".json": "application/json", ".png": "image/png", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8", ".woff2": "font/woff2",
}

// newDashboard reads the files. It panics when they cannot be read: they are in the
// program.
func newDashboard(files fs.FS) dashboard {
	d := dashboard{map[string]webFile{}}
	err := fs.WalkDir(files, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		d.files[name] = newWebFile(name, data)
		return err
	})
	if err != nil {
		panic(err)
	}
	return d
}

func newWebFile(name string, data []byte) webFile {
	media, known := mediaTypes[path.Ext(name)]
	if !known {
		media = "application/octet-stream"
	}
	var small bytes.Buffer
	w, _ := gzip.NewWriterLevel(&small, gzip.BestCompression) // a level that there is
	_, _ = w.Write(data)                                      // into memory
	_ = w.Close()
	f := webFile{plain: data, media: httpx.ContentType{media}}
	if small.Len() < len(data) {
		f.compressed = small.Bytes()
	}
	return f
}

func (d dashboard) rows() []httpx.Row {
	return []httpx.Row{
		{Method: "GET", Pattern: "/", Who: httpx.Public, Handler: toDashboard},
		{Method: "GET", Pattern: "/ui", Who: httpx.Public, Handler: toDashboard},
		{Method: "GET", Pattern: "/ui/{file...}", Who: httpx.Public, Handler: d.show},
	}
}

// pageHeaders go out with every answer here; with a refusal package httpx sends its
// own, which are no looser.
func pageHeaders(c *httpx.Call) {
	c.SetHeader("Content-Security-Policy", pagePolicy)
	c.SetHeader("Referrer-Policy", "no-referrer")
	c.SetHeader("Cross-Origin-Opener-Policy", "same-origin")
	c.SetHeader("Cross-Origin-Resource-Policy", "same-origin")
	c.SetHeader("X-Frame-Options", "DENY")
}

func toDashboard(_ context.Context, c *httpx.Call) error {
	pageHeaders(c)
	c.SetHeader("Location", "/ui/")
	c.Send(http.StatusFound, nil, nil)
	return nil
}

// show answers one file. The names of those under assets say what is in them, so that
// a browser may keep them for ever.
func (d dashboard) show(_ context.Context, c *httpx.Call) error {
	name := c.Param("file")
	isAsset := strings.HasPrefix(name, "assets/")
	f, there := d.files[name]
	if !there && !isAsset {
		f, there = d.files[firstPage]
	}
	switch {
	case there && isAsset:
		c.SetHeader("Cache-Control", "public, max-age=31536000, immutable")
	case !there:
		return fault.New(fault.NotFound, "the dashboard has no such file; load the page again")
	}
	pageHeaders(c)
	c.SetHeader("Vary", "Accept-Encoding")
	data := f.plain
	if f.compressed != nil && takesGzip(c.Header("Accept-Encoding")) {
		c.SetHeader("Content-Encoding", "gzip")
		data = f.compressed
	}
	c.Send(http.StatusOK, f.media, data)
	return nil
}

// takesGzip reports whether a client names gzip, and does not refuse it.
func takesGzip(accepted string) bool {
	for item := range strings.SplitSeq(accepted, ",") {
		coding, quality, _ := strings.Cut(item, ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			return strings.Trim(quality, " q=0.") != "" || strings.TrimSpace(quality) == ""
		}
	}
	return false
}
