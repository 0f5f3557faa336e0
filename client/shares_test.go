package client_test

import (
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/client"
	"github.com/keyfold/keyfold/cmek"
	"github.com/keyfold/keyfold/keyfoldtest"
)

func TestASharedBlobOpensForWhoHasTheKey(t *testing.T) {
	s := keyfoldtest.Start(t)
	for _, bound := range []bool{false, true} {
		key := cmek.Generate()
		c := newClient(t, s, client.WithCMEKKey(key))
		vault := newVault(t, c)
		if _, err := c.EnableCMEKWith(t.Context(), vault, client.LocalKey(key), client.EnableOptions{Bound: bound}); err != nil {
			t.Fatal(err)
		}
		made, err := c.Put(t.Context(), vault, "db/password", []byte("kelp"), client.PutOptions{})
		if err != nil {
			t.Fatal(err)
		}
		share, err := c.CreateShare(t.Context(), made.ID, api.CreateShare{
			RecipientType: api.ShareLink, ExpiresAt: new(s.Now().Add(time.Hour)), RecipientHasKey: true, CMEKFingerprint: key.Fingerprint(),
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := c.OpenShare(t.Context(), share.ShareURL, ""); err != nil || string(got.Value) != "kelp" {
			t.Errorf("bound %v: %v, %v", bound, got, err)
		}
		if got, err := newClient(t, s).OpenShare(t.Context(), share.ShareURL, ""); err == nil {
			t.Errorf("bound %v, without the key: %v", bound, got)
		}
	}
}
