package kms

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/kmsapi"
	"github.com/keyfold/keyfold/internal/layout"
)

// forms are the ways in which raw could turn up.
func forms(raw []byte) map[string][]byte {
	return map[string][]byte{
		"raw":     raw,
		"half":    raw[:16],
		"hex":     []byte(hex.EncodeToString(raw)),
		"HEX":     []byte(strings.ToUpper(hex.EncodeToString(raw))),
		"base64":  []byte(base64.StdEncoding.EncodeToString(raw)[:40]),
		"url":     []byte(base64.URLEncoding.EncodeToString(raw)[:40]),
		"decimal": []byte(strings.Trim(fmt.Sprint(raw), "[]")),
	}
}

func TestNoKeyMaterialIsStoredPrintedOrInAnError(t *testing.T) {
	r := newRig(t)
	seed := r.auditKey()[:32]
	a := &recorder{}
	s := r.start(audited(a), ticking())
	const plain = "the canary of a plaintext, longer than a key"
	r.createKEK(s, "v")
	key := r.createDEK(s, "t").KeyID
	e := r.seal(s, "v", plain, "aad")
	c := r.encrypt(s, key, plain, "aad")

	secrets := map[string][]byte{"plaintext": []byte(plain), "root": rootKey(t, r.rootPath), "DEK": r.rawDEK(s, key), "audit key": seed}
	keep := func(version int) {
		for _, id := range []string{"v", kmsapi.ThreadsKEK, auditKEK} {
			secrets[fmt.Sprint("KEK ", id, version)] = kekMaterial(r, secrets["root"], id, version)
		}
	}
	keep(1)
	ring, err := s.kek(ctx, "v") // held while it is rotated
	r.must(err)
	secrets["envelope's DEK"], err = ring.key.Unwrap(1, e.WrappedDEK, envelopeAAD("v", []byte("aad")))
	r.must(err)

	rotation := askFor(t, "v", []byte("the canary of an old customer's "), []byte("the canary of a new customer's  "))
	secrets["old key"], secrets["new key"] = rotation.Old, rotation.New
	const inner = "the canary of what a customer sealed"
	secrets["inner plaintext"] = []byte(inner)
	item := r.sealedValues(s, "v", rotation.Old, inner)[0]
	opened := sealedTo(t, s, rotation)
	session := r.openRotation(s, opened)
	keys := s.rotations.open[session]
	reencrypted := r.reencryptAll(s, session, item, kmsapi.ReencryptItem{Envelope: r.seal(s, "v", "no value", ""), AAD: nil}, kmsapi.ReencryptItem{})

	first := r.dump()
	got, err := s.RotateKEK(ctx, kmsapi.Rotate{All: true})
	r.must(err)
	r.finish(s, got.Job.ID)
	keep(2)
	rewrapped, err := s.Rewrap(ctx, []kmsapi.RewrapItem{{KeyID: key}, {KEKID: "v", KEKVersion: 1, WrappedDEK: e.WrappedDEK, AAD: []byte("aad")}, {KEKID: "v", KEKVersion: 1, WrappedDEK: e.WrappedDEK}})
	r.must(errors.Join(err, rewrapped[0].Err, rewrapped[1].Err))
	listed, err := s.Keys(ctx, kmsapi.KeysQuery{Count: true})
	r.must(err)
	deks, err := s.Keys(ctx, kmsapi.KeysQuery{DEKs: true})
	r.must(err)
	jobs, err := s.Jobs(ctx)
	r.must(err)

	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, nil))
	show := func(v any) {
		log.Info("x", "v", v)
		fmt.Fprintf(&out, "%v %+v %#v %s %d %x\n", v, v, v, v, v, v)
	}
	s.jobs.Close() // whose worker may be on its way out, and is printed with the rest
	show(s)
	show(r.root)
	show(ring)
	show(ring.key)
	d := s.deks.take(key)
	for _, v := range []any{d, d.key, d.key.key, e, c, got, rewrapped, listed, deks, jobs, rotation, &rotation, opened, keys, item, reencrypted} {
		show(v)
	}
	wrong := rotation
	wrong.Old, wrong.New = rotation.New, rotation.Old
	_, swapped := s.OpenCMEKRotation(ctx, wrong)
	_, swappedSealed := s.OpenCMEKRotation(ctx, sealedTo(t, s, wrong))
	wrong.Old, wrong.New = rotation.Old, rotation.New[:31]
	_, short := s.OpenCMEKRotation(ctx, wrong)
	_, again := s.OpenCMEKRotation(ctx, opened)
	r.must(s.CloseCMEKRotation(ctx, session))
	show(keys)
	_, gone := s.Reencrypt(ctx, session, []kmsapi.ReencryptItem{item})
	if slices.Contains([]error{swapped, swappedSealed, short, again, gone, reencrypted[1].Err, reencrypted[2].Err}, nil) {
		t.Error("one of the failures is none")
	}
	for _, err := range append(failures(r, s, key, c, e), swapped, swappedSealed, short, again, gone, reencrypted[1].Err, reencrypted[2].Err) {
		for ; err != nil; err = errors.Unwrap(err) {
			show(err)
		}
	}
	r.must(s.ReleaseKEK(ctx, "v", 2))
	r.must(s.DestroyKEKVersion(ctx, "v", 1))
	for _, rows := range []map[string]string{first, r.dump()} {
		for k, v := range rows {
			out.WriteString(k + "\n" + v + "\n")
		}
	}
	s.Close()
	for _, event := range a.events {
		show(event)
	}
	if out.Len() < 5000 {
		t.Fatalf("only %d bytes to search", out.Len())
	}
	for name, secret := range secrets {
		for form, canary := range forms(secret) {
			if bytes.Contains(out.Bytes(), canary) {
				t.Errorf("%s turns up as %s", name, form)
			}
		}
	}
}

