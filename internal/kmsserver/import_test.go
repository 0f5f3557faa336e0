package kmsserver

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/audit"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kms"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/store"
	"github.com/keyfold/keyfold/internal/store/memstore"
)

func importBody(raw []byte) string {
	return `{"key":"` + base64.StdEncoding.EncodeToString(raw) + `"}`
}

func TestAnImportedKeyIsWipedWithItsRequest(t *testing.T) {
	r := newRig(t)
	var saw [][]byte
	r.kms.seen = func(b ...[]byte) { saw = append(saw, b...) }
	r.do(r.client(adminUID), "POST /import_kek", "", importBody([]byte(canary)))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := r.Close(ctx); err != nil { // every handler has returned
		t.Fatal(err)
	}
	if len(saw) != 1 || !bytes.Equal(saw[0], make([]byte, len(canary))) {
		t.Errorf("%q is left", saw)
	}
}

// events is an audit.Recorder that keeps all as text.
type events struct{ testLog }

func (e *events) Record(_ context.Context, all ...audit.Event) error {
	for _, event := range all {
		text, err := json.Marshal(event)
		if err != nil {
			return err
		}
		fmt.Fprintf(e, "%s %+v\n", text, event)
	}
	return nil
}

// Over whole key processes: what is imported, refused and misspelt is in no
// answer, log line, metric, record or row, in no form.
func TestMaterialThatIsSentIsInNoAnswerLogMetricRecordOrRow(t *testing.T) {
	var out strings.Builder
	raw, later := aead.GenerateRaw(), aead.GenerateRaw()
	for _, allowed := range []bool{false, true} {
		root, err := keyring.CreateFileRoot(filepath.Join(t.TempDir(), "root.key"))
		if err != nil {
			t.Fatal(err)
		}
		rows, heard := memstore.New(), new(events)
		service, err := kms.New(t.Context(), kms.Config{Store: rows, Root: root, Audit: heard, ImportKEK: allowed})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(service.Close)
		r := newRig(t, func(c *Config) { c.KMS = service })
		admin := r.client(adminUID)
		text := base64.StdEncoding.EncodeToString(raw)
		for _, c := range []struct {
			contentType, body string
			status            int // where imports are allowed
		}{
			{"", importBody(raw), 202}, {"application/json", importBody(raw), 202}, {"", importBody(later), 202}, {"", importBody(raw), 400},
			{"", importBody(raw[1:]), 400}, {"", importBody(append(raw[:32:32], 7)), 400},
			{"", `{"key":"` + hex.EncodeToString(raw) + `"}`, 400}, {"", `{"key":"` + text[1:] + `"}`, 400}, {"", `{"key":"` + text, 400}, {"", `{"kye":"` + text + `"}`, 400},
			{"", `{"key":"` + text + `","key":"` + text + `"}`, 400}, {"", `{"key":["` + text + `"]}`, 400}, {"", `{"` + text + `":1}`, 400}, {"", text, 400},
			{"", `{}`, 400}, {"", `{"key":null}`, 400}, {"", `{"key":""}`, 400}, {"", ``, 400}, {kmsapi.ContentType, importBody(raw), 400}, {kmsapi.ContentType, string(raw), 400},
		} {
			if !allowed {
				c.status = 400
			}
			a := r.do(admin, "POST /import_kek", c.contentType, c.body)
			if a.status != c.status {
				t.Errorf("allowed %v: %d of a body of %d bytes: %d %s", allowed, c.status, len(c.body), a.status, a.body)
			}
			fmt.Fprintln(&out, a)
		}
		for _, who := range []uint32{cryptoUID, agentUID, noRoleUID, strangerUID} {
			a := r.do(r.client(who), "POST /import_kek", "", importBody(raw))
			if a.status != 403 {
				t.Errorf("UID %d: %d %s", who, a.status, a.body)
			}
			fmt.Fprintln(&out, a)
		}
		for _, call := range []string{"GET /metrics", "GET /keys?count=true", "GET /jobs"} {
			fmt.Fprintln(&out, r.do(admin, call, "", "").body)
		}
		for rec, err := range store.All(t.Context(), rows, store.Range{}) {
			if err != nil {
				t.Fatal(err)
			}
			out.WriteString(rec.Key + string(rec.Value))
		}
		if log := r.log.String() + heard.String(); strings.Contains(log, "kek.import") != allowed {
			t.Errorf("allowed %v: %s", allowed, log)
		} else {
			out.WriteString(log)
		}
	}
	if out.Len() < 5000 {
		t.Fatalf("only %d bytes to search", out.Len())
	}
	for _, secret := range [][]byte{raw, later} {
		for form, canary := range map[string]string{
			"raw": string(secret[1:31]), "hex": hex.EncodeToString(secret[1:31]), "base64": base64.StdEncoding.EncodeToString(secret)[2:40], "decimal": strings.Trim(fmt.Sprint(secret[1:31]), "[]"),
		} {
			if strings.Contains(strings.ToLower(out.String()), strings.ToLower(canary)) {
				t.Errorf("it turns up as %s", form)
			}
		}
	}
}
