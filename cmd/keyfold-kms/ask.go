package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// confirm asks for name to be typed, unless yes.
func (a *app) confirm(yes bool, name, what string) error {
	if yes {
		return nil
	}
	fmt.Fprintf(a.err, "%s\nType %s to go on: ", printable(what), printable(name))
	line, err := bufio.NewReader(io.LimitReader(a.in, 1024)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if strings.TrimSpace(line) != name {
		return &failure{err: errors.New("not confirmed; nothing was changed"), hint: "type the name as it is shown, or say --yes"}
	}
	return nil
}
