package cli

import (
	"errors"
	"io"
	"log/slog"
	"strings"
)

// Log is what is logged, and how: a level, and ",json" after it for JSON, such
// as "debug,json". The zero Log is "warn".
type Log struct {
	aboveWarn slog.Level
	json      bool
}

// UnmarshalText reads a Log.
func (l *Log) UnmarshalText(text []byte) error {
	name, format, _ := strings.Cut(string(text), ",")
	var level slog.Level
	if level.UnmarshalText([]byte(name)) != nil || format != "" && format != "json" {
		return errors.New("write debug, info, warn or error, and ,json after it for JSON")
	}
	*l = Log{level - slog.LevelWarn, format == "json"}
	return nil
}

// Logger returns the logger to w.
func (l Log) Logger(w io.Writer) *slog.Logger {
	opt := &slog.HandlerOptions{Level: slog.LevelWarn + l.aboveWarn}
	if l.json {
		return slog.New(slog.NewJSONHandler(w, opt))
	}
	return slog.New(slog.NewTextHandler(w, opt))
}
