package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/keyfold/keyfold/internal/cli"
)

// finding is what is to be said about a configuration.
type finding struct {
	Level string `json:"level"` // error: no server starts with it; warning: one does; note: nothing is wrong
	Text  string `json:"text"`  // one line: the setting, what is wrong with it, what to do
}

const (
	levelError   = "error"
	levelWarning = "warning"
	levelNote    = "note"
)

// findings is what was found, in the order of the settings.
type findings []finding

func (f *findings) add(level, format string, args ...any) {
	*f = append(*f, finding{level, cli.Printable(strings.TrimSpace(fmt.Sprintf(format, args...)))})
}

func (f *findings) errorf(format string, args ...any) { f.add(levelError, format, args...) }
func (f *findings) warnf(format string, args ...any)  { f.add(levelWarning, format, args...) }
func (f *findings) notef(format string, args ...any)  { f.add(levelNote, format, args...) }

// of returns the texts of a level.
func (f findings) of(level string) (texts []string) {
	for _, p := range f {
		if p.Level == level {
			texts = append(texts, p.Text)
		}
	}
	return texts
}

// err is a wrong configuration as an error; nil when a server starts with it.
func (f findings) err() error {
	if wrong := f.of(levelError); len(wrong) > 0 {
		return errors.New(strings.Join(wrong, "\n"))
	}
	return nil
}

// check reads the configuration and looks at everything that can be wrong with
// it. It calls nobody and changes nothing.
func (a *app) check(ctx context.Context, file string) (s serverSettings, f findings) {
	s, err := a.loadSettings(file)
	if err != nil {
		for line := range strings.Lines(err.Error()) {
			f.errorf("%s", line)
		}
	}
	if _, unread := errors.AsType[*fs.PathError](err); unread {
		return s, f // the rest would be about what is not known
	}
	for _, check := range []func(serverSettings, *findings){
		serverSettings.checkAddr, serverSettings.checkPublicURL, serverSettings.checkTLS, serverSettings.checkData, serverSettings.checkStore,
		serverSettings.checkKMS, func(s serverSettings, f *findings) { s.checkBreakGlass(ctx, f) }, serverSettings.checkPeople, serverSettings.checkCallers, serverSettings.checkMetrics,
	} {
		check(s, &f)
	}
	return s, f
}
