package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

// rotation is one run of cmek rotate.
type rotation struct {
	*app
	vault            string
	oldFile, newFile string
	old, fresh       rotationKey
	clientSide       bool
	resume, detach   bool
	server           client.RotateOptions
	here             client.RotateHereOptions
}

// rotateCommand is how a rotation is written in a hint.
const rotateCommand = "keyfold cmek rotate VAULT --old-key-file FILE --new-key-file FILE"

func (a *app) cmekRotateCmd() *cobra.Command {
	r := rotation{app: a}
	cmd := &cobra.Command{
		Use: "rotate [VAULT] --old-key-file F --new-key-file F", Short: "Give a vault another CMEK key and re-encrypt its values", Args: a.vaultArgs(0),
		Long: `Give a vault another CMEK key and re-encrypt its values. Make the new key first:
keyfold cmek keygen. Readers and writers need both keys until the end.

The server re-encrypts every version, also old, disabled and deleted ones. It gets
both keys for that, sealed to its key process; they stay in memory and are wiped at
the end. Interrupting this command does not stop it.

With --client-side everything happens here and no key is sent. The vault changes
its key first; then the newest version of each secret is read, which the audit
trail shows, and written back in its place, or with --all every version that can
be read. What nobody can read any more stays as it is. A version with a limit of
reads is left alone without --read-limited, which costs it one read.

Whenever it was interrupted the same command goes on. It is safe to run again.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			r.vault = a.vault(args)
			if err := r.readKeys(); err != nil {
				return err
			}
			defer r.old.Wipe()
			defer r.fresh.Wipe()
			c, err := a.connect()
			if err != nil {
				return err
			}
			ctx, stop := cli.UntilSignal(cmd.Context())
			defer stop()
			return r.run(ctx, c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.oldFile, "old-key-file", "", "key file of the vault's present key, or with --client-side kms:FINGERPRINT")
	f.StringVar(&r.newFile, "new-key-file", "", "key file of the key that takes its place, or with --client-side kms:FINGERPRINT")
	f.BoolVar(&r.resume, "resume", false, "take up a rotation that was begun, and begin none")
	f.BoolVar(&r.detach, "detach", false, "do not wait for the end")
	f.BoolVar(&r.server.InHeaders, "headers", false, "send the keys as they are, in headers, instead of sealed")
	f.BoolVar(&r.server.AcceptFailed, "accept-failed", false, "complete in spite of versions that open with neither key")
	f.BoolVar(&r.clientSide, "client-side", false, "re-encrypt here; no key is sent")
	f.BoolVar(&r.here.All, "all", false, "with --client-side: every version that can be read, not only the newest")
	f.BoolVar(&r.here.ReadLimited, "read-limited", false, "with --client-side: also versions with a limit of reads, for one read each")
	f.IntVar(&r.here.Concurrency, "concurrency", 0, "with --client-side: calls at once (8)")
	for _, name := range []string{"old-key-file", "new-key-file"} {
		_ = cmd.MarkFlagRequired(name)
		_ = cmd.MarkFlagFilename(name)
	}
	for _, name := range []string{"headers", "accept-failed", "detach"} {
		cmd.MarkFlagsMutuallyExclusive("client-side", name)
	}
	r.kmsFlags(cmd)
	return cmd
}

func (r *rotation) readKeys() (err error) {
	if !r.clientSide && (r.here.All || r.here.ReadLimited || r.here.Concurrency != 0) {
		return cli.Usagef("--all, --read-limited and --concurrency are for --client-side; the server re-encrypts everything")
	}
	if r.old, err = r.rotationKey(r.oldFile); err != nil {
		return err
	}
	if r.fresh, err = r.rotationKey(r.newFile); err != nil {
		return err
	}
	if !r.clientSide && (r.old.raw == nil || r.fresh.raw == nil) {
		return cli.Usagef("a key in a key process does not leave it, and the server cannot re-encrypt with it: say --client-side")
	}
	if r.old.Fingerprint() == r.fresh.Fingerprint() {
		return cli.Advise(fmt.Errorf("%s and %s hold the same key", r.oldFile, r.newFile), "make a new one: keyfold cmek keygen --out FILE")
	}
	return nil
}

func (r *rotation) run(ctx context.Context, c *client.Client) error {
	if r.resume {
		if ended, err := r.begun(ctx, c); ended || err != nil {
			return err
		}
	}
	if r.clientSide {
		return r.runHere(ctx, c)
	}
	err := r.runServer(ctx, c)
	if r.resume && errors.Is(err, client.ErrRotated) { // it was completed since begun looked
		if ended, again := r.begun(ctx, c); ended {
			return again
		}
	}
	return err
}

// begun fails when there is nothing to take up. A rotation by the server that
// was completed it shows, and there is nothing left to do.
func (r *rotation) begun(ctx context.Context, c *client.Client) (ended bool, err error) {
	if r.clientSide {
		v, err := c.GetVault(ctx, r.vault)
		if err == nil && v.CMEKFingerprint != r.fresh.Fingerprint() {
			err = errNotBegun
		}
		return false, onNotFound(err, listVaults)
	}
	jobs, err := c.CMEKRotations(ctx, r.vault)
	if err != nil {
		return false, onNotFound(err, listVaults)
	}
	for _, j := range jobs { // the newest first
		if j.OldFingerprint != r.old.Fingerprint() || j.NewFingerprint != r.fresh.Fingerprint() {
			continue
		}
		if j.Status == "completed" {
			return true, r.tellRotation(ctx, c, j)
		}
		return false, nil
	}
	return false, errNotBegun
}

var errNotBegun = cli.Advise(errors.New("no rotation from the old to the new key was begun"), "leave --resume away to begin one")

func (r *rotation) runServer(ctx context.Context, c *client.Client) error {
	if r.detach {
		j, err := c.StartCMEKRotation(ctx, r.vault, r.old.raw, r.fresh.raw, r.server)
		if err != nil {
			return r.advise(err)
		}
		return r.printRotation(j)
	}
	bar := r.Bar(1, "re-encrypting")
	r.server.OnProgress = func(j api.CMEKRotationJob) { bar.At(j.Processed, j.TotalSecrets) }
	j, err := c.RotateCMEK(ctx, r.vault, r.old.raw, r.fresh.raw, r.server)
	bar.End()
	switch {
	case err != nil && ctx.Err() != nil && j.ID != "":
		return cli.Advise(fmt.Errorf("interrupted; the rotation %s goes on by itself, at %s", j.ID, reencrypted(j)),
			"follow it with the same command; stop it with: keyfold cmek rotation cancel VAULT "+j.ID)
	case err != nil:
		return r.advise(err)
	}
	return r.tellRotation(ctx, c, j)
}

// tellRotation shows a rotation that was completed.
func (r *rotation) tellRotation(ctx context.Context, c *client.Client, j api.CMEKRotationJob) error {
	if err := r.printRotation(j); err != nil {
		return err
	}
	return r.tellKeys(ctx, c)
}

// advise adds what helps against an error of a rotation by the server.
func (r *rotation) advise(err error) error {
	if e, ok := errors.AsType[*client.RotationError](err); ok {
		switch e.Job.Status {
		case "failed":
			return cli.Advise(err, "what is done is not done twice: run the same command again; --accept-failed completes in spite of versions that open with neither key")
		case "interrupted":
			return cli.Advise(err, "run the same command again")
		}
	}
	if errors.Is(err, client.ErrRotated) {
		return cli.Advise(err, "keyfold cmek status VAULT shows what is still under the old key; --client-side --all re-encrypts it")
	}
	err = onProblem(err, api.ProblemCMEKTransport, "use https, or leave --headers away")
	err = onProblem(err, api.ProblemCMEKRotating, cancelRotation)
	return onNotFound(err, listVaults)
}

// tellKeys says which key is still needed for what.
func (r *rotation) tellKeys(ctx context.Context, c *client.Client) error {
	status, err := c.CMEKStatus(ctx, r.vault)
	if err != nil {
		return err
	}
	r.Note("keep %s: it is the vault's key", r.newFile)
	needed := false
	for _, k := range status.Keys {
		switch k.Fingerprint {
		case r.fresh.Fingerprint():
		case r.old.Fingerprint():
			needed = true
			r.Note("keep %s: %s", r.oldFile, stillNeed(k.Versions, "it"))
		default:
			r.Note("keep the key %s too: %s", k.Fingerprint, stillNeed(k.Versions, "it"))
		}
	}
	if !needed {
		r.Note("%s opens nothing in this vault any more; only backups from before need it", r.oldFile)
	}
	return nil
}
