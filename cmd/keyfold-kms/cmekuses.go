package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/cli"
)

// usesFilter chooses uses of CMEK keys.
type usesFilter struct {
	caller, key, outcome string
}

func (a *app) cmekUsesCmd() *cobra.Command {
	var f usesFilter
	var dir string
	cmd := &cobra.Command{
		Use: "uses", Short: "List who used which CMEK key for which vault and path, from the audit", Args: cobra.NoArgs,
		Long: `List who used which CMEK key for which vault and path, the oldest first: the records
of the audit in --dir, or of --data-dir, read as they are. Whether the audit is whole
says keyfold-kms audit verify. Vault and path are what the caller said.`,
		RunE: func(*cobra.Command, []string) error {
			if dir == "" && a.set.DataDir != "" {
				if err := a.needStore(); err != nil {
					return err
				}
				dir = a.set.AuditDir
			}
			if dir == "" {
				return cli.Usagef("name the audit: --dir DIR")
			}
			uses, err := readUses(dir, f)
			if err != nil {
				return err
			}
			return a.Table(uses, useRows(uses))
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "directory of the audit; that of --data-dir when empty")
	cmd.Flags().StringVar(&f.caller, "caller", "", "of this caller alone")
	cmd.Flags().StringVar(&f.key, "fingerprint", "", "of keys whose fingerprint begins so")
	cmd.Flags().StringVar(&f.outcome, "outcome", "", "that ended so alone: done, failed or denied")
	return cmd
}

// readUses reads the records of an audit, in the order in which they were made.
func readUses(dir string, f usesFilter) ([]audit.Event, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err == nil && len(files) == 0 {
		err = cli.Advise(fmt.Errorf("there is no audit in %s", dir), "name its directory: --dir DIR")
	}
	if err != nil {
		return nil, err
	}
	slices.Sort(files)
	uses := []audit.Event{}
	for _, file := range files {
		if uses, err = f.read(uses, file); err != nil {
			return nil, err
		}
	}
	return uses, nil
}

func (f usesFilter) read(uses []audit.Event, file string) ([]audit.Event, error) {
	in, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var e audit.Event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			return nil, cli.Advise(fmt.Errorf("%s has a line that is no record", file), "keyfold-kms audit verify --dir "+filepath.Dir(file))
		}
		if f.takes(e) {
			uses = append(uses, e)
		}
	}
	return uses, lines.Err()
}

func (f usesFilter) takes(e audit.Event) bool {
	return strings.HasPrefix(e.Action, "cmek.") && (f.caller == "" || e.Actor == f.caller) &&
		strings.HasPrefix(e.Target, f.key) && (f.outcome == "" || useOutcome(e) == f.outcome)
}

func useOutcome(e audit.Event) string {
	if e.Outcome == "" {
		return "done"
	}
	return e.Outcome
}

func useRows(uses []audit.Event) [][]string {
	rows := [][]string{{"TIME", "CALLER", "USE", "OUTCOME", "FINGERPRINT", "VAULT", "PATH"}}
	for _, e := range uses {
		text := func(name string) string {
			s, _ := e.Detail[name].(string)
			return s
		}
		rows = append(rows, []string{cli.When(e.Time), e.Actor, strings.TrimPrefix(e.Action, "cmek."), useOutcome(e), e.Target[:min(12, len(e.Target))], text("vault"), text("path")})
	}
	return rows
}
