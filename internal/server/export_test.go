package server

import (
	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/passkey"
)

// Rows is the table of all routes, without services behind it.
func Rows() []httpx.Row { return rows(Config{Passkeys: new(passkey.Service)}) }
