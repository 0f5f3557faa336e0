//go:build !unix

package rootspec

import "errors"

func readCredential(string, string) ([]byte, error) {
	return nil, errors.New("credential: is for systemd, which this system has not; name the root key in another form")
}
