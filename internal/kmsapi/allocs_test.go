//go:build !race

package kmsapi

import "testing"

// The race detector allocates on its own, so these counts hold without it.

func TestAppendingGrowsOnceSoThatNoCopyStaysBehind(t *testing.T) {
	items := encryptItems(100, 1024)
	size := Encrypt.RequestSize(items)
	got := Encrypt.AppendRequest(make([]byte, 0, size), items)
	if len(got) != size {
		t.Errorf("RequestSize = %d, AppendRequest appended %d", size, len(got))
	}
	if n := testing.AllocsPerRun(10, func() { Encrypt.AppendRequest(nil, items) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}

func TestParsingABatchAllocatesLittle(t *testing.T) {
	body := Encrypt.AppendRequest(nil, encryptItems(100, 1024))
	if n := testing.AllocsPerRun(10, func() { Encrypt.ParseRequest(body) }); n > 102 {
		t.Errorf("100 keys: %v allocations, want one for each ID and two", n)
	}
	items := encryptItems(100, 1024)
	for i := range items {
		items[i].KeyID = items[0].KeyID
	}
	body = Encrypt.AppendRequest(body[:0], items)
	if n := testing.AllocsPerRun(10, func() { Encrypt.ParseRequest(body) }); n > 3 {
		t.Errorf("one key: %v allocations", n)
	}
}

func TestDetachingAllocatesOnce(t *testing.T) {
	results := []SealResult{{Envelope: Envelope{WrappedDEK: []byte("w"), Ciphertext: []byte("c")}}, {Envelope: Envelope{WrappedDEK: []byte("v")}}}
	if n := testing.AllocsPerRun(10, func() { Seal.Detach(results) }); n > 1 {
		t.Errorf("%v allocations", n)
	}
}
