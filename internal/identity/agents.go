package identity

import (
	"context"

	"github.com/keyfold/keyfold/internal/access"
)

// Patterns tells the path patterns that the policies of a principal name, on
// whichever vault: the scopes of a token of an agent that has none of its own.
type Patterns interface {
	Patterns(ctx context.Context, kind access.Kind, principalID string) ([]string, error)
}
