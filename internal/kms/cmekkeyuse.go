package kms

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
)

// CMEKSeal seals values for caller under customers' keys. Each is in the audit,
// with caller, key, vault and path, before any is answered: where the audit
// does not take them, the call fails with fault.Unavailable. An item fails with
// fault.Forbidden of type "cmek_not_granted", whether there is no such key, or no
// grant, or a row that does not open and so grants nothing; fault.Invalid,
// fault.TooLarge, or fault.Conflict of type "cmek_worn_out".
func (s *Service) CMEKSeal(ctx context.Context, caller string, items []kmsapi.CMEKSealItem) ([]kmsapi.CMEKSealResult, error) {
	if err := checkBatch(len(items)); err != nil {
		return nil, err
	}
	out := make([]kmsapi.CMEKSealResult, len(items))
	u := s.newCMEKUse(caller, "cmek.seal")
	defer u.release()
	for i, item := range items {
		out[i].Err = u.use(ctx, item.Fingerprint, cmek.Context{VaultID: item.Vault, Path: item.Path}, func(k *cmekKey, at cmek.Context) (err error) {
			out[i].Value, err = s.sealCMEK(ctx, k, at, item)
			return err
		})
	}
	if err := u.record(ctx); err != nil {
		return nil, err
	}
	u.stand(ctx)
	for i, item := range items {
		if err := u.fell(item.Fingerprint); err != nil && out[i].Err == nil {
			out[i] = kmsapi.CMEKSealResult{Err: err}
		}
	}
	return out, nil
}

func (s *Service) sealCMEK(ctx context.Context, k *cmekKey, at cmek.Context, item kmsapi.CMEKSealItem) (string, error) {
	if err := checkSizes(item.Plaintext, nil); err != nil {
		return "", err
	}
	if item.Version != 1 && item.Version != 2 {
		return "", fault.New(fault.Invalid, "the version of a blob is 1 or 2")
	}
	if err := s.takeCMEKSeal(ctx, k.Fingerprint()); err != nil {
		return "", err
	}
	if item.Version == 2 {
		return cmek.EncryptBoundValue(k.Key, at, item.Plaintext)
	}
	return cmek.EncryptValue(k.Key, item.Plaintext)
}

// CMEKOpen opens values for caller, of either form and version, with records as
// CMEKSeal makes them; plaintexts are the caller's to wipe. An item fails with
// fault.Forbidden as there, fault.Invalid (no blob) or fault.Unopenable, for
// every cause the same.
func (s *Service) CMEKOpen(ctx context.Context, caller string, items []kmsapi.CMEKOpenItem) ([]kmsapi.CMEKOpenResult, error) {
	if err := checkBatch(len(items)); err != nil {
		return nil, err
	}
	out := make([]kmsapi.CMEKOpenResult, len(items))
	u := s.newCMEKUse(caller, "cmek.open")
	defer u.release()
	for i, item := range items {
		out[i].Err = u.use(ctx, item.Fingerprint, cmek.Context{VaultID: item.Vault, Path: item.Path}, func(k *cmekKey, at cmek.Context) (err error) {
			out[i].Plaintext, err = cmek.DecryptValueAt(k.Key, at, item.Value)
			return err
		})
	}
	if err := u.record(ctx); err != nil {
		kmsapi.CMEKOpen.WipeResults(out)
		return nil, err
	}
	u.stand(ctx)
	for i, item := range items {
		if err := u.fell(item.Fingerprint); err != nil && out[i].Err == nil {
			clear(out[i].Plaintext)
			out[i] = kmsapi.CMEKOpenResult{Err: err}
		}
	}
	return out, nil
}

// cmekUse is the gate of one call: it decides each item, and records all.
type cmekUse struct {
	s              *Service
	caller, action string
	keys           map[string]*usedCMEK // by fingerprint: one look at each in a call
	events         []audit.Event
}

// usedCMEK is a key for this caller, or why not.
type usedCMEK struct {
	slot    *slot[*cmekKey]
	seen    seen // when its row was looked at
	err     error
	damaged error // why the row, with the grants in it, does not open
}

