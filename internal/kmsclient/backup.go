package kmsclient

import (
	"context"
	"io"
	"net/http"
)

// Backup writes a backup of the key store to w, as the KMS sends it. It asks
// once. After an error a part may have been written; whether all is there, the
// reader of a backup tells (see package kmsbackup).
func (c *Client) Backup(ctx context.Context, w io.Writer) error {
	if c.ctx.Err() != nil {
		return errClosed
	}
	ctx, end := c.untilClose(context.WithCancel(ctx))
	defer end()
	p := c.pick(0)
	resp, err := p.wires.get(c).RoundTrip(p.httpRequest(ctx, get("/backup", nil), newParts(nil)))
	if err != nil {
		return unreachable(safe(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		answer, err := readAll(resp.Body, resp.ContentLength)
		if err != nil {
			return lost(safe(err))
		}
		_, err = taken(resp.StatusCode, answer)
		return err
	}
	in := &source{r: resp.Body}
	if _, err = io.Copy(w, in); in.err != nil {
		return lost(safe(in.err))
	}
	return err
}

// source keeps the error of what it reads apart from that of what is written.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}
