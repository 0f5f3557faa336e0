package kms

import (
	"context"
	"maps"

	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/tracing"
)

type actorKey struct{}

// WithActor names who asks, for the audit's records alone; no decision looks at it.
func WithActor(ctx context.Context, actor string) context.Context {
	return context.WithValue(ctx, actorKey{}, actor)
}

func actor(ctx context.Context) string {
	if a, ok := ctx.Value(actorKey{}).(string); ok {
		return a
	}
	return "process"
}

// Audited records what is about to be done and then does it: a change of keys,
// or something as grave, such as a backup. When it cannot be recorded, it is
// not done (fault.Unavailable). When do fails, a second record says so.
func (s *Service) Audited(ctx context.Context, action, target string, detail map[string]any, do func() error) error {
	return s.audited(ctx, []audit.Event{{Action: action, Target: target, Detail: detail}}, do)
}

func (s *Service) audited(ctx context.Context, events []audit.Event, do func() error) error {
	if s.audit == nil || len(events) == 0 {
		return do()
	}
	for i := range events {
		events[i].Time, events[i].Actor, events[i].Detail = s.now(), actor(ctx), withRequest(ctx, events[i].Detail)
	}
	if err := s.audit.Record(ctx, events...); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the KMS cannot write its audit, and so changes no key; mend the audit's disk, then start the KMS again")
	}
	err := do()
	if err != nil {
		s.recordFailed(ctx, events)
	}
	return err
}

// withRequest is detail with the ID of the request that ctx serves: of a call that
// joins several, their IDs, with commas.
func withRequest(ctx context.Context, detail map[string]any) map[string]any {
	id := tracing.RequestID(ctx)
	if id == "" {
		return detail
	}
	with := map[string]any{"request_id": id}
	maps.Copy(with, detail)
	return with
}

// recordFailed says that events did not come about, as far as is known. When
// that cannot be recorded, the audit claims too much, which is the lesser evil.
func (s *Service) recordFailed(ctx context.Context, events []audit.Event) {
	failed := make([]audit.Event, len(events)) // the recorder may still hold events
	for i, e := range events {
		e.Time, e.Outcome = s.now(), "failed"
		failed[i] = e
	}
	if err := s.audit.Record(context.WithoutCancel(ctx), failed...); err != nil {
		s.log.Error("the audit does not have that a change of keys failed", "action", failed[0].Action, "error", err)
	}
}
