// What is of Node alone: the environment, its printers, redirects, no global WebCrypto.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import { CmekKey, createClient, NetworkError } from "@keyfold/sdk";
import { cleanEnvironment, output, root, vectors } from "./harness.js";

const key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

test("Node's printer shows no key and no credential", async () => {
  const raw = Buffer.from(key, "base64");
  const client = createClient({ baseUrl: "http://localhost:1", apiKey: "1ck_canary", cmekKey: raw });
  const agent = createClient({ baseUrl: "http://localhost:1", apiKey: "ocv_canary", cmekKey: false });
  const session = createClient({ baseUrl: "http://localhost:1", token: "canary", cmekKey: false });
  for (const thing of [client, agent, session, await CmekKey.from(raw)]) {
    const printed = inspect(thing, { showHidden: true, depth: 20 });
    assert.ok(!printed.includes("canary") && !printed.includes("00 01 02") && !printed.includes("0, 1, 2"), "it shows");
  }
});

test("a redirect is not followed", async (t) => {
  const paths: string[] = [];
  const server = createServer((request, response) => {
    paths.push(request.url!);
    response.writeHead(307, { Location: "/elsewhere" }).end();
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  t.after(() => server.close());
  const client = createClient({ baseUrl: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, apiKey: "1ck_x", cmekKey: false });
  await assert.rejects(client.vault.create({ name: "x" }), NetworkError);
  assert.deepEqual([...new Set(paths)], ["/v1/vaults"]); // however often it was tried
});

test("a connection that is refused is made again, then told without the URL's path", async () => {
  const client = createClient({ baseUrl: "http://127.0.0.1:9", cmekKey: false });
  await assert.rejects(client.secrets.put("v", "some/path", { value: "x" }), (err: Error) => err instanceof NetworkError && !err.message.includes("some/path"));
});

const sees = `
  import { createClient } from "@keyfold/sdk";
  const seen = [];
  const fake = async (url, init) => {
    seen.push(url, init.headers.Authorization);
    return new Response(JSON.stringify({ enabled: true, fingerprint: "f".repeat(64), vaults: [] }));
  };
  const client = createClient({ fetch: fake });
  const r = await client.secrets.put("v", "a", { value: "x" });
  console.log(JSON.stringify([...seen, r.error?.code]));`;

/** Runs a script as a module, in a fresh Node. It is a file: what is evaluated has more globals. */
async function script(text: string, env: Record<string, string>, ...flags: string[]): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), "keyfold-script-"));
  try {
    await writeFile(join(dir, "script.mjs"), text.replaceAll("@keyfold/sdk", join(root, "dist/index.js")));
    return await output(process.execPath, [...flags, join(dir, "script.mjs")], cleanEnvironment(env));
  } finally {
    await rm(dir, { recursive: true });
  }
}

test("server, credential and key come from the environment", async () => {
  const env = { KEYFOLD_URL: "http://env.example", KEYFOLD_API_KEY: "1ck_env" };
  const called = ["http://env.example/v1/vaults/v/cmek?keys=false", "Bearer 1ck_env"];
  const twice = [...called, ...called];
  for (const name of ["KEYFOLD_CMEK_KEY", "ONECLAW_CMEK_KEY"]) {
    assert.deepEqual(JSON.parse(await script(sees, { ...env, [name]: key })), [...twice, "key_missing"]);
  }
  assert.deepEqual(JSON.parse(await script(sees, env)), [...twice, "not_a_blob"]);
  const off = sees.replace("{ fetch: fake }", "{ fetch: fake, cmekKey: false }");
  assert.deepEqual(JSON.parse(await script(off, { ...env, KEYFOLD_CMEK_KEY: key })), [...twice, "not_a_blob"]);
  for (const name of ["KEYFOLD_CMEK_KEY", "ONECLAW_CMEK_KEY"]) {
    const told = new RegExp(`CmekError: ${name}: A CMEK key is 32 bytes, 44 characters of base64 or 64 hex digits; this one is 3 bytes`);
    await assert.rejects(script(sees, { ...env, [name]: "c2hv" }), told);
  }
});

test("the format works where WebCrypto is no global, as in Node 18", async () => {
  const text = `
    import { format } from "${join(root, "build/test/format.js")}";
    if (globalThis.crypto) throw new Error("there is a global");
    const world = { vectors: JSON.parse(process.env.VECTORS), server: {} };
    for (const c of format) await c.run(world);
    console.log(format.length);`;
  const { keys, values, bound, checks, key_texts, key_files } = await vectors();
  const few = { keys, values: values!.slice(0, 9), bound: bound!.slice(0, 9), checks, key_texts, key_files: key_files!.slice(0, 9) };
  assert.ok(Number(await script(text, { VECTORS: JSON.stringify(few) }, "--no-experimental-global-webcrypto")) > 10);
});
