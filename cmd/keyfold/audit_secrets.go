package main

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/client"
)

// compared is what audit verify --secrets found: the trail beside the newest
// versions of the secrets, as the server shows them.
type compared struct {
	Secrets  int        `json:"secrets"`            // compared
	Hidden   int        `json:"hidden"`             // not compared: the caller may not read them
	Problems []misplace `json:"problems,omitempty"` // all of them
}

// misplace is a secret that is not where the trail has it.
type misplace struct {
	VaultID string `json:"vault_id"`
	Path    string `json:"path"`
	What    string `json:"what"`
}

func (m misplace) String() string { return "vault " + m.VaultID + ", secret " + m.Path + ": " + m.What }

// comparing compares heads, of a trail that was read before, with the server.
type comparing struct {
	c     *client.Client
	heads *auditcheck.Heads
	out   compared
	lost  []misplace // are not there, though no deletion is in heads
}

func (w *comparing) all(ctx context.Context) error {
	for vault, secrets := range w.heads.All() {
		if err := w.vault(ctx, vault, secrets); err != nil {
			return err
		}
	}
	return nil
}

func (w *comparing) vault(ctx context.Context, vault string, secrets map[string]auditcheck.Head) error {
	list, err := w.c.List(ctx, vault, "")
	switch {
	case client.IsForbidden(err):
		w.out.Hidden += len(secrets)
		return nil
	case client.IsNotFound(err):
		w.gone(vault, secrets)
		return nil
	case err != nil:
		return err
	}
	newest := map[string]int{}
	for _, m := range list {
		newest[m.Path] = m.Version
	}
	for _, path := range slices.Sorted(maps.Keys(secrets)) {
		n, err := newest[path], error(nil)
		if n == 0 && secrets[path].There() {
			n, err = w.look(ctx, vault, path)
		}
		if err != nil {
			return err
		}
		w.judge(vault, path, secrets[path], n)
	}
	return nil
}

// look is the newest version of a secret that the list did not have: 0 when it
// is not there, -1 when the caller may not know.
func (w *comparing) look(ctx context.Context, vault, path string) (int, error) {
	all, err := w.c.Versions(ctx, vault, path)
	switch {
	case client.IsForbidden(err):
		return -1, nil
	case client.IsNotFound(err):
		return 0, nil
	case err != nil || len(all) == 0:
		return 0, err
	}
	return all[0].Version, nil
}

func (w *comparing) judge(vault, path string, h auditcheck.Head, n int) {
	if n < 0 {
		w.out.Hidden++
		return
	}
	w.out.Secrets++
	if n == 0 && h.There() {
		w.lost = append(w.lost, misplace{vault, path, "it is not there, and version " + strconv.Itoa(h.Written) + " was written and nobody deleted it"})
	} else if what := h.Wrong(n); n > 0 && what != "" {
		w.out.Problems = append(w.out.Problems, misplace{vault, path, what})
	}
}

// gone is vault for one that is not there.
func (w *comparing) gone(vault string, secrets map[string]auditcheck.Head) {
	if w.heads.MayBeGone(vault) {
		return
	}
	for path, h := range secrets {
		w.judge(vault, path, h, 0)
	}
}

// confirm drops from lost what was deleted while the server was asked, by a
// trail that was read after.
func (w *comparing) confirm(now *auditcheck.Heads) {
	for _, m := range w.lost {
		h := now.Of(m.VaultID, m.Path)
		if h.There() && h.Event == w.heads.Of(m.VaultID, m.Path).Event && !now.MayBeGone(m.VaultID) {
			w.out.Problems = append(w.out.Problems, m)
		}
	}
}

// compareSecrets compares a trail that was verified with the secrets.
func compareSecrets(ctx context.Context, c *client.Client, heads *auditcheck.Heads, keys []api.AuditKey) (compared, error) {
	w := comparing{c: c, heads: heads}
	if err := w.all(ctx); err != nil || len(w.lost) == 0 {
		return w.out, err
	}
	now := new(auditcheck.Heads)
	if _, err := verifyServer(ctx, c, client.AuditQuery{}, auditcheck.Options{Keys: keys, Each: now.Event}); err != nil {
		return w.out, err
	}
	w.confirm(now)
	return w.out, nil
}

// rows is how people are shown it.
func (c *compared) rows() (rows [][]string) {
	if c == nil {
		return nil
	}
	rows = [][]string{{"Secrets compared", strconv.Itoa(c.Secrets)}, {"Not for you to read", strconv.Itoa(c.Hidden)}}
	for _, p := range c.Problems[:min(maxShown, len(c.Problems))] {
		rows = append(rows, []string{"Problem", p.String()})
	}
	if more := len(c.Problems) - maxShown; more > 0 {
		rows = append(rows, []string{"", strconv.Itoa(more) + " more; --json names all"})
	}
	return rows
}
