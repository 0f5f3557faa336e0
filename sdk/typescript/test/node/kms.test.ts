// A CMEK key in a key process of its owner, over mutual TLS: the client seals and
// opens by calling it, and the owner can cut it off.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { cmekDecryptValue, createClient, inspectCmekValue, formatCmekKeyFile, generateCmekKey, cmekFingerprint } from "@keyfold/sdk";
import { kmsKey, type KmsOptions } from "@keyfold/sdk/kms";
import { data, refused } from "../suite.js";
import { cleanEnvironment, end, keyfoldKms, output, startDev } from "./harness.js";
import { compile, samplesOf } from "./samples.js";

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await new Promise((done) => server.once("listening", done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

/** A key process with an agent who may be granted keys, what calls it as its admin, and what the agent calls it with. */
async function startKms(t: TestContext) {
  const program = await keyfoldKms();
  const dir = await mkdtemp(join(tmpdir(), "keyfold-sdk-kms-"));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const address = `127.0.0.1:${await freePort()}`;
  const config = join(dir, "kms.yaml");
  const env = cleanEnvironment({ KEYFOLD_KMS_CONFIG: config });
  await output(program, ["init", "--data-dir", join(dir, "kms"), "--tls", "--agent", "agent-7,agent-8", "--endpoint", address], cleanEnvironment());
  const child = spawn(program, ["serve", "--config", config], { env: cleanEnvironment(), stdio: "ignore" });
  t.after(() => end(child, "SIGTERM"));
  const admin = (args: string[], input?: string) => output(program, args, env, input);
  for (let n = 0; ; n++) {
    try {
      await admin(["status"]);
      break;
    } catch (err) {
      if (n === 1200) throw err;
      await new Promise((done) => setTimeout(done, 50));
    }
  }
  const of = (agent: string): KmsOptions => ({
    endpoint: `https://${address}`, cert: join(dir, `tls/${agent}.crt`), key: join(dir, `tls/${agent}.key`), ca: join(dir, "tls/ca.crt"),
  });
  return { admin, of, dir };
}

test("values are sealed and opened in the customer's key process", async (t) => {
  const [kms, server] = [await startKms(t), await startDev()];
  t.after(server.stop);
  const raw = await generateCmekKey(); // imported, so that the test can look at what was stored
  const fingerprint = await cmekFingerprint(raw);
  await kms.admin(["cmek", "import", "-"], await formatCmekKeyFile(raw));
  await kms.admin(["cmek", "grant", fingerprint, "--caller", "cert:agent-7"]);
  const base = { baseUrl: server.url, apiKey: server.api_key };
  const owner = createClient({ ...base, cmekKey: false });
  const client = createClient({ ...base, cmekKey: kmsKey(fingerprint, kms.of("agent-7")) });

  for (const version of [1, 2] as const) {
    const vaultId = data(await owner.vault.create({ name: "delegated" })).id;
    data(await owner.vault.enableCmek(vaultId, { fingerprint, blob_version: version }));
    data(await client.secrets.put(vaultId, "db/x", { value: "my-secret-value" }));
    assert.equal(data(await client.secrets.get(vaultId, "db/x")).value, "my-secret-value");
    const stored = data(await owner.secrets.get(vaultId, "db/x")).value;
    assert.equal(inspectCmekValue(stored).version, version);
    assert.equal(new TextDecoder().decode(await cmekDecryptValue(stored, raw, { vaultId, path: "db/x" })), "my-secret-value");

    const stranger = createClient({ ...base, cmekKey: kmsKey(fingerprint, kms.of("agent-8")) });
    assert.equal(refused(await stranger.secrets.get(vaultId, "db/x")).code, "kms_denied");
    assert.equal(refused(await stranger.secrets.put(vaultId, "db/x", { value: "y" })).code, "kms_denied");
    data(await owner.secrets.put(vaultId, "moved", { value: stored }, { sealedWith: fingerprint }));
    if (version === 2) assert.equal(refused(await client.secrets.get(vaultId, "moved")).code, "decrypt");
  }

  const vaultId = data(await owner.vault.list()).vaults[0]!.id;
  const fresh = await generateCmekKey();
  const rotated = data(await owner.vault.rotateCmekHere(vaultId, kmsKey(fingerprint, kms.of("agent-7")), fresh, { all: true }));
  assert.equal(rotated.reencrypted, 2);

  const vault2 = data(await owner.vault.list()).vaults[1]!.id;
  const [sample] = (await samplesOf("README.md")).get("A key that stays with its owner")!;
  const given = "const fingerprint = process.env.FINGERPRINT!, vaultId = process.env.VAULT_ID!;\n";
  const programs = await compile(new Map([["delegated", given + sample!.replace(/^    (endpoint|cert|key|ca):.*\n/gm, "")]])); // which come from the environment
  t.after(programs.remove);
  const { endpoint, cert, key, ca } = kms.of("agent-7") as Required<KmsOptions>;
  const where = { KEYFOLD_CMEK_KMS: endpoint, KEYFOLD_CMEK_KMS_CERT: cert, KEYFOLD_CMEK_KMS_KEY: key, KEYFOLD_CMEK_KMS_CA: ca };
  const env = { KEYFOLD_URL: server.url, KEYFOLD_API_KEY: server.api_key, FINGERPRINT: fingerprint, VAULT_ID: vault2, ...where };
  assert.equal(await programs.run("delegated", env), "my-secret-value\n");

  await kms.admin(["cmek", "revoke", fingerprint, "--caller", "cert:agent-7"]);
  assert.equal(refused(await client.secrets.get(vault2, "db/x")).code, "kms_denied");
});

test("what is no endpoint, or no certificate, is refused", async () => {
  const fingerprint = "ab".repeat(32);
  for (const endpoint of ["", "http://x", "https://x/path", "unix://host/path", "kms.sock"]) assert.throws(() => kmsKey(fingerprint, { endpoint, cert: "c", key: "k", ca: "a" }));
  assert.throws(() => kmsKey(fingerprint, { endpoint: "https://x" }), /certificate/);
  assert.throws(() => kmsKey("short", { endpoint: "unix:///x" }), /fingerprint/);
  const away = kmsKey(fingerprint, { endpoint: "unix:///nonexistent/kms.sock" });
  await assert.rejects(away.seal(new Uint8Array(1), 1, { vaultId: "v", path: "p" }), /does not answer/);
  await assert.rejects(away.open("no blob", { vaultId: "v", path: "p" }), /base64/);
});
