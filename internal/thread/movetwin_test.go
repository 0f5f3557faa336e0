package thread

import (
	"context"

	"github.com/keyfold/keyfold/internal/fault"
)

// ShredDEK is the part of twinKMS that destroys.
func (k *twinKMS) ShredDEK(_ context.Context, keyID string) error {
	if err := k.begin(0); err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shredded = append(k.shredded, keyID)
	if k.keys[keyID] == nil {
		return fault.New(fault.NotFound, "no such key")
	}
	delete(k.keys, keyID)
	return nil
}
