// Package vault owns vaults, the secrets in them, every version of a secret,
// and the state of a vault's customer-managed key (CMEK).
//
// What it trusts. The KMS seals and opens; a value leaves this package only in
// a KMS call, and comes back only from one. The store is not trusted with
// anything that the AAD of a version binds: a version row that was edited or
// moved does not open. It is trusted with the rest: who owns a vault, which
// version is the newest, what is disabled, how often a version was read.
//
// What survives a crash. Every change is one commit, and every commit requires
// the revision of the vault's meta row, so nothing is ever written into a vault
// that was deleted; a rewrap and a CMEK rotation require the rows that they
// replace instead (see RewrapKind and RotationKind), and go on where they were.
// The keys of a CMEK rotation are in the memory of the KMS alone: when they are
// lost, it waits for them. A vault's deletion leaves a purge mark in the same commit;
// Recover removes the rows that a crash left behind. A KEK whose vault was
// never written is left in the KMS and harms nothing.
//
// Formats of all rows: rows.go. Keys of all rows: package layout.
package vault

import (
	"context"
	"log/slog"
	"time"

	"github.com/keyfold/keyfold/internal/access"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
)

// KMS is what this package uses of the key process. Errors are *fault.Error; a
// KMS that is away answers fault.Unavailable.
type KMS interface {
	// CreateKEK makes KEKs under ids. An ID that exists answers its info.
	CreateKEK(ctx context.Context, ids []string) ([]kmsapi.KEKInfo, error)
	Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error)
	Open(ctx context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error)
	// Rewrap answers wrapped DEKs under the primary; those that are so already, too.
	Rewrap(ctx context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error)
	// RotateKEK makes a new primary while IfVersion is it, and answers the primary.
	RotateKEK(ctx context.Context, r kmsapi.Rotate) (kmsapi.Rotated, error)
	// ReleaseKEK says that nothing is stored under versions less than below.
	ReleaseKEK(ctx context.Context, kekID string, below uint32) error

	// CMEKRotationKey makes a key to which the keys of one rotation may be sealed.
	// fault.TooMany: owner, an org, has used up its share of them.
	CMEKRotationKey(ctx context.Context, owner string) (kmsapi.CMEKRotationKey, error)
	// OpenCMEKRotation gives the KMS the two keys of a rotation, until
	// CloseCMEKRotation, a long silence, or its end. fault.Invalid: they are not
	// those that o names. fault.TooMany: as of CMEKRotationKey.
	OpenCMEKRotation(ctx context.Context, o kmsapi.OpenCMEKRotation) (session string, err error)
	CMEKRotationAlive(ctx context.Context, session string) (bool, error)
	CloseCMEKRotation(ctx context.Context, session string) error
	// Reencrypt uses them. fault.NotFound: it has them no longer.
	Reencrypt(ctx context.Context, session string, items []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error)
}

// Gate decides and records before anything is touched, and records which
// version a write or a deletion made once that is on stable storage.
type Gate interface {
	access.Gate
	Done(ctx context.Context, p access.Principal, a access.Action, r access.Resource) error
}

// Config says what a Service works with.
type Config struct {
	Store store.Store
	KMS   KMS
	Gate  Gate
	Now   func() time.Time // nil: time.Now
	Log   *slog.Logger     // nil: slog.Default
}

// Service does everything with vaults and secrets. Its methods may be called
// by many goroutines, and many Services may share a store.
//
// Every method but Ahead takes the caller first and asks the gate, which records its
// answer, before it looks at anything that the caller named. A vault that is unknown or another org's is
// fault.NotFound, alike; a caller who may not is fault.Forbidden, whether the
// secret exists or not. Errors are *fault.Error or wrap one; those that nobody
// named are fault.Internal.
type Service struct {
	store     store.Store
	kms       KMS
	authority Gate
	now       func() time.Time
	log       *slog.Logger
	quotas    quotas
	known     *store.Known // which rows a read of a secret took
}

// New returns a Service. Call Recover once before it takes requests.
func New(c Config) *Service {
	s := &Service{store: c.Store, kms: c.KMS, authority: c.Gate, now: c.Now, log: c.Log, known: store.NewKnown(c.Store)}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	return s
}

// time is the present as rows and answers hold it: UTC, whole microseconds.
func (s *Service) time() time.Time { return s.now().UTC().Truncate(time.Microsecond) }
