import assert from "node:assert/strict";
import { test } from "node:test";
import { cmekFingerprint, createClient, generateCmekKey, toBase64 } from "@keyfold/sdk";
import { data } from "../suite.js";
import { startDev } from "./harness.js";
import { compile, samplesOf } from "./samples.js";

/** What the README's text takes for granted before a sample, in the order of its headings. */
const given = `
import { createClient as makeClient, parseCmekKey as parse } from "@keyfold/sdk";
const env = process.env as Record<string, string>;
const vaultId = env.VAULT_ID!, newFingerprint = env.NEW_FINGERPRINT!;
void vaultId; void newFingerprint;
`;
const client = "const client = makeClient({ cmekKey: false });\n";
const keys = "const key = parse(env.KEY!), newKey = parse(env.NEW_KEY!); void key; void newKey;\n";

test("the README's samples run as printed", async (t) => {
  const server = await startDev();
  t.after(server.stop);
  const samples = await samplesOf("README.md");
  const program = (heading: string, prelude: string, change = (text: string) => text) => given + prelude + change(samples.get(heading)![0]!);
  const [readAndWrite, byHand] = samples.get("Read and write")!;
  const programs = await compile(
    new Map([
      // The one sample that names a server and a credential; the test's come from the environment.
      ["client", program("A client", "", (s) => s.replace(/^  (baseUrl|apiKey):.*\n/gm, ""))],
      ["seal", program("Make a key, seal a vault", client, (s) => s + "\nconsole.log(fingerprint, keyFile);\n")],
      ["use", given + client + keys + readAndWrite],
      ["hand", given + client + keys + byHand],
      ["rotate", program("Rotate the key, by the server", client + keys)],
      ["here", program("Rotate the key, here", client + keys)],
      ["threads", given + client + samples.get("Threads and messages")!.join("\n")],
    ]),
  );
  t.after(programs.remove);
  const base = { KEYFOLD_URL: server.url, KEYFOLD_API_KEY: server.api_key };
  const vaultId = (await programs.run("client", base)).trim();
  const sealed = await programs.run("seal", { ...base, VAULT_ID: vaultId });
  const key = sealed.trim().split("\n").at(-1)!;
  const env = (old: string, fresh: Uint8Array, newFingerprint: string) => ({ ...base, VAULT_ID: vaultId, KEY: old, NEW_KEY: toBase64(fresh), NEW_FINGERPRINT: newFingerprint });

  const second = await generateCmekKey();
  const first = env(key, second, await cmekFingerprint(second));
  assert.equal(await programs.run("use", first), "my-secret-value\n");
  assert.equal(await programs.run("hand", first), "my-secret-value\n");
  assert.match(await programs.run("rotate", first), /2\/2\ncompleted\n$/);
  const third = await generateCmekKey();
  assert.match(await programs.run("here", env(toBase64(second), third, "")), /^1\/2\n2\/2\n2 \[\]\n$/);
  const owner = createClient({ baseUrl: server.url, apiKey: server.api_key, cmekKey: third });
  for (const path of ["api-keys/stripe", "by/hand"]) assert.equal(data(await owner.secrets.get(vaultId, path)).value, "my-secret-value");
  assert.match(await programs.run("threads", base), /text: 'hello' \}\n1 messages are there\n1\n$/);
});
