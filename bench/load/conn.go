package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// conn is one persistent HTTP/1.1 connection. It sends request bytes that
// were made before and reads just enough of the answer to know its status and
// that it is complete: a client of net/http costs about as much CPU as the
// server that it measures, on the same cores.
type conn struct {
	c    net.Conn
	buf  []byte // what was read of the answer, n bytes of it
	n    int
	sent int64 // bytes
	got  int64
}

func dial(base string, deadline time.Time) (*conn, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "unix" && (u.Scheme != "http" || u.Host == "") {
		return nil, fmt.Errorf("the URL must be http://host:port or unix:///path, not %q", base)
	}
	network, address := "tcp", u.Host
	if u.Scheme == "unix" {
		network, address = "unix", u.Path
	}
	c, err := net.DialTimeout(network, address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, buf: make([]byte, 16<<10)}, c.SetDeadline(deadline)
}

// request makes the bytes of a request. A nil body sends none.
func request(method, path, key string, body []byte) []byte {
	return requestOf("application/json", method, path, key, body)
}

func requestOf(contentType, method, path, key string, body []byte) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: bench\r\n", method, path)
	if key != "" {
		fmt.Fprintf(&b, "Authorization: Bearer %s\r\n", key)
	}
	if body != nil {
		fmt.Fprintf(&b, "Content-Type: %s\r\nContent-Length: %d\r\n", contentType, len(body))
	}
	b.WriteString("\r\n")
	b.Write(body)
	return b.Bytes()
}

// do sends req and reads the whole answer. body is valid until the next do.
// After an error the connection is of no more use.
func (c *conn) do(req []byte) (status int, body []byte, err error) {
	if _, err := c.c.Write(req); err != nil {
		return 0, nil, err
	}
	c.sent += int64(len(req))
	c.n = 0
	head := -1
	for head < 0 {
		if err := c.fill(); err != nil {
			return 0, nil, err
		}
		head = bytes.Index(c.buf[:c.n], []byte("\r\n\r\n"))
	}
	status, length, err := parseHead(string(c.buf[:head+2]))
	if err != nil {
		return 0, nil, err
	}
	start := head + 4
	if length == chunked {
		body, err = c.chunks(start)
	} else {
		body, err = c.exactly(start, length)
	}
	c.got += int64(c.n)
	return status, body, err
}

// fill reads what has come, at least one byte.
func (c *conn) fill() error {
	if c.n == len(c.buf) {
		c.buf = append(c.buf, make([]byte, len(c.buf))...)
	}
	n, err := c.c.Read(c.buf[c.n:])
	c.n += n
	if n > 0 {
		return nil
	}
	return err
}

// upTo reads until there are n bytes.
func (c *conn) upTo(n int) error {
	for c.n < n {
		if err := c.fill(); err != nil {
			return err
		}
	}
	return nil
}

// exactly is the body of n bytes that begins at start.
func (c *conn) exactly(start, n int) ([]byte, error) {
	if err := c.upTo(start + n); err != nil {
		return nil, err
	}
	if c.n > start+n {
		return nil, errors.New("more bytes than the answer declared")
	}
	return c.buf[start : start+n], nil
}

// chunks is the chunked body that begins at start, put together in place.
func (c *conn) chunks(start int) ([]byte, error) {
	end, at := start, start // end of the body so far, where the next chunk begins
	for {
		eol, err := c.line(at)
		if err != nil {
			return nil, err
		}
		size, err := strconv.ParseUint(string(c.buf[at:eol]), 16, 30)
		if err != nil {
			return nil, fmt.Errorf("bad chunk size %q", c.buf[at:eol])
		}
		data, next := eol+2, eol+2+int(size)+2
		if err := c.upTo(next); err != nil {
			return nil, err
		}
		if string(c.buf[next-2:next]) != "\r\n" {
			return nil, errors.New("chunk without its end")
		}
		if size == 0 {
			return c.buf[start:end], nil
		}
		end += copy(c.buf[end:], c.buf[data:data+int(size)])
		at = next
	}
}

// line is where the line that begins at start ends.
func (c *conn) line(start int) (int, error) {
	for {
		if start < c.n {
			if i := bytes.Index(c.buf[start:c.n], []byte("\r\n")); i >= 0 {
				return start + i, nil
			}
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}

const (
	chunked = -1
	unknown = -2
)

// parseHead reads status and body length from a response's head.
func parseHead(head string) (status, length int, err error) {
	line, rest, _ := strings.Cut(head, "\r\n")
	if len(line) < 12 || !strings.HasPrefix(line, "HTTP/1.1 ") {
		return 0, 0, fmt.Errorf("bad status line %q", line)
	}
	if status, err = strconv.Atoi(line[9:12]); err != nil {
		return 0, 0, fmt.Errorf("bad status line %q", line)
	}
	length, err = bodyLength(rest)
	switch {
	case err != nil:
		err = fmt.Errorf("an answer of status %d: %w", status, err)
	case length == unknown && status == 204:
		length = 0
	case length == unknown:
		err = errors.New("an answer of unknown length")
	}
	return status, length, err
}

// bodyLength reads the headers: bytes of the body, chunked, or unknown.
func bodyLength(headers string) (length int, err error) {
	length = unknown
	for headers != "" {
		var line string
		line, headers, _ = strings.Cut(headers, "\r\n")
		name, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimSpace(value); {
		case strings.EqualFold(name, "Content-Length"):
			if length, err = strconv.Atoi(value); err != nil || length < 0 {
				return 0, fmt.Errorf("bad content length %q", value)
			}
		case strings.EqualFold(name, "Transfer-Encoding") && value == "chunked":
			length = chunked
		case strings.EqualFold(name, "Connection") && value == "close":
			return 0, errors.New("the server closes the connection")
		}
	}
	return length, nil
}
