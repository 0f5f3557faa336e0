package main

import (
	"context"
	"encoding/json"
	"fmt"
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
	URL      string `json:"url"`
	Email    string `json:"email"` // of the owner
	Password string `json:"password"`
	APIKey   string `json:"api_key"`
	OrgID    string `json:"org_id"`

	BackendKey  string `json:"backend_key"`
	FrontendKey string `json:"frontend_key"`
	AdminKey    string `json:"admin_key"`   // runs the server, reads nobody's data
	SigningKey  string `json:"signing_key"` // signs user IDs for the frontend key

	Member devLogin `json:"member"` // of the same org, not its owner
	Free   devLogin `json:"free"`   // the owner of an org on the free plan
}

// devLogin is who can sign in with a password.
type devLogin struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// connect returns a client of the server, and with the credential, that caller
// chooses.
func (a *app) connect() (*client.Client, error) {
	return a.connectWith(ownersKey)
}

func ownersKey(dev devFile) string { return dev.APIKey }

// connectWith is connect with the key that devKey chooses of the development
// server's.
func (a *app) connectWith(devKey func(devFile) string) (*client.Client, error) {
	who, err := a.caller(devKey)
	if err != nil {
		return nil, err
	}
	return a.client(who)
}

// calls makes the RunE of a command that does nothing without the server.
func (a *app) calls(run func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return a.callsWith(a.connect, run)
}

// connectOperator is connect with an admin key, where it is the development
// server's.
func (a *app) connectOperator() (*client.Client, error) {
	return a.connectWith(func(dev devFile) string { return dev.AdminKey })
}

// operates is calls with an admin key.
func (a *app) operates(run func(ctx context.Context, c *client.Client, args []string) error) func(*cobra.Command, []string) error {
	return a.callsWith(a.connectOperator, run)
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

// devServer reads the file that the development server has left; without one it
// is fs.ErrNotExist.
func (a *app) devServer() (devFile, error) { return readDevFile(a.devPath()) }

func (a *app) devPath() string {
	return filepath.Join(first(a.getenv("KEYFOLD_DATA"), defaultData), devFileName)
}

func readDevFile(path string) (dev devFile, err error) {
	data, err := readOwn(path, maxConfig, "set KEYFOLD_URL and KEYFOLD_API_KEY")
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
