package fields

import (
	"bytes"
	"testing"
)

func read(text string) (n int, b []byte, done bool) {
	r := Read([]byte(text), 60)
	r.Exactly("kind", "x")
	n, b = r.Int("n", 1, 99), r.Bytes("b", 2)
	return n, b, r.Done()
}

func TestWhatIsAppendedIsRead(t *testing.T) {
	text := Append(Append(Append(nil, "kind", "x"), "n", 12), "b", []byte{1, 2})
	if n, b, ok := read(string(text)); !ok || n != 12 || !bytes.Equal(b, []byte{1, 2}) || string(text) != "kind: x\nn: 12\nb: AQI=\n" {
		t.Errorf("%q is read as %d, %x, %v", text, n, b, ok)
	}
}

func TestATextIsReadInOneWayOnly(t *testing.T) {
	for _, text := range []string{"kind: x\nn: 1\nb: AQI=", "\ufeff# c\r\n\r\n kind: x\t\r\nn: 1\nb: AQI=\n#", "kind: x\nn: 1\n#\tc\nb: AQI=\n"} {
		if _, _, ok := read(text); !ok {
			t.Errorf("%q is refused", text)
		}
	}
	for _, text := range []string{
		"", "kind: x\nn: 1\n", "n: 1\nkind: x\nb: AQI=\n", "kind: x\nkind: x\nn: 1\nb: AQI=\n", "kind: x\nn: 1\nb: AQI=\nc: d\n",
		"kind: y\nn: 1\nb: AQI=\n", "Kind: x\nn: 1\nb: AQI=\n", "kind:x\nn: 1\nb: AQI=\n", "kind: x\nn:  1\nb: AQI=\n",
		"kind: x\nn: 0\nb: AQI=\n", "kind: x\nn: 100\nb: AQI=\n", "kind: x\nn: 01\nb: AQI=\n", "kind: x\nn: +1\nb: AQI=\n", "kind: x\nn: one\nb: AQI=\n",
		"kind: x\nn: 1\nb: AQI\n", "kind: x\nn: 1\nb: AQJ=\n", "kind: x\nn: 1\nb: AQ==\n", "kind: x\nn: 1\nb: AQID\n", "kind: x\nn: 1\nb: A\rQI=\n",
		"kind: x\nn: 1\nb: AQI=\n#\x00", "kind: x\nn: 1\nb: AQI=\n#\xff", "kind: x\nn: 1\nb: AQI=\n# over sixty bytes of text, that is to say too many",
	} {
		if n, b, ok := read(text); ok || n < 1 || n > 99 || len(b) != 2 {
			t.Errorf("%q is read as %d, %x", text, n, b)
		}
	}
}
