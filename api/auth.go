package api

import "time"

// SignUp is the body of POST /v1/auth/signup. Without an invitation it makes a
// new org, whose owner the user becomes; with one, the user joins its org.
type SignUp struct {
	Email       string `json:"email"`
	Password    string `json:"password"` // see ChangePassword
	DisplayName string `json:"display_name,omitempty"`
	OrgName     string `json:"org_name,omitempty"`   // of the new org; the display name or the email when absent
	Invitation  string `json:"invitation,omitempty"` // "1inv_...", sent to this very email
}

// SignedUp is the answer to SignUp: the new user is signed in.
type SignedUp struct {
	Token
	Message string `json:"message"`
	Email   string `json:"email"`
	UserID  string `json:"user_id"`
	OrgID   string `json:"org_id"`
}

// SignIn is the body of POST /v1/auth/token.
type SignIn struct {
	Email    string `json:"email"`
	Password string `json:"password"`
}

// Token is a session (strict).
type Token struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`              // "Bearer"
	ExpiresIn    int    `json:"expires_in,omitzero"`     // seconds
	RefreshToken string `json:"refresh_token,omitempty"` // of users' sessions; it works once, see Refresh
}

// SignedIn is the answer to SignIn: a session or, for a user with a second
// factor, the challenge that VerifyMFA takes, with an empty access token and
// the challenge's seconds in ExpiresIn.
type SignedIn struct {
	Token
	MFARequired bool   `json:"mfa_required,omitzero"`
	MFAToken    string `json:"mfa_token,omitempty"`
}

// VerifyMFA is the body of POST /v1/auth/mfa/verify, which answers a Token.
type VerifyMFA struct {
	MFAToken string `json:"mfa_token"`
	Code     string `json:"code"` // six digits, or a recovery code
}

// Refresh is the body of POST /v1/auth/refresh, which answers a Token with the
// next refresh token in it. Where the call that began the session had the header
// X-Keyfold-Session: cookie, the refresh token is in a cookie in place of the answer;
// then the body is an empty object and the call has that header, too, as the one
// that ends the session. A browser that keeps none is answered 204, without a body.
// It is for pages of the server's own origin.
type Refresh struct {
	RefreshToken string `json:"refresh_token,omitempty"`
}

// SignOut is the body of DELETE /v1/auth/token, which may have none: the access
// token that the call carries is dead then, and so are all refresh tokens of its
// session, and of that of the refresh token that comes along.
type SignOut struct {
	RefreshToken string `json:"refresh_token,omitempty"`
}

// Profile is the body of GET /v1/auth/me: the caller.
type Profile struct {
	ID              string    `json:"id"`
	Email           string    `json:"email"`
	DisplayName     string    `json:"display_name"`
	AuthMethod      string    `json:"auth_method"` // "password", or "api_key" of a user who has none
	Role            string    `json:"role"`        // in the org: owner, admin or member
	EmailVerified   bool      `json:"email_verified"`
	MarketingEmails bool      `json:"marketing_emails"`
	TOTPEnabled     bool      `json:"totp_enabled"`
	CreatedAt       time.Time `json:"created_at"`
	OrgID           string    `json:"org_id"`
}

// UpdateProfile is the body of PATCH /v1/auth/me, which answers a Profile. What
// is absent stays.
type UpdateProfile struct {
	DisplayName     *string `json:"display_name,omitzero"` // at most 200 characters
	MarketingEmails *bool   `json:"marketing_emails,omitzero"`
}

// ChangePassword is the body of POST /v1/auth/change-password. A password has 12
// characters or more, at most 256 bytes, an upper-case and a lower-case letter,
// a digit and a special character, and no run of three equal or three
// sequential characters. All other sessions end; that of the access token does so
// with it, unless a browser keeps it (see Refresh) and the call has that header, too.
type ChangePassword struct {
	CurrentPassword string `json:"current_password"`
	NewPassword     string `json:"new_password"`
}

// BeginTOTP is the body of POST /v1/auth/mfa/totp.
type BeginTOTP struct {
	Password string `json:"password"` // the user's, once more
}

// TOTP is the answer to BeginTOTP: a second factor, in force once a code of it
// was confirmed (SHA-1, 6 digits, 30 seconds).
type TOTP struct {
	Secret     string `json:"secret"` // base32 without padding
	OTPAuthURI string `json:"otpauth_uri"`
}

// TOTPCode is the body of POST /v1/auth/mfa/totp/confirm, and of DELETE
// /v1/auth/mfa/totp, which also takes a recovery code.
type TOTPCode struct {
	Code string `json:"code"`
}

// RecoveryCodes is the answer to the confirmation: ten codes that work once each
// in place of a code of the app. They cannot be had again.
type RecoveryCodes struct {
	RecoveryCodes []string `json:"recovery_codes"`
}
