package token

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-cmp/cmp"

	"github.com/keyfold/keyfold/internal/store"
)

func encoded(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func decoded(s string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

// forger makes tokens that are not ours, and some with our own key that we
// would not issue.
type forger struct {
	*world
	good   string // a live token
	parts  []string
	header map[string]any
	claims map[string]any
	key    ed25519.PrivateKey // ours
}

func newForger(t testing.TB) *forger {
	f := &forger{world: newWorld(t)}
	f.good = f.issue(f.Service, time.Hour)
	f.parts = strings.Split(f.good, ".")
	f.key = f.keys.Load().list[0].private()
	if json.Unmarshal(decoded(f.parts[0]), &f.header) != nil || json.Unmarshal(decoded(f.parts[1]), &f.claims) != nil {
		t.Fatal("no token")
	}
	return f
}

// with returns m with a change; a nil value takes a member away.
func with(m map[string]any, key string, value any) map[string]any {
	m = maps.Clone(m)
	m[key] = value
	if value == nil {
		delete(m, key)
	}
	return m
}

func object(m map[string]any) string {
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// sign returns a token of any header and claims, signed with method and key.
func sign(method jwt.SigningMethod, key any, header, claims string) string {
	text := encoded([]byte(header)) + "." + encoded([]byte(claims))
	sig, err := method.Sign(text, key)
	if err != nil {
		panic(err)
	}
	return text + "." + encoded(sig)
}

// ours signs with our own key.
func (f *forger) ours(header, claims map[string]any) string {
	return sign(method, f.key, object(header), object(claims))
}

// refuse fails unless every token is refused, alike, with nothing written and
// nothing logged, by a server that knows the key and by one that does not yet.
func (f *forger) refuse(tokens map[string]string) {
	f.t.Helper()
	before, logged := f.rows(), f.logs.String()
	for name, text := range tokens {
		f.dead(f.Service, text, name)
		f.dead(f.another(), text, name)
	}
	if diff := cmp.Diff(before, f.rows()); diff != "" {
		f.t.Error("the store changed:", diff)
	}
	if log := f.logs.String(); log != logged {
		f.t.Errorf("it logged %s", log)
	}
	f.lives(f.Service, f.good)
}

func TestATokenOfAnotherAlgorithmIsRefused(t *testing.T) {
	f := newForger(t)
	public := f.key.Public().(ed25519.PublicKey)
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	tokens := map[string]string{}
	for _, alg := range []string{"none", "None", "NONE", "nOnE", "", "EDDSA", "Ed25519", "EdDSA "} {
		h := encoded([]byte(object(with(f.header, "alg", alg)))) + "." + f.parts[1] + "."
		tokens["alg "+alg+" without a signature"] = h
		tokens["alg "+alg+" with the old signature"] = h + f.parts[2]
		tokens["alg "+alg+", signed"] = f.ours(with(f.header, "alg", alg), f.claims)
	}
	tokens["the library's own none"] = sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, object(with(f.header, "alg", "none")), object(f.claims))
	// Alg confusion: what is public is taken for a shared secret.
	for name, secret := range map[string][]byte{
		"raw": public, "base64url": []byte(encoded(public)), "base64": []byte(base64.StdEncoding.EncodeToString(public)), "DER": der,
		"PEM": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "nothing": make([]byte, 32), "kid": []byte(f.header["kid"].(string)),
	} {
		for _, m := range []*jwt.SigningMethodHMAC{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
			tokens[m.Name+" with the public key as "+name] = sign(m, secret, object(with(f.header, "alg", m.Name)), object(f.claims))
			tokens[m.Name+" that says EdDSA, with "+name] = sign(m, secret, object(f.header), object(f.claims))
		}
	}
	tokens["RS256"] = sign(jwt.SigningMethodRS256, rsaKey, object(with(f.header, "alg", "RS256")), object(f.claims))
	tokens["PS256"] = sign(jwt.SigningMethodPS256, rsaKey, object(with(f.header, "alg", "PS256")), object(f.claims))
	tokens["RS256 that says EdDSA"] = sign(jwt.SigningMethodRS256, rsaKey, object(f.header), object(f.claims))
	for name, alg := range map[string]any{"none": nil, "null": json.RawMessage("null"), "a number": 1, "a list": []string{"EdDSA", "none"}} {
		tokens["alg is "+name] = f.ours(with(f.header, "alg", alg), f.claims)
	}
	tokens["alg twice"] = sign(method, f.key, `{"alg":"EdDSA","alg":"none","typ":"JWT","kid":"`+f.header["kid"].(string)+`"}`, object(f.claims))
	f.refuse(tokens)
}

// TestTheParserAloneHoldsTokensToAlgorithmAndTimes tests what Verify and the type
// of the keys see to as well: were they to fail, the parser would not.
func TestTheParserAloneHoldsTokensToAlgorithmAndTimes(t *testing.T) {
	f := newForger(t)
	secret := []byte("a secret of this test")
	parse := func(text string, key any) error {
		_, err := f.parser.ParseWithClaims(text, &wire{}, func(*jwt.Token) (any, error) { return key, nil })
		return err
	}
	if err := parse(f.good, f.key.Public()); err != nil {
		t.Fatal(err)
	}
	if parse(sign(jwt.SigningMethodHS256, secret, object(with(f.header, "alg", "HS256")), object(f.claims)), secret) == nil {
		t.Error("HS256 is admitted")
	}
	if parse(sign(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, object(with(f.header, "alg", "none")), object(f.claims)), jwt.UnsafeAllowNoneSignatureType) == nil {
		t.Error("none is admitted")
	}
	for claim, value := range map[string]any{"exp": nil, "iat": f.now().Add(time.Hour).Unix()} {
		if parse(f.ours(f.header, with(f.claims, claim, value)), f.key.Public()) == nil {
			t.Errorf("%s is not looked at", claim)
		}
	}
}

func TestATokenOfAnotherKeyIsRefused(t *testing.T) {
	f := newForger(t)
	_, stranger, _ := ed25519.GenerateKey(rand.Reader)
	if err := f.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := f.keys.Load().list[1]
	tokens := map[string]string{
		"a stranger's key under our kid":      sign(method, stranger, object(f.header), object(f.claims)),
		"a stranger's key under its own kid":  sign(method, stranger, object(with(f.header, "kid", thumbprint(stranger.Public().(ed25519.PublicKey)))), object(f.claims)),
		"our key under the other's kid":       f.ours(with(f.header, "kid", second.ID), f.claims),
		"the other key under the first's kid": sign(method, second.private(), object(f.header), object(f.claims)),
		"a stranger's key in the header": sign(method, stranger, object(with(f.header, "jwk", map[string]string{
			"kty": "OKP", "crv": "Ed25519", "x": encoded(stranger.Public().(ed25519.PublicKey)),
		})), object(f.claims)),
	}
	for name, kid := range map[string]any{
		"none": nil, "empty": "", "unknown": strings.Repeat("A", 43), "a number": 7, "null": json.RawMessage("null"), "a list": []any{f.header["kid"]},
		"a path": "../../dev/null", "with a space": f.header["kid"].(string) + " ", "in capitals": strings.ToUpper(f.header["kid"].(string)),
		"a row": "tokenkeys", "very long": strings.Repeat("k", 10_000),
	} {
		tokens["kid is "+name] = f.ours(with(f.header, "kid", kid), f.claims)
	}
	f.refuse(tokens)
	f.lives(f.Service, sign(method, second.private(), object(with(f.header, "kid", second.ID)), object(f.claims))) // the forger knows his trade
}

func TestAChangedTokenIsRefused(t *testing.T) {
	f := newForger(t)
	c := agent
	c.ID, c.Expires = "0198dddd-0000-7000-8000-000000000002", f.now().Add(time.Hour)
	text, _, err := f.Issue(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	o := strings.Split(text, ".")
	p := f.parts
	tokens := map[string]string{
		"empty": "", "dots": "..", "one dot": ".", "no signature": p[0] + "." + p[1], "an empty signature": p[0] + "." + p[1] + ".",
		"four parts": f.good + "." + p[2], "a dot more": f.good + ".", "a dot before": "." + f.good,
		"swapped claims": p[0] + "." + o[1] + "." + p[2], "swapped signatures": p[0] + "." + p[1] + "." + o[2],
		"parts in another order": p[1] + "." + p[0] + "." + p[2],
		"a changed header":       encoded([]byte(object(with(f.header, "typ", "jwt")))) + "." + p[1] + "." + p[2],
		"a header with a space":  encoded([]byte(" "+string(decoded(p[0])))) + "." + p[1] + "." + p[2],
		"wider scopes":           p[0] + "." + encoded([]byte(object(with(f.claims, "scopes", []string{"**"})))) + "." + p[2],
		"a later end":            p[0] + "." + encoded([]byte(object(with(f.claims, "exp", 1_790_009_999)))) + "." + p[2],
		"Bearer":                 "Bearer " + f.good, "a space": f.good + " ", "a line end": f.good + "\n", "padded": f.good + "=", "a line end in it": f.good[:40] + "\n" + f.good[40:], "a return in it": f.good[:40] + "\r" + f.good[40:], "NUL": f.good + "\x00",
		"padded parts": strings.Join(p, "=."), "twice": f.good + f.good, "not UTF-8": strings.Repeat("\xff", 100), "very long": strings.Repeat("A", 10<<20),
		"long parts":          strings.Repeat("A.", MaxText/2),
		"standard base64":     strings.NewReplacer("-", "+", "_", "/").Replace(f.good) + "+",
		"an API key":          "1ck_" + strings.Repeat("A", 43),
		"a token in brackets": `"` + f.good + `"`,
	}
	for i := range f.good {
		for _, bit := range []byte{1, 0x20} {
			b := []byte(f.good)
			b[i] ^= bit
			tokens[fmt.Sprint("byte ", i, " ^ ", bit)] = string(b)
		}
	}
	for i := 0; i < len(f.good); i += 7 {
		tokens[fmt.Sprint("cut off at ", i)] = f.good[:i]
		tokens[fmt.Sprint("without ", i)] = f.good[:i] + f.good[i+1:]
	}
	// The last character of a part may not hold bits that mean nothing.
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, f.good[len(f.good)-1])
	tokens["loose last bits"] = f.good[:len(f.good)-1] + string(alphabet[last|1])
	f.refuse(tokens)
}

func TestAHeaderOfAnotherShapeIsRefused(t *testing.T) {
	f := newForger(t)
	tokens := map[string]string{"no object": sign(method, f.key, `[]`, object(f.claims)), "null": sign(method, f.key, `null`, object(f.claims))}
	for _, typ := range []any{nil, "", "jwt", "at+jwt", "JWE", "JWT ", 1} {
		tokens[fmt.Sprint("typ ", typ)] = f.ours(with(f.header, "typ", typ), f.claims)
	}
	for key, value := range map[string]any{
		"crit": []string{"b64"}, "b64": false, "jku": "https://example.com/jwks.json", "x5u": "https://example.com", "jwk": map[string]any{},
		"x5c": []string{}, "cty": "JWT", "zip": "DEF", "Kid": f.header["kid"], "x": 1,
	} {
		tokens["with "+key] = f.ours(with(f.header, key, value), f.claims)
	}
	f.refuse(tokens)
}

func TestClaimsOfAnotherShapeAreRefusedThoughWeSignedThem(t *testing.T) {
	f := newForger(t)
	at := func(d time.Duration) int64 { return f.now().Add(d).Unix() }
	tokens := map[string]string{
		"no object": sign(method, f.key, object(f.header), `[]`), "null": sign(method, f.key, object(f.header), `null`),
		"empty": sign(method, f.key, object(f.header), `{}`), "nothing": sign(method, f.key, object(f.header), ``),
		"exp twice":        sign(method, f.key, object(f.header), strings.Replace(object(f.claims), `"exp":`, `"exp":1,"exp":`, 1)),
		"more behind it":   sign(method, f.key, object(f.header), object(f.claims)+`{}`),
		"an unknown claim": f.ours(f.header, with(f.claims, "admin", true)),
		"an audience":      f.ours(f.header, with(f.claims, "aud", "keyfold")),
		"capitals":         f.ours(f.header, with(with(f.claims, "sub", nil), "SUB", f.claims["sub"])),
	}
	for key, values := range map[string][]any{
		"exp": {nil, json.RawMessage("null"), "1790003600", 1790003600.5, 0, -1, at(-Leeway), at(-time.Hour), json.RawMessage("1e400"), true, at(MaxTTL + 2*time.Hour), json.RawMessage("9223372036854775807")},
		"iat": {nil, json.RawMessage("null"), "1790000000", 0, 1790000001, at(time.Hour)},
		"nbf": {at(Leeway + time.Second), at(time.Hour), "0", json.RawMessage("9223372036854775807")},
		"jti": {nil, "", "x", 1, strings.Repeat("A", 32), f.claims["jti"].(string) + "AAAA", f.claims["jti"].(string)[:28], "../" + f.claims["jti"].(string)[3:]},
		"sub": {nil, "", "agent:", "agent", agent.ID, "operator:" + agent.ID, "end_user:x", "Agent:" + agent.ID, " agent:x", 7},
		"org": {nil, "", 7}, "sid": {7},
		"scopes": {"**", []any{1}, map[string]any{}}, "vault_ids": {"v", []any{nil, 1}},
	} {
		for _, v := range values {
			tokens[fmt.Sprint(key, " is ", v)] = f.ours(f.header, with(f.claims, key, v))
		}
	}
	f.refuse(tokens)
	for _, nbf := range []int64{at(-time.Hour), at(0), at(Leeway)} {
		f.lives(f.Service, f.ours(f.header, with(f.claims, "nbf", nbf)))
	}
}

func TestATokenOfAnotherDeploymentIsRefused(t *testing.T) {
	f, other := newForger(t), newForger(t)
	f.refuse(map[string]string{
		"another deployment's": other.good,
		"under our kid":        sign(method, other.key, object(f.header), object(other.claims)),
	})
	// Its rows in our store, with our KMS, are of no use.
	var b store.Batch
	for key, row := range other.rows() {
		b.Put(key, []byte(row))
	}
	f.write(b)
	fresh := f.another()
	f.dead(fresh, other.good, "with the other's rows in our store")
	f.lives(f.Service, f.good)
}

func TestErrorsAndLogsHoldNothingOfAText(t *testing.T) {
	f := newForger(t)
	user := "0198eeee-0000-7000-8000-000000000001"
	refresh, err := f.IssueRefresh(t.Context(), user, f.now())
	if err != nil {
		t.Fatal(err)
	}
	challenge := f.challenge("x")
	var said []string
	say := func(err error) {
		t.Helper()
		if err == nil {
			t.Error("no error")
		}
		said = append(said, every(err))
	}
	_, err = f.Verify(t.Context(), f.good+"A")
	say(err)
	_, err = f.Verify(t.Context(), f.good[:len(f.good)-9])
	say(err)
	if err := f.Revoke(t.Context(), f.lives(f.Service, f.good)); err != nil {
		t.Fatal(err)
	}
	_, err = f.Verify(t.Context(), f.good)
	say(err)
	_, next, err := f.Redeem(t.Context(), refresh)
	if err != nil {
		t.Fatal(err)
	}
	f.pass(reuse + time.Second)
	_, _, err = f.Redeem(t.Context(), refresh)
	say(err)
	if _, err = f.TakeChallenge(t.Context(), "mfa", challenge); err != nil {
		t.Fatal(err)
	}
	_, err = f.TakeChallenge(t.Context(), "mfa", challenge)
	say(err)
	f.store.fail = func(string) error { return store.ErrDamaged }
	_, err = f.Verify(t.Context(), f.good)
	say(err)
	_, _, err = f.Redeem(t.Context(), next)
	say(err)
	said = append(said, f.logs.String())
	if !strings.Contains(f.logs.String(), user) {
		t.Error("the log does not say whose session was ended")
	}
	for key, row := range f.rows() {
		said = append(said, key+" "+row)
	}
	said = append(said, every(*f.keys.Load()), every(f.keys.Load().list), every(&f.keys.Load().list[0]), every(f.keys.Load().list[0]), every(f.keys.Load().list[0].private), every(f.Service))
	seed := f.key.Seed()
	for _, s := range said {
		for name, bad := range map[string]string{
			"the token": f.good, "its signature": f.parts[2], "the refresh token": refresh[4:], "half of it": refresh[30:], "its beginning": refresh[4:20],
			"the next one": next[20:], "the challenge": challenge[4:], "the key": string(seed), "in base64": base64.StdEncoding.EncodeToString(seed)[:40],
			"in hex": fmt.Sprintf("%x", seed), "as bytes": strings.Trim(fmt.Sprint(seed), "[]"), "as Go": strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%#v", seed), "[]byte{"), "}"),
		} {
			if strings.Contains(s, bad) {
				t.Errorf("%s is in %.200s", name, s)
			}
		}
	}
}

func FuzzVerify(f *testing.F) {
	x := newForger(f)
	f.Add(x.good)
	f.Add(x.parts[0] + "." + x.parts[1] + ".")
	f.Add(x.ours(x.header, with(x.claims, "exp", nil)))
	f.Add(x.ours(with(x.header, "alg", "none"), x.claims))
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := x.Verify(t.Context(), text)
		if err == nil && text != x.good || err != nil && (err != errToken || c.ID != "") {
			t.Errorf("%q: %+v, %v", text, c, err)
		}
	})
}

// FuzzClaims parses claims as if we had signed them.
func FuzzClaims(f *testing.F) {
	x := newForger(f)
	f.Add(decoded(x.parts[0]), decoded(x.parts[1]))
	f.Add([]byte(`{}`), []byte(`{"exp":1e3}`))
	f.Fuzz(func(t *testing.T, header, claims []byte) {
		c, err := x.Verify(t.Context(), sign(method, x.key, string(header), string(claims)))
		if err != nil && (err != errToken || c.ID != "") || err == nil && (!c.sensible() || !c.alive(x.now())) {
			t.Errorf("%q %q: %+v, %v", header, claims, c, err)
		}
	})
}
