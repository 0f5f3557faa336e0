package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http/httptest"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/internal/allinone"
)

// exampleServer is a Keyfold for an example, which has no *testing.T to give
// to keyfoldtest.Start.
func exampleServer() (url, apiKey string, stop func()) {
	ctx := context.Background()
	node, err := allinone.Open(ctx, allinone.Config{})
	must(err)
	org, err := node.Identity.CreateOrg(ctx, "Example", "enterprise")
	must(err)
	user, err := node.Identity.CreateUser(ctx, org.ID, "owner@example.com")
	must(err)
	apiKey, err = node.Identity.CreateAPIKey(ctx, user.ID)
	must(err)
	s := httptest.NewServer(node.Handler)
	return s.URL, apiKey, func() { s.Close(); must(node.Close(ctx)) }
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// A sealed vault: only the fingerprint of the key and blobs reach the server.
func Example() {
	url, apiKey, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	key := cmek.Generate() // and keep it: cmek.WriteKeyFile

	c, err := client.New(url, apiKey, client.WithCMEKKey(key))
	must(err)
	vault, err := c.CreateVault(ctx, api.CreateVault{Name: "payments"})
	must(err)
	_, err = c.EnableCMEK(ctx, vault.ID, key.Fingerprint())
	must(err)
	_, err = c.Put(ctx, vault.ID, "api-keys/stripe", []byte("sk_live_51H"), client.PutOptions{Type: "api_key"})
	must(err)

	secret, err := c.Get(ctx, vault.ID, "api-keys/stripe")
	must(err)
	fmt.Println(secret)
	fmt.Println(string(secret.Value), secret.CMEKEncrypted)
	// Output:
	// api-keys/stripe version 1 [redacted]
	// sk_live_51H true
}

// Without the key a sealed value does not open, and the error names the key.
func ExampleKeyError() {
	url, apiKey, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	key := cmek.Generate()
	sealing, err := client.New(url, apiKey, client.WithCMEKKey(key))
	must(err)
	vault, err := sealing.CreateVault(ctx, api.CreateVault{Name: "payments"})
	must(err)
	_, err = sealing.EnableCMEK(ctx, vault.ID, key.Fingerprint())
	must(err)

	keyless, err := client.New(url, apiKey)
	must(err)
	_, err = keyless.Put(ctx, vault.ID, "api-keys/stripe", []byte("sk_live_51H"), client.PutOptions{})
	if need, ok := errors.AsType[*client.KeyError](err); ok {
		fmt.Println("the right key:", need.Fingerprint == key.Fingerprint())
	}
	// Output: the right key: true
}

func ExampleClient_Messages() {
	url, apiKey, stop := exampleServer()
	defer stop()
	ctx := context.Background()
	c, err := client.New(url, apiKey)
	must(err)
	thread, err := c.CreateThread(ctx, api.CreateThread{Title: "First contact"})
	must(err)
	for _, body := range []string{`"hello"`, `{"text":"and again"}`} {
		_, err := c.PostMessage(ctx, thread.ID, api.PostMessage{Body: json.RawMessage(body)})
		must(err)
	}
	for m, err := range c.Messages(ctx, thread.ID, "") {
		must(err)
		fmt.Println(m.Role, string(m.Body))
	}
	// Output:
	// user "hello"
	// user {"text":"and again"}
}
