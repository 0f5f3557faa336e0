package api

import "time"

// DeviceGrant is the grant_type of POST /v1/auth/device/token (RFC 8628).
const DeviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// RequestDeviceCode is the body of POST /v1/auth/device/code.
type RequestDeviceCode struct {
	ClientID string `json:"client_id"` // what the user is shown: 1 to 100 characters, such as "keyfold-cli"
}

// DeviceCode answers a RequestDeviceCode.
type DeviceCode struct {
	DeviceCode              string `json:"device_code"`               // secret; for POST /v1/auth/device/token
	UserCode                string `json:"user_code"`                 // for the user to enter: "BCDF-GHJK"
	VerificationURI         string `json:"verification_uri"`          // where to enter it
	VerificationURIComplete string `json:"verification_uri_complete"` // the same with the code in it
	ExpiresIn               int    `json:"expires_in"`                // seconds; 600
	Interval                int    `json:"interval"`                  // least seconds between two polls; 5
}

// RequestDeviceToken is the body of POST /v1/auth/device/token. Until the user
// has decided, it is answered with a DeviceProblem.
type RequestDeviceToken struct {
	DeviceCode string `json:"device_code"`
	GrantType  string `json:"grant_type"` // DeviceGrant
	ClientID   string `json:"client_id,omitempty"`
}

// DeviceToken answers a RequestDeviceToken once, when the user has approved.
type DeviceToken struct {
	Token         // good for 86400 seconds
	Email  string `json:"email"`
	UserID string `json:"user_id"`
	OrgID  string `json:"org_id"`
}

// What Error of a DeviceProblem says.
const (
	DevicePending  = "authorization_pending"  // ask again after the interval
	DeviceSlowDown = "slow_down"              // ask again, and wait 5 seconds longer each time from now on
	DeviceExpired  = "expired_token"          // the code is over, used or unknown; ask for a new one
	DeviceDenied   = "access_denied"          // the user said no
	DeviceGrantErr = "unsupported_grant_type" // grant_type is not DeviceGrant
)

// DeviceProblem is a Problem of status 400 whose Error, and whose Type, is one
// of the Device constants.
type DeviceProblem = Problem

// DeviceRequest is the body of GET /v1/auth/device/code/{user_code}: what a
// user should look at before POST .../approve or .../deny, which answer 204.
type DeviceRequest struct {
	UserCode  string    `json:"user_code"`
	ClientID  string    `json:"client_id"`            // as the device named itself
	IPAddress string    `json:"ip_address,omitempty"` // of the device
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}
