// Rotations, against a real server.

import { CmekKey, cmekDecryptValue, cmekEncrypt, cmekFingerprint, createClient, generateCmekKey, inspectCmekValue, toBase64 } from "@keyfold/sdk";
import { data, equal, hex, ok, refused, same, text, utf8, type Case, type World } from "./suite.js";

const baseOf = (w: World) => ({ baseUrl: w.server.url, apiKey: w.server.api_key });

/** A sealed vault with some versions, its key, and a new one. */
async function prepared(w: World, options: { bound?: boolean; count?: number } = {}) {
  const [old, fresh] = [await generateCmekKey(), await generateCmekKey()];
  const [oldFingerprint, newFingerprint] = [await cmekFingerprint(old), await cmekFingerprint(fresh)];
  const client = createClient({ ...baseOf(w), cmekKey: [old, fresh] });
  const vaultId = data(await client.vault.create({ name: "rotation" })).id;
  data(await client.vault.enableCmek(vaultId, options.bound ? { fingerprint: oldFingerprint, blob_version: 2 } : { fingerprint: oldFingerprint }));
  const count = options.count ?? 5;
  for (let i = 0; i < count; i++) data(await client.secrets.put(vaultId, `s/${i}`, { value: `value ${i}` }));
  data(await client.secrets.put(vaultId, "s/0", { value: "value 0, again" }));
  return { old, fresh, oldFingerprint, newFingerprint, client, vaultId, count };
}

async function checkRotated(p: Awaited<ReturnType<typeof prepared>>, w: World): Promise<void> {
  const onlyNew = createClient({ ...baseOf(w), cmekKey: p.fresh });
  equal(data(await onlyNew.secrets.get(p.vaultId, "s/0")).value, "value 0, again");
  equal(data(await onlyNew.secrets.getVersion(p.vaultId, "s/0", 1)).value, "value 0");
  for (let i = 1; i < p.count; i++) equal(data(await onlyNew.secrets.get(p.vaultId, `s/${i}`)).value, `value ${i}`);
  same(data(await onlyNew.vault.cmekStatus(p.vaultId)).keys?.map((k) => k.fingerprint), [p.newFingerprint]);
  equal(data(await onlyNew.secrets.put(p.vaultId, "after", { value: "x" })).version, 1);
}

