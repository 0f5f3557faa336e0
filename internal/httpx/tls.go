package httpx

import (
	"crypto/tls"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// FollowTLS returns the configuration that load makes of files, and follows
// them: each handshake uses what they held last that was good. load's error at
// the start is FollowTLS's.
func FollowTLS(files []string, load func() (*tls.Config, error), log *slog.Logger) (*tls.Config, error) {
	f := &follower{files: files, load: load, log: log}
	f.stamp = f.look()
	var err error
	if f.current, err = load(); err != nil {
		return nil, err
	}
	f.warn()
	c := f.current.Clone()
	c.GetConfigForClient = f.latest
	return c, nil
}

// follower keeps the configuration that files last gave.
type follower struct {
	files []string
	load  func() (*tls.Config, error)
	log   *slog.Logger

	mu      sync.Mutex // guards all below
	stamp   []os.FileInfo
	current *tls.Config
	warned  time.Time // of current's end, last
}

// A certificate that ends within soon is named in the log, at the start and every day.
const soon = 7 * 24 * time.Hour

// warn says that the certificate in use has expired, or will soon.
func (f *follower) warn() {
	now := time.Now()
	if now.Sub(f.warned) < 24*time.Hour || len(f.current.Certificates) == 0 || f.current.Certificates[0].Leaf == nil {
		return
	}
	switch end := f.current.Certificates[0].Leaf.NotAfter; {
	case end.Sub(now) > soon:
		return
	case end.Before(now):
		f.log.Warn("the TLS certificate has expired: nobody connects until it is replaced", "files", f.files, "end", end)
	default:
		f.log.Warn("the TLS certificate expires soon; replace it before", "files", f.files, "end", end)
	}
	f.warned = now
}

// latest is tls.Config.GetConfigForClient. Files that are bad, or half replaced,
// leave the configuration as it was, with one line in the log.
func (f *follower) latest(*tls.ClientHelloInfo) (*tls.Config, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.warn()
	stamp := f.look() // before they are read: what changes meanwhile shows next time
	if slices.EqualFunc(stamp, f.stamp, sameFile) {
		return f.current, nil
	}
	f.stamp = stamp
	fresh, err := f.load()
	if err != nil {
		f.log.Error("the new TLS files are not usable; the old ones stay in use", "cause", err)
		return f.current, nil
	}
	f.log.Info("the TLS files were read anew")
	f.current, f.warned = fresh, time.Time{}
	return fresh, nil
}

// look tells one state of the files from another; an absent one is nil.
func (f *follower) look() []os.FileInfo {
	all := make([]os.FileInfo, len(f.files))
	for i, path := range f.files {
		all[i], _ = os.Stat(path)
	}
	return all
}

func sameFile(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
