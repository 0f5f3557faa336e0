package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

// rotatedHere is what rotate --client-side prints with --json.
type rotatedHere struct {
	Reencrypted int            `json:"reencrypted"`
	Kept        map[string]int `json:"kept"` // how many are still under the old key, by reason
	Failed      []failedHere   `json:"failed"`
}

type failedHere struct {
	Path    string `json:"path"`
	Version int    `json:"version"`
	Error   string `json:"error"`
}

// reasons are why a version is kept, for people.
var reasons = map[string]string{
	client.KeptOlder:   "older than the newest; --all takes them too",
	client.KeptLimited: "with a limit of reads; --read-limited takes those that can be read twice, for one read each",
	client.KeptFailed:  "failed",
	api.CMEKDisabled:   "disabled; nobody can read them",
	api.CMEKDeleted:    "deleted; nobody can read them",
	api.CMEKExpired:    "expired; nobody can read them",
	api.CMEKReadOut:    "read as often as they may be; nobody can read them",
}

// maxNamed bounds the failures that are named for people.
const maxNamed = 20

func (r *rotation) runHere(ctx context.Context, c *client.Client) error {
	bar := r.Bar(1, "re-encrypting")
	r.here.OnProgress = bar.At
	done, err := c.RotateCMEKHere(ctx, r.vault, r.old, r.fresh, r.here)
	bar.End()
	switch {
	case err != nil && ctx.Err() != nil:
		return cli.Advise(fmt.Errorf("interrupted after %s", versions(done.Reencrypted)), "run the same command again, it goes on; until then readers need both keys")
	case err != nil && done.Reencrypted > 0:
		return cli.Advise(fmt.Errorf("stopped after %s: %w", versions(done.Reencrypted), err), "run the same command again, it goes on; until then readers need both keys")
	case errors.Is(err, client.ErrRotating):
		return cli.Advise(err, cancelRotation)
	case err != nil:
		return onNotFound(onProblem(err, api.ProblemCMEKRotating, cancelRotation), listVaults)
	}
	out := rotatedHere{Reencrypted: done.Reencrypted, Kept: map[string]int{}, Failed: []failedHere{}}
	for _, k := range done.Kept {
		if out.Kept[k.Why]++; k.Err != nil {
			text, _ := explain(k.Err)
			out.Failed = append(out.Failed, failedHere{k.Path, k.Version, text})
		}
	}
	return r.tellHere(ctx, c, out)
}

func (r *rotation) tellHere(ctx context.Context, c *client.Client, out rotatedHere) error {
	rows := [][]string{{"Re-encrypted", strconv.Itoa(out.Reencrypted)}}
	for _, why := range slices.Sorted(maps.Keys(out.Kept)) {
		rows = append(rows, []string{"Kept", fmt.Sprintf("%d %s", out.Kept[why], reasons[why])})
	}
	if err := r.Table(out, rows); err != nil {
		return err
	}
	for _, f := range out.Failed[:min(maxNamed, len(out.Failed))] {
		r.Note("%s, version %d: %s", f.Path, f.Version, f.Error)
	}
	if err := r.tellKeys(ctx, c); err != nil {
		return err
	}
	if n := len(out.Failed); n > 0 {
		return cli.Advise(errors.New(versions(n)+" failed and are still under the old key"), "run the same command again; keyfold cmek status VAULT")
	}
	return nil
}
