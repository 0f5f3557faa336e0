// How calls are made, repeated, refused and told, against a fetch of our own.

import {
  cmekEncryptValue, cmekFingerprint, createClient, generateCmekKey, KeyfoldError, NetworkError, RateLimitError, toBase64, ValidationError, type ClientOptions, type KeyfoldClient,
} from "@keyfold/sdk";
import { data, equal, failure, ok, refused, same, show, type Case } from "./suite.js";

type Reply = Response | Error | (() => Response | Promise<Response>);

interface Call {
  method: string;
  url: string;
  headers: Record<string, string>;
  body: string | undefined;
  credentials: string | undefined;
}

/** A client whose calls get these replies, the last one for ever; and the calls. */
function scripted(replies: Reply[], options: ClientOptions = {}): { client: KeyfoldClient; calls: Call[] } {
  const calls: Call[] = [];
  const fake: typeof fetch = async (input, init) => {
    calls.push({ method: init!.method!, url: String(input), headers: init!.headers as Record<string, string>, body: init!.body as string | undefined, credentials: init!.credentials });
    const reply = replies[Math.min(calls.length, replies.length) - 1]!;
    if (reply instanceof Error) throw reply;
    return reply instanceof Response ? reply.clone() : reply();
  };
  return { client: createClient({ baseUrl: "https://keyfold.example/base/", apiKey: "1ck_x", cmekKey: false, fetch: fake, ...options }), calls };
}

const json = (body: unknown, status = 200, headers: Record<string, string> = {}) =>
  new Response(JSON.stringify(body), { status, headers: { "Content-Type": "application/json", ...headers } });
const problem = (status: number, body: object = {}, headers: Record<string, string> = {}) => json({ type: "about:blank", title: "t", status, detail: "told", ...body }, status, headers);
const lost = (code?: string) => Object.assign(new TypeError("fetch failed"), code === undefined ? {} : { cause: { code } });