export const rotation: Case[] = [
  {
    name: "the server rotates, and sees no key: they travel sealed",
    run: async (w) => {
      const sent: string[] = [];
      const p = await prepared(w);
      const spy = createClient({
        ...baseOf(w),
        cmekKey: false,
        fetch: (input, init) => {
          sent.push(JSON.stringify([input, init?.headers, init?.body]));
          return fetch(input, init);
        },
      });
      const job = data(await spy.vault.rotateCmek(p.vaultId, toBase64(p.old), toBase64(p.fresh), p.newFingerprint));
      let seen = 0;
      const ended = data(await spy.vault.waitForRotation(p.vaultId, job.id, { intervalMs: 10, onProgress: () => seen++ }));
      equal(ended.status, "completed", String(ended.error));
      equal(ended.processed, ended.total_secrets);
      ok(seen > 0, "no progress was told");
      for (const raw of [p.old, p.fresh]) {
        ok(!sent.some((s) => s.includes(toBase64(raw)) || s.includes(hex(raw))), "a key was sent");
      }
      await checkRotated(p, w);
      equal(data(await spy.vault.listRotations(p.vaultId)).rotations[0]?.id, job.id);
      equal(data(await spy.vault.cmekVersions(p.vaultId, p.newFingerprint)).versions.length, data(await spy.vault.cmekStatus(p.vaultId)).keys?.[0]?.versions);
      refused(await spy.vault.cancelRotation(p.vaultId, "00000000-0000-4000-8000-000000000000"));
    },
  },
  {
    name: "a rotation takes bytes, which stay the caller's, and sends no key check when none is wanted",
    run: async (w) => {
      for (const keys of ["sealed", "headers"] as const) {
        const p = await prepared(w, { count: 1 });
        const bodies: string[] = [];
        const client = createClient({ ...baseOf(w), cmekKey: false, fetch: (input, init) => (bodies.push(String(init?.body ?? "")), fetch(input, init)) });
        const [old, fresh] = [p.old.slice(), p.fresh.slice()];
        const asked = client.vault.rotateCmek(p.vaultId, old, fresh, p.newFingerprint, { keys, keyCheck: false });
        old.fill(0); // the caller's to wipe, at once
        fresh.fill(0);
        equal(data(await client.vault.waitForRotation(p.vaultId, data(await asked).id, { intervalMs: 10 })).status, "completed", keys);
        ok(!bodies.some((b) => b.includes("key_check")), "a key check was sent");
        await checkRotated(p, w);
        equal(data(await client.vault.cmekStatus(p.vaultId)).key_check, undefined);
      }
      const p = await prepared(w, { count: 1 });
      equal(refused(await p.client.vault.rotateCmek(p.vaultId, p.old, p.fresh.subarray(1), p.newFingerprint)).code, "key_size");
      data(await p.client.vault.rotateCmek(p.vaultId, p.old, p.fresh, p.newFingerprint));
      ok(p.fresh.some((b) => b !== 0) && p.old.some((b) => b !== 0), "the caller's bytes were wiped");
    },
  },
  {
    name: "a one-time key that is gone is asked for once more",
    run: async (w) => {
      for (const times of [1, 2]) {
        const p = await prepared(w);
        let [keys, gone] = [0, 0];
        const client = createClient({
          ...baseOf(w),
          cmekKey: false,
          fetch: (input, init) => {
            if (String(input).endsWith("/cmek-rotate-key")) keys++;
            if (init?.method !== "POST" || ++gone > times) return fetch(input, init);
            return Promise.resolve(new Response(JSON.stringify({ type: "cmek_rotation_key_gone", detail: "ask for another key" }), { status: 400 }));
          },
        });
        const answer = await client.vault.rotateCmek(p.vaultId, toBase64(p.old), toBase64(p.fresh), p.newFingerprint);
        equal(keys, 2);
        if (times === 1) equal(data(await client.vault.waitForRotation(p.vaultId, data(answer).id, { intervalMs: 10 })).status, "completed");
        else equal(refused(answer).code, "cmek_rotation_key_gone");
      }
    },
  },
  {
    name: "the server rotates by headers when it is told to, bound blobs too",
    run: async (w) => {
      const p = await prepared(w, { bound: true });
      const job = data(await p.client.vault.rotateCmek(p.vaultId, toBase64(p.old), toBase64(p.fresh), p.newFingerprint, { keys: "headers" }));
      const ended = data(await p.client.vault.waitForRotation(p.vaultId, job.id, { intervalMs: 10 }));
      equal(ended.status, "completed", String(ended.error));
      await checkRotated(p, w);
    },
  },
  {
    name: "wrong keys are refused and nothing is sent in the clear",
    run: async (w) => {
      const p = await prepared(w, { count: 1 });
      const [o, f] = [toBase64(p.old), toBase64(p.fresh)];
      equal(refused(await p.client.vault.rotateCmek(p.vaultId, o, f, p.oldFingerprint)).code, "fingerprint_mismatch");
      equal(refused(await p.client.vault.rotateCmek(p.vaultId, o, "AAAA", p.newFingerprint)).code, "key_size");
      equal(refused(await p.client.vault.rotateCmek(p.vaultId, f, f, p.newFingerprint)).type, "validation_error");
      const away = createClient({ baseUrl: "http://keyfold.example", apiKey: "x", fetch: () => Promise.reject(new Error("it was sent")) });
      equal(refused(await away.vault.rotateCmek(p.vaultId, o, f, p.newFingerprint, { keys: "headers" })).type, "unknown");
    },
  },
  {
    name: "the client rotates by itself, all versions in their places",
    run: async (w) => {
      const p = await prepared(w);
      const hexValue = hex((await cmekEncrypt(utf8("older form"), p.old)).subarray(1));
      const bare = createClient({ ...baseOf(w), cmekKey: false });
      await bare.http.put(`/v1/vaults/${p.vaultId}/secrets/hex`, { value: hexValue });
      data(await p.client.secrets.put(p.vaultId, "limited", { value: "x", max_access_count: 2 }));
      data(await p.client.secrets.put(p.vaultId, "last", { value: "x", max_access_count: 1 }));
      data(await p.client.secrets.put(p.vaultId, "gone", { value: "x" }));
      data(await p.client.secrets.disableVersion(p.vaultId, "gone", 1));
      const progress: number[] = [];
      const sent: string[] = [];
      const client = createClient({ ...baseOf(w), cmekKey: false, fetch: (input, init) => (sent.push(JSON.stringify([input, init?.headers, init?.body])), fetch(input, init)) });
      const first = data(await client.vault.rotateCmekHere(p.vaultId, p.old, toBase64(p.fresh), { all: true, onProgress: (done, total) => progress.push(done, total) }));
      equal(first.reencrypted, p.count + 2);
      same(first.kept, [{ path: "gone", version: 1, why: "disabled" }, { path: "last", version: 1, why: "read_limited" }, { path: "limited", version: 1, why: "read_limited" }]);
      same(progress.slice(-2), [p.count + 2, p.count + 2]);
      const again = data(await client.vault.rotateCmekHere(p.vaultId, await CmekKey.from(p.old), p.fresh, { all: true, readLimited: true }));
      equal(again.reencrypted, 1);
      same(again.kept.map((s) => [s.path, s.why]), [["gone", "disabled"], ["last", "read_limited"]]);
      equal(data(await p.client.secrets.get(p.vaultId, "last")).value, "x");
      const stored = data(await bare.secrets.get(p.vaultId, "hex")).value;
      equal(inspectCmekValue(stored).form, "hex");
      equal(text(await cmekDecryptValue(stored, p.fresh)), "older form");
      equal(data(await p.client.secrets.get(p.vaultId, "limited")).value, "x");
      equal(data(await p.client.secrets.get(p.vaultId, "s/0")).version, 2);
      equal(data(await p.client.secrets.getVersion(p.vaultId, "s/0", 1)).cmek_fingerprint, p.newFingerprint);
      ok(!sent.some((s) => [p.old, p.fresh].some((k) => s.includes(toBase64(k)) || s.includes(hex(k)))), "a key was sent");
    },
  },
  {
    name: "the client rotates the newest versions only, and makes them bound",
    run: async (w) => {
      const p = await prepared(w);
      const done = data(await p.client.vault.rotateCmekHere(p.vaultId, p.old, p.fresh, { bound: true, concurrency: 2 }));
      equal(done.reencrypted, p.count);
      same(done.kept, [{ path: "s/0", version: 1, why: "older" }]);
      const bare = createClient({ ...baseOf(w), cmekKey: false });
      equal(inspectCmekValue(data(await bare.secrets.get(p.vaultId, "s/1")).value).version, 2);
      equal(data(await p.client.secrets.get(p.vaultId, "s/1")).value, "value 1");
      equal(data(await p.client.secrets.getVersion(p.vaultId, "s/0", 1)).value, "value 0");
    },
  },
  {
    name: "a rotation by the client that is aborted goes on when it is run again, beside another",
    run: async (w) => {
      const p = await prepared(w, { count: 20 });
      const stop = new AbortController();
      refused(await p.client.vault.rotateCmekHere(p.vaultId, p.old, p.fresh, { all: true, concurrency: 1, signal: stop.signal, onProgress: (done) => done === 3 && stop.abort() }));
      equal(data(await p.client.secrets.put(p.vaultId, "meanwhile", { value: "x" })).version, 1);
      const [a, b] = (await Promise.all([1, 2].map(() => p.client.vault.rotateCmekHere(p.vaultId, p.old, p.fresh, { all: true })))).map((r) => data(r));
      ok(a!.reencrypted <= 18 && b!.reencrypted <= 18, "versions were counted twice");
      same([...a!.kept, ...b!.kept], []);
      await checkRotated(p, w);
    },
  },
  {
    name: "a rotation by the client counts nothing that another key has",
    run: async (w) => {
      for (const method of ["GET", "PUT"]) { // before a version is read, and after
        const p = await prepared(w, { count: 2 });
        const third = await generateCmekKey();
        const other = createClient({ ...baseOf(w), cmekKey: false });
        let met = false;
        const client = createClient({
          ...baseOf(w),
          cmekKey: false,
          fetch: async (input, init) => {
            if (!met && init?.method === method && String(input).includes("/secret-version/")) {
              met = true;
              data(await other.vault.rotateCmekHere(p.vaultId, p.fresh, third));
              data(await other.vault.rotateCmekHere(p.vaultId, p.old, third, { all: true }));
              await other.http.post(`/v1/vaults/${p.vaultId}/cmek`, { fingerprint: p.newFingerprint, replaces: await cmekFingerprint(third) });
            }
            return fetch(input, init);
          },
        });
        const done = data(await client.vault.rotateCmekHere(p.vaultId, p.old, p.fresh, { all: true, concurrency: 1 }));
        equal(done.reencrypted, 0, method);
        same(done.kept.map((k) => k.why), ["other_key", "other_key", "other_key"], method);
      }
    },
  },
  {
    name: "a rotation by the client counts what another client was faster with",
    run: async (w) => {
      const p = await prepared(w, { count: 2 });
      let met = false;
      const client = createClient({
        ...baseOf(w),
        cmekKey: false,
        fetch: async (input, init) => {
          if (!met && init?.method === "PUT") {
            met = true;
            equal(data(await p.client.vault.rotateCmekHere(p.vaultId, p.old, p.fresh, { all: true })).reencrypted, 3);
          }
          return fetch(input, init);
        },
      });
      const done = data(await client.vault.rotateCmekHere(p.vaultId, p.old, p.fresh, { all: true, concurrency: 1 }));
      same([done.reencrypted, done.kept], [3, []]);
    },
  },
  {
    name: "a key that is not the vault's rotates nothing",
    run: async (w) => {
      const p = await prepared(w, { count: 1 });
      equal(refused(await p.client.vault.rotateCmekHere(p.vaultId, await generateCmekKey(), p.fresh)).code, "key_missing");
      refused(await p.client.vault.rotateCmekHere(p.vaultId, p.old, p.old));
      equal(data(await p.client.vault.get(p.vaultId)).cmek_fingerprint, p.oldFingerprint);
    },
  },
];
