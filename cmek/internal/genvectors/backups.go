package main

import (
	"encoding/hex"
	"fmt"
	"log"
	"strconv"
	"strings"
)

type backupRow struct {
	Name       string `json:"name"`
	File       string `json:"file"`
	Passphrase string `json:"passphrase"`
	Key        string `json:"key,omitempty"`
	Class      string `json:"class,omitempty"`
}

// argon2id is Argon2id of some passphrases, by the reference implementation
// (20171227, as Debian packages it): the standard library has none.
//
//	printf '%s' PASSPHRASE | argon2 keyfold-salt-016 -id -t PASSES -k MEMORY -p LANES -l 32 -r
var argon2id = map[string]string{
	"correct horse battery staple 64 1 1":  "36cc53730bd74333f40b175290c4cd76e9877e8ea0c93625c1778bb526bf123d",
	"correct horse battery staple 256 3 2": "b8a5580f2d84e32743d399e80c36220d118d28613879d89760d6ca160868eb49",
	"пароль из слов🔑 64 1 1":               "46acdf493c6dacfc83c8cfecba5a68f8ca8abdbc527e8ed65ea77a3f91b891b2",
}

const (
	passphrase = "correct horse battery staple"
	backupSalt = "keyfold-salt-016"
)

// backup is a backup's text, of whatever the key inside and the fingerprint are.
func backup(passphrase string, memory, passes, lanes int, raw []byte, fp string) string {
	derived, err := hex.DecodeString(argon2id[fmt.Sprint(passphrase, " ", memory, " ", passes, " ", lanes)])
	if err != nil || len(derived) != 32 {
		log.Fatal("no Argon2id of these is known")
	}
	sealed := sealWith(derived, nonce, raw, aad("keyfold/cmek-backup/v1", fp,
		strconv.Itoa(memory), strconv.Itoa(passes), strconv.Itoa(lanes), backupSalt))
	return fmt.Sprintf("keyfold-cmek-backup: 1\nfingerprint: %s\nmemory: %d\npasses: %d\nlanes: %d\nsalt: %s\nsealed-key: %s\n",
		fp, memory, passes, lanes, b64([]byte(backupSalt)), b64(sealed))
}

func backups() []any {
	good := backup(passphrase, 64, 1, 1, key, fingerprint(key))
	commented := "# Keyfold CMEK key under a passphrase.\n# vault: " + vaultID + "\n# created: 2026-11-21T23:24:00Z\n" + good + "# the end\n"
	var rows []any
	add := func(name, file, passphrase, class string) {
		row := backupRow{Name: name, File: b64([]byte(file)), Passphrase: passphrase, Class: class}
		if class == "" {
			row.Key = hex.EncodeToString(key)
		}
		rows = append(rows, row)
	}
	add("without comments", good, passphrase, "")
	add("with comments", commented, passphrase, "")
	add("another cost", backup(passphrase, 256, 3, 2, key, fingerprint(key)), passphrase, "")
	add("a passphrase beyond ASCII", backup("пароль из слов🔑", 64, 1, 1, key, fingerprint(key)), "пароль из слов🔑", "")
	add("CRLF, byte order mark and white space", "\ufeff\r\n"+strings.ReplaceAll(commented, "\n", " \t\r\n"), passphrase, "")
	add("no line break at the end", strings.TrimSuffix(good, "\n"), passphrase, "")

	add("another passphrase", good, "correct horse battery stapld", "not_opened")
	add("a passphrase with a space after", good, passphrase+" ", "not_opened")
	add("no passphrase", good, "", "not_opened")
	for _, c := range []struct{ name, old, new string }{
		{"fingerprint of another key", fingerprint(key), fingerprint(otherKey)},
		{"more memory", "memory: 64", "memory: 65"},
		{"more passes", "passes: 1", "passes: 2"},
		{"more lanes", "lanes: 1", "lanes: 2"},
		{"another salt", b64([]byte(backupSalt)), b64([]byte("keyfold-salt-017"))},
		{"a bit of the sealed key", "sealed-key: AQ", "sealed-key: AA"},
	} {
		add("changed: "+c.name, strings.Replace(good, c.old, c.new, 1), passphrase, "not_opened")
	}
	add("the key inside is another", backup(passphrase, 64, 1, 1, otherKey, fingerprint(key)), passphrase, "not_opened")

	for _, c := range []struct{ name, old, new string }{
		{"another version", "keyfold-cmek-backup: 1", "keyfold-cmek-backup: 2"},
		{"no first line", "keyfold-cmek-backup: 1\n", ""},
		{"a line left out", "passes: 1\n", ""},
		{"a line twice", "passes: 1\n", "passes: 1\npasses: 1\n"},
		{"another order", "memory: 64\npasses: 1\n", "passes: 1\nmemory: 64\n"},
		{"a line too many", "lanes: 1\n", "lanes: 1\nmore: 1\n"},
		{"a name in upper case", "memory", "Memory"},
		{"no space after the colon", "memory: ", "memory:"},
		{"two spaces after the colon", "memory: ", "memory:  "},
		{"a zero before", "memory: 64", "memory: 064"},
		{"a sign before", "memory: 64", "memory: +64"},
		{"less memory than 8 KiB", "memory: 64", "memory: 7"},
		{"less memory than 8 KiB to a lane", "lanes: 1\n", "lanes: 9\n"},
		{"over 1 GiB of memory", "memory: 64", "memory: 1048577"},
		{"no pass", "passes: 1", "passes: 0"},
		{"over 16 passes", "passes: 1", "passes: 17"},
		{"over 16 lanes", "memory: 64\npasses: 1\nlanes: 1", "memory: 1024\npasses: 1\nlanes: 17"},
		{"memory beyond any integer", "memory: 64", "memory: 99999999999999999999"},
		{"a shorter salt", b64([]byte(backupSalt)), b64([]byte(backupSalt[:15]))},
		{"a longer sealed key", "sealed-key: ", "sealed-key: AAAA"},
		{"the sealed key without the last byte", "\nsealed-key: AQ", "\nsealed-key: "},
		{"fingerprint in upper case", fingerprint(key), strings.ToUpper(fingerprint(key))},
		{"fingerprint cut by one", fingerprint(key), fingerprint(key)[1:]},
		{"a NUL in a comment", "keyfold", "# \x00\nkeyfold"},
		{"not UTF-8", "keyfold", "# \xff\nkeyfold"},
		{"over 4096 bytes", "keyfold", "# " + strings.Repeat("x", 4096) + "\nkeyfold"},
	} {
		add(c.name, strings.Replace(good, c.old, c.new, 1), passphrase, "not_backup")
	}
	add("nothing", "", passphrase, "not_backup")
	add("a key file", b64(key)+"\n", passphrase, "not_backup")
	return rows
}
