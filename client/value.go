package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"unicode/utf8"

	"github.com/keyfold/keyfold/api"
	"github.com/keyfold/keyfold/cmek"
)

// The metadata member that says how a value travels in a vault that is not
// sealed. Absent: the text is the value.
const (
	MetadataEncoding = "keyfold_encoding"
	encodingBase64   = "base64"
)

// wireValue is a value as a PUT carries it.
type wireValue struct {
	text     string
	metadata json.RawMessage
	header   http.Header
}

// encode seals value when the vault is sealed, and else makes it text.
func (c *Client) encode(ctx context.Context, at cmek.Context, s vaultState, value []byte, metadata map[string]any) (wireValue, error) {
	if _, reserved := metadata[MetadataEncoding]; reserved {
		return wireValue{}, fmt.Errorf("client: the metadata member %q is the client's own; leave it out", MetadataEncoding)
	}
	if s.fingerprint != "" {
		return c.seal(ctx, at, s, value, metadata)
	}
	if utf8.Valid(value) {
		return newWireValue(string(value), metadata)
	}
	marked := map[string]any{MetadataEncoding: encodingBase64}
	maps.Copy(marked, metadata)
	return newWireValue(base64.StdEncoding.EncodeToString(value), marked)
}

func (c *Client) seal(ctx context.Context, at cmek.Context, s vaultState, value []byte, metadata map[string]any) (wireValue, error) {
	k, err := c.sealer(ctx, at.VaultID, s)
	if err != nil {
		return wireValue{}, err
	}
	blob, err := k.Seal(ctx, at, max(s.blobVersion, 1), value)
	if err != nil {
		return wireValue{}, fmt.Errorf("client: sealing the value: %w", err)
	}
	w, err := newWireValue(blob, metadata)
	w.header = http.Header{api.HeaderCMEKFingerprint: {k.Fingerprint()}}
	return w, err
}

func newWireValue(text string, metadata map[string]any) (wireValue, error) {
	w := wireValue{text: text}
	if len(metadata) == 0 {
		return w, nil
	}
	var err error
	if w.metadata, err = json.Marshal(metadata); err != nil {
		return w, errors.New("client: the metadata cannot be written as JSON")
	}
	return w, nil
}

// decode returns the bytes of a value that was read from at: the mirror of encode.
func (c *Client) decode(ctx context.Context, at cmek.Context, s *api.Secret, fingerprint string) ([]byte, error) {
	if s.CMEKEncrypted {
		k, err := c.key(ctx, fingerprint)
		if err != nil {
			return nil, err
		}
		value, err := k.Open(ctx, at, s.Value)
		if err != nil {
			return nil, fmt.Errorf("client: opening %s, version %d: %w", at.Path, s.Version, err)
		}
		return value, nil
	}
	if encodingOf(s.Metadata) != encodingBase64 {
		return []byte(s.Value), nil
	}
	value, err := base64.StdEncoding.Strict().DecodeString(s.Value)
	if err != nil {
		return nil, fmt.Errorf("client: %s, version %d, is marked as base64 and is not", at.Path, s.Version)
	}
	return value, nil
}

// encodingOf reads the one member, by its exact name.
func encodingOf(metadata json.RawMessage) (encoding string) {
	var m map[string]json.RawMessage
	if json.Unmarshal(metadata, &m) == nil {
		_ = json.Unmarshal(m[MetadataEncoding], &encoding)
	}
	return encoding
}
