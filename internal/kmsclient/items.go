package kmsclient

import (
	"context"

	"github.com/keyfold/keyfold/internal/kmsapi"
)

// Sizes of what the KMS makes, in bytes.
const (
	sealOverhead = 28 // nonce and tag
	wrappedSize  = 60
)

// CreateKEK is kms.Service.CreateKEK.
func (c *Client) CreateKEK(ctx context.Context, ids []string) ([]kmsapi.KEKInfo, error) {
	items := make([]kmsapi.CreateKEKItem, len(ids))
	for i, id := range ids {
		items[i].KEKID = id
	}
	results, err := c.createKEK.do(ctx, items)
	if err != nil {
		return nil, err
	}
	infos := make([]kmsapi.KEKInfo, len(ids))
	for i, r := range results {
		if r.Err != nil {
			return nil, r.Err
		}
		infos[i] = r.KEKInfo
	}
	return infos, nil
}

// CreateDEK is kms.Service.CreateDEK. It is not sent again once a byte may have left.
func (c *Client) CreateDEK(ctx context.Context, items []kmsapi.CreateDEKItem) ([]kmsapi.CreateDEKResult, error) {
	return c.createDEK.do(ctx, items)
}

// Encrypt is kms.Service.Encrypt.
func (c *Client) Encrypt(ctx context.Context, items []kmsapi.EncryptItem) ([]kmsapi.EncryptResult, error) {
	return c.encrypt.do(ctx, items)
}

// Decrypt is kms.Service.Decrypt. The plaintexts of one call lie in one piece of memory.
func (c *Client) Decrypt(ctx context.Context, items []kmsapi.DecryptItem) ([]kmsapi.DecryptResult, error) {
	return c.decrypt.do(ctx, items)
}

// Seal is kms.Service.Seal.
func (c *Client) Seal(ctx context.Context, items []kmsapi.SealItem) ([]kmsapi.SealResult, error) {
	return c.seal.do(ctx, items)
}

// Open is kms.Service.Open. The plaintexts of one call lie in one piece of memory.
func (c *Client) Open(ctx context.Context, items []kmsapi.OpenItem) ([]kmsapi.OpenResult, error) {
	return c.open.do(ctx, items)
}

// Rewrap is kms.Service.Rewrap.
func (c *Client) Rewrap(ctx context.Context, items []kmsapi.RewrapItem) ([]kmsapi.RewrapResult, error) {
	return c.rewrap.do(ctx, items)
}

// What follows reports whether a result that is no failure can be the answer to
// its item. That it has all fields, the codec has seen.

func createdKEK(item *kmsapi.CreateKEKItem, r *kmsapi.CreateKEKResult) bool {
	return r.KEKID == item.KEKID
}

func createdDEK(_ *kmsapi.CreateDEKItem, r *kmsapi.CreateDEKResult) bool {
	return len(r.DEK.WrappedDEK) == wrappedSize
}

func encrypted(item *kmsapi.EncryptItem, r *kmsapi.EncryptResult) bool {
	return len(r.Ciphertext) == len(item.Plaintext)+sealOverhead
}

func decrypted(item *kmsapi.DecryptItem, r *kmsapi.DecryptResult) bool {
	return len(r.Plaintext)+sealOverhead == len(item.Ciphertext)
}

func sealed(item *kmsapi.SealItem, r *kmsapi.SealResult) bool {
	e := &r.Envelope
	return e.KEKID == item.KEKID && len(e.WrappedDEK) == wrappedSize && len(e.Ciphertext) == len(item.Plaintext)+sealOverhead
}

func opened(item *kmsapi.OpenItem, r *kmsapi.OpenResult) bool {
	return len(r.Plaintext)+sealOverhead == len(item.Envelope.Ciphertext)
}

func rewrapped(item *kmsapi.RewrapItem, r *kmsapi.RewrapResult) bool {
	return len(r.WrappedDEK) == wrappedSize && (item.KeyID != "" || r.KEKID == item.KEKID)
}
