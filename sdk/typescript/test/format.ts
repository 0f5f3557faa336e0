// The CMEK format: every vector of Go's, and what only calls can show.

import {
  CmekKey, cmekDecrypt, cmekDecryptValue, cmekEncrypt, cmekEncryptValue, cmekFingerprint, cmekKeyCheck, formatCmekKeyFile, fromBase64,
  generateCmekKey, inspectCmekValue, parseCmekKey, parseCmekKeyFile, toBase64,
} from "@keyfold/sdk";
import { equal, failure, hex, ok, same, text, unhex, utf8, type Case, type World } from "./suite.js";

const key = unhex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f");
const place = { vaultId: "7f1e7d0c-5f43-4c8c-8e0b-6f1d6f0a2b11", path: "db/password" };

/** The classes that a reader does not tell apart. */
const notOpened = new Set(["wrong_key", "tampered", "moved", "uncommitted"]);

interface Row {
  [member: string]: string | number | boolean | undefined;
}

function rows(w: World, section: string): Row[] {
  const found = w.vectors[section] as Row[] | undefined;
  ok(found && found.length > 0, `vectors.json has no section ${section}`);
  return found;
}

/** Every row of a section either succeeds as check says or fails in its class. */
async function hold(w: World, section: string, attempt: (row: Row) => Promise<void>): Promise<void> {
  for (const row of rows(w, section)) {
    const name = `${section}: ${row["name"] ?? row["raw"] ?? row["text"]}`;
    if (row["class"] === undefined) {
      await attempt(row).catch((err: Error) => {
        throw new Error(`${name}: ${err.message}`);
      });
      continue;
    }
    const err = await failure(attempt(row)).catch(() => undefined);
    ok(err, `${name}: it did not fail`);
    equal(err.code, notOpened.has(String(row["class"])) ? "decrypt" : String(row["class"]), name);
  }
}

const bytes = (row: Row, member: string) => fromBase64(String(row[member]));

async function openRow(row: Row): Promise<void> {
  const value = String(row["value"]);
  const raw = unhex(String(row["key"]));
  const context = "vault" in row || "path" in row ? { vaultId: String(row["vault"] ?? ""), path: String(row["path"] ?? "") } : undefined;
  if (row["form"] !== undefined) same(inspectCmekValue(value), { form: row["form"], version: row["version"], size: row["size"] }, "shape");
  for (const k of [raw, await CmekKey.from(raw)]) {
    const opened = await cmekDecryptValue(value, k, context);
    equal(toBase64(opened), String(row["plaintext"]), "plaintext");
  }
}

