// Go and TypeScript: each opens what the other wrote, by the keyfold program and
// by this package, on one vault and without a server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { cmekDecryptValue, cmekEncryptValue, cmekFingerprint, cmekKeyCheck, createClient, formatCmekKeyFile, generateCmekKey, parseCmekKeyFile, toBase64 } from "@keyfold/sdk";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { data, text, utf8 } from "../suite.js";
import { cleanEnvironment, keyfold, output, startDev } from "./harness.js";

const value = "my-secret-value ключ🔑";
const place = { vaultId: "7f1e7d0c-5f43-4c8c-8e0b-6f1d6f0a2b11", path: "db/password" };

test("blobs and key files of either open with the other", async () => {
  const program = await keyfold();
  const key = await generateCmekKey();
  const env = cleanEnvironment({ KEYFOLD_CMEK_KEY: toBase64(key) });
  const bound = ["--vault", place.vaultId, "--path", place.path];
  for (const [args, context] of [[[], undefined], [bound, place]] as const) {
    assert.equal(await output(program, ["cmek", "decrypt", ...args], env, await cmekEncryptValue(utf8(value), key, context)), value);
    const theirs = (await output(program, ["cmek", "encrypt", ...args], env, value)).trim();
    assert.equal(text(await cmekDecryptValue(theirs, key, context)), value);
  }
  const dir = await mkdtemp(join(tmpdir(), "keyfold-cross-"));
  try {
    await writeFile(join(dir, "ours.key"), await formatCmekKeyFile(key, place.vaultId), { mode: 0o600 });
    assert.equal((await output(program, ["cmek", "fingerprint", join(dir, "ours.key")], cleanEnvironment())).trim(), await cmekFingerprint(key));
    await output(program, ["cmek", "keygen", "--out", join(dir, "theirs.key"), "--vault", place.vaultId], cleanEnvironment());
    assert.equal((await parseCmekKeyFile(await readFile(join(dir, "theirs.key")))).length, 32);
  } finally {
    await rm(dir, { recursive: true });
  }
});

for (const bound of [false, true]) {
  test(`a sealed vault${bound ? " of bound blobs" : ""} is one to both`, async (t) => {
    const program = await keyfold();
    const server = await startDev();
    t.after(server.stop);
    const key = await generateCmekKey();
    const client = createClient({ baseUrl: server.url, apiKey: server.api_key, cmekKey: key });
    const vaultId = data(await client.vault.create({ name: "cross" })).id;
    const connection = { KEYFOLD_URL: server.url, KEYFOLD_API_KEY: server.api_key, KEYFOLD_VAULT: vaultId };
    const env = cleanEnvironment({ ...connection, KEYFOLD_CMEK_KEY: toBase64(key) });

    await output(program, ["cmek", "enable", ...(bound ? ["--bound"] : [])], env);
    const status = data(await client.vault.cmekStatus(vaultId));
    assert.equal(status.key_check, await cmekKeyCheck(key, vaultId));
    assert.equal(status.blob_version, bound ? 2 : 1);

    data(await client.secrets.put(vaultId, "from/typescript", { value }));
    assert.equal(await output(program, ["secret", "get", "from/typescript"], env), value);
    await output(program, ["secret", "put", "from/go"], env, value);
    assert.equal(data(await client.secrets.get(vaultId, "from/go")).value, value);

    const fresh = await generateCmekKey();
    data(await client.vault.rotateCmekHere(vaultId, key, fresh, { all: true }));
    const after = cleanEnvironment({ ...connection, KEYFOLD_CMEK_KEY: toBase64(fresh) });
    assert.equal(await output(program, ["secret", "get", "from/go"], after), value);
    await assert.rejects(output(program, ["secret", "get", "from/go"], env));
  });
}

test("bytes that are no text come through an open vault", async (t) => {
  const program = await keyfold();
  const server = await startDev();
  t.after(server.stop);
  const client = createClient({ baseUrl: server.url, apiKey: server.api_key, cmekKey: false });
  const vaultId = data(await client.vault.create({ name: "cross" })).id;
  const env = cleanEnvironment({ KEYFOLD_URL: server.url, KEYFOLD_API_KEY: server.api_key, KEYFOLD_VAULT: vaultId });
  const raw = Uint8Array.from([0xff, 0x00, 0xfe, 0x80]);
  data(await client.secrets.put(vaultId, "raw", { value: raw }));
  const dir = await mkdtemp(join(tmpdir(), "keyfold-cross-"));
  try {
    await output(program, ["secret", "get", "raw", "--out", join(dir, "raw")], env);
    assert.deepEqual(new Uint8Array(await readFile(join(dir, "raw"))), raw);
    await output(program, ["secret", "put", "theirs", "--file", join(dir, "raw")], env);
    assert.deepEqual(new Uint8Array(data(await client.secrets.getBytes(vaultId, "theirs")).value), raw);
  } finally {
    await rm(dir, { recursive: true });
  }
});
