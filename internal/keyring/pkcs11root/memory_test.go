//go:build cgo && !windows

package pkcs11root

import (
	"bufio"
	"bytes"
	"crypto/subtle"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/keyfold/keyfold/internal/aead"
	"github.com/miekg/pkcs11"
)

// C's allocator does not wipe what is freed, and pkcs11.Ctx has plaintexts
// copied through it. Go's own memory is left out: there a signal saves the
// registers, and what a copy has left in them, until the next one.
func TestAnUnwrappedDEKLeavesNoCopyInTheMemoryOfC(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc/self/mem, which this system has not")
	}
	h := newHSM(t)
	r := h.open()
	k, _ := h.kek(r, kekA)
	raw, negative := aead.GenerateRaw(), make([]byte, aead.KeySize)
	for i := range raw {
		negative[i] = ^raw[i]
	}
	w, err := k.Wrap(raw, aad)
	h.must(err)
	clear(raw)
	for range 20 {
		got, err := k.Unwrap(w, aad)
		h.must(err)
		clear(got)
	}
	if n := halvesInCsMemory(t, negative); n != 0 {
		t.Errorf("%d copies of half of a DEK", n)
	}
	for range 20 {
		params := pkcs11.NewGCMParams(w[:12], aad, 128)
		h.must(r.mod.lib.(*library).DecryptInit(r.conn.all[0], []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, r.conn.handles[string(k.(*kek).id)]))
		got, err := r.mod.lib.(*library).Decrypt(r.conn.all[0], w[12:])
		h.must(err)
		clear(got)
		params.Free()
	}
	if halvesInCsMemory(t, negative) == 0 {
		t.Error("the search does not find what pkcs11.Ctx leaves: it may be blind")
	}
}

// halvesInCsMemory counts the halves of the key whose complement is given: an
// allocator that takes a block back may overwrite one half. It looks for the
// complement in the complement of the memory, so as to make no copy itself.
func halvesInCsMemory(t *testing.T, negative []byte) (n int) {
	maps, err := os.Open("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	defer maps.Close()
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	buf, ones := make([]byte, 1<<20), bytes.Repeat([]byte{0xFF}, 1<<20)
	for lines := bufio.NewScanner(maps); lines.Scan(); {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") {
			continue
		}
		if from < 0x5000_0000_0000 && !strings.HasSuffix(lines.Text(), "[heap]") || to-from > 64<<20 {
			continue // Go's, data of the binary, or what the race detector lays out
		}
		for ; from < to; from += int64(len(buf)) / 2 { // pieces overlap
			got, _ := mem.ReadAt(buf[:min(int64(len(buf)), to-from)], from)
			subtle.XORBytes(buf[:got], buf[:got], ones)
			n += bytes.Count(buf[:got], negative[:16]) + bytes.Count(buf[:got], negative[16:])
		}
	}
	return n
}
