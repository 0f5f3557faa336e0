package client

import (
	"context"
	"net/url"

	"github.com/keyfold/keyfold/api"
)

// Participants returns who takes part in a thread beside its owner.
func (c *Client) Participants(ctx context.Context, threadID string) ([]api.Participant, error) {
	out, err := askAt[api.Participants](ctx, c, "GET", nil, "threads", threadID, "participants")
	return out.Participants, err
}

// SetParticipant lets somebody take part in a thread of the caller's: p.Part is read
// or write. In a thread under a CMEK key they also need the key, which is not
// Keyfold's to give.
func (c *Client) SetParticipant(ctx context.Context, threadID string, p api.Participant) (api.Participant, error) {
	return askAt[api.Participant](ctx, c, "PUT", api.PutParticipant{Part: p.Part, EndUser: p.EndUser}, "threads", threadID, "participants", p.ID)
}

// RemoveParticipant takes somebody's part in a thread of the caller's away, or the
// caller's own in another's.
func (c *Client) RemoveParticipant(ctx context.Context, threadID, id string, endUser bool) error {
	path, err := escape("threads", threadID, "participants", id)
	if err != nil {
		return err
	}
	query := url.Values{}
	if endUser {
		query.Set("end_user", "true")
	}
	_, err = c.do(ctx, call{method: "DELETE", path: path, query: query})
	return err
}
