package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// banner says what runs where and what to do next. It does not print the API
// key: what is printed ends up in logs.
func (a *app) banner(d devFlags, dev devFile) error {
	if a.JSON {
		return a.PrintJSON(struct {
			URL  string `json:"url"`
			Data string `json:"data"`
			KMS  string `json:"kms"`
			File string `json:"dev_json"`
		}{dev.URL, d.data, d.kms, filepath.Join(d.data, devFileName)})
	}
	keyfold := program()
	next := ""
	if d.data != defaultData {
		abs, err := filepath.Abs(d.data)
		if err != nil {
			abs = d.data
		}
		next = fmt.Sprintf("  export KEYFOLD_DATA='%s'\n", abs)
	}
	_, err := fmt.Fprintf(a.Out, `Keyfold runs.

  Server     %s
  Dashboard  %s/ui/ (sign in as the owner)
  Data       %s
  Keys       %s
  API key    api_key in %s, readable by you alone; the commands below find it there
  Owner      %s, password in the same file, org %s on the enterprise plan
  Open       anybody who reaches this address may sign up; calls are limited by --rate, bodies to 4 MB;
             retention is on; %s
  Stop       Ctrl-C; the data stays

%s
%s
Next, in another terminal in this directory:

%s  %s vault create payments
  %s cmek keygen --out payments.key
  %s cmek enable VAULT_ID --cmek-key-file payments.key
  %s secret put VAULT_ID api-keys/stripe --cmek-key-file payments.key
  %s secret get VAULT_ID api-keys/stripe --cmek-key-file payments.key
`, dev.URL, dev.URL, d.data, d.keysAt(), filepath.Join(d.data, devFileName), dev.Email, dev.OrgID, d.imports(), d.warning(), exposed(d.addr),
		next, keyfold, keyfold, keyfold, keyfold, keyfold)
	return err
}

// exposed warns of an address that other machines reach.
func exposed(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	ip := net.ParseIP(host)
	if err != nil || host == "localhost" || ip != nil && ip.IsLoopback() {
		return ""
	}
	return "It listens beyond this machine, over plain HTTP.\n"
}

// program is how this command was started.
func program() string {
	if strings.Contains(os.Args[0], "go-build") {
		return "go run ./cmd/keyfold"
	}
	return os.Args[0]
}
