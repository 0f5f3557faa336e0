import assert from "node:assert/strict";
import { test } from "node:test";
import { cmekFingerprint, createClient, fromBase64, generateCmekKey, toBase64 } from "@keyfold/sdk";
import { data } from "../suite.js";
import { startDev } from "./harness.js";
import { compile, samplesOf } from "./samples.js";

const preludes: Record<string, string> = {
  Enable: "",
  "Read and write": 'import { parseCmekKey } from "@1claw/sdk";\nconst cmekKey = parseCmekKey(process.env.THE_KEY!);\n',
  Rotate:
    'import { parseCmekKey, toBase64 } from "@1claw/sdk";\nconst oldKey = parseCmekKey(process.env.OLD_KEY!), newKey = parseCmekKey(process.env.NEW_KEY!), newFingerprint = process.env.NEW_FINGERPRINT!;\n',
};

const client = 'import { createClient } from "@1claw/sdk";\nconst client = createClient();\nconst vaultId = process.env.VAULT_ID!;\n';

test("the guide's samples run as printed", async (t) => {
  const server = await startDev();
  t.after(server.stop);
  const samples = await samplesOf("test/samples/seed.md");
  assert.deepEqual([...samples.keys()], Object.keys(preludes));
  const names = new Map([...samples.keys()].map((heading) => [heading, heading.replaceAll(" ", "-")]));
  const programs = await compile(new Map([...samples].map(([heading, [text]]) => [names.get(heading)!, client + preludes[heading] + text])));
  t.after(programs.remove);
  const ours = createClient({ baseUrl: server.url, apiKey: server.api_key });
  const vaultId = data(await ours.vault.create({ name: "samples" })).id;
  const env = { KEYFOLD_URL: server.url, KEYFOLD_API_KEY: server.api_key, VAULT_ID: vaultId };

  const printed = await programs.run("Enable", env);
  const [, key, fingerprint] = /^Key \(base64\): (.+)\nFingerprint: (.+)\n$/.exec(printed)!;
  assert.equal(await cmekFingerprint(fromBase64(key!)), fingerprint);
  assert.equal(data(await ours.vault.get(vaultId)).cmek_fingerprint, fingerprint);

  assert.equal(await programs.run("Read-and-write", { ...env, THE_KEY: key! }), "my-secret-value\n");
  assert.equal(data(await ours.secrets.get(vaultId, "api-keys/stripe")).cmek_encrypted, true);

  const fresh = await generateCmekKey();
  const rotated = { OLD_KEY: key!, NEW_KEY: toBase64(fresh), NEW_FINGERPRINT: await cmekFingerprint(fresh) };
  assert.match(await programs.run("Rotate", { ...env, ...rotated }), /^(Progress: 1\/1\n)?$/);
  assert.equal(data(await ours.vault.get(vaultId)).cmek_fingerprint, rotated.NEW_FINGERPRINT);
  const owner = createClient({ baseUrl: server.url, apiKey: server.api_key, cmekKey: fresh });
  assert.equal(data(await owner.secrets.get(vaultId, "api-keys/stripe")).value, "my-secret-value");
});
