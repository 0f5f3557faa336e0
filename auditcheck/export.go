package auditcheck

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/keyfold/keyfold/api"
)

// Format is the number of the form of an export.
const Format = 1

// maxLine is the most bytes of a line of an export.
const maxLine = 1 << 20

// Options of VerifyExport.
type Options struct {
	// Keys are those that are trusted to sign: of /.well-known/keyfold-audit.json,
	// fetched when there was no reason for doubt. Without any, those in the export
	// are taken, and the Report says so.
	Keys []api.AuditKey
	// Saved are checkpoints of earlier. Without one, nobody sees that the last
	// checkpoints and the events under them were cut off.
	Saved []api.AuditCheckpoint
	// Each is given every event that can be read, in order; nil: nobody is. They
	// stand for nothing unless the Report is OK.
	Each func(*Event)
}

// VerifyExport checks an export: JSON, one api.AuditExportLine per line, each to
// the byte as the server wrote it. It reads r once. A trail that is not as it was
// written is no error but in the Report; the error says that r could not be
// read, or is no export that is whole.
func VerifyExport(r io.Reader, opt Options) (Report, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	x := exported{opt: opt}
	n := 0
	for ; lines.Scan(); n++ {
		if err := x.line(lines.Bytes()); err != nil {
			return Report{}, fmt.Errorf("line %d of the export: %w", n+1, err)
		}
	}
	if err := lines.Err(); err != nil {
		return Report{}, fmt.Errorf("line %d of the export: %w", n+1, err)
	}
	if !x.ended {
		return Report{}, errors.New("the export is cut off, or is none; fetch it again")
	}
	report := x.checker.Report()
	report.OwnKeys = len(opt.Keys) == 0
	return report, nil
}

// exported is an export on its way.
type exported struct {
	opt     Options
	checker *Checker
	count   api.AuditExportEnd
	ended   bool
}

func (x *exported) line(text []byte) error {
	var l api.AuditExportLine
	if err := json.Unmarshal(text, &l); err != nil {
		return errors.New("it is not JSON of an export")
	}
	if again, err := json.Marshal(l); err != nil || !bytes.Equal(again, text) {
		return errors.New("it is not as the server writes it; check the export to the byte as it came")
	}
	switch {
	case members(l) != 1:
		return errors.New("it has not one member, as every line has; fetch the export again")
	case x.ended:
		return errors.New("it comes after the end")
	case (x.checker == nil) != (l.Export != nil):
		return errors.New("an export begins with its head, and has one")
	case l.Export != nil:
		return x.begin(*l.Export)
	case l.Checkpoint != nil && x.count.Events > 0:
		return errors.New("checkpoints come before events")
	case l.Checkpoint != nil:
		x.count.Checkpoints++
		x.checker.Checkpoint(*l.Checkpoint)
	case l.Event != nil:
		x.count.Events++
		x.event(*l.Event)
	case l.Damaged != "":
		x.count.Events++
		x.checker.Broken(l.Damaged, "the server found that it is not as it was written")
	case l.End != nil && *l.End != x.count:
		return fmt.Errorf("it says that %d checkpoints and %d events came, and %d and %d did", l.End.Checkpoints, l.End.Events, x.count.Checkpoints, x.count.Events)
	default:
		x.ended = l.End != nil
	}
	return nil
}

// members counts what a line says. A second thing would be seen by whoever reads
// the export, and not be checked.
func members(l api.AuditExportLine) (n int) {
	for _, is := range []bool{l.Export != nil, l.Checkpoint != nil, l.Event != nil, l.Damaged != "", l.End != nil} {
		if is {
			n++
		}
	}
	return n
}

func (x *exported) begin(head api.AuditExport) error {
	w := Window{To: head.To.UnixNano()}
	if head.From != nil {
		w.From = max(head.From.UnixNano(), 1)
	}
	if head.Format != Format || !exact(head.To) || head.From != nil && !exact(*head.From) {
		return errors.New("it is an export of a form that is not known here; use a newer keyfold")
	}
	keys := x.opt.Keys
	if len(keys) == 0 {
		keys = head.Keys
	}
	x.checker = NewChecker(head.OrgID, w, keys)
	for _, p := range x.opt.Saved {
		x.checker.Save(p)
	}
	return nil
}

func (x *exported) event(w api.AuditEvent) {
	e, stated, err := FromWire(w)
	if err != nil {
		x.checker.Broken(w.ID, "it is not an event as it is written")
		return
	}
	if hash := e.Hash(); hash != stated {
		x.checker.Broken(w.ID, "its hash is another: it was changed")
	} else {
		x.checker.Event(&e, hash)
		if x.opt.Each != nil {
			x.opt.Each(&e)
		}
	}
}
