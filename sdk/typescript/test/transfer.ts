// Export and import of threads: against a fetch of our own, and against a real server.

import { cmekEncryptValue, cmekFingerprint, createClient, generateCmekKey, inspectCmekValue, type ClientOptions, type KeyfoldClient, type wire } from "@keyfold/sdk";
import { data, equal, failure, ok, refused, same, show, text, utf8, type Case, type World } from "./suite.js";

const clientOf = (w: World, options: ClientOptions = {}) => createClient({ baseUrl: w.server.url, apiKey: w.server.api_key, cmekKey: false, ...options });

/** All that comes out of a stream. */
async function read(stream: ReadableStream<Uint8Array>): Promise<string> {
  const reader = stream.getReader();
  let out = "";
  for (let r = await reader.read(); !r.done; r = await reader.read()) out += text(r.value);
  return out;
}

async function all(client: KeyfoldClient, thread: string): Promise<wire.Message[]> {
  const out: wire.Message[] = [];
  for await (const m of client.threads.export(thread)) out.push(m);
  return out;
}

/** What an import has to bring of versions. */
const told = (versions: wire.Message[]) => versions.map((m) => [m.id.slice(0, 20), m.role, m.body, m.version ?? 1, m.deleted ?? false, Object.values(m.reactions ?? {})]);

/** A thread with all that an export can hold; digits is a body that JavaScript's numbers do not hold. */
const digits = '{"n": 12345678901234567890.10,"s":"a\\"}, canary"}';
async function talk(client: KeyfoldClient, thread: string): Promise<void> {
  const post = async (body: unknown, ts: number, reply_to?: string) =>
    data(await client.messages.post(thread, { body, ts, ...(reply_to === undefined ? {} : { reply_to }) } as wire.PostMessage)).id;
  const first = await post({ text: "canary <&> ключ🔑" }, 5);
  data(await client.messages.edit(thread, first, { body: ["canary", 2], role: "tool" }));
  data(await client.messages.react(thread, first, "+1"));
  await post("canary twin", 7, first);
  await post("canary twin", 7);
  const gone = await post("canary gone", 8);
  data(await client.messages.delete(thread, gone));
}

/** A client whose fetch answers what a server of one thread would. */
function scripted(exportText: string): KeyfoldClient {
  const fake: typeof fetch = async (input, init) => {
    if (init!.signal!.aborted) throw new DOMException("aborted", "AbortError");
    return String(input).endsWith("/export")
      ? new Response(exportText, { headers: { "Content-Type": "application/x-ndjson" } })
      : new Response('{"id":"t"}', { headers: { "Content-Type": "application/json" } });
  };
  return createClient({ baseUrl: "https://keyfold.example", apiKey: "1ck_x", cmekKey: false, fetch: fake });
}

