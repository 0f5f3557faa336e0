package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"

	"github.com/keyfold/keyfold/api"
)

// ErrCutOff is the end of an export that lacks its last line.
var ErrCutOff = errors.New("client: the export was cut off; ask for it again")

// ExportThread iterates over all versions of all messages of a thread, also of those
// that were deleted: messages in their order, the versions of one together, oldest
// first. Bodies of a thread under a CMEK key are opened. It ends at the first error,
// which it yields: [ErrCutOff] too.
func (c *Client) ExportThread(ctx context.Context, threadID string) iter.Seq2[api.Message, error] {
	return func(yield func(api.Message, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		body, err := c.exported(ctx, threadID)
		if err != nil {
			yield(api.Message{}, err)
			return
		}
		defer body.Close()
		e := exportReader{lines: bufio.NewScanner(body)}
		e.lines.Buffer(nil, 2*maxBody)
		for {
			m, err := e.next()
			if err == io.EOF {
				return
			}
			if err == nil {
				err = c.openMessages(ctx, threadID, &m)
			}
			if !yield(m, err) || err != nil {
				return
			}
		}
	}
}

// maxBody is the size of the greatest body, in bytes.
const maxBody = 4 << 20

// exported asks for an export.
func (c *Client) exported(ctx context.Context, threadID string) (io.ReadCloser, error) {
	path, err := escape("threads", threadID, "export")
	if err != nil {
		return nil, err
	}
	return c.stream(ctx, call{method: "GET", path: path})
}

// exportReader reads the lines of an export.
type exportReader struct {
	lines    *bufio.Scanner
	messages int
	last     string // ID of the message of the last line
}

// next returns the next version; io.EOF after the last line, if it counts as many messages.
func (e *exportReader) next() (m api.Message, err error) {
	var l api.ThreadExportLine
	if !e.lines.Scan() || json.Unmarshal(e.lines.Bytes(), &l) != nil { // the cause could quote a body
		return m, ErrCutOff
	}
	if l.End && l.Messages == e.messages {
		return m, io.EOF
	} else if l.End || l.ID == "" {
		return m, ErrCutOff
	}
	if l.ID != e.last {
		e.messages, e.last = e.messages+1, l.ID
	}
	return api.Message{
		ID: l.ID, Thread: l.Thread, Author: l.Author, EndUser: l.EndUser, Role: l.Role, TS: l.TS, Body: l.Body,
		ReplyTo: l.ReplyTo, Version: l.Version, UpdatedTS: l.UpdatedTS, Deleted: l.Deleted, Reactions: l.Reactions,
	}, nil
}
