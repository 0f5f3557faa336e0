package kmskey

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/keyfold/keyfold/cmek"
)

// ErrDenied is the answer to a caller who has no grant for the key, or is not
// in the key process's list of callers.
var ErrDenied = errors.New("kmskey: the key process does not let this caller use the key")

// ErrAway says that no answer came.
var ErrAway = errors.New("kmskey: the key process does not answer")

var errShape = errors.New("kmskey: the key process answered with something that does not fit the call")

// Error is a refusal of the key process. It is ErrDenied or cmek.ErrDecrypt
// where those say it.
type Error struct {
	Status  int    // of HTTP
	Code    string // a word of the protocol: forbidden, does_not_open, unavailable, ...
	Message string // for people
}

// Error says what the key process said.
func (e *Error) Error() string { return "the key process: " + e.Message }

// Is compares by Status and Code.
func (e *Error) Is(target error) bool {
	return target == ErrDenied && e.Status == http.StatusForbidden || target == cmek.ErrDecrypt && e.Code == "does_not_open"
}

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 48 << 20

// call makes one call. Sealing and opening twice does no harm, so that a
// connection which the process has closed costs nothing but another try, and a
// process that does not answer a call to the next one.
func (k *KMS) call(ctx context.Context, path string, in, out any) (err error) {
	ctx, cancel := context.WithTimeout(ctx, k.timeout)
	defer cancel()
	n, from := len(k.places), int(k.last.Load())
	for i := range n {
		at := (from + i) % n
		if err = k.places[at].call(ctx, k.timeout/time.Duration(n), path, in, out); !elsewhere(err) {
			k.last.Store(int32(at))
			return err
		}
		if ctx.Err() != nil {
			return err
		}
	}
	return err
}

// elsewhere reports whether another process may do what failed here.
func elsewhere(err error) bool {
	e, refused := errors.AsType[*Error](err)
	return errors.Is(err, ErrAway) || refused && e.Status == http.StatusServiceUnavailable
}

func (p *place) call(ctx context.Context, timeout time.Duration, path string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	body := func() (io.ReadCloser, error) {
		text, err := json.Marshal(in)
		return &wipedBody{text: text}, err
	}
	first, err := body()
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.base+path, first)
	if err != nil {
		return err
	}
	req.GetBody = body
	req.ContentLength = int64(len(first.(*wipedBody).text))
	req.Header.Set("Content-Type", "application/json")
	req.Header["Idempotency-Key"] = nil // net/http may send it again; it is not sent itself
	res, err := p.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAway, err)
	}
	defer res.Body.Close()
	return read(res, out)
}

func read(res *http.Response, out any) error {
	var text bytes.Buffer
	if res.ContentLength > 0 {
		text.Grow(int(min(res.ContentLength, maxAnswer)) + bytes.MinRead) // in one piece, which can be wiped
	}
	_, err := text.ReadFrom(io.LimitReader(res.Body, maxAnswer))
	defer func() { clear(text.Bytes()) }()
	if err != nil {
		return fmt.Errorf("%w to the end: %w", ErrAway, err)
	}
	if res.StatusCode != http.StatusOK {
		e := &Error{Status: res.StatusCode}
		var w struct{ Error, Code string }
		if json.Unmarshal(text.Bytes(), &w) != nil || w.Code == "" {
			return errShape
		}
		e.Code, e.Message = w.Code, w.Error
		return e
	}
	if json.Unmarshal(text.Bytes(), out) != nil {
		return errShape
	}
	return nil
}

// wipedBody is a request's body, overwritten once net/http lets go of it, which
// may be after the answer.
type wipedBody struct {
	mu   sync.Mutex // guards all below
	text []byte
	read int
}

func (b *wipedBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.read == len(b.text) {
		return 0, io.EOF
	}
	n := copy(p, b.text[b.read:])
	b.read += n
	return n, nil
}

func (b *wipedBody) Close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.text)
	b.text, b.read = nil, 0
	return nil
}