func (s *Service) newCMEKUse(caller, action string) *cmekUse {
	return &cmekUse{s: s, caller: caller, action: action, keys: map[string]*usedCMEK{}}
}

// use does one item with its key, if caller may, and notes what became of it.
func (u *cmekUse) use(ctx context.Context, fingerprint string, at cmek.Context, do func(*cmekKey, cmek.Context) error) error {
	if err := checkCMEKItem(fingerprint, at); err != nil {
		return err
	}
	used := u.keys[fingerprint]
	if used == nil {
		used = u.look(ctx, fingerprint)
		u.keys[fingerprint] = used
		if errors.Is(used.err, errNotGranted) {
			u.denied(fingerprint, at, used.damaged)
		}
	}
	if used.err != nil {
		return used.err
	}
	err := cmekFault(do(used.slot.key, at))
	u.note(fingerprint, at, outcome(err), nil)
	return err
}

// look takes the key, if caller has a grant for it. Who has none cannot tell
// whether there is such a key, nor in what state.
func (u *cmekUse) look(ctx context.Context, fingerprint string) *usedCMEK {
	began := time.Now()
	k, err := u.s.cmekKey(ctx, fingerprint)
	switch {
	case errors.Is(err, fault.NotFound):
		return &usedCMEK{err: errNotGranted}
	case errors.Is(err, fault.Damaged):
		return &usedCMEK{err: errNotGranted, damaged: err}
	case err != nil:
		return &usedCMEK{err: err}
	case !k.key.may(u.caller):
		u.s.cmeks.release(k)
		return &usedCMEK{err: errNotGranted}
	}
	used := &usedCMEK{slot: k}
	used.seen.note(began)
	return used
}

// stand looks again at the keys whose look is too old to answer for what was done
// with them, until none is: the record takes its time. One that the caller may not
// use any more has an error; that its use was recorded says too much, not too little.
func (u *cmekUse) stand(ctx context.Context) {
	for n, again := 0, true; again; n++ {
		again = false
		for fingerprint, used := range u.keys {
			if used.err != nil || used.seen.age() <= answerAge {
				continue
			}
			if n == looks {
				used.err = errSlow
				continue
			}
			again = true
			u.s.cmeks.release(used.slot)
			u.keys[fingerprint] = u.look(ctx, fingerprint)
		}
	}
}

// fell is why what was done with a key is not answered, or nil.
func (u *cmekUse) fell(fingerprint string) error {
	if used := u.keys[fingerprint]; used != nil {
		return used.err
	}
	return nil
}

var errNotGranted = fault.New(fault.Forbidden, "you have no grant for this CMEK key here; ask the owner of this key process").WithType(kmsapi.TypeCMEKNotGranted)

// note takes down an item for the audit.
func (u *cmekUse) note(fingerprint string, at cmek.Context, outcome string, more map[string]any) {
	if u.s.audit == nil {
		return
	}
	detail := map[string]any{"vault": at.VaultID, "path": at.Path}
	for name, value := range more {
		detail[name] = value
	}
	u.events = append(u.events, audit.Event{Time: u.s.now(), Actor: u.caller, Action: u.action, Target: fingerprint, Outcome: outcome, Detail: detail})
}

// denied takes down the first item of a key that caller may not use. Whether its
// row is damaged is for the audit and the log alone.
func (u *cmekUse) denied(fingerprint string, at cmek.Context, damaged error) {
	n, due := u.s.denials.add(u.caller, u.s.now())
	if !due {
		return
	}
	more := map[string]any{"denied_since": n}
	if damaged != nil {
		more["damaged"] = true
		u.s.log.Error("a use of a customer's key was denied, since the grants in its row cannot be read", "fingerprint", fingerprint, "error", damaged)
	}
	u.note(fingerprint, at, "denied", more)
}

// record puts what was noted into the audit; with other calls of this moment it
// shares a sync of the disk.
func (u *cmekUse) record(ctx context.Context) error {
	if len(u.events) == 0 {
		return nil
	}
	if err := u.s.audit.Record(ctx, u.events...); err != nil {
		return fault.Wrap(fault.Unavailable, err, "the KMS cannot write its audit, and so uses no customer's key; mend the audit's disk, then start the KMS again")
	}
	return nil
}

