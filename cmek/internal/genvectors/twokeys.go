package main

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"log"
)

// twoKeys returns a nonce | ciphertext | tag that AES-GCM opens under both
// keys, each with its AAD, and what it opens to under the first. AES-GCM does
// not commit to its key: the tag of a block c is T + c·H² in GF(2^128), where
// H = AES(key, 0) and T is the tag of a block of zeros. So T1 + c·H1² =
// T2 + c·H2² has one solution c.
func twoKeys(key1, key2, aad1, aad2 []byte) (sealed, plaintext []byte) {
	stream1, tag1 := ofZeros(key1, aad1)
	_, tag2 := ofZeros(key2, aad2)
	h1, h2 := hashKey(key1), hashKey(key2)
	c := tag1.plus(tag2).times(h1.times(h1).plus(h2.times(h2)).inverse())

	plaintext = make([]byte, 16)
	subtle.XORBytes(plaintext, stream1, c.bytes())
	return sealWith(key1, nonce, plaintext, aad1), plaintext
}

// ofZeros returns the first block of key's stream, and the tag of the
// ciphertext of 16 zeros, which the stream itself encrypts to.
func ofZeros(key, aad []byte) (stream []byte, tag element) {
	stream = sealWith(key, nonce, make([]byte, 16), nil)[12:28]
	return stream, toElement(sealWith(key, nonce, stream, aad)[28:])
}

func hashKey(key []byte) element {
	block, err := aes.NewCipher(key)
	if err != nil {
		log.Fatal(err)
	}
	out := make([]byte, 16)
	block.Encrypt(out, out)
	return toElement(out)
}

// element is one of GF(2^128) as GCM orders its bits: the first bit of the
// first byte is the coefficient of 1.
type element struct{ hi, lo uint64 }

func toElement(b []byte) element {
	return element{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func (x element) bytes() []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, x.hi), x.lo)
}

func (x element) plus(y element) element { return element{x.hi ^ y.hi, x.lo ^ y.lo} }

// times is the multiplication of NIST SP 800-38D, section 6.3.
func (x element) times(y element) element {
	var z element
	for i := range 128 {
		word := x.hi
		if i >= 64 {
			word = x.lo
		}
		if word>>(63-i%64)&1 == 1 {
			z = z.plus(y)
		}
		odd := y.lo & 1
		y = element{y.hi >> 1, y.lo>>1 | y.hi<<63}
		y.hi ^= odd * 0xe1 << 56
	}
	return z
}

// inverse is x to the power of 2^128 - 2.
func (x element) inverse() element {
	z := element{hi: 1 << 63} // 1
	for range 127 {
		x = x.times(x)
		z = z.times(x)
	}
	return z
}
