package server

import (
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/passkey"
)

// Rows is the table of all routes, without services behind it.
func Rows() []httpx.Row { return allRows(Config{Passkeys: new(passkey.Service)}) }

// NativeRows are those of it that are in the document: all but generation C's.
func NativeRows() []httpx.Row {
	return rows(Config{Passkeys: new(passkey.Service), Scrape: new([32]byte)})
}