// failures is the errors of every kind, damaged rows included;
// some calls succeed.
func failures(r *rig, s *Service, key string, c []byte, e kmsapi.Envelope) []error {
	var errs []error
	add := func(_ string, err error) { errs = append(errs, err) }
	add(decryptOne(s, key, c, "other"))
	add(decryptOne(s, "none", c, ""))
	add(openOne(s, e, "other"))
	e.KEKVersion = 9
	add(openOne(s, e, "aad"))
	_, err := sealOne(s, auditKEK, "x", "")
	add("", err)
	add("", s.DestroyKEKVersion(ctx, kmsapi.ThreadsKEK, 2))
	add("", s.DestroyKEKVersion(ctx, "v", 1))
	add("", s.ShredDEK(ctx, "none"))
	for _, name := range []string{layout.DEK(key), layout.KEK("v"), layout.KEKUse("v"), layout.AuditKey()} {
		good := r.get(name).Value
		for i := 0; i < len(good); i += 3 {
			bad := bytes.Clone(good)
			bad[i] ^= 1
			r.put(name, bad)
			s := r.start()
			_, err := encryptOne(s, key, "x", "")
			add("", err)
			add(openOne(s, e, "aad"))
			add("", s.ReleaseKEK(ctx, "v", 1))
			_, err = AuditKey(ctx, r.store, r.root, day)
			add("", err)
		}
		r.put(name, good)
	}
	return errs
}

func rootKey(t testing.TB, path string) []byte {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(text))
	raw, err := base64.StdEncoding.DecodeString(lines[len(lines)-1])
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// kekMaterial opens a version of a KEK by hand, as documented.
func kekMaterial(r *rig, root []byte, id string, version int) []byte {
	r.Helper()
	var versions []struct {
		Stored []byte `json:"stored"`
	}
	r.must(json.Unmarshal(r.get(layout.KEK(id)).Value[60:], &versions))
	raw, err := newKey(r, root).Open(versions[version-1].Stored, aead.AAD("keyfold/kek/v1", id, fmt.Sprint(version)))
	r.must(err)
	return raw
}
