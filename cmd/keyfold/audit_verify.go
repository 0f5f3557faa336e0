package main

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

// verifyFlags are those of audit verify.
type verifyFlags struct {
	windowFlags
	file, save        string
	keys, checkpoints []string
	secrets           bool
	heads             auditcheck.Heads // of the trail that was checked, with secrets
}

func (a *app) auditVerifyCmd(t trailOf) *cobra.Command {
	v := verifyFlags{windowFlags: windowFlags{of: t}}
	cmd := &cobra.Command{
		Use: "verify", Short: "Recompute the trail here, from the server or from an export", Args: cobra.NoArgs,
		Long: `Recompute the trail here: the hash of every event, the chains that the hashes make,
and the signed checkpoints over them. The trail is fetched from the server, or read
from --file, which keyfold audit export has written; that needs no server.

--public-key is a key that may sign, as keyfold audit keys shows it. Without one, the
keys are those that the server names now, or that the export itself has, and then
anybody may have made it. --checkpoint is one that was saved earlier, by
--save-checkpoint: without it nobody sees that the end of the trail was cut off.
What is before From or after To was not checked. For events that are under no
checkpoint yet no key vouches: they fit on those before.

--secrets compares the newest version of every secret that you may read with those
that the trail has: nothing else shows that the server's store was put back to an
older version of a secret, which opens as ever. It needs the whole trail, so an owner
or admin of the org, and compares what that user may read.

Exit code 1 when anything is wrong.`,
		Example: `  keyfold audit verify --save-checkpoint trail.json
  keyfold audit verify --secrets --checkpoint trail.json
  keyfold audit verify --file export.jsonl --public-key KEY --checkpoint trail.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt, err := v.options()
			if err != nil {
				return err
			}
			if v.secrets {
				opt.Each = v.heads.Event
			}
			report, err := a.verifyTrail(cmd.Context(), v, opt)
			if err != nil {
				return err
			}
			answer := verified{Report: report}
			if v.secrets && report.OK() {
				if answer.Compared, err = a.compare(cmd.Context(), &v, opt); err != nil {
					return err
				}
			}
			return a.finishVerify(answer, v)
		},
	}
	f := cmd.Flags()
	f.StringVar(&v.file, "file", "", "check this export")
	f.StringArrayVar(&v.keys, "public-key", nil, "base64 of a key that may sign; may be repeated")
	f.StringArrayVar(&v.checkpoints, "checkpoint", nil, "file of a checkpoint that was saved; may be repeated")
	f.StringVar(&v.save, "save-checkpoint", "", "write the last checkpoint to this file when nothing is wrong")
	v.define(cmd)
	if !t.operator {
		f.BoolVar(&v.secrets, "secrets", false, "compare the secrets' newest versions with the trail")
		cmd.MarkFlagsMutuallyExclusive("file", "secrets")
		cmd.MarkFlagsMutuallyExclusive("from", "secrets")
		cmd.MarkFlagsMutuallyExclusive("to", "secrets")
	}
	cmd.MarkFlagsMutuallyExclusive("file", "from")
	cmd.MarkFlagsMutuallyExclusive("file", "to")
	for _, name := range []string{"file", "checkpoint", "save-checkpoint"} {
		_ = cmd.MarkFlagFilename(name)
	}
	return cmd
}

func (v *verifyFlags) options() (opt auditcheck.Options, err error) {
	for _, text := range v.keys {
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(raw) != ed25519.PublicKeySize {
			return opt, cli.Advise(cli.Usagef("--public-key wants the base64 of %d bytes", ed25519.PublicKeySize), "keyfold audit keys")
		}
		opt.Keys = append(opt.Keys, api.AuditKey{ID: auditcheck.KeyID(raw), Algorithm: "Ed25519", PublicKey: raw})
	}
	for _, path := range v.checkpoints {
		text, err := os.ReadFile(path)
		if err != nil {
			return opt, err
		}
		var p api.AuditCheckpoint
		if json.Unmarshal(text, &p) != nil || p.Number == 0 {
			return opt, fmt.Errorf("%s is no checkpoint that keyfold audit verify --save-checkpoint has written", path)
		}
		opt.Saved = append(opt.Saved, p)
	}
	return opt, nil
}

// verifyTrail checks the export in the file, or one that it fetches.
func (a *app) verifyTrail(ctx context.Context, v verifyFlags, opt auditcheck.Options) (auditcheck.Report, error) {
	if v.file != "" {
		f, err := os.Open(v.file)
		if err != nil {
			return auditcheck.Report{}, err
		}
		defer f.Close()
		return auditcheck.VerifyExport(f, opt)
	}
	q, err := v.query()
	if err != nil {
		return auditcheck.Report{}, err
	}
	c, err := a.connectFor(v.of)
	if err != nil {
		return auditcheck.Report{}, err
	}
	return verifyServer(ctx, c, q, opt)
}

func verifyServer(ctx context.Context, c *client.Client, q client.AuditQuery, opt auditcheck.Options) (report auditcheck.Report, err error) {
	if len(opt.Keys) == 0 {
		if opt.Keys, err = c.AuditKeys(ctx); err != nil {
			return report, err
		}
	}
	export, err := c.ExportAudit(ctx, q)
	if err != nil {
		return report, err
	}
	defer export.Close()
	return auditcheck.VerifyExport(export, opt)
}

// verified is what audit verify answers.
type verified struct {
	auditcheck.Report
	Compared *compared `json:"compared,omitempty"` // with --secrets
}

func (a *app) compare(ctx context.Context, v *verifyFlags, opt auditcheck.Options) (*compared, error) {
	c, err := a.connectFor(v.of)
	if err != nil {
		return nil, err
	}
	out, err := compareSecrets(ctx, c, &v.heads, opt.Keys)
	return &out, err
}

// finishVerify prints the report, fails when anything is wrong, and else saves the
// last checkpoint.
func (a *app) finishVerify(r verified, v verifyFlags) error {
	if err := a.printReport(r); err != nil {
		return err
	}
	if r.Compared != nil && len(r.Compared.Problems) > 0 {
		return cli.Advise(fmt.Errorf("%d secrets are not at the version that the trail has", len(r.Compared.Problems)),
			"do not use them: write them anew; keep a copy of the store, and find out who can write to it")
	}
	if !r.OK() {
		return cli.Advise(fmt.Errorf("the trail is not as it was written: %d problems", r.Wrong),
			"keep a copy of what was checked; compare with an earlier export, and find out who can write to the server's store")
	}
	if r.OwnKeys {
		a.Note("warning: the keys are the export's own, so that it fits together and no more; give those of the server: --public-key")
	}
	if v.save == "" {
		return nil
	}
	return saveCheckpoint(v.save, r.Last)
}

func saveCheckpoint(path string, p *api.AuditCheckpoint) error {
	if p == nil {
		return errors.New("there is no checkpoint to save yet: one is signed a while after an event; try again later")
	}
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	return cli.ReplaceFile(path, cli.Bytes(append(text, '\n')))
}

// maxShown is how many problems people are shown.
const maxShown = 10

func (a *app) printReport(r verified) error {
	result := "nothing is wrong"
	if !r.OK() {
		result = strconv.Itoa(r.Wrong) + " problems"
	}
	from := "the beginning"
	if !r.From.IsZero() {
		from = cli.When(r.From)
	}
	rows := [][]string{{"Org", r.OrgID}, {"From", from}, {"To", cli.When(r.To)}, {"Events", strconv.Itoa(r.Events)}, {"Verified", strconv.Itoa(r.Verified)},
		{"Under a checkpoint", strconv.Itoa(r.Signed)}, {"Under none yet", strconv.Itoa(r.Verified - r.Signed)}, {"Checkpoints", strconv.Itoa(r.Checkpoints)}, {"Result", result}}
	for _, p := range r.Problems[:min(maxShown, len(r.Problems))] {
		rows = append(rows, []string{"Problem", p.String()})
	}
	if more := r.Wrong - maxShown; more > 0 {
		rows = append(rows, []string{"", fmt.Sprintf("and %d more; --json names a hundred", more)})
	}
	return a.Table(r, append(rows, r.Compared.rows()...))
}

func base64Key(k api.AuditKey) string { return base64.StdEncoding.EncodeToString(k.PublicKey) }
