package server

import "github.com/keyfold/keyfold/internal/httpx"

// Rows is the table without services behind it.
func Rows() []httpx.Row { return rows(Config{}) }
