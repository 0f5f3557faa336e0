// Command jsonl turns lines of text into the JSONL that `keyfold message
// import` reads, and what `message export` writes back into lines.
//
//	jsonl encode <lines >messages.jsonl
//	jsonl decode <messages.jsonl >lines
//
// A message's body is the line as a JSON string. Lines must be UTF-8.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

type message struct {
	Body string `json:"body"`
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: jsonl encode|decode <IN >OUT")
		os.Exit(2)
	}
	out := bufio.NewWriter(os.Stdout)
	err := run(os.Args[1], os.Stdin, out)
	if err := errors.Join(err, out.Flush()); err != nil {
		fmt.Fprintln(os.Stderr, "jsonl:", err)
		os.Exit(1)
	}
}

func run(verb string, in io.Reader, out io.Writer) error {
	switch verb {
	case "encode":
		return encode(in, out)
	case "decode":
		return decode(in, out)
	}
	return fmt.Errorf("%q is neither encode nor decode", verb)
}

func encode(in io.Reader, out io.Writer) error {
	enc := json.NewEncoder(out)
	for r := bufio.NewReader(in); ; {
		line, err := r.ReadString('\n')
		if err == io.EOF && line == "" {
			return nil
		}
		if err != nil && err != io.EOF {
			return err
		}
		line = strings.TrimSuffix(line, "\n")
		if !utf8.ValidString(line) {
			return fmt.Errorf("a line is not UTF-8: %.40q", line)
		}
		if err := enc.Encode(message{line}); err != nil {
			return err
		}
	}
}

func decode(in io.Reader, out io.Writer) error {
	for dec := json.NewDecoder(in); ; {
		var m message
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, m.Body); err != nil {
			return err
		}
	}
}
