package client

import (
	"context"
	"errors"
	"time"

	"github.com/keyfold/keyfold/api"
)

// MFARequired is the answer to SignIn of a user who has a second factor: the
// password was right. Pass it to VerifyMFA with a code.
type MFARequired struct{ token string }

// Error says what is missing.
func (*MFARequired) Error() string {
	return "client: the password is right; the account needs a code of its second factor too"
}

// GoString is a type and no more: %#v must not print the challenge.
func (*MFARequired) GoString() string { return "client.MFARequired [redacted]" }

// Calls that sign in need no credential and send none. What they return is for
// WithToken.

// SignUp makes a user and signs it in.
func (c *Client) SignUp(ctx context.Context, req api.SignUp) (Token, error) {
	var out api.SignedUp
	return c.token(ctx, "/v1/auth/signup", req, &out, &out.Token)
}

// SignIn signs a user in with a password. The error is a *MFARequired when the
// user has a second factor.
func (c *Client) SignIn(ctx context.Context, email, password string) (Token, error) {
	var out api.SignedIn
	t, err := c.token(ctx, "/v1/auth/token", api.SignIn{Email: email, Password: password}, &out, &out.Token)
	if out.MFARequired && out.MFAToken != "" {
		return Token{}, &MFARequired{out.MFAToken}
	}
	return t, err
}

// VerifyMFA ends what SignIn began, with a code of the app or a recovery code.
func (c *Client) VerifyMFA(ctx context.Context, challenge *MFARequired, code string) (Token, error) {
	var out api.Token
	return c.token(ctx, "/v1/auth/mfa/verify", api.VerifyMFA{MFAToken: challenge.token, Code: code}, &out, &out)
}

// Refresh redeems a refresh token, which works once.
func (c *Client) Refresh(ctx context.Context, refreshToken string) (Token, error) {
	var out api.Token
	return c.token(ctx, "/v1/auth/refresh", api.Refresh{RefreshToken: refreshToken}, &out, &out)
}

// token makes a call that signs in; out is the answer and t the token in it.
func (c *Client) token(ctx context.Context, path string, in, out any, t *api.Token) (Token, error) {
	if _, err := c.do(ctx, call{method: "POST", path: path, public: true, in: in, out: out}); err != nil {
		return Token{}, err
	}
	if t.AccessToken == "" {
		return Token{}, errors.New("client: the server answered without a token; is it a Keyfold server?")
	}
	life := time.Duration(t.ExpiresIn) * time.Second
	return Token{Access: t.AccessToken, Refresh: t.RefreshToken, Expires: time.Now().Add(life)}, nil
}

// Logout ends the session of the client's token: it, and the refresh token that
// came with it, are dead when the call returns. An API key is no session.
func (c *Client) Logout(ctx context.Context) error {
	if _, err := c.bearer(ctx); err != nil { // now, so that the refresh token is the last one
		return err
	}
	_, err := c.do(ctx, call{method: "DELETE", path: "/v1/auth/token", in: api.SignOut{RefreshToken: c.tokens.refresh()}})
	return err
}

// LogoutEverywhere ends all sessions of the user, the client's own too. API keys
// live on.
func (c *Client) LogoutEverywhere(ctx context.Context) error {
	_, err := c.do(ctx, call{method: "DELETE", path: "/v1/auth/tokens"})
	return err
}

// Me returns the user that the client acts for. Agents have AgentMe.
func (c *Client) Me(ctx context.Context) (api.Profile, error) {
	return ask[api.Profile](ctx, c, call{method: "GET", path: "/v1/auth/me"})
}

// UpdateMe changes the user's profile and returns it.
func (c *Client) UpdateMe(ctx context.Context, req api.UpdateProfile) (api.Profile, error) {
	return ask[api.Profile](ctx, c, call{method: "PATCH", path: "/v1/auth/me", in: req})
}

// ChangePassword changes the user's password and ends all other sessions. The
// client's own ends with its present token, which cannot be renewed.
func (c *Client) ChangePassword(ctx context.Context, current, next string) error {
	_, err := c.do(ctx, call{method: "POST", path: "/v1/auth/change-password", in: api.ChangePassword{CurrentPassword: current, NewPassword: next}})
	return err
}

// BeginTOTP makes a second factor for the user. It is in force once ConfirmTOTP
// was called.
func (c *Client) BeginTOTP(ctx context.Context, password string) (api.TOTP, error) {
	return ask[api.TOTP](ctx, c, call{method: "POST", path: "/v1/auth/mfa/totp", in: api.BeginTOTP{Password: password}})
}

// ConfirmTOTP puts the second factor in force, by a code of the app, and returns
// the recovery codes.
func (c *Client) ConfirmTOTP(ctx context.Context, code string) ([]string, error) {
	out, err := ask[api.RecoveryCodes](ctx, c, call{method: "POST", path: "/v1/auth/mfa/totp/confirm", in: api.TOTPCode{Code: code}})
	return out.RecoveryCodes, err
}

// DisableTOTP takes the second factor away, by a code of the app or a recovery
// code.
func (c *Client) DisableTOTP(ctx context.Context, code string) error {
	_, err := c.do(ctx, call{method: "DELETE", path: "/v1/auth/mfa/totp", in: api.TOTPCode{Code: code}})
	return err
}