func (u *cmekUse) release() {
	for _, used := range u.keys {
		if used.slot != nil {
			u.s.cmeks.release(used.slot)
		}
	}
}

func outcome(err error) string {
	if err != nil {
		return "failed"
	}
	return ""
}

func checkCMEKItem(fingerprint string, at cmek.Context) error {
	switch {
	case !cmek.ValidFingerprint(fingerprint):
		return fault.New(fault.Invalid, "a fingerprint is 64 lower-case hex digits")
	case at.VaultID == "" || len(at.VaultID) > 128 || at.Path == "" || len(at.Path) > 1024:
		return fault.New(fault.Invalid, "name the vault (1 to 128 bytes) and the path (1 to 1024) of the value")
	}
	return nil
}

// cmekFault is err of package cmek as ours.
func cmekFault(err error) error {
	switch {
	case errors.Is(err, cmek.ErrNotBlob):
		return fault.New(fault.Invalid, "the value has not the shape of a CMEK blob; was it sealed at all?")
	case errors.Is(err, cmek.ErrDecrypt):
		return fault.New(fault.Unopenable, "the value does not open: it was sealed under another key, or for another vault or path, or it was changed")
	}
	return asFault(err)
}

// denials counts uses that were refused for want of a grant. Of those of one
// caller one in a second is recorded, with how many there were since the last:
// who was cut off and asks on must not fill the audit's disk.
type denials struct {
	mu sync.Mutex // guards all below
	of map[string]*denial
}

type denial struct {
	recorded time.Time
	since    int // recorded
}

// add counts one, and reports whether it is due to be recorded, with how many
// there were since the last.
func (d *denials) add(caller string, now time.Time) (since int, due bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.of == nil {
		d.of = map[string]*denial{}
	}
	one := d.of[caller]
	if one == nil {
		one = new(denial)
		d.of[caller] = one
	}
	one.since++
	if now.Sub(one.recorded) < time.Second {
		return 0, false
	}
	since, one.since, one.recorded = one.since, 0, now
	return since, true
}

// take returns, by caller, what was not recorded yet.
func (d *denials) take() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	left := map[string]int{}
	for caller, one := range d.of {
		if one.since > 0 {
			left[caller], one.since = one.since, 0
		}
	}
	return left
}

// flushDenials records the denials that no record has.
func (s *Service) flushDenials() {
	for caller, n := range s.denials.take() {
		e := audit.Event{Time: s.now(), Actor: caller, Action: "cmek.use", Outcome: "denied", Detail: map[string]any{"denied_since": n}}
		if err := s.audit.Record(context.Background(), e); err != nil {
			s.log.Error("the audit does not have uses of customers' keys that were denied", "caller", caller, "denied", n, "error", err)
		}
	}
}

// takeCMEKSeal uses one seal of a customer's key, of which it reserves more when
// they run out. The count outlives the key's stay in the cache, which each
// reservation ends.
func (s *Service) takeCMEKSeal(ctx context.Context, fingerprint string) error {
	v, _ := s.cmekSeals.LoadOrStore(fingerprint, new(allowance))
	a := v.(*allowance)
	if a.take(1) {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for !a.take(1) {
		if err := store.Retry(ctx, func() error { return s.reserveCMEK(ctx, fingerprint, a) }); err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) reserveCMEK(ctx context.Context, fingerprint string, a *allowance) error {
	k, err := s.cmekKey(ctx, fingerprint)
	if err != nil {
		return err
	}
	defer s.cmeks.release(k)
	rec := k.key.cmekRecord
	granted := min(s.block, s.maxSeals-rec.Seals)
	if granted < 1 {
		return fault.New(fault.Conflict, "this CMEK key has made as many seals as it may; rotate the key of its vaults").WithType(kmsapi.TypeCMEKWornOut)
	}
	rec.Seals += granted
	if err := s.putCMEK(ctx, k.key.Key, rec, k.key.rev); err != nil {
		return err
	}
	a.left.Add(granted)
	return nil
}
