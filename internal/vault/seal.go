package vault

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/go-json-experiment/json"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// versionRow is a version row taken apart (format: rows.go).
type versionRow struct {
	attributes
	raw      []byte // the attributes as they stand in the row
	envelope kmsapi.Envelope
}

// secretAAD is what a version is bound to: where it belongs and all of its
// attributes.
func secretAAD(vaultID, path string, version int, rawAttributes []byte) []byte {
	digest := sha256.Sum256(rawAttributes)
	return aead.AAD("keyfold/secret/v1", vaultID, path, strconv.Itoa(version), string(digest[:]))
}

// seal returns the row of a version. One KMS call. An answer that is not of
// the shape of an envelope for this value is an error: it would be stored, and
// never open. One under an older version of the KEK than the vault takes is
// errLag, a store.ErrConflict: to be sealed again.
func (s *Service) seal(ctx context.Context, v vault, path string, version int, a attributes, value string) ([]byte, error) {
	raw, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("encoding attributes: %w", err)
	}
	res, err := s.kms.Seal(ctx, []kmsapi.SealItem{{
		KEKID: v.KEKID, Plaintext: []byte(value), AAD: secretAAD(v.id, path, version, raw),
	}})
	if err == nil && len(res) != 1 {
		err = errAnswers
	}
	if err == nil {
		err = cmp.Or(res[0].Err, checkEnvelope(res[0].Envelope, v.KEKID, len(value)))
	}
	if err != nil {
		return nil, sealFault(err)
	}
	if res[0].Envelope.KEKVersion < v.KEKVersion {
		return nil, errLag // RewrapKind says why; v must be required by the commit
	}
	return encodeVersion(raw, res[0].Envelope)
}

// checkEnvelope tests that e has the lengths of n sealed bytes and of a
// wrapped DEK, under kekID.
func checkEnvelope(e kmsapi.Envelope, kekID string, n int) error {
	if e.KEKID != kekID || len(e.WrappedDEK) != aead.KeySize+aead.Overhead || len(e.Ciphertext) != n+aead.Overhead {
		return errNoEnvelope
	}
	return nil
}

// open returns the value of a version. One KMS call.
func (s *Service) open(ctx context.Context, vaultID, path string, version int, r versionRow) (string, error) {
	res, err := s.kms.Open(ctx, []kmsapi.OpenItem{{
		Envelope: r.envelope, AAD: secretAAD(vaultID, path, version, r.raw),
	}})
	if err == nil && len(res) != 1 {
		err = errAnswers
	}
	if err == nil {
		err = res[0].Err
	}
	if err != nil {
		return "", openFault(err)
	}
	return string(res[0].Plaintext), nil
}

func encodeVersion(raw []byte, e kmsapi.Envelope) ([]byte, error) {
	if len(e.KEKID) > 0xff || len(e.WrappedDEK) > 0xffff {
		return nil, fmt.Errorf("an envelope with a KEK ID of %d and a wrapped DEK of %d bytes does not fit a row", len(e.KEKID), len(e.WrappedDEK))
	}
	row := make([]byte, 0, 1+4+len(raw)+1+len(e.KEKID)+4+2+len(e.WrappedDEK)+len(e.Ciphertext))
	row = append(row, rowFormat)
	row = append(binary.BigEndian.AppendUint32(row, uint32(len(raw))), raw...)
	row = append(append(row, byte(len(e.KEKID))), e.KEKID...)
	row = binary.BigEndian.AppendUint32(row, e.KEKVersion)
	row = append(binary.BigEndian.AppendUint16(row, uint16(len(e.WrappedDEK))), e.WrappedDEK...)
	return append(row, e.Ciphertext...), nil
}

// decodeVersion is encodeVersion backwards. The result shares row's bytes.
// Nothing in it is proven before it was opened.
func decodeVersion(row []byte) (versionRow, error) {
	var v versionRow
	r := reader{rest: row}
	format := r.number(1)
	v.raw = r.take(r.number(4))
	v.envelope.KEKID = string(r.take(r.number(1)))
	v.envelope.KEKVersion = uint32(r.number(4))
	v.envelope.WrappedDEK = r.take(r.number(2))
	v.envelope.Ciphertext = r.rest
	if r.short || format != rowFormat {
		return versionRow{}, damaged(errRow)
	}
	if err := json.Unmarshal(v.raw, &v.attributes, json.RejectUnknownMembers(true)); err != nil {
		return versionRow{}, damaged(errRow)
	}
	return v, nil
}

// reader takes a row apart. What it returns after a short read means nothing.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.rest, r.short = nil, true
		return nil
	}
	out := r.rest[:n:n]
	r.rest = r.rest[n:]
	return out
}

// number reads n bytes, big endian.
func (r *reader) number(n uint64) (x uint64) {
	for _, b := range r.take(n) {
		x = x<<8 | uint64(b)
	}
	return x
}