export const transfer: Case[] = [
  {
    name: "an export is as it came, digit by digit, and counts its messages",
    run: async () => {
      const line = '{"id":"a","thread":"t","ts":1790000000000000001,"body": {"n":12345678901234567890.10} }\n';
      const whole = line + '{"id":"a","ts":1790000000000000001,"body":2,"version":2}\n{"id":"b","ts":2,"body":3}\n{"end":true,"messages":2}\n';
      const client = scripted(whole);
      const progress: number[] = [];
      equal(await read(client.threads.exportLines("t", { onProgress: (n) => progress.push(n) })), whole);
      same(progress, [1, 2]);
      same((await all(client, "t")).map((m) => m.body), [{ n: 12345678901234567890.1 }, 2, 3]);
      for (const cut of ["", line, line + '{"end":true,"messages":2}\n', line + line.slice(0, 20), line + "[]\n", line + '{"body":1}\n{"end":true,"messages":2}\n', "canary"]) {
        const err = await failure(read(scripted(cut).threads.exportLines("t")));
        equal(err.code, "cut_off", show(cut));
        ok(!err.message.includes("canary"), err.message);
        equal((await failure(all(scripted(cut), "t"))).code, "cut_off");
      }
      const stop = new AbortController();
      stop.abort();
      equal((await failure(read(client.threads.exportLines("t", { signal: stop.signal })))).code, "aborted");
    },
  },
  {
    name: "an import sends lines as they are, in parts, and says what is wrong with them",
    run: async () => {
      const sent: string[] = [];
      const fake: typeof fetch = async (input, init) => {
        if (!String(input).endsWith("/import")) return new Response('{"id":"t"}');
        equal((init!.headers as Record<string, string>)["Content-Type"], "application/x-ndjson");
        sent.push(String(init!.body));
        const n = new Set(String(init!.body).trim().split("\n").map((l) => (JSON.parse(l) as { id: string }).id)).size;
        return new Response(JSON.stringify({ imported: n, present: 0 }));
      };
      const client = createClient({ baseUrl: "https://keyfold.example", apiKey: "1ck_x", cmekKey: false, fetch: fake });
      const lines = Array.from({ length: 1200 }, (_, i) => `{"id":"${i >> 1}","ts":${i + 1}, "body":12345678901234567890.10}\n`);
      const progress: number[] = [];
      const got = data(await client.threads.import("t", [...lines, '{"end":true,"messages":600}'], { onProgress: (n) => progress.push(n) }));
      same(got, { imported: 600, present: 0, left_out: 0 });
      same(progress, [500, 600]);
      equal(sent.join(""), lines.join(""));
      for (const source of [lines.slice(0, 2), lines.slice(0, 2).join("").trimEnd(), [...utf8(lines.slice(0, 2).join(""))].map((b) => Uint8Array.of(b))]) {
        sent.length = 0;
        equal(refused(await client.threads.import("t", source)).code, "cut_off");
        data(await client.threads.import("t", source, { partial: true }));
        same(sent, [lines.slice(0, 2).join(""), lines.slice(0, 2).join("")]);
      }
      const big = Array.from({ length: 3 }, (_, i) => `{"id":"${i}","ts":1,"body":"${"x".repeat(1_500_000)}"}\n`);
      sent.length = 0;
      data(await client.threads.import("t", big, { partial: true }));
      same(sent.map((s) => s.length), [2 * big[0]!.length, big[0]!.length]);
      sent.length = 0;
      for (const bad of ["canary\n", '{"id":"a","body":"canary\n', "[1]\n", '{"end":true,"messages":0}\n{"id":"a","ts":1,"body":1}\n']) {
        const r = refused(await client.threads.import("t", bad));
        ok(/^Line \d/.test(r.message) && !r.message.includes("canary"), r.message);
      }
      equal(refused(await client.threads.import("t", '{"end":true,"messages":1}\n')).code, "cut_off");
      same(sent, []);
      const stop = new AbortController();
      stop.abort();
      equal((await failure(client.threads.import("t", lines, { signal: stop.signal }))).code, "aborted");
      same(sent, []);
    },
  },
  {
    name: "a thread comes back with its versions and deletions, sealed anew, and once",
    run: async (w) => {
      const [key, fresh] = [await generateCmekKey(), await generateCmekKey()];
      const sent: string[] = [];
      const client = clientOf(w, { cmekKey: [key, fresh], fetch: (input, init) => (sent.push(String(init?.body ?? "")), fetch(input, init)) });
      const make = async (k?: Uint8Array) => data(await client.threads.create(k === undefined ? {} : { cmek_fingerprint: await cmekFingerprint(k) })).id;
      const from = await make(key);
      await talk(client, from);
      const lines = (await read(client.threads.exportLines(from))).replace('"canary gone"', digits);
      ok(lines.includes(digits) && !sent.join().includes("canary"), "a body left in the clear");
      const parts = lines.split("\n");
      for (const k of [key, fresh]) {
        const to = await make(k);
        same(data(await client.threads.import(to, parts.slice(0, 1).map((l) => l + "\n"), { partial: true })), { imported: 1, present: 0, left_out: 0 });
        same(data(await client.threads.import(to, parts.slice(0, 4).map((l) => l + "\n"), { partial: true })), { imported: 2, present: 1, left_out: 0 });
        same(data(await client.threads.import(to, lines)), { imported: 1, present: 3, left_out: 0 });
        const again = client.threads.exportLines(to); // its own export is known, too
        same(data(await client.threads.import(to, again)), { imported: 0, present: 4, left_out: 0 });
        same(data(await client.threads.import(to, lines)), { imported: 0, present: 4, left_out: 0 });
        const back = await read(client.threads.exportLines(to));
        ok(back.includes(`"body":${digits}`), back);
        same(told(await all(client, to)), told(parts.slice(0, -2).map((l) => JSON.parse(l) as wire.Message)));
        const [first, second] = data(await client.messages.list(to)).messages;
        equal(second!.reply_to, first!.id);
        const raw = data(await createClient({ baseUrl: w.server.url, apiKey: w.server.api_key, cmekKey: k }).messages.versions(to, first!.id));
        same(raw.versions.map((v) => v.body), [{ text: "canary <&> ключ🔑" }, ["canary", 2]]);
      }
      ok(!sent.join().includes("canary"), "a body left in the clear");
      const clear = await make();
      same(data(await client.threads.import(clear, lines)), { imported: 4, present: 0, left_out: 0 });
      ok((await read(client.threads.exportLines(clear))).includes(`"body":${digits}`), "digits are lost");
      const stored = (await (await fetch(`${w.server.url}/v1/threads/${from}/export`, { headers: { Authorization: `Bearer ${w.server.api_key}` } })).text()).split("\n")[0]!;
      equal(inspectCmekValue((JSON.parse(stored) as { body: string }).body).version, 2);
      equal((await failure(all(clientOf(w), from))).code, "key_missing");
      equal(refused(await clientOf(w).threads.import(from, lines)).code, "key_missing");
    },
  },
  {
    name: "a client of sealed threads sends no body to one that is not",
    run: async (w) => {
      const key = await generateCmekKey();
      const sent: string[] = [];
      const client = clientOf(w, { cmekKey: key, sealedThreads: true, fetch: (input, init) => (sent.push(String(init?.body ?? "")), fetch(input, init)) });
      const clear = data(await clientOf(w).threads.create({ title: "clear" })).id;
      const m = data(await clientOf(w).messages.post(clear, { body: 1 }));
      equal(refused(await client.messages.post(clear, { body: "canary" })).code, "not_sealed");
      equal(refused(await client.messages.edit(clear, m.id, { body: "canary" })).code, "not_sealed");
      equal(refused(await client.threads.import(clear, '{"ts":1,"body":"canary"}\n', { partial: true })).code, "not_sealed");
      ok(!sent.join().includes("canary"), "a body left in the clear");
      equal(data(await client.messages.get(clear, m.id)).body, 1);
      const sealed = data(await client.threads.create({ cmek_fingerprint: (await cmekFingerprint(key)).toUpperCase() })).id;
      equal(data(await client.messages.post(sealed, { body: "canary" })).body, "canary");
      ok(!sent.join().includes("canary"), "a body left in the clear");
      const liar = createClient({ baseUrl: "https://keyfold.example", apiKey: "x", cmekKey: key, fetch: async () => new Response('{"id":"t"}') });
      ok(/delete it/.test(refused(await liar.threads.create({ cmek_fingerprint: await cmekFingerprint(key) })).message), "it believes a server that drops the key");
    },
  },
  {
    name: "what was sealed and is no JSON is told without a word of it",
    run: async () => {
      const key = await generateCmekKey();
      const body = await cmekEncryptValue(utf8("canary, no JSON"), key, { vaultId: "thread:t", path: "message" });
      const fake: typeof fetch = async (input) =>
        new Response(JSON.stringify(String(input).endsWith("/t") ? { id: "t", cmek_fingerprint: await cmekFingerprint(key) } : { id: "m", body }));
      const r = refused(await createClient({ baseUrl: "https://keyfold.example", apiKey: "x", cmekKey: key, fetch: fake }).messages.get("t", "m"));
      ok(!r.message.includes("canary"), r.message);
    },
  },
  {
    name: "a line break between the tokens of a sealed body breaks no line of an export",
    run: async () => {
      const key = await generateCmekKey();
      const body = await cmekEncryptValue(utf8("[1,\r\n2]"), key, { vaultId: "thread:t", path: "message" });
      const fake: typeof fetch = async (input) =>
        String(input).endsWith("/t")
          ? new Response(JSON.stringify({ id: "t", cmek_fingerprint: await cmekFingerprint(key) }))
          : new Response(`{"id":"a","body":"${body}"}\n{"end":true,"messages":1}\n`, { headers: { "Content-Type": "application/x-ndjson" } });
      const client = createClient({ baseUrl: "https://keyfold.example", apiKey: "x", cmekKey: key, fetch: fake });
      equal(await read(client.threads.exportLines("t")), '{"id":"a","body":[1,  2]}\n{"end":true,"messages":1}\n');
    },
  },
  {
    name: "a legal hold is set, read and released",
    run: async (w) => {
      const client = clientOf(w);
      const thread = data(await client.threads.create({ title: "held" })).id;
      equal(refused(await client.threads.getHold(thread)).type, "not_found");
      const set = data(await client.threads.hold(thread, { reason: "case 7" }));
      same([set.reason, data(await client.threads.getHold(thread))], ["case 7", set]);
      equal(data(await client.threads.release(thread)), null);
      equal(refused(await client.threads.getHold(thread)).type, "not_found");
    },
  },
  {
    name: "how long threads are kept is set, tried and read",
    run: async (w) => {
      const client = clientOf(w);
      same(data(await client.threads.setRetention({ deleted_days: 400 })), { deleted_days: 400 });
      same(data(await client.threads.getRetention()), { deleted_days: 400 });
      const { threads, messages } = data(await client.threads.previewRetention());
      same([threads, messages], [0, 0]);
      equal(typeof data(await client.threads.previewRetention({ message_days: 30 })).messages, "number");
      equal(refused(await client.threads.previewRetention({ message_days: -1 })).type, "validation_error");
      same(data(await client.threads.setRetention({})), {});
    },
  },
];
