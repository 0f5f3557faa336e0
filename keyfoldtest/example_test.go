package keyfoldtest_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/keyfold/keyfold/keyfoldtest"
)

// What a test of a program that uses Keyfold looks like. The program gets the
// URL and the key as it would in production.
func Example() {
	test := func(t *testing.T) {
		s := keyfoldtest.Start(t)

		req, _ := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/v1/vaults", nil)
		req.Header.Set("Authorization", "Bearer "+s.APIKey)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		fmt.Println(string(body))

		s.SetKMSDown(true) // and see what the program does now
		s.MustNotHold(t, "the plaintext of a secret")
	}
	_ = test
}