export const transport: Case[] = [
  {
    name: "a call has its credential, its path and nothing else",
    run: async () => {
      const { client, calls } = scripted([json({ secrets: [] })]);
      data(await client.secrets.list("v 1", "a/b?&"));
      equal(calls[0]!.url, "https://keyfold.example/base/v1/vaults/v%201/secrets?prefix=a%2Fb%3F%26&details=true");
      equal(calls[0]!.headers["Authorization"], "Bearer 1ck_x");
      equal(calls[0]!.headers["Content-Type"], undefined);
      await client.vault.cmekStatus("v", { keys: false });
      await client.vault.cmekStatus("v");
      same(calls.splice(1).map((c) => c.url.slice(c.url.indexOf("/v1"))), ["/v1/vaults/v/cmek?keys=false", "/v1/vaults/v/cmek"]);
      await client.secrets.delete("v", "a b/c#d");
      equal(calls[1]!.url, "https://keyfold.example/base/v1/vaults/v/secrets/a%20b/c%23d");
      for (const bad of ["", "..", ".", "a//b", "/a", "a/", "a/../b"]) refused(await client.secrets.get("v", bad));
      refused(await client.vault.get(".."));
      equal(calls.length, 2);
    },
  },
  {
    name: "errors have the type of their status",
    run: async () => {
      const types: [number, object, string][] = [
        [400, {}, "validation_error"], [401, {}, "auth_error"], [402, {}, "payment_required"], [403, {}, "auth_error"],
        [403, { type: "resource_limit_exceeded" }, "resource_limit_exceeded"], [403, { type: "approval_required", approval_request_id: "r" }, "approval_required"],
        [404, {}, "not_found"], [409, { type: "cmek_rotating" }, "conflict"], [410, {}, "gone"], [412, {}, "conflict"], [413, {}, "validation_error"],
        [418, {}, "unknown"], [500, {}, "server_error"], [501, {}, "server_error"],
      ];
      for (const [status, body, type] of types) {
        const { client } = scripted([problem(status, body, { "X-Request-Id": "req-1" })]);
        const r = await client.vault.create({ name: "x" });
        equal(refused(r).type, type, String(status));
        equal(r.error!.message, "told");
        equal(r.meta.status, status);
        equal(r.meta.request_id, "req-1");
        equal(r.error!.code, (body as { type?: string }).type);
      }
      const { client } = scripted([problem(403, { type: "approval_required", approval_request_id: "r" })]);
      equal((await client.vault.list()).error!.approval_request_id, "r");
      const err = await failure(scripted([problem(400)]).client.http.post("/v1/vaults", {}));
      ok(err instanceof ValidationError && err instanceof KeyfoldError && err.status === 400, "another class");
      ok((await failure(scripted([problem(429, {}, { "Retry-After": "86400" })]).client.http.get("/v1/vaults"))) instanceof RateLimitError, "another class");
    },
  },
  {
    name: "an answer that is not Keyfold's is not quoted",
    run: async () => {
      for (const reply of [new Response("<b>canary</b>", { status: 200 }), new Response("<b>canary</b>", { status: 500 }), json({ x: "canary" }, 500)]) {
        const r = await scripted([reply]).client.vault.create({ name: "x" });
        ok(!show(r).includes("canary"), show(r));
        refused(r);
      }
    },
  },
  {
    name: "a read is made again after a lost connection, a 502, 503 and 504, a counted read is not",
    run: async () => {
      for (const status of [502, 503, 504]) {
        const { client, calls } = scripted([lost(), problem(status), json({ vaults: [] })]);
        data(await client.vault.list());
        equal(calls.length, 3);
      }
      for (const attempt of [(c: KeyfoldClient) => c.secrets.get("v", "a")]) {
        const gone = scripted([lost("ECONNRESET"), json({})]);
        ok((await failure(attempt(gone.client))) instanceof NetworkError, "another error");
        equal(gone.calls.length, 1);
        for (const status of [502, 503, 504]) {
          const away = scripted([problem(status), json({})]);
          refused(await attempt(away.client));
          equal(away.calls.length, 1);
        }
      }
      const stubborn = scripted([problem(503)]);
      refused(await stubborn.client.vault.list());
      equal(stubborn.calls.length, 4);
    },
  },
  {
    name: "a write is made again with the same Idempotency-Key, and while an earlier try is under way",
    run: async () => {
      for (const write of [(c: KeyfoldClient) => c.vault.create({ name: "x" }), (c: KeyfoldClient) => c.messages.delete("t", "m")]) {
        const under = problem(409, { type: "idempotency_in_progress" }, { "Retry-After": "0" });
        const { client, calls } = scripted([lost("ECONNRESET"), problem(502), under, json({})]);
        data(await write(client));
        const keys = calls.map((c) => c.headers["Idempotency-Key"]!);
        ok(keys.every((k) => /^[0-9a-f]{32}$/.test(k) && k === keys[0]) && keys.length === 4, show(keys));
        const other = scripted([problem(409, { type: "cmek_rotating" })]);
        refused(await write(other.client));
        equal(other.calls.length, 1);
      }
    },
  },
  {
    name: "a caller's own Idempotency-Key is sent alone, however it is written",
    run: async () => {
      for (const name of ["Idempotency-Key", "idempotency-key", "IDEMPOTENCY-KEY"]) {
        const { client, calls } = scripted([problem(502), json({})]);
        await client.http.post("/v1/vaults", {}, { headers: { "X-Other": "1", [name]: "mine" } });
        same(calls.map((c) => new Headers(c.headers).get("idempotency-key")), ["mine", "mine"], name);
        equal(new Headers(calls[0]!.headers).get("X-Other"), "1");
      }
    },
  },
  {
    name: "a post and an edit are made again with the same Idempotency-Key, and each call has its own",
    run: async () => {
      const thread = json({ id: "t" });
      for (const call of [(c: KeyfoldClient) => c.messages.post("t", { body: 1 }), (c: KeyfoldClient) => c.messages.edit("t", "m", { body: 1 })]) {
        const done = json({ id: "m", body: 1 });
        const { client, calls } = scripted([thread, lost("ECONNRESET"), problem(503, {}, { "Retry-After": "0" }), new Response("<html>", { status: 504 }), done, problem(502), done]);
        for (let i = 0; i < 2; i++) equal(data(await call(client)).id, "m");
        const keys = calls.slice(1).map((c) => c.headers["Idempotency-Key"]!);
        ok(keys.every((k) => /^[0-9a-f]{32}$/.test(k)), show(keys));
        same(keys.map((k) => k === keys[0]), [true, true, true, true, false, false]);
        equal(keys[4], keys[5]);
        const stubborn = scripted([thread, lost()]);
        ok((await failure(call(stubborn.client))) instanceof NetworkError, "another error");
        equal(stubborn.calls.length, 1 + 4);
        const late = scripted([thread, problem(503, {}, { "Retry-After": "31" })]);
        refused(await call(late.client));
        equal(late.calls.length, 2);
        const wrong = scripted([thread, problem(500)]);
        refused(await call(wrong.client));
        equal(wrong.calls.length, 2);
      }
    },
  },
  {
    name: "what was never sent, or refused by a rate limit, is made again whatever it is",
    run: async () => {
      const { client, calls } = scripted([lost("ECONNREFUSED"), problem(429, {}, { "Retry-After": "0" }), json({ id: "v" }, 201)]);
      data(await client.vault.create({ name: "x" }));
      equal(calls.length, 3);
      const patient = scripted([problem(429, {}, { "Retry-After": "1" }), json({ id: "v" }, 201)]);
      const began = Date.now();
      data(await patient.client.vault.create({ name: "x" }));
      ok(Date.now() - began >= 990, "it did not wait");
      const asked = scripted([problem(429, {}, { "Retry-After": "31" })]);
      equal(refused(await asked.client.vault.list() as { error: { type: string; message: string } | null }).type, "rate_limit");
      equal(asked.calls.length, 1);
    },
  },
  {
    name: "a call that takes too long, or is aborted, ends",
    run: async () => {
      const hangs = (_: unknown, init?: RequestInit) =>
        new Promise<Response>((__, reject) => {
          const end = () => reject(new DOMException("x", "AbortError"));
          if (init!.signal!.aborted) end();
          init!.signal!.addEventListener("abort", end);
        });
      const client = createClient({ baseUrl: "http://localhost:1", cmekKey: false, fetch: hangs as typeof fetch, timeoutMs: 20 });
      equal((await failure(client.vault.list())).code, "timeout");
      const stop = new AbortController();
      const patient = createClient({ baseUrl: "http://localhost:1", cmekKey: false, fetch: hangs as typeof fetch });
      const call = failure(patient.http.get("/v1/vaults", { signal: stop.signal }));
      stop.abort();
      equal((await call).code, "aborted");
    },
  },
  {
    name: "an agent's key is exchanged once for calls that come at once, and again before its token ends",
    run: async () => {
      let tokens = 0;
      const seen: (string | undefined)[] = [];
      const fake: typeof fetch = async (input, init) => {
        if (String(input).endsWith("/v1/auth/agent-token")) return json({ access_token: `t${++tokens}`, token_type: "Bearer", expires_in: tokens === 1 ? 0.02 : 3600 });
        seen.push((init!.headers as Record<string, string>)["Authorization"]);
        return json({ vaults: [] });
      };
      const client = createClient({ baseUrl: "http://localhost:1", apiKey: "ocv_x", cmekKey: false, fetch: fake });
      await Promise.all([client.vault.list(), client.vault.list(), client.vault.list()]);
      equal(tokens, 1);
      await new Promise((done) => setTimeout(done, 25));
      await Promise.all([client.vault.list(), client.vault.list()]);
      equal(tokens, 2);
      same(seen, ["Bearer t1", "Bearer t1", "Bearer t1", "Bearer t2", "Bearer t2"]);
    },
  },
  {
    name: "a session that the browser keeps goes along in the calls on it, and in no others",
    run: async () => {
      const token = (n: number, expires_in = 3600) => json({ access_token: `t${n}`, token_type: "Bearer", expires_in });
      const { client, calls } = scripted([new Response(null, { status: 204 }), token(1, 0.02), token(2), json({ vaults: [] }), token(3), json(null, 200), json(null, 200)], { browserSession: true });
      equal(refused(await client.auth.resume()).type, "auth_error");
      equal(data(await client.auth.login({ email: "a", password: "p" })).access_token, "t1");
      await new Promise((done) => setTimeout(done, 25));
      data(await client.vault.list());
      equal(data(await client.auth.resume()).access_token, "t3");
      data(await client.auth.logout());
      data(await client.auth.logoutEverywhere());
      same(calls.map((c) => `${c.method} ${c.url.slice(c.url.indexOf("/v1"))} ${c.headers["X-Keyfold-Session"]} ${c.credentials} ${c.headers["Authorization"]} ${c.body}`), [
        "POST /v1/auth/refresh cookie same-origin undefined {}",
        'POST /v1/auth/token cookie same-origin undefined {"email":"a","password":"p"}',
        "POST /v1/auth/refresh cookie same-origin undefined {}",
        "GET /v1/vaults undefined omit Bearer t2 undefined",
        "POST /v1/auth/refresh cookie same-origin undefined {}",
        "DELETE /v1/auth/token cookie same-origin Bearer t3 undefined",
        "DELETE /v1/auth/tokens cookie same-origin undefined undefined",
      ]);
      const plain = scripted([token(1), json(null, 200)], { apiKey: "1ck_x" });
      data(await plain.client.auth.login({ email: "a", password: "p" }));
      data(await plain.client.auth.logout());
      for (const c of plain.calls) equal(`${c.headers["X-Keyfold-Session"]} ${c.credentials}`, "undefined omit");
    },
  },
  {
    name: "one renewal at a time where tabs share a session",
    run: async () => {
      let [running, most, made] = [0, 0, 0];
      const fake: typeof fetch = async (input) => {
        if (!String(input).endsWith("/refresh")) return json({ vaults: [] });
        most = Math.max(most, ++running);
        await new Promise((done) => setTimeout(done, 5));
        running--;
        return json({ access_token: `t${++made}`, token_type: "Bearer", expires_in: 3600 });
      };
      const tabs = [1, 2, 3, 4].map(() => createClient({ baseUrl: "http://localhost:1", cmekKey: false, browserSession: true, fetch: fake }));
      await Promise.all(tabs.map((c) => c.auth.resume()));
      equal(made, 4);
      if (globalThis.navigator?.locks) equal(most, 1, "renewals at once");
    },
  },
  {
    name: "a JWT's own end is believed, and a failed renewal is told when the token has ended",
    run: async () => {
      let asked = 0;
      const fake: typeof fetch = async (input) => {
        if (!String(input).endsWith("/refresh")) return json({ vaults: [] });
        asked++;
        return problem(401);
      };
      const jwt = (exp: number) => `h.${btoa(JSON.stringify({ exp })).replaceAll("=", "")}.s`;
      const session = { access_token: jwt(Math.floor(Date.now() / 1000) - 5), refresh_token: "r" };
      const client = createClient({ baseUrl: "http://localhost:1", token: session, cmekKey: false, fetch: fake });
      equal(refused(await client.vault.list()).type, "auth_error");
      equal(asked, 1);
      const live = createClient({ baseUrl: "http://localhost:1", token: { ...session, access_token: jwt(Math.floor(Date.now() / 1000) + 3000) }, cmekKey: false, fetch: fake });
      data(await live.vault.list());
      equal(asked, 1);
    },
  },
  {
    name: "a write waits while a rotation closes, and then goes under the key that the vault has",
    run: async () => {
      const keys = [await generateCmekKey(), await generateCmekKey()];
      const [old, fresh] = [await cmekFingerprint(keys[0]!), await cmekFingerprint(keys[1]!)];
      const puts: (string | undefined)[] = [];
      const states = [{ enabled: true, fingerprint: old, blob_version: 1 }, { enabled: true, fingerprint: old, blob_version: 1 }, { enabled: true, fingerprint: fresh, blob_version: 1 }];
      const fake: typeof fetch = async (_, init) => {
        if (init!.method === "GET") return json(states.shift());
        puts.push((init!.headers as Record<string, string>)["X-Keyfold-Cmek-Fingerprint"]);
        return puts.length < 3 ? problem(409, { type: "cmek_rotation_closing" }, { "Retry-After": "0" }) : json({ id: "x", version: 1 }, 201);
      };
      const client = createClient({ baseUrl: "http://localhost:1", cmekKey: keys, fetch: fake });
      data(await client.secrets.put("v", "a", { value: "x" }));
      same(puts, [old, old, fresh]);
    },
  },
  {
    name: "a bound blob of another path does not open, whatever path the answer names",
    run: async () => {
      const key = await generateCmekKey();
      const value = await cmekEncryptValue(new TextEncoder().encode("of b"), key, { vaultId: "v", path: "b" });
      const { client } = scripted([json({ id: "x", path: "b", type: "generic", value, version: 1, cmek_encrypted: true })], { cmekKey: key });
      equal(refused(await client.secrets.get("v", "a")).code, "decrypt");
      equal(data(await client.secrets.get("v", "b")).value, "of b");
    },
  },
  {
    name: "wrong options are refused when the client is made",
    run: async () => {
      const make = (o: ClientOptions) => failure((async () => createClient(o))());
      for (const baseUrl of ["", "keyfold.example", "ftp://x", "https://u:p@x", "https://x?y", "https://x#y"]) await make({ baseUrl });
      for (const apiKey of ["", "a b", "ключ", "a\nb"]) await make({ baseUrl: "http://x", apiKey });
      equal((await make({ baseUrl: "http://x", cmekKey: new Uint8Array(16) })).code, "key_size");
      equal((await make({ baseUrl: "http://x", cmekKey: "AAAA" })).code, "key_size");
      equal((await make({ baseUrl: "http://x", cmekKey: "-" })).code, "key_encoding");
    },
  },
  {
    name: "no credential and no key shows when a client is printed, and nothing is printed by itself",
    run: async () => {
      const printed: string[] = [];
      const methods = ["log", "info", "warn", "error", "debug"] as const;
      const before = methods.map((m) => console[m]);
      methods.forEach((m) => (console[m] = (...args: unknown[]) => void printed.push(show(args))));
      const key = await generateCmekKey();
      try {
        const { client } = scripted([problem(500)], { apiKey: "1ck_canary", cmekKey: key });
        refused(await client.secrets.put("v", "a", { value: "canary-value" }));
        const err = await failure(client.http.put("/v1/vaults/v/secrets/a", { value: "canary-value" }));
        for (const text of [JSON.stringify(client), String(client), err.message, String(err.stack), JSON.stringify(err)]) {
          ok(!text.includes("canary") && !text.includes(toBase64(key)), text);
        }
      } finally {
        methods.forEach((m, i) => (console[m] = before[i]!));
      }
      same(printed, []);
    },
  },
];