export const format: Case[] = [
  { name: "vectors: keys", run: (w) => hold(w, "keys", async (r) => equal(await cmekFingerprint(unhex(String(r["raw"]))), String(r["fingerprint"]))) },
  { name: "vectors: values", run: (w) => hold(w, "values", openRow) },
  { name: "vectors: bound values", run: (w) => hold(w, "bound", openRow) },
  { name: "vectors: key texts", run: (w) => hold(w, "key_texts", async (r) => equal(hex(parseCmekKey(String(r["text"]))), String(r["key"]))) },
  { name: "vectors: key files", run: (w) => hold(w, "key_files", async (r) => equal(hex(await parseCmekKeyFile(bytes(r, "file"))), String(r["key"]))) },
  {
    name: "vectors: key checks",
    run: async (w) => {
      for (const r of rows(w, "checks")) {
        const made = await cmekKeyCheck(unhex(String(r["key"])), String(r["vault"]));
        equal(made === r["check"], r["matches"] as boolean, String(r["name"]));
      }
    },
  },
  {
    name: "a blob that is sealed opens, of either version",
    run: async () => {
      for (const size of [0, 1, 15, 1024, 100_000]) {
        const plaintext = new Uint8Array(size).fill(7);
        const plain = await cmekEncrypt(plaintext, key);
        equal(plain.length, size + 29);
        equal(plain[0], 1);
        same(await cmekDecrypt(plain, key), plaintext);
        const bound = await cmekEncrypt(plaintext, key, place);
        equal(bound.length, size + 93);
        equal(bound[0], 2);
        same(await cmekDecrypt(bound, key, place), plaintext);
      }
    },
  },
  {
    name: "two blobs of one plaintext share no byte of salt, nonce or ciphertext",
    run: async () => {
      for (const context of [undefined, place]) {
        const [a, b] = [await cmekEncrypt(utf8("x".repeat(32)), key, context), await cmekEncrypt(utf8("x".repeat(32)), key, context)];
        for (let at = 1; at + 12 <= a.length; at += 12) ok(hex(a.subarray(at, at + 12)) !== hex(b.subarray(at, at + 12)), "equal bytes");
      }
    },
  },
  {
    name: "a bound blob opens nowhere else",
    run: async () => {
      const blob = await cmekEncrypt(utf8("x"), key, place);
      for (const other of [{ ...place, path: "db/passwor" }, { ...place, vaultId: place.vaultId.toUpperCase() }, { vaultId: place.path, path: place.vaultId }]) {
        equal((await failure(cmekDecrypt(blob, key, other))).code, "decrypt");
      }
      equal((await failure(cmekDecrypt(blob, await generateCmekKey(), place))).code, "decrypt");
      equal((await failure(cmekDecrypt(blob, key))).code, "needs_context");
      equal((await failure(cmekEncrypt(utf8("x"), key, { vaultId: "", path: "x" }))).code, "needs_context");
    },
  },
  {
    name: "errors read as in the published SDK",
    run: async () => {
      equal((await failure(cmekDecrypt(new Uint8Array(28).fill(1), key))).message, "CMEK blob too short");
      equal((await failure(cmekDecrypt(new Uint8Array(29).fill(7), key))).message, "Unsupported CMEK version: 7");
      equal((await failure(cmekDecrypt(new Uint8Array(29).fill(1), key))).name, "OperationError");
    },
  },
  {
    name: "a key of another size is refused",
    run: async () => {
      for (const n of [0, 16, 24, 31, 33, 64]) {
        for (const attempt of [cmekEncrypt(utf8("x"), new Uint8Array(n)), cmekDecrypt(new Uint8Array(29).fill(1), new Uint8Array(n)), cmekFingerprint(new Uint8Array(n)), CmekKey.from(new Uint8Array(n))]) {
          equal((await failure(attempt)).code, "key_size", `${n} bytes`);
        }
      }
      equal((await failure(cmekEncrypt(utf8("x"), "0".repeat(32) as unknown as Uint8Array))).code, "key_size");
    },
  },
  {
    name: "base64 has one text per bytes",
    run: async () => {
      for (let n = 0; n < 70; n++) {
        const b = Uint8Array.from({ length: n }, (_, i) => (i * 37 + n) & 255);
        same(fromBase64(toBase64(b)), b);
      }
      for (const bad of ["A", "AA", "AA=", "AB==", "AAB=", "A-_=", " AAAA", "AAAA\n", "AAAA====", "=AAA", "AA==AA==", "é==="]) {
        equal((await failure((async () => fromBase64(bad))())).code, "bad_encoding", bad);
      }
      equal(toBase64(new Uint8Array(200_000)).length, 266_668);
    },
  },
  {
    name: "a key file that is written is read, and says what it is",
    run: async () => {
      const raw = await generateCmekKey();
      const file = await formatCmekKeyFile(raw, place.vaultId, new Date("2026-11-21T23:24:00Z"));
      same(await parseCmekKeyFile(utf8(file)), raw);
      ok(file.includes(`# vault: ${place.vaultId}\n`) && file.includes("# created: 2026-11-21T23:24:00Z\n"), file.replace(toBase64(raw), ""));
    },
  },
  {
    name: "a wiped or changed raw key leaves the key that was made of it alone",
    run: async () => {
      const raw = key.slice();
      const making = CmekKey.from(raw);
      raw.fill(0);
      const k = await making;
      equal(k.fingerprint, await cmekFingerprint(key));
      equal(text(await cmekDecryptValue(await cmekEncryptValue(utf8("x"), k), key)), "x");
    },
  },
  {
    name: "no key shows when a key or an error is printed",
    run: async () => {
      const k = await CmekKey.from(key);
      const printed = [String(k), JSON.stringify(k), JSON.stringify(Object.entries(k))];
      for (const attempt of [cmekDecryptValue("AQECAwQFBgcICQoLDGiTd6aJ94LjOI8VJnxmj7xT6QmJI/izlA7zW+fshR1=", key), cmekDecryptValue("zzzz-not-a-blob", key), cmekDecrypt(new Uint8Array(29).fill(1), k)]) {
        const err = await failure(attempt);
        printed.push(err.message, String(err.stack), JSON.stringify(err));
      }
      printed.push((await failure((async () => parseCmekKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"))().then(() => Promise.reject(new Error("fine"))))).message);
      printed.push((await failure((async () => parseCmekKey("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdH"))())).message);
      for (const p of printed) ok(!p.includes("AAECAwQF") && !p.includes("000102") && !p.includes("zzzz") && !p.includes("AQECAwQF"), "a key or a value shows");
    },
  },
];
