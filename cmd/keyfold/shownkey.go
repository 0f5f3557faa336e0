package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

// shownKey is a key that was made just now and cannot be had again.
type shownKey struct {
	what      string // "API key" when empty
	id, key   string
	all, rest any // what --json prints, with the key and without it
}

func keyOutFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVar(path, "key-out", "", "write the key to this file, mode 0600, and not to the terminal")
	_ = cmd.MarkFlagFilename("key-out")
}

// showsKey makes a key and prints it, or writes it to the file keyOut, which is
// begun before the key is made. A key that could not be written is printed: there
// is no other copy.
func (a *app) showsKey(keyOut string, make func(*client.Client) (shownKey, error)) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	return a.showsKeyOf(c, keyOut, make)
}

// showsKeyOf is showsKey with a client.
func (a *app) showsKeyOf(c *client.Client, keyOut string, make func(*client.Client) (shownKey, error)) error {
	if keyOut == "" {
		k, err := make(c)
		if err != nil {
			return err
		}
		return a.printKey(k)
	}
	var k shownKey
	err := cli.CreateFile(keyOut, func(f io.ReadWriteSeeker) (err error) {
		if k, err = make(c); err != nil {
			return err
		}
		return cli.Bytes([]byte(k.key + "\n"))(f)
	})
	switch {
	case err != nil && k.key != "":
		return errors.Join(fmt.Errorf("the key was made and not written, so here it is: %w", err), a.printKey(k))
	case err != nil:
		return err
	}
	return a.Answer(k.rest, "%s", k.id)
}

func (a *app) printKey(k shownKey) error {
	what := first(k.what, "API key")
	if !a.JSON {
		a.Note("this is the only time that it is shown; keep it safe")
	}
	return a.Table(k.all, [][]string{{"ID", k.id}, {what, k.key}})
}
