package kmsclient

import (
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/kmsapi"
)

// spoken are the calls whose examples in PROTOCOL.md are in JSON alone, as this
// client makes them.
var spoken = map[string]func(context.Context, *Client) (any, error){
	"GET /get_wrapped?key_id=dek_1": func(ctx context.Context, c *Client) (any, error) {
		wrapped, err := c.GetWrapped(ctx, "dek_1")
		return map[string][]byte{"wrapped": wrapped}, err
	},
	"GET /keys?after=threads&count=true&limit=1": func(ctx context.Context, c *Client) (any, error) {
		return c.Keys(ctx, kmsapi.KeysQuery{After: "threads", Count: true, Limit: 1})
	},
	"GET /list_keks?count=true&limit=1": func(ctx context.Context, c *Client) (any, error) {
		return c.ListKEKs(ctx, kmsapi.ListQuery{Count: true, Limit: 1})
	},
	"POST /list_deks": func(ctx context.Context, c *Client) (any, error) {
		return c.ListDEKs(ctx, []string{"dek_1", "dek_9"})
	},
	"GET /keys?deks=true": func(ctx context.Context, c *Client) (any, error) { return c.Keys(ctx, kmsapi.KeysQuery{DEKs: true}) },
	"POST /rotate_kek": func(ctx context.Context, c *Client) (any, error) {
		return c.RotateKEK(ctx, kmsapi.Rotate{KEKID: "threads", IfVersion: 1})
	},
	"POST /import_kek": func(ctx context.Context, c *Client) (any, error) {
		raw, err := base64.StdEncoding.DecodeString("q4eiz0/wBCsR5x2cG1tqXPLkGnO9JwP0m5Hq3zr1VMY=")
		if err != nil {
			return nil, err
		}
		return c.ImportKEK(ctx, raw)
	},
	"POST /release_kek": func(ctx context.Context, c *Client) (any, error) { return struct{}{}, c.ReleaseKEK(ctx, "vault_1", 2) },
	"POST /destroy_kek_version": func(ctx context.Context, c *Client) (any, error) {
		return struct{}{}, c.DestroyKEKVersion(ctx, "vault_1", 1)
	},
	"POST /shred_dek":         func(ctx context.Context, c *Client) (any, error) { return struct{}{}, c.ShredDEK(ctx, "dek_1") },
	"GET /jobs":               func(ctx context.Context, c *Client) (any, error) { return c.Jobs(ctx) },
	"DELETE /jobs/" + job:     func(ctx context.Context, c *Client) (any, error) { return struct{}{}, c.CancelJob(ctx, job) },
	"POST /cmek_rotation_key": func(ctx context.Context, c *Client) (any, error) { return c.CMEKRotationKey(ctx, "") },
	"GET /cmek_rotation/" + session: func(ctx context.Context, c *Client) (any, error) {
		alive, err := c.CMEKRotationAlive(ctx, session)
		return kmsapi.CMEKRotationAlive{Alive: alive}, err
	},
	"DELETE /cmek_rotation/" + session: func(ctx context.Context, c *Client) (any, error) {
		return struct{}{}, c.CloseCMEKRotation(ctx, session)
	},
	"GET /cmek_keys": func(ctx context.Context, c *Client) (any, error) { return c.CMEKKeys(ctx, "") },
	"POST /cmek_keys": func(ctx context.Context, c *Client) (any, error) {
		raw := make([]byte, 32)
		for i := range raw {
			raw[i] = byte(i)
		}
		return c.ImportCMEKKey(ctx, "payroll", raw)
	},
	"POST /cmek_grant": func(ctx context.Context, c *Client) (any, error) {
		return struct{}{}, c.GrantCMEKKey(ctx, fingerprint, "cert:agent-7")
	},
	"POST /cmek_revoke": func(ctx context.Context, c *Client) (any, error) {
		return struct{}{}, c.RevokeCMEKKey(ctx, fingerprint, "cert:agent-7")
	},
	"DELETE /cmek_keys/" + fingerprint: func(ctx context.Context, c *Client) (any, error) {
		return struct{}{}, c.DeleteCMEKKey(ctx, fingerprint)
	},
	"GET /status": func(ctx context.Context, c *Client) (any, error) { return c.Status(ctx) },
}

const (
	job         = "019344d0-7d3f-7a10-8c53-5ab1c4e0a7d1"
	fingerprint = "630dcd2966c4336691125448bbb25b4ff412a49c732db2c8abc1b8581bd710dd"
	session     = "019344d0-7d3f-4a10-8c53-5ab1c4e0a7d2"
)

var jsonExample = regexp.MustCompile("```example\n(\\S+ \\S+)\n(?:(\\{.*\\})\n)?\n(20\\d)\n(.*)\n```")

func TestTheClientSpeaksTheExamplesOfTheProtocol(t *testing.T) {
	text, err := os.ReadFile("../kmsapi/PROTOCOL.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := jsonExample.FindAllStringSubmatch(string(text), -1)
	if len(examples) != len(spoken) {
		t.Errorf("PROTOCOL.md has %d examples in JSON alone, the client speaks %d", len(examples), len(spoken))
	}
	for _, e := range examples {
		line, request, answer := e[1], e[2], e[4]
		if spoken[line] == nil {
			t.Errorf("the client does not speak %s", line)
			continue
		}
		s := newSocket(t)
		s.start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if got := r.Method + " " + r.RequestURI; got != line || string(body) != request {
				t.Errorf("the client sent\n%s\n%s\nnot\n%s\n%s", got, body, line, request)
			}
			if e[3] == "202" {
				w.WriteHeader(http.StatusAccepted)
			}
			io.WriteString(w, answer)
		}))
		got, err := spoken[line](t.Context(), s.client(t, Config{}))
		if err != nil {
			t.Errorf("%s: %v", line, err)
		}
		if text, err := json.Marshal(got); err != nil || string(text) != answer {
			t.Errorf("%s: the client read\n%s\nfrom\n%s", line, text, answer)
		}
	}
	if _, err := newSocket(t).client(t, Config{}).Job(t.Context(), "../status"); err == nil || strings.Contains(err.Error(), "answer") {
		t.Error("a job ID is a path:", err)
	}
}
