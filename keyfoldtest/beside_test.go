package keyfoldtest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/keyfoldtest"
)

func TestWhatOneServerWritesTheOneBesideItReads(t *testing.T) {
	for _, where := range []string{keyfoldtest.Embedded, keyfoldtest.Socket} {
		for _, dir := range []string{"", t.TempDir()} {
			first := keyfoldtest.Start(t, keyfoldtest.Shared(), keyfoldtest.KMS(where), keyfoldtest.OnDisk(dir))
			second := keyfoldtest.Beside(t, first)
			secret := "/v1/vaults/" + makeVault(t, first, first.APIKey) + "/secrets/a"
			call(t, second, first.APIKey, "PUT", secret, `{"value":"canary-1"}`)
			if status, body := call(t, first, first.APIKey, "GET", secret, ""); status != 200 || !strings.Contains(body, "canary-1") {
				t.Errorf("%s, %q: %d %s", where, dir, status, body)
			}
			second.Advance(time.Hour)
			if second.Now().Sub(first.Now()) < time.Hour/2 || second.URL == first.URL || second.NewUser(first.Owner.OrgID).Email == first.NewUser(first.Owner.OrgID).Email {
				t.Error("the two have not a clock, an address and users each")
			}
			if !store.Shared(first.Node().Store) || !store.Shared(second.Node().Store) {
				t.Error("the store does not say that it is shared")
			}
			first.MustNotHold(t, "canary-1")
			second.MustNotHold(t, "canary-1")
		}
	}
}

func TestAKilledServerIsGoneAndTheOtherIsNot(t *testing.T) {
	first := keyfoldtest.Start(t, keyfoldtest.Shared())
	second := keyfoldtest.Beside(t, first)
	secret := "/v1/vaults/" + makeVault(t, second, first.APIKey) + "/secrets/a"
	dead := first.Node().Store
	first.Kill()
	var b store.Batch
	b.Put("late", nil)
	if _, err := dead.Commit(t.Context(), &b); err == nil {
		t.Error("a dead server writes")
	}
	r, _ := http.NewRequest("GET", first.URL+"/readyz", nil)
	client := http.Client{Timeout: 100 * time.Millisecond}
	if res, err := client.Do(r); err == nil {
		res.Body.Close()
		t.Errorf("a dead server answers %d", res.StatusCode)
	}
	if status, body := call(t, second, first.APIKey, "PUT", secret, `{"value":"x"}`); status != 201 {
		t.Errorf("the other one: %d %s", status, body)
	}
	first.Restart()
	if status, body := call(t, first, first.APIKey, "GET", secret, ""); status != 200 {
		t.Errorf("after a restart: %d %s", status, body)
	}
}

func TestAPausedServerGoesOnWhereItWas(t *testing.T) {
	first := keyfoldtest.Start(t, keyfoldtest.Shared())
	second := keyfoldtest.Beside(t, first)
	vault := "/v1/vaults/" + makeVault(t, first, first.APIKey)
	resume := second.Pause()
	answered := make(chan int, 1)
	go func() {
		r, _ := http.NewRequest("GET", second.URL+vault, nil)
		r.Header.Set("Authorization", "Bearer "+first.APIKey)
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			answered <- 0
			return
		}
		res.Body.Close()
		answered <- res.StatusCode
	}()
	if status, body := call(t, first, first.APIKey, "GET", vault, ""); status != 200 {
		t.Errorf("the other one: %d %s", status, body)
	}
	select {
	case status := <-answered:
		t.Errorf("a paused server answers %d", status)
	default:
	}
	resume()
	if status := <-answered; status != 200 {
		t.Errorf("after the pause: %d", status)
	}
}
