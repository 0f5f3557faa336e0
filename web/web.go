// Package web is the built dashboard. Its source is in ui; `make web` builds it into
// dist, which is checked in, so that who builds the server needs no Node. A test
// holds dist against the source.
package web

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// FS holds the files of the dashboard, index.html and what it loads.
func FS() fs.FS {
	sub, err := fs.Sub(dist, "dist")
	if err != nil {
		panic(err) // dist is a valid path
	}
	return sub
}
