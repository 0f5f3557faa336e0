package thread

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/idem"
	"github.com/keyfold/keyfold/internal/layout"
	"github.com/keyfold/keyfold/internal/store"
)

// MaxDays is the longest time, in days, that a policy can set.
const MaxDays = 36_500

// policy is how long an org keeps what, the row layout.Retention, as JSON:
//
//	{"deleted_days":30,"message_days":365,"by":"0198..."}
//
// An absent or zero number is for ever. An org without a row keeps everything.
type policy struct {
	DeletedDays int            `json:"deleted_days,omitzero"` // threads and messages, after their deletion
	MessageDays int            `json:"message_days,omitzero"` // messages, after their time
	By          string         `json:"by"`                    // ID of the user who set it
	rev         store.Revision // of the row; 0: there is none
}

// expired reports whether what is of time ts has been there for so many days at
// now, all in nanoseconds since 1970.
func expired(ts int64, days int, now int64) bool { return ts < expiry(days, now) }

// expiry is the first time of which nothing has been there for so many days at now;
// 0 when days is 0, which never pass.
func expiry(days int, now int64) int64 {
	if days == 0 {
		return 0
	}
	return max(0, now-int64(days)*int64(24*time.Hour)+1)
}

func (p policy) details() map[string]string {
	return map[string]string{"deleted_days": strconv.Itoa(p.DeletedDays), "message_days": strconv.Itoa(p.MessageDays)}
}

func (p policy) api() api.Retention {
	return api.Retention{DeletedDays: p.DeletedDays, MessageDays: p.MessageDays}
}

// policyOf reads the policy of an org.
func (s *Service) policyOf(ctx context.Context, org string) (policy, error) {
	rec, err := s.store.Get(ctx, layout.Retention(org))
	if errors.Is(err, store.ErrNotFound) {
		return policy{}, nil
	} else if err != nil {
		return policy{}, store.Fault(err)
	}
	p := policy{rev: rec.Revision}
	if err := json.Unmarshal(rec.Value, &p, json.RejectUnknownMembers(true)); err != nil || checkDays(p.api()) != nil {
		return policy{}, fault.New(fault.Damaged, "the retention policy of org %s is damaged; set it again", org)
	}
	return p, nil
}

// checkDays tests the numbers of a policy.
func checkDays(r api.Retention) error {
	for _, days := range []int{r.DeletedDays, r.MessageDays} {
		if days < 0 || days > MaxDays {
			return fault.New(fault.Invalid, "deleted_days and message_days must be 1 to %d, or 0 to keep for ever", MaxDays)
		}
	}
	return nil
}

// Retention returns how long p's org keeps threads and messages. Errors:
// Unauthenticated, Forbidden, Damaged.
func (s *Service) Retention(ctx context.Context, p access.Principal) (api.Retention, error) {
	if err := s.authority.Check(ctx, p, access.RetentionRead, ofOrg(p)); err != nil {
		return api.Retention{}, err
	}
	have, err := s.policyOf(ctx, p.OrgID)
	return have.api(), err
}

// SetRetention sets it, from the next batch of a run on. What is too old by then is
// purged in the next run, and cannot be had back. Errors: Unauthenticated,
// Forbidden, Invalid.
func (s *Service) SetRetention(ctx context.Context, p access.Principal, req api.Retention) (api.Retention, error) {
	want := policy{DeletedDays: req.DeletedDays, MessageDays: req.MessageDays, By: p.ID}
	what := ofOrg(p)
	what.Details = want.details()
	if err := s.authority.Check(ctx, p, access.RetentionWrite, what); err != nil {
		return api.Retention{}, err
	}
	if err := checkDays(req); err != nil {
		return api.Retention{}, err
	}
	value, err := json.Marshal(want)
	if err != nil {
		return api.Retention{}, fault.New(fault.Internal, "the retention policy does not encode")
	}
	var b store.Batch
	b.Put(layout.Retention(p.OrgID), value)
	if req == (api.Retention{}) {
		b = store.Batch{}
		b.Delete(layout.Retention(p.OrgID))
	}
	idem.Answer(ctx, req)
	if _, err := s.store.Commit(ctx, &b); err != nil {
		return api.Retention{}, store.Fault(err)
	}
	return req, s.authority.Done(ctx, p, access.RetentionWrite, what)
}

// ofOrg is p's org as the gate sees it.
func ofOrg(p access.Principal) access.Resource {
	return access.Resource{OrgID: p.OrgID, Type: "org", ID: p.OrgID}
}

// maxPreview is how many rows a preview looks at.
const maxPreview = 1_000_000

// PreviewRetention returns what a run would purge of p's org now, under the policy
// that it has or, where try is not nil, under that one. It is found as a run finds
// it, and nothing is changed. Errors: Unauthenticated, Forbidden, Invalid, Damaged.
func (s *Service) PreviewRetention(ctx context.Context, p access.Principal, try *api.Retention) (api.RetentionPreview, error) {
	if err := s.authority.Check(ctx, p, access.RetentionRead, ofOrg(p)); err != nil {
		return api.RetentionPreview{}, err
	}
	rules, err := s.policyOf(ctx, p.OrgID)
	if try != nil {
		rules, err = policy{DeletedDays: try.DeletedDays, MessageDays: try.MessageDays}, checkDays(*try)
	}
	if err != nil {
		return api.RetentionPreview{}, err
	}
	w := &purger{Service: s, purgeArgs: purgeArgs{s.now().UnixNano()}, policy: rules, dry: true, at: purged{Phase: ageing, Org: p.OrgID}}
	rows := 0
	for w.at.Phase != telling && rows < maxPreview {
		w.looked, w.batch = 0, store.Batch{}
		if err := w.org(ctx); err != nil {
			return api.RetentionPreview{}, store.Fault(err)
		}
		rows += w.looked
	}
	return api.RetentionPreview{Threads: w.at.Threads, Messages: w.at.Messages, Held: len(w.at.Held), Partial: w.at.Phase != telling}, nil
}
