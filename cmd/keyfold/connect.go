package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

const (
	defaultData = "./keyfold-data"
	devFileName = "dev.json"
)

// devFile is DIR/dev.json, which the development server writes: where it is
// and how to get in.
type devFile struct {
	URL    string `json:"url"`
	Email  string `json:"email"` // of the owner
	APIKey string `json:"api_key"`
	OrgID  string `json:"org_id"`

	AdminKey string `json:"admin_key"` // runs the server, reads nobody's data
}

// connect returns a client of the server that flags or environment name, and
// without both URL and key of the development server of the data directory.
func (a *app) connect() (*client.Client, error) {
	return a.connectWith(func(dev devFile) string { return dev.APIKey })
}

// connectWith is connect with the key that devKey chooses of the development
// server's.
func (a *app) connectWith(devKey func(devFile) string) (*client.Client, error) {
	url, key := first(a.url, a.getenv("KEYFOLD_URL")), first(a.apiKey, a.getenv("KEYFOLD_API_KEY"))
	switch {
	case url == "" && key == "":
		dev, err := a.devServer()
		if err != nil {
			return nil, err
		}
		url, key = dev.URL, devKey(dev)
	case url == "":
		return nil, cli.Advise(errors.New("there is an API key and no server to send it to"), "export KEYFOLD_URL=http://127.0.0.1:7420")
	case key == "":
		return nil, cli.Advise(errors.New("there is a server and no API key"), "export KEYFOLD_API_KEY=1ck_...")
	}
	c, err := client.New(url, key, client.WithKeySource(a.cmekKey), client.WithUserAgent("keyfold-cli/1"))
	if err == nil {
		a.atEnd = c.Close
	}
	return c, err
}

// calls makes the RunE of a command that does nothing without the server.
func (a *app) calls(run func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return a.callsWith(a.connect, run)
}

// operates is calls with an admin key.
func (a *app) operates(run func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return a.callsWith(func() (*client.Client, error) {
		return a.connectWith(func(dev devFile) string { return dev.AdminKey })
	}, run)
}

func (a *app) callsWith(connect func() (*client.Client, error), run func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		c, err := connect()
		if err != nil {
			return err
		}
		return run(cmd.Context(), c, args)
	}
}

// devServer reads the file that the development server has left.
func (a *app) devServer() (devFile, error) {
	path := filepath.Join(first(a.getenv("KEYFOLD_DATA"), defaultData), devFileName)
	dev, err := readDevFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return dev, cli.Advise(fmt.Errorf("no server is given, and no development server has left %s", path),
			"start one with: keyfold dev; or set KEYFOLD_URL and KEYFOLD_API_KEY")
	}
	return dev, err
}

// readDevFile reads a dev.json that belongs to this user and nobody else can
// read: whoever writes it decides where values are sent.
func readDevFile(path string) (dev devFile, err error) {
	info, err := os.Lstat(path)
	if err != nil {
		return dev, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 || !isOurs(info) {
		return dev, cli.Advise(fmt.Errorf("%s is not used: it must be a file of yours with mode 0600", path),
			"set KEYFOLD_URL and KEYFOLD_API_KEY")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return dev, err
	}
	if json.Unmarshal(data, &dev) != nil || dev.URL == "" || dev.APIKey == "" {
		return dev, cli.Advise(fmt.Errorf("%s is not what the development server writes", path), "start it again: keyfold dev")
	}
	return dev, nil
}

func first(values ...string) string {
	for _, v := range values {
		if v != "" {
			return v
		}
	}
	return ""
}
