package kms

import (
	"context"
	"encoding/pem"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/keyfold/keyfold/internal/fault"
	"github.com/keyfold/keyfold/internal/keyring"
	"github.com/keyfold/keyfold/internal/kmsapi"
)

// An exported keyring is text: words for people, which are not read, then the
// row of the threads' KEK as the key store has it (see package keyring) in PEM.
// Every KEK version in it is wrapped by the root key, and every byte of the row
// authenticated, so that the text opens nothing without the root key file.
//
//	Keyfold break-glass keyring: ...
//	-----BEGIN KEYFOLD BREAK-GLASS KEYRING-----
//	<base64 of the row>
//	-----END KEYFOLD BREAK-GLASS KEYRING-----
const (
	breakGlassHead = `Keyfold break-glass keyring: the key over the threads' keys, wrapped by the root key.
With the root key file a server can read messages by it while the KMS is away.
It knows the versions of the key that there were at the export: after a rotation,
export again. It goes on opening what is under a version that is destroyed later,
and what is under a thread's key that is shredded later.
`
	breakGlassBlock = "KEYFOLD BREAK-GLASS KEYRING"
)

// ExportBreakGlass returns the keyring of the threads' KEK for OpenOffline,
// once it is recorded who took it. It fails with fault.Conflict when the root
// is not a key file: a token gives no KEK away.
func (s *Service) ExportBreakGlass(ctx context.Context) (text []byte, err error) {
	if s.root.Kind() != "file" {
		return nil, fault.New(fault.Conflict, "there is no break-glass with this root: its KEKs cannot leave the token; run a second KMS instead")
	}
	ring, _, err := s.readKEK(ctx, kmsapi.ThreadsKEK)
	if err != nil {
		return nil, asFault(err)
	}
	defer ring.Wipe()
	err = s.Audited(ctx, "breakglass.export", ring.ID(), map[string]any{"kek_version": ring.Primary()}, func() error {
		text = append([]byte(breakGlassHead), pem.EncodeToMemory(&pem.Block{Type: breakGlassBlock, Bytes: ring.Marshal()})...)
		return nil
	})
	return text, err
}

// Offline opens messages without a KMS: with the root key and an exported
// keyring. It cannot encrypt. It may be used by many goroutines.
type Offline struct{ ring *keyring.Keyring }

// OpenOffline returns the Offline of a root and the text that ExportBreakGlass
// returned. It fails with fault.Invalid when text is not one, and with
// fault.Damaged when root does not open it.
func OpenOffline(ctx context.Context, root keyring.Root, text []byte) (*Offline, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != breakGlassBlock || len(block.Headers) > 0 || len(rest) > 0 {
		return nil, fault.New(fault.Invalid, "this is no break-glass keyring; make one with: keyfold-kms export-breakglass")
	}
	ring, err := keyring.Parse(ctx, root, kmsapi.ThreadsKEK, block.Bytes)
	if err != nil {
		return nil, fault.Wrap(fault.Of(err).Code, err, "the root key does not open the break-glass keyring; use the root key file and an export of the same KMS")
	}
	return &Offline{ring: ring}, nil
}

// KEKVersion returns the newest version of the threads' KEK that it knows.
func (o *Offline) KEKVersion() uint32 { return o.ring.Primary() }

// Wipe makes o unusable.
func (o *Offline) Wipe() { o.ring.Wipe() }

// Decrypt is Service.Decrypt for items under one thread's DEK, which it unwraps
// itself from what the thread's metadata says. It fails with fault.Unopenable
// when the DEK does not open for this thread, and with fault.Unavailable when
// the export is older than the DEK's KEK version. An item fails with
// fault.Unopenable, for every cause the same.
func (o *Offline) Decrypt(_ context.Context, info kmsapi.DEKInfo, threadID string, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	if err := checkBatch(len(items)); err != nil {
		return nil, err
	}
	if info.KEKID != o.ring.ID() {
		return nil, asFault(aead.ErrOpen)
	}
	if info.KEKVersion > o.ring.Primary() {
		return nil, fault.New(fault.Unavailable, "the break-glass keyring is older than this thread's key; once the KMS is back, export it again: keyfold-kms export-breakglass")
	}
	key, err := unwrapDEK(o.ring, info.KEKVersion, info.WrappedDEK, dekAAD(info.KeyID, threadID))
	if err != nil {
		return nil, asFault(err)
	}
	defer key.Wipe()
	d := &dek{id: info.KeyID, version: dekVersion, key: key}
	out := make([]kmsapi.DecryptResult, len(items))
	for i, item := range items {
		out[i] = d.open(item)
	}
	return out, nil
}

func (d *dek) open(item kmsapi.DecryptItem) kmsapi.DecryptResult {
	if item.KeyID != d.id {
		return kmsapi.DecryptResult{Err: asFault(aead.ErrOpen)}
	}
	plaintext, err := d.key.Open(item.Ciphertext, ciphertextAAD(d, item.AAD))
	return kmsapi.DecryptResult{Plaintext: plaintext, Err: asFault(err)}
}
