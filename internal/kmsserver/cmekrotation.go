package kmsserver

import (
	"context"

	"github.com/keyfold/keyfold/internal/httpx"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// openCMEKRotations is KMS.OpenCMEKRotation as an item call.
func openCMEKRotations(k KMS) func(context.Context, []kmsapi.OpenCMEKRotation) ([]kmsapi.CMEKRotationOpened, error) {
	return func(ctx context.Context, items []kmsapi.OpenCMEKRotation) ([]kmsapi.CMEKRotationOpened, error) {
		out := make([]kmsapi.CMEKRotationOpened, len(items))
		for i := range items {
			out[i].Session, out[i].Err = k.OpenCMEKRotation(ctx, items[i])
		}
		return out, nil
	}
}

// reencrypt answers /reencrypt, of the session in its query.
func (s *Server) reencrypt(ctx context.Context, c *httpx.Call) error {
	q, err := c.Query()
	if err != nil {
		return err
	}
	session := q.Get("session")
	if session == "" {
		return missing("session")
	}
	return answerItems(ctx, c, s, kmsapi.Reencrypt, func(ctx context.Context, items []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error) {
		return s.cfg.KMS.Reencrypt(ctx, session, items)
	}, nil)
}

// The calls of CMEK rotations in JSON alone.

func (l keylife) cmekRotationKey(ctx context.Context, c *httpx.Call) (kmsapi.CMEKRotationKey, error) {
	q, err := c.Query()
	if err != nil {
		return kmsapi.CMEKRotationKey{}, err
	}
	return l.kms.CMEKRotationKey(actor(ctx, c), q.Get("owner"))
}

func (l keylife) cmekRotationAlive(ctx context.Context, c *httpx.Call) (kmsapi.CMEKRotationAlive, error) {
	alive, err := l.kms.CMEKRotationAlive(actor(ctx, c), c.Param("session"))
	return kmsapi.CMEKRotationAlive{Alive: alive}, err
}

func (l keylife) closeCMEKRotation(ctx context.Context, c *httpx.Call) (done, error) {
	return done{}, l.kms.CloseCMEKRotation(actor(ctx, c), c.Param("session"))
}
