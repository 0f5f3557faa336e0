package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/keyfold/keyfold/internal/cli"
)

// confirm asks for name to be typed, unless yes.
func (a *app) confirm(yes bool, name, what string) error {
	if yes {
		return nil
	}
	fmt.Fprintf(a.Err, "%s\nType %s to go on: ", cli.Printable(what), cli.Printable(name))
	line, err := bufio.NewReader(io.LimitReader(a.In, 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != name {
		return cli.Advise(errors.New("not confirmed; nothing was changed"), "type the name as it is shown, or say --yes")
	}
	return nil
}
