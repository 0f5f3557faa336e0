package thread

import (
	"context"
	"encoding/json"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/internal/access"
)

// PostOptions are what a caller may say of a post beside the message.
type PostOptions struct {
	// IdempotencyKey is what the caller named his request by, 1 to 255 printable
	// ASCII characters: within a day the same key of the same principal answers
	// the message that the first request made. "": each request makes one.
	IdempotencyKey string
}

// PostWith is Post with options.
func (s *Service) PostWith(ctx context.Context, p access.Principal, threadID string, req api.PostMessage, o PostOptions) (json.RawMessage, error) {
	return s.Post(ctx, p, threadID, req)
}

// Page is a page of a thread's messages.
type Page struct {
	Messages  [][]byte // the api.Message as JSON, each, oldest first
	HasBefore bool     // there are older ones
	HasAfter  bool     // there are newer ones
}

// Page returns the page that q names.
func (s *Service) Page(ctx context.Context, p access.Principal, threadID string, q MessageQuery) (Page, error) {
	return Page{}, nil
}

// Count returns how many messages the thread has, those that were deleted not counted.
func (s *Service) Count(ctx context.Context, p access.Principal, threadID string) (int, error) {
	return 0, nil
}

// EditMessage makes a new version of a message.
func (s *Service) EditMessage(ctx context.Context, p access.Principal, threadID, messageID string, req api.EditMessage) (json.RawMessage, error) {
	return nil, nil
}

// DeleteMessage hides a message.
func (s *Service) DeleteMessage(ctx context.Context, p access.Principal, threadID, messageID string) error {
	return nil
}

// ListVersions returns the versions of a message as the JSON of api.MessageVersions.
func (s *Service) ListVersions(ctx context.Context, p access.Principal, threadID, messageID string, limit int, cursor string) (json.RawMessage, error) {
	return nil, nil
}

// React sets a reaction and returns the api.Message as JSON.
func (s *Service) React(ctx context.Context, p access.Principal, threadID, messageID string, r api.Reaction) (json.RawMessage, error) {
	return nil, nil
}

// Unreact removes the reaction of an identity; "": of the principal.
func (s *Service) Unreact(ctx context.Context, p access.Principal, threadID, messageID, identity string) error {
	return nil
}

// ListReactions returns the reactions to a message, by identity.
func (s *Service) ListReactions(ctx context.Context, p access.Principal, threadID, messageID string) (api.Reactions, error) {
	return api.Reactions{}, nil
}

// Rename gives a thread another title.
func (s *Service) Rename(ctx context.Context, p access.Principal, threadID string, req api.UpdateThread) (api.Thread, error) {
	return api.Thread{}, nil
}
