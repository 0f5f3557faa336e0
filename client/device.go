package client

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/keyfold/keyfold/api"
)

// The ends of AwaitDevice, beside a token.
var (
	ErrDeviceDenied  = errors.New("client: the request to sign in was denied")
	ErrDeviceExpired = errors.New("client: the code was not approved in time; ask for another one")
)

// RequestDevice begins a sign-in that a user approves elsewhere: show the user
// code and the address of the answer, then call AwaitDevice. name is what the
// user is shown, such as "keyfold-cli".
func (c *Client) RequestDevice(ctx context.Context, name string) (api.DeviceCode, error) {
	var code api.DeviceCode
	_, err := c.do(ctx, call{method: "POST", path: "/v1/auth/device/code", public: true, in: api.RequestDeviceCode{ClientID: name}, out: &code})
	code.VerificationURI, code.VerificationURIComplete = c.absolute(code.VerificationURI), c.absolute(code.VerificationURIComplete)
	return code, err
}

// absolute is a link of a server that does not know where people find it.
func (c *Client) absolute(link string) string {
	if strings.HasPrefix(link, "/") {
		return c.base + link
	}
	return link
}

const (
	leastInterval = time.Second
	slowDown      = 5 * time.Second // longer for each time that the server says so
)

// AwaitDevice asks, at the interval that the server wants, until the user has
// approved or denied, the code is over, or ctx ends.
func (c *Client) AwaitDevice(ctx context.Context, code api.DeviceCode) (Token, error) {
	interval := max(time.Duration(code.Interval)*time.Second, leastInterval)
	req := api.RequestDeviceToken{DeviceCode: code.DeviceCode, GrantType: api.DeviceGrant}
	for {
		if err := c.wait(ctx, interval); err != nil {
			return Token{}, err
		}
		var out api.DeviceToken
		t, err := c.token(ctx, "/v1/auth/device/token", req, &out, &out.Token)
		switch {
		case hasType(err, api.DevicePending):
		case hasType(err, api.DeviceSlowDown):
			interval += slowDown
		case hasType(err, api.DeviceDenied):
			return Token{}, ErrDeviceDenied
		case hasType(err, api.DeviceExpired):
			return Token{}, ErrDeviceExpired
		default:
			return t, err
		}
	}
}

// DeviceRequest returns who asks to sign in by this user code. Look at it before
// ApproveDevice.
func (c *Client) DeviceRequest(ctx context.Context, userCode string) (api.DeviceRequest, error) {
	return askAt[api.DeviceRequest](ctx, c, "GET", nil, "auth", "device", "code", userCode)
}

// ApproveDevice signs the device that shows this user code in as the caller.
func (c *Client) ApproveDevice(ctx context.Context, userCode string) error {
	return c.on(ctx, "POST", "auth", "device", "code", userCode, "approve")
}

// DenyDevice ends the sign-in of the device that shows this user code.
func (c *Client) DenyDevice(ctx context.Context, userCode string) error {
	return c.on(ctx, "POST", "auth", "device", "code", userCode, "deny")
}
