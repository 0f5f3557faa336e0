package api

// JWKS is the body of GET /.well-known/jwks.json (RFC 7517).
type JWKS struct {
	Keys []JWK `json:"keys"`
}

// JWK is a public key that verifies tokens (RFC 8037).
type JWK struct {
	KeyType   string `json:"kty"` // "OKP"
	Curve     string `json:"crv"` // "Ed25519"
	Use       string `json:"use"` // "sig"
	Algorithm string `json:"alg"` // "EdDSA"
	KeyID     string `json:"kid"` // its thumbprint (RFC 7638)
	X         string `json:"x"`   // 32 bytes, base64url without padding
}

// PublicKey is the body of GET /v1/auth/jwt-public-key (strict).
type PublicKey struct {
	Algorithm string `json:"alg"`               // "EdDSA"
	PublicKey string `json:"public_key_base64"` // 32 bytes, standard base64
}
