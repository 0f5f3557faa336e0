package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/internal/cli"
)

// deviceName is what a user is shown who is asked to approve a login of ours.
const deviceName = "keyfold-cli"

type loginFlags struct {
	email   string
	withKey bool
}

func (a *app) loginCmd() *cobra.Command {
	var l loginFlags
	cmd := &cobra.Command{
		Use: "login", Short: "Sign in, and stay so on this machine", Args: cobra.NoArgs,
		Long: `Sign in at a server and keep the credential for the commands to come, in
config.json of KEYFOLD_CONFIG_DIR or of your config directory, readable by you
alone. It is sent to that server and to no other; flags and environment win over
it. keyfold logout takes it away.

Without flags, login shows a code that you approve where you are signed in already:
in the browser, or with keyfold login approve CODE. With --email it asks for your
password, and for a code if your account has a second factor. With --with-key it
asks for an API key, of a user or of an agent. What it asks for is typed unseen, or
is a line of stdin.

The server is --url, KEYFOLD_URL, the development server of ./keyfold-data, or the
one that you were signed in at before, the first that there is.`,
		Example: `  keyfold login --url https://keyfold.example
  keyfold login --email me@example.com
  keyfold login --with-key < agent.key`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.login(cmd.Context(), l) },
	}
	cmd.Flags().StringVar(&l.email, "email", "", "sign in with this account's password")
	cmd.Flags().BoolVar(&l.withKey, "with-key", false, "sign in with an API key, which is asked for")
	cmd.MarkFlagsMutuallyExclusive("email", "with-key")
	cmd.AddCommand(
		a.decideCmd("approve", "approved", "Sign in the device that shows this code, as you", (*client.Client).ApproveDevice),
		a.decideCmd("deny", "denied", "Refuse the device that shows this code", (*client.Client).DenyDevice))
	return cmd
}

// login signs in and saves the credential once the server has taken it.
func (a *app) login(ctx context.Context, l loginFlags) error {
	if a.apiKey != "" && (l.email != "" || l.withKey) {
		return cli.Usagef("--api-key is a way to sign in of its own; give one")
	}
	return a.keepSignIn(ctx, func(c *client.Client) (credential, error) { return a.signIn(ctx, c, l) })
}

// keepSignIn saves the credential that get gets at the server, once the server
// says whose it is.
func (a *app) keepSignIn(ctx context.Context, get func(*client.Client) (credential, error)) error {
	url, err := a.loginURL()
	if err != nil {
		return err
	}
	dir, err := a.configDir()
	if err != nil {
		return err
	}
	c, err := client.New(url, "", client.WithUserAgent(userAgent))
	if err != nil {
		return err
	}
	defer c.Close()
	saved, err := get(c)
	if err != nil {
		return refusedSignIn(err)
	}
	saved.URL = url
	who, err := a.whoHas(ctx, saved)
	if err != nil {
		return err
	}
	if err := changeCredential(dir, func(credential) (credential, error) { return saved, nil }); err != nil {
		return err
	}
	if a.getenv("KEYFOLD_API_KEY") != "" {
		a.Note("warning: KEYFOLD_API_KEY is set and wins over what was saved")
	}
	return a.Answer(who, "signed in at %s as %s", url, who.name())
}

// loginURL is the server to sign in at.
func (a *app) loginURL() (string, error) {
	if url := a.serverURL(); url != "" {
		return url, nil
	}
	dev, err := a.devServer()
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return dev.URL, err
	}
	saved, err := a.savedCredential()
	if err != nil {
		return "", cli.Advise(errors.New("no server is given"), "keyfold login --url https://keyfold.example")
	}
	return saved.URL, nil
}

// signIn gets a credential in the way that the flags say.
func (a *app) signIn(ctx context.Context, c *client.Client, l loginFlags) (saved credential, err error) {
	saved.APIKey = a.apiKey
	var t client.Token
	switch {
	case l.withKey:
		saved.APIKey, err = a.askSecret(ctx, "API key")
	case l.email != "":
		t, err = a.passwordSignIn(ctx, c, l.email)
	case a.apiKey == "":
		t, err = a.deviceSignIn(ctx, c)
	}
	if err == nil && strings.HasPrefix(saved.APIKey, agentKeyPrefix) {
		t, err = c.AgentToken(ctx, saved.APIKey)
	}
	saved.setToken(t)
	return saved, err
}

// refusedSignIn says what to do where no API key in the environment would help.
func refusedSignIn(err error) error {
	if client.IsUnauthenticated(err) {
		return cli.Advise(err, "check what you have typed, and the server; nothing was saved")
	}
	return err
}

func (a *app) passwordSignIn(ctx context.Context, c *client.Client, email string) (client.Token, error) {
	password, err := a.askSecret(ctx, "Password")
	if err != nil {
		return client.Token{}, err
	}
	t, err := c.SignIn(ctx, email, password)
	challenge, more := errors.AsType[*client.MFARequired](err)
	if !more {
		return t, err
	}
	code, err := a.askSecret(ctx, "Code of your second factor, or a recovery code")
	if err != nil {
		return client.Token{}, err
	}
	return c.VerifyMFA(ctx, challenge, code)
}

func (a *app) deviceSignIn(ctx context.Context, c *client.Client) (client.Token, error) {
	code, err := c.RequestDevice(ctx, deviceName)
	if err != nil {
		return client.Token{}, err
	}
	fmt.Fprintf(a.Err, `Your code is   %s

Approve it where you are signed in already: open
  %s
or run
  keyfold login approve %s

Waiting for that, at most %s ...
`, cli.Printable(code.UserCode), cli.Printable(first(code.VerificationURIComplete, code.VerificationURI)), cli.Printable(code.UserCode), time.Duration(code.ExpiresIn)*time.Second)
	t, err := c.AwaitDevice(ctx, code)
	if errors.Is(err, client.ErrDeviceExpired) {
		return t, cli.Advise(err, "keyfold login")
	}
	return t, err
}

// decideCmd approves or denies the login of another device.
func (a *app) decideCmd(use, done, short string, decide func(*client.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " CODE", Short: short, Args: cobra.ExactArgs(1),
		Long: short + `.
Whoever has that device can then do what you can. Approve a code only if you have
begun that login yourself, a moment ago, and never because somebody sent it to you.`,
		RunE: a.calls(func(ctx context.Context, c *client.Client, args []string) error {
			r, err := c.DeviceRequest(ctx, args[0])
			if err != nil {
				return onNotFound(err, "a code is good for some minutes, and once; begin again where you want to sign in: keyfold login")
			}
			if err := a.agree(fmt.Sprintf("%s %s at %s, which asked at %s?", use, r.ClientID, first(r.IPAddress, "an unknown address"), cli.When(r.CreatedAt))); err != nil {
				return err
			}
			if err := decide(c, ctx, r.UserCode); err != nil {
				return err
			}
			return a.Answer(decided{r, done}, "%s %s at %s", done, r.ClientID, first(r.IPAddress, "an unknown address"))
		}),
	}
}

// decided is what approve and deny print with --json.
type decided struct {
	api.DeviceRequest
	Decision string `json:"decision"` // approved or denied
}
