package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/auditcheck"
)

// trail is an export of n events under a checkpoint, and the key that signed it.
func trail(t *testing.T, n int) (export []byte, key api.AuditKey) {
	t.Helper()
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	signer := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	pub := signer.Public().(ed25519.PublicKey)
	key = api.AuditKey{ID: auditcheck.KeyID(pub), Algorithm: "Ed25519", PublicKey: pub, CreatedAt: start}
	var events []api.AuditExportLine
	var prev auditcheck.Hash
	chain := auditcheck.NewChain()
	for i := range n {
		e := auditcheck.Event{Org: "o1", Chain: chain, Seq: uint64(i + 1), Time: start.Add(time.Duration(i) * time.Second).UnixNano(), Prev: prev,
			ActorType: "user", ActorID: "u1", Action: "secret.read", Outcome: "allowed", Details: map[string]string{"path": "db/password"}}
		prev = e.Hash()
		w := e.Wire(prev)
		events = append(events, api.AuditExportLine{Event: &w})
	}
	end := events[n-1].Event
	point := api.AuditCheckpoint{OrgID: "o1", Number: 1, CreatedAt: start.Add(time.Minute), PrevHash: auditcheck.Hash{}.String(),
		Heads: []api.AuditHead{{EventID: end.ID, CreatedAt: end.CreatedAt, IntegrityHash: end.IntegrityHash}}}
	if err := auditcheck.Sign(&point, signer); err != nil {
		t.Fatal(err)
	}
	lines := []api.AuditExportLine{{Export: &api.AuditExport{Format: auditcheck.Format, OrgID: "o1", To: start.Add(time.Hour), CreatedAt: start.Add(time.Hour), Keys: []api.AuditKey{key}}}, {Checkpoint: &point}}
	lines = append(append(lines, events...), api.AuditExportLine{End: &api.AuditExportEnd{Checkpoints: 1, Events: n}})
	for _, l := range lines {
		text, err := json.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		export = append(append(export, text...), '\n')
	}
	return export, key
}

func TestATrailIsCheckedHereFromAFileOrFromTheServer(t *testing.T) {
	export, key := trail(t, 3)
	sent := export
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/audit/export" {
			w.Write(sent)
			return
		}
		json.NewEncoder(w).Encode(api.AuditKeys{Keys: []api.AuditKey{key}})
	}))
	defer s.Close()
	dir := t.TempDir()
	online := &shell{t: t, env: map[string]string{"KEYFOLD_URL": s.URL, "KEYFOLD_API_KEY": "1ck_x"}}
	offline := &shell{t: t}
	file, saved, pub := filepath.Join(dir, "export.jsonl"), filepath.Join(dir, "point.json"), base64.StdEncoding.EncodeToString(key.PublicKey)

	if out := online.run("audit", "export", "--out", file); out != "wrote "+file {
		t.Error(out)
	}
	if text, err := os.ReadFile(file); err != nil || !bytes.Equal(text, export) {
		t.Errorf("the export is not as it was sent: %v", err)
	}
	if out := online.run("audit", "verify", "--save-checkpoint", saved); !strings.Contains(out, "Result              nothing is wrong") || !strings.Contains(out, "Under a checkpoint  3") ||
		!strings.Contains(out, "From                the beginning") || !strings.Contains(out, "To                  2026-01-02T04:04:05Z") {
		t.Error(out)
	}
	if _, out, stderr := offline.try("", "audit", "verify", "--file", file); !strings.Contains(out, "nothing is wrong") || !strings.Contains(stderr, "warning: the keys are the export's own") {
		t.Errorf("%s %s", out, stderr)
	}
	if code, out, stderr := offline.try("", "audit", "verify", "--file", file, "--public-key", pub, "--checkpoint", saved, "--json"); code != 0 || stderr != "" || !strings.Contains(out, `"verified": 3`) {
		t.Errorf("exit %d: %s %s", code, out, stderr)
	}

	// Each of these is found, here and there.
	other := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{9}, 32))
	shorter, _ := trail(t, 2)
	for name, c := range map[string]struct {
		text []byte
		more []string
	}{
		"changed":       {bytes.Replace(export, []byte("allowed"), []byte("refused"), 1), nil},
		"another key":   {export, []string{"--public-key", other}},
		"another trail": {shorter, []string{"--checkpoint", saved}},
	} {
		sent = c.text
		path := writeTemp(t, "bad.jsonl", string(c.text))
		code, out, stderr := offline.try("", append([]string{"audit", "verify", "--file", path, "--save-checkpoint", filepath.Join(dir, "no.json")}, c.more...)...)
		onlineCode, _, _ := online.try("", append([]string{"audit", "verify"}, c.more...)...)
		if code != 1 || onlineCode != 1 || !strings.Contains(out, "Problem ") || !strings.Contains(stderr, "not as it was written") {
			t.Errorf("%s: exit %d and %d, %s %s", name, code, onlineCode, out, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "no.json")); err == nil {
		t.Error("a checkpoint of a broken trail was saved")
	}

	// What an export leaves out by its own word is said.
	part := bytes.Replace(export, []byte(`"org_id":"o1","to"`), []byte(`"org_id":"o1","from":"2026-01-02T03:04:05Z","to"`), 1)
	part = bytes.Join(slices.DeleteFunc(bytes.SplitAfter(part, []byte("\n")), func(line []byte) bool { return bytes.HasPrefix(line, []byte(`{"checkpoint"`)) }), nil)
	part = bytes.Replace(part, []byte(`"checkpoints":1`), []byte(`"checkpoints":0`), 1)
	out := offline.run("audit", "verify", "--file", writeTemp(t, "part.jsonl", string(part)), "--public-key", pub)
	if !strings.Contains(out, "From                2026-01-02T03:04:05Z") || !strings.Contains(out, "Under none yet      3") {
		t.Error(out)
	}

	// What is cut off is no export.
	sent = export[:bytes.LastIndexByte(export[:len(export)-1], '\n')+1]
	online.fails(1, "cut off", "", "audit", "export", "--out", filepath.Join(dir, "cut.jsonl"))
	online.fails(1, "cut off", "", "audit", "verify")
	if _, err := os.Stat(filepath.Join(dir, "cut.jsonl")); err == nil {
		t.Error("a part of an export was left")
	}
}

func TestTheLastLineIsFoundHoweverItCame(t *testing.T) {
	const text = "first\nsecond line\nthe end\n"
	for size := 1; size <= len(text); size++ {
		var l lastLine
		for at := 0; at < len(text); at += size {
			l.Write([]byte(text[at:min(at+size, len(text))]))
		}
		if got := strings.TrimSpace(string(l.text)); got != "the end" {
			t.Errorf("in parts of %d: %q", size, got)
		}
	}
}
