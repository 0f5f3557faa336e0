package auditcheck

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/keyfold/keyfold/api"
)

var example = Event{
	Org: "o1", Chain: Chain{0x8a, 1, 2, 3, 4, 5, 6, 7}, Seq: 7, Time: 1790000000000000001, Prev: Hash{0xff},
	ActorType: "user", ActorID: "u1", Action: "secret.read", ResourceType: "secret", ResourceID: "db/password", Outcome: "allowed",
	Addr: "192.0.2.1", RequestID: "r1", Details: map[string]string{"vault_id": "v1", "path": "db/password"},
}

// The example of the format.
func TestTheEncodingIsWhatItWas(t *testing.T) {
	const want = "" +
		"00000016" + "6b6579666f6c642f747261696c2f6576656e742f7631" + // keyfold/trail/event/v1
		"00000002" + "6f31" + // o1
		"00000008" + "8a01020304050607" +
		"00000008" + "0000000000000007" +
		"00000008" + "18d75b8423f30001" +
		"00000020" + "ff00000000000000000000000000000000000000000000000000000000000000" +
		"00000004" + "75736572" + // user
		"00000002" + "7531" + // u1
		"0000000b" + "7365637265742e72656164" + // secret.read
		"00000006" + "736563726574" + // secret
		"0000000b" + "64622f70617373776f7264" + // db/password
		"00000007" + "616c6c6f776564" + // allowed
		"00000009" + "3139322e302e322e31" + // 192.0.2.1
		"00000002" + "7231" + // r1
		"00000004" + "70617468" + "0000000b" + "64622f70617373776f7264" + // path
		"00000008" + "7661756c745f6964" + "00000002" + "7631" // vault_id
	head := example.AppendHead(nil)
	if got := hex.EncodeToString(example.AppendBody(head)); got != want {
		t.Errorf("the encoding is\n%s", got)
	}
	if len(head) != HeadSize(example.Org) {
		t.Errorf("the head has %d bytes", len(head))
	}
	const hash = "61b957bf62c99e46ff32a44e90e656a51a77a13a4f445074d8332e7a77355c05"
	if got := example.Hash().String(); got != hash {
		t.Errorf("the hash is %s", got)
	}
	if id := example.ID(); id != "00000000-0007-8000-8a01-020304050607" {
		t.Errorf("the ID is %s", id)
	}
}

func TestACheckpointIsSignedOverWhatItWas(t *testing.T) {
	p := api.AuditCheckpoint{OrgID: "o1", Number: 2, CreatedAt: example.Wire(Hash{}).CreatedAt, PrevHash: Hash{1}.String(), KeyID: "0123456789abcdef"}
	p.Heads = []api.AuditHead{{EventID: example.ID(), CreatedAt: p.CreatedAt, IntegrityHash: Hash{2}.String()}}
	text, _, err := encode(&p)
	const want = "" +
		"0000001b" + "6b6579666f6c642f747261696c2f636865636b706f696e742f7631" + // keyfold/trail/checkpoint/v1
		"00000002" + "6f31" + // o1
		"00000008" + "0000000000000002" +
		"00000008" + "18d75b8423f30001" +
		"00000020" + "0100000000000000000000000000000000000000000000000000000000000000" +
		"00000010" + "30313233343536373839616263646566" +
		"00000038" + "8a01020304050607" + "0000000000000007" + "18d75b8423f30001" + "0200000000000000000000000000000000000000000000000000000000000000"
	if got := hex.EncodeToString(text); got != want || err != nil {
		t.Errorf("the encoding is\n%s, %v", got, err)
	}
}

func anyEvent(t *rapid.T) Event {
	text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"", "\u2028<&>", "a\x00b", "\uFFFD", `"}`}))
	e := Event{Org: text.Draw(t, "org"), Seq: rapid.Uint64Range(1, MaxSeq).Draw(t, "seq"), Time: rapid.Int64Range(0, 1<<63-1).Draw(t, "time")}
	e.Chain = NewChain()
	copy(e.Prev[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "prev"))
	for _, f := range e.texts() {
		*f = strings.ToValidUTF8(text.Draw(t, "text"), "")
	}
	e.Details = rapid.MapOfN(text, text, 0, 4).Draw(t, "details")
	return e
}

// Every event is read back from its encoding and from its JSON, to the hash.
func TestEveryEventIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEvent(t)
		got, err := ParseEvent(e.AppendBody(e.AppendHead(nil)))
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Fatalf("%+v is %+v, %v", e, got, err)
		}
		text, err := json.Marshal(e.Wire(e.Hash()))
		if err != nil {
			t.Fatal(err)
		}
		var w api.AuditEvent
		if err := json.Unmarshal(text, &w); err != nil {
			t.Fatal(err)
		}
		again, stated, err := FromWire(w)
		if err != nil || again.Hash() != e.Hash() || stated != e.Hash() {
			t.Fatalf("%s: %+v, %v", text, again, err)
		}
	})
}

func FuzzParseEvent(f *testing.F) {
	f.Add(example.AppendBody(example.AppendHead(nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEvent(b)
		if err == nil && !bytes.Equal(e.AppendBody(e.AppendHead(nil)), b) {
			t.Errorf("%x is read and written otherwise", b)
		}
	})
}

func TestAnIDIsOfOneEvent(t *testing.T) {
	for _, bad := range []string{
		"", "00000000-0007-8000-8a01-02030405060", "00000000-0007-8000-8a01-0203040506077", "00000000-0007-8000-8A01-020304050607",
		"00000000-0000-8000-8a01-020304050607", "00000000-0007-8001-8a01-020304050607", "00000000-0007-4000-8a01-020304050607",
		"00000000-0007-8000-ca01-020304050607", "00000000x0007-8000-8a01-020304050607", "zz000000-0007-8000-8a01-020304050607",
	} {
		if _, _, ok := ParseEventID(bad); ok {
			t.Errorf("%q is taken", bad)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		c, seq := NewChain(), rapid.Uint64Range(1, MaxSeq).Draw(t, "seq")
		if c2, seq2, ok := ParseEventID(EventID(c, seq)); !ok || c2 != c || seq2 != seq {
			t.Fatalf("%s: %s %d", EventID(c, seq), c2, seq2)
		}
		if c2, ok := ParseChain(c.String()); !ok || c2 != c {
			t.Fatalf("%s", c)
		}
	})
}
