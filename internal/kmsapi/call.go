package kmsapi

// The wire of the item calls. PROTOCOL.md describes it, kms.proto is its schema.
const (
	ContentType = "application/x-protobuf"
	MaxBody     = 48 << 20 // bytes of a request or an answer
)

// Call is one item call of the wire: a POST of items that is answered with as
// many results, in JSON or as protobuf. It holds no state.
type Call[In, Out any] struct {
	Path string
	in   message[In]
	out  message[Out]
}

// The item calls.
var (
	CreateKEK = Call[CreateKEKItem, CreateKEKResult]{
		Path: "/create_kek",
		in: message[CreateKEKItem]{
			{1, "kek_id", true, func(x *CreateKEKItem) any { return &x.KEKID }},
		},
		out: message[CreateKEKResult]{
			{1, "kek_id", true, func(x *CreateKEKResult) any { return &x.KEKID }},
			{2, "kek_version", true, func(x *CreateKEKResult) any { return &x.Version }},
			{15, "error", false, func(x *CreateKEKResult) any { return &x.Err }},
		},
	}

	CreateDEK = Call[CreateDEKItem, CreateDEKResult]{
		Path: "/create_dek_for_thread",
		in: message[CreateDEKItem]{
			{1, "thread_id", true, func(x *CreateDEKItem) any { return &x.ThreadID }},
		},
		out: message[CreateDEKResult]{
			{1, "key_id", true, func(x *CreateDEKResult) any { return &x.DEK.KeyID }},
			{2, "wrapped", true, func(x *CreateDEKResult) any { return &x.DEK.WrappedDEK }},
			{3, "kek_id", true, func(x *CreateDEKResult) any { return &x.DEK.KEKID }},
			{4, "kek_version", true, func(x *CreateDEKResult) any { return &x.DEK.KEKVersion }},
			{15, "error", false, func(x *CreateDEKResult) any { return &x.Err }},
		},
	}

	Encrypt = Call[EncryptItem, EncryptResult]{
		Path: "/encrypt",
		in: message[EncryptItem]{
			{1, "key_id", true, func(x *EncryptItem) any { return &x.KeyID }},
			{2, "plaintext", true, func(x *EncryptItem) any { return &x.Plaintext }},
			{3, "aad", false, func(x *EncryptItem) any { return &x.AAD }},
		},
		out: message[EncryptResult]{
			{1, "ciphertext", true, func(x *EncryptResult) any { return &x.Ciphertext }},
			{2, "key_version", true, func(x *EncryptResult) any { return &x.KeyVersion }},
			{15, "error", false, func(x *EncryptResult) any { return &x.Err }},
		},
	}

	Decrypt = Call[DecryptItem, DecryptResult]{
		Path: "/decrypt",
		in: message[DecryptItem]{
			{1, "key_id", true, func(x *DecryptItem) any { return &x.KeyID }},
			{2, "ciphertext", true, func(x *DecryptItem) any { return &x.Ciphertext }},
			{3, "aad", false, func(x *DecryptItem) any { return &x.AAD }},
		},
		out: message[DecryptResult]{
			{1, "plaintext", false, func(x *DecryptResult) any { return &x.Plaintext }},
			{15, "error", false, func(x *DecryptResult) any { return &x.Err }},
		},
	}

	Seal = Call[SealItem, SealResult]{
		Path: "/seal",
		in: message[SealItem]{
			{1, "kek_id", true, func(x *SealItem) any { return &x.KEKID }},
			{2, "plaintext", true, func(x *SealItem) any { return &x.Plaintext }},
			{3, "aad", false, func(x *SealItem) any { return &x.AAD }},
		},
		out: message[SealResult]{
			{1, "kek_id", true, func(x *SealResult) any { return &x.Envelope.KEKID }},
			{2, "kek_version", true, func(x *SealResult) any { return &x.Envelope.KEKVersion }},
			{3, "wrapped_dek", true, func(x *SealResult) any { return &x.Envelope.WrappedDEK }},
			{4, "ciphertext", true, func(x *SealResult) any { return &x.Envelope.Ciphertext }},
			{15, "error", false, func(x *SealResult) any { return &x.Err }},
		},
	}

	Open = Call[OpenItem, OpenResult]{
		Path: "/open",
		in: message[OpenItem]{
			{1, "kek_id", true, func(x *OpenItem) any { return &x.Envelope.KEKID }},
			{2, "kek_version", true, func(x *OpenItem) any { return &x.Envelope.KEKVersion }},
			{3, "wrapped_dek", true, func(x *OpenItem) any { return &x.Envelope.WrappedDEK }},
			{4, "ciphertext", true, func(x *OpenItem) any { return &x.Envelope.Ciphertext }},
			{5, "aad", false, func(x *OpenItem) any { return &x.AAD }},
		},
		out: message[OpenResult]{
			{1, "plaintext", false, func(x *OpenResult) any { return &x.Plaintext }},
			{15, "error", false, func(x *OpenResult) any { return &x.Err }},
		},
	}

	Rewrap = Call[RewrapItem, RewrapResult]{
		Path: "/rewrap",
		in: message[RewrapItem]{
			{1, "kek_id", false, func(x *RewrapItem) any { return &x.KEKID }},
			{2, "kek_version", false, func(x *RewrapItem) any { return &x.KEKVersion }},
			{3, "wrapped_dek", false, func(x *RewrapItem) any { return &x.WrappedDEK }},
			{4, "key_id", false, func(x *RewrapItem) any { return &x.KeyID }},
			{5, "aad", false, func(x *RewrapItem) any { return &x.AAD }},
		},
		out: message[RewrapResult]{
			{1, "kek_id", true, func(x *RewrapResult) any { return &x.KEKID }},
			{2, "kek_version", true, func(x *RewrapResult) any { return &x.KEKVersion }},
			{3, "wrapped_dek", true, func(x *RewrapResult) any { return &x.WrappedDEK }},
			{15, "error", false, func(x *RewrapResult) any { return &x.Err }},
		},
	}
)

// RequestSize returns how many bytes AppendRequest appends for items.
func (c Call[In, Out]) RequestSize(items []In) int { return c.in.listSize(items) }

// AppendRequest appends items as a protobuf request. It grows dst at most once,
// before it writes: no copy of an item is left behind in a smaller buffer.
func (c Call[In, Out]) AppendRequest(dst []byte, items []In) []byte {
	return c.in.appendList(dst, items)
}

// AppendAnswer appends results as a protobuf answer, with dst as AppendRequest.
func (c Call[In, Out]) AppendAnswer(dst []byte, results []Out) []byte {
	return c.out.appendList(dst, results)
}

// Fail returns a result that failed with err.
func (c Call[In, Out]) Fail(err error) Out {
	var out Out
	*c.out[len(c.out)-1].at(&out).(*error) = err
	return out
}

// Detach copies the byte fields of results out of the body that they alias, all
// into one piece of memory.
func (c Call[In, Out]) Detach(results []Out) { c.out.detach(results) }

// WipeItems overwrites every byte field of items, AAD and what aliases a body
// included.
func (c Call[In, Out]) WipeItems(items []In) { c.in.wipe(items) }

// WipeResults is WipeItems for results.
func (c Call[In, Out]) WipeResults(results []Out) { c.out.wipe(results) }

// Failed returns the Err of a result.
func (c Call[In, Out]) Failed(result *Out) error { return c.out.err(result) }
