package kmsclient

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// CMEKRotationKey is kms.Service.CMEKRotationKey.
func (c *Client) CMEKRotationKey(ctx context.Context, owner string) (kmsapi.CMEKRotationKey, error) {
	r := post("/cmek_rotation_key", again)
	if owner != "" {
		r.query = url.Values{"owner": {owner}}.Encode()
	}
	var home *place
	r.by = &home
	k, err := call[kmsapi.CMEKRotationKey](ctx, c, r, nil)
	if err == nil && len(c.places) > 1 {
		c.homes.put(k.KeyID, home)
	}
	if err == nil && (k.KeyID == "" || k.Suite != kmsapi.CMEKRotationSuite || len(k.PublicKey) == 0) {
		return kmsapi.CMEKRotationKey{}, errShape
	}
	return k, err
}

// OpenCMEKRotation is kms.Service.OpenCMEKRotation. It is not sent again once a
// byte may have left: a session whose ID was lost would hold the keys until it
// was idle for long enough.
func (c *Client) OpenCMEKRotation(ctx context.Context, o kmsapi.OpenCMEKRotation) (session string, err error) {
	if o.Sealed.KeyID == "" {
		return c.openCMEKRotation(ctx, nil, o)
	}
	err = c.search(o.Sealed.KeyID, func(at *place) (has bool, err error) {
		session, err = c.openCMEKRotation(ctx, at, o)
		return err == nil || !errors.Is(err, fault.Unavailable) && fault.Of(err).Type != kmsapi.TypeCMEKKeyGone, err
	})
	c.homes.forget(o.Sealed.KeyID)
	return session, err
}

func (c *Client) openCMEKRotation(ctx context.Context, at *place, o kmsapi.OpenCMEKRotation) (session string, err error) {
	var home *place
	r := post(kmsapi.CMEKRotation.Path, once)
	r.at, r.by = at, &home
	results, err := direct(ctx, c, kmsapi.CMEKRotation, r, []kmsapi.OpenCMEKRotation{o})
	if err != nil {
		return "", err
	}
	if session = results[0].Session; session != "" && len(c.places) > 1 {
		c.homes.put(session, home)
	}
	return session, results[0].Err
}

// CMEKRotationAlive is kms.Service.CMEKRotationAlive.
func (c *Client) CMEKRotationAlive(ctx context.Context, session string) (bool, error) {
	if !isID(session) {
		return false, nil
	}
	alive := false
	err := c.search(session, func(at *place) (bool, error) {
		r := get("/cmek_rotation/"+session, nil)
		r.at = at
		answer, err := call[kmsapi.CMEKRotationAlive](ctx, c, r, nil)
		alive = answer.Alive
		return alive, err
	})
	return alive, err
}

// CloseCMEKRotation is kms.Service.CloseCMEKRotation. It fails with
// fault.Unavailable when the KMS did not say that the keys are wiped.
func (c *Client) CloseCMEKRotation(ctx context.Context, session string) error {
	if !isID(session) {
		return nil
	}
	err := c.search(session, func(at *place) (bool, error) { // where it is not, nothing is closed
		return false, c.tell(ctx, request{method: http.MethodDelete, path: "/cmek_rotation/" + session, repeat: again, at: at}, nil)
	})
	if err == nil {
		c.homes.forget(session)
	}
	return err
}

// Reencrypt is kms.Service.Reencrypt. Its call is never joined with others'. What
// is too big for one request goes in several, one after the other; when one of
// them fails as a whole, so does the call.
func (c *Client) Reencrypt(ctx context.Context, session string, items []kmsapi.ReencryptItem) ([]kmsapi.ReencryptResult, error) {
	r := post(kmsapi.Reencrypt.Path, again)
	r.query = url.Values{"session": {session}}.Encode()
	out := make([]kmsapi.ReencryptResult, 0, len(items))
	for _, part := range split(kmsapi.Reencrypt, items) {
		var results []kmsapi.ReencryptResult
		err := c.search(session, func(at *place) (has bool, err error) {
			r.at = at
			results, err = direct(ctx, c, kmsapi.Reencrypt, r, part)
			return err == nil || !errors.Is(err, fault.Unavailable) && fault.Of(err).Type != kmsapi.TypeCMEKSessionGone, err
		})
		if err != nil {
			return nil, err
		}
		for i := range results {
			if results[i].Err == nil && !reencrypted(&part[i], &results[i]) {
				results[i] = kmsapi.Reencrypt.Fail(errShape)
			}
		}
		out = append(out, results...)
	}
	return out, nil
}

// reencrypted reports whether a result that is no failure can be the answer to
// its item: form and version of the value, and so its size, stay.
func reencrypted(item *kmsapi.ReencryptItem, r *kmsapi.ReencryptResult) bool {
	e := &r.Envelope
	return e.KEKID == item.Envelope.KEKID && len(e.WrappedDEK) == wrappedSize && len(e.Ciphertext) == len(item.Envelope.Ciphertext) &&
		(r.Opened == kmsapi.OpenedOld || r.Opened == kmsapi.OpenedNew)
}

// direct makes one item call that nobody shares. Its request and the answer are
// wiped.
func direct[In, Out any](ctx context.Context, c *Client, call kmsapi.Call[In, Out], r request, items []In) ([]Out, error) {
	size := call.RequestSize(items)
	if size > kmsapi.MaxBody { // then it is one item
		return []Out{call.Fail(errItemTooLarge)}, nil
	}
	if ctx.Err() != nil {
		return nil, gaveUp(ctx)
	}
	body := getBuffer(size)
	defer putBuffer(body)
	body.b = call.AppendRequest(body.b, items)
	r.kind, r.body, r.size = kmsapi.ContentType, [][]byte{body.b}, size
	answer, err := c.bounded(ctx, r)
	if err != nil {
		return nil, err
	}
	defer putBuffer(answer)
	results, err := call.ParseAnswer(answer.b, len(items))
	if err == nil {
		call.Detach(results)
	}
	return results, err
}

// bounded is do for at most as long as the answer to an item call may take.
func (c *Client) bounded(ctx context.Context, r request) (*buffer, error) {
	bound := time.Now().Add(c.wait())
	ctx, end := c.untilClose(context.WithDeadline(ctx, bound))
	defer end()
	answer, err := c.do(ctx, r)
	if err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded) && !time.Now().Before(bound) {
		c.silent(err)
	}
	return answer, err
}
