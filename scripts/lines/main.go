// Command lines turns lines of text into what Keyfold's command line reads and
// writes as JSON, and back, for scripts that want no other tool.
//
//	lines encode <lines >messages.jsonl     for `keyfold message import`
//	lines decode <messages.jsonl >lines     from `keyfold message export --newest`
//	lines names KIND <secrets.json >lines   from `keyfold secret list --json`
//
// A message's body is the line as a JSON string. Lines must be UTF-8. "names"
// writes the path of every secret that an import has named, a tab, and that
// name, which is the metadata member KIND ("file" or "env").
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
	out := bufio.NewWriter(os.Stdout)
	err := run(os.Args[1:], os.Stdin, out)
	if err := errors.Join(err, out.Flush()); err != nil {
		fmt.Fprintln(os.Stderr, "lines:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "encode":
		return encode(in, out)
	case len(args) == 1 && args[0] == "decode":
		return decode(in, out)
	case len(args) == 2 && args[0] == "names":
		return names(args[1], in, out)
	}
	return errors.New("usage: lines encode | decode | names KIND")
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
		var m struct {
			Body *string `json:"body"`
		}
		if err := dec.Decode(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if m.Body == nil {
			return errors.New("a message without a text body")
		}
		if _, err := fmt.Fprintln(out, *m.Body); err != nil {
			return err
		}
	}
}

func names(kind string, in io.Reader, out io.Writer) error {
	var list struct {
		Secrets []struct {
			Path     string            `json:"path"`
			Metadata map[string]string `json:"metadata"`
		} `json:"secrets"`
	}
	if err := json.NewDecoder(in).Decode(&list); err != nil {
		return err
	}
	for _, s := range list.Secrets {
		name, ok := s.Metadata[kind]
		switch {
		case !ok:
			continue
		case strings.ContainsAny(name, "\t\n"):
			return fmt.Errorf("the name of %s does not fit a line", s.Path)
		}
		if _, err := fmt.Fprintf(out, "%s\t%s\n", s.Path, name); err != nil {
			return err
		}
	}
	return nil
}
