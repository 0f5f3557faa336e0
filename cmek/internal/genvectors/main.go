// Command genvectors writes the CMEK vectors that every language shares.
//
// It stands on the standard library alone and shares no code with the package
// that the vectors judge. Its keys and nonces are fixed: two runs write the same
// bytes. Never use a key or a nonce of a vector for anything else.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
)

func main() {
	out := flag.String("out", "testdata/vectors.json", "file to write")
	flag.Parse()
	if err := os.WriteFile(*out, generate(), 0o644); err != nil {
		log.Fatal(err)
	}
}

// section is one array of the file, written with one vector to a line.
type section struct {
	name string
	rows []any
}

// generate returns the whole file.
func generate() []byte {
	var out bytes.Buffer
	out.WriteString("{\n")
	fmt.Fprintf(&out, "  \"about\": %s,\n", marshal(about))
	fmt.Fprintf(&out, "  \"classes\": %s,\n", marshal(classes))
	sections := []section{
		{"keys", keys()},
		{"fingerprints", fingerprints()},
		{"values", values()},
		{"bound", bound()},
		{"checks", checks()},
		{"key_texts", keyTexts()},
		{"key_files", keyFiles()},
		{"passphrase_files", backups()},
		{"shares", shares()},
	}
	for i, s := range sections {
		fmt.Fprintf(&out, "  %q: [\n", s.name)
		for j, row := range s.rows {
			fmt.Fprintf(&out, "    %s%s\n", marshal(row), comma(j, len(s.rows)))
		}
		fmt.Fprintf(&out, "  ]%s\n", comma(i, len(sections)))
	}
	out.WriteString("}\n")
	return out.Bytes()
}

func comma(i, n int) string {
	if i+1 < n {
		return ","
	}
	return ""
}

// marshal is json.Marshal without the escapes meant for HTML.
func marshal(v any) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		log.Fatal(err) // every row is a plain struct
	}
	return string(bytes.TrimSpace(b.Bytes()))
}
