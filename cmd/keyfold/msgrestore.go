package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

// A file that "message export" wrote is api.ThreadExportLine by line; the last line is
// the end. It is brought in parts, by POST /v1/threads/{thread}/import, which knows
// what the thread has: a part that was interrupted is sent again. Into a thread under a
// CMEK key the client seals each version anew.

// Bounds of a part: the server's.
const (
	partLines = 1000
	partBytes = 4 << 20
)

// readExport calls use for each message of a whole export, with its versions. Errors
// name the line and quote nothing of it. errNoEnd: the last line is missing.
func readExport(r io.Reader, use func(versions []api.ThreadExportLine) error) error {
	br := bufio.NewReaderSize(r, 64<<10)
	var message []api.ThreadExportLine
	messages := 0
	flush := func() error {
		if len(message) == 0 {
			return nil
		}
		messages++
		versions := message
		message = nil
		return use(versions)
	}
	for no := 1; ; no++ {
		raw, err := readLine(br)
		if err == io.EOF {
			return errNoEnd
		}
		var l api.ThreadExportLine
		if err == nil && json.Unmarshal(raw, &l) != nil {
			err = errors.New("it is none of an export")
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", no, err)
		}
		if l.End || len(message) > 0 && message[0].ID != l.ID {
			if err := flush(); err != nil {
				return err
			}
		}
		if l.End && l.Messages != messages {
			return errNoEnd
		} else if l.End {
			return nil
		}
		message = append(message, l)
	}
}

var errNoEnd = errors.New("it is not whole: its last line does not count the messages; export the thread again")

// isExport reports whether a file has a line that only a whole export has.
func isExport(file string) (bool, error) {
	f, err := openRegular(file)
	if err != nil {
		return false, err
	}
	defer f.Close()
	for br := bufio.NewReaderSize(f, 64<<10); ; {
		raw, err := readLine(br)
		if err != nil {
			return false, nil
		}
		var l api.ThreadExportLine
		if json.Unmarshal(raw, &l) == nil && (l.End || l.Version > 0 || l.Deleted || l.Reactions != nil) {
			return true, nil
		}
	}
}

// importExport checks the whole file, and then brings it part by part.
func (a *app) importExport(ctx context.Context, c *client.Client, threadID, file string) error {
	f, err := openRegular(file)
	if err != nil {
		return err
	}
	defer f.Close()
	messages := 0
	if err := readExport(f, func([]api.ThreadExportLine) error { messages++; return nil }); err != nil {
		return fmt.Errorf("%s: %w; nothing was imported", file, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	bar := a.Bar(messages, "importing")
	sum, err := bringParts(ctx, c, threadID, f, bar)
	bar.End()
	if err != nil {
		return cli.Advise(err, "run the same command again to go on; no message is posted twice")
	}
	return a.Answer(sum, "%d written, %d already there, %d left out", sum.Imported, sum.Present, sum.LeftOut)
}

func bringParts(ctx context.Context, c *client.Client, threadID string, r io.Reader, bar cli.Bar) (sum api.ImportedMessages, err error) {
	var part []api.ThreadExportLine
	size, in := 0, 0
	send := func() error {
		if len(part) == 0 {
			return nil
		}
		got, err := c.ImportThread(ctx, threadID, part)
		sum.Imported, sum.Present, sum.LeftOut = sum.Imported+got.Imported, sum.Present+got.Present, sum.LeftOut+got.LeftOut
		for range in {
			bar.Add()
		}
		part, size, in = nil, 0, 0
		return err
	}
	err = readExport(r, func(versions []api.ThreadExportLine) error {
		n := 0
		for _, v := range versions {
			n += len(v.Body) + 512
		}
		if len(part)+len(versions) > partLines || size+n > partBytes {
			if err := send(); err != nil {
				return err
			}
		}
		part, size, in = append(part, versions...), size+n, in+1
		return nil
	})
	if err == nil {
		err = send()
	}
	return sum, err
}
