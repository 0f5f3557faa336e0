package trail

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/store"
)

// Export writes the events of from <= time < to with the checkpoints that name
// them, as auditcheck.VerifyExport reads them. A zero from is the beginning, a
// zero to the present. It reads a page at a time.
func (r *Reader) Export(ctx context.Context, p access.Principal, from, to time.Time, w io.Writer) error {
	org, err := r.allow(ctx, p, false)
	if err != nil {
		return err
	}
	keys, err := r.refresh(ctx)
	if err != nil {
		return err
	}
	x := exporting{to: bufio.NewWriterSize(w, 64<<10)}
	now := r.now().UTC()
	if to.IsZero() || to.After(now) {
		to = now
	}
	head := api.AuditExport{Format: auditcheck.Format, OrgID: org, To: time.Unix(0, max(nanos(to), 1)).UTC(), CreatedAt: now, Keys: keys.pub}
	window := auditcheck.Window{To: head.To.UnixNano()}
	if !from.IsZero() {
		window.From = max(nanos(from), 1)
		from = time.Unix(0, window.From).UTC()
		head.From = &from
	}
	points, err := r.points(ctx, keys, org) // before the events: what it names is there
	if err != nil {
		return err
	}
	x.line(api.AuditExportLine{Export: &head})
	if err := x.points(ctx, points, window); err != nil {
		return err
	}
	if err := x.events(ctx, r, keys, timeRange(org, from, head.To), org); err != nil {
		return err
	}
	x.line(api.AuditExportLine{End: &x.count})
	return cmp.Or(x.err, x.to.Flush())
}

// exporting is an Export under way.
type exporting struct {
	to    *bufio.Writer
	count api.AuditExportEnd
	err   error
}

func (x *exporting) line(l api.AuditExportLine) {
	text, err := json.Marshal(l)
	if err == nil && x.err == nil {
		_, err = x.to.Write(append(text, '\n'))
	}
	x.err = cmp.Or(x.err, err)
}

func (x *exporting) points(ctx context.Context, ps *points, w auditcheck.Window) error {
	return ps.each(ctx, w, func(p api.AuditCheckpoint) error {
		x.count.Checkpoints++
		x.line(api.AuditExportLine{Checkpoint: &p})
		return x.err
	})
}

func (x *exporting) events(ctx context.Context, r *Reader, keys *ring, rng store.Range, org string) error {
	for rec, err := range store.All(ctx, r.store, rng) {
		if err != nil {
			return store.Fault(err)
		}
		x.count.Events++
		if e, hash, id, err := parse(keys, org, rec); err == nil {
			w := e.Wire(hash)
			x.line(api.AuditExportLine{Event: &w})
		} else {
			x.line(api.AuditExportLine{Damaged: id})
		}
		if x.err != nil {
			return x.err
		}
	}
	return nil
}
