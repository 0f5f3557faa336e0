// A vault that was sealed and, the server says, is not any more: no value leaves in
// the clear unless somebody agrees, whatever a server that lies says and when.

import { cmekFingerprint, createClient, generateCmekKey, type KeyfoldClient } from "@keyfold/sdk";
import { data, equal, ok, refused, type Case, type World } from "./suite.js";

const canary = "canary-of-the-plaintext";

/** A sealed vault, and a client whose server can begin to lie: it says then that CMEK is off. */
async function liar(w: World, options: { key?: boolean } = {}) {
  const key = await generateCmekKey();
  const fingerprint = await cmekFingerprint(key);
  const owner = createClient({ baseUrl: w.server.url, apiKey: w.server.api_key, cmekKey: key });
  const vaultId = data(await owner.vault.create({ name: "lied about" })).id;
  data(await owner.vault.enableCmek(vaultId, { fingerprint }));
  const state = { lies: false, asked: 0, sent: [] as string[] };
  const client = createClient({
    baseUrl: w.server.url,
    apiKey: w.server.api_key,
    cmekKey: options.key === false ? false : key,
    fetch: async (input, init) => {
      state.sent.push(String(init?.body ?? ""));
      const url = String(input);
      if (!state.lies) return fetch(input, init);
      if (init?.method === "GET" && url.includes(`/${vaultId}/cmek?`)) {
        state.asked++;
        return Response.json({ enabled: false });
      }
      if (init?.method === "GET" && url.endsWith(`/vaults/${vaultId}`)) return Response.json({ id: vaultId, name: "x", cmek_enabled: false });
      if (init?.method !== "PUT") return fetch(input, init);
      const sealed = new Headers(init.headers).has("X-Keyfold-Cmek-Fingerprint");
      if (sealed) return Response.json({ type: "cmek_key_mismatch", status: 409, detail: "the vault is not sealed" }, { status: 409 });
      return Response.json({ id: "i", path: "a", type: "generic", version: 1 }, { status: 201 });
    },
  });
  return { client, owner, vaultId, fingerprint, state };
}

const put = (client: KeyfoldClient, vaultId: string, options = {}) => client.secrets.put(vaultId, "a", { value: canary }, options);
const left = (state: { sent: string[] }) => state.sent.some((s) => s.includes(canary));

export const unsealed: Case[] = [
  {
    name: "a server that says that CMEK is off gets no value in the clear, whatever the client learnt the seal from",
    run: async (w) => {
      const learn: Record<string, (client: KeyfoldClient, vaultId: string) => Promise<unknown>> = {
        "a write": (client, v) => client.secrets.put(v, "b", { value: "first" }),
        "the vault": (client, v) => client.vault.get(v),
        "the list of vaults": (client) => client.vault.list(),
        "its CMEK": (client, v) => client.vault.cmekStatus(v),
      };
      for (const [from, read] of Object.entries(learn)) {
        const { client, vaultId, state } = await liar(w);
        await read(client, vaultId);
        state.lies = true;
        data(await client.vault.get(vaultId));
        for (const options of [{}, { allowUnsealed: true }]) equal(refused(await put(client, vaultId, options)).code, "unsealed", from);
        ok(!left(state), `${from}: the value left`);
      }
    },
  },
  {
    name: "without a key at hand, too, a vault that was sealed is not written to in the clear",
    run: async (w) => {
      const { client, vaultId, state } = await liar(w, { key: false });
      data(await client.vault.get(vaultId));
      state.lies = true;
      equal(refused(await put(client, vaultId)).code, "unsealed");
      client.unlock(await generateCmekKey());
      client.lock();
      equal(refused(await put(client, vaultId, { allowUnsealed: true })).code, "unsealed");
      ok(!left(state), "the value left");
    },
  },
  {
    name: "that a vault is open is believed for a minute: then it is asked again, before a value leaves",
    run: async (w) => {
      const owner = createClient({ baseUrl: w.server.url, apiKey: w.server.api_key, cmekKey: false });
      const vaultId = data(await owner.vault.create({ name: "open" })).id;
      const sent: string[] = [];
      const client = createClient({ baseUrl: w.server.url, apiKey: w.server.api_key, cmekKey: false, fetch: (input, init) => (sent.push(String(init?.body ?? "")), fetch(input, init)) });
      data(await client.secrets.put(vaultId, "a", { value: "first" }));
      data(await owner.vault.enableCmek(vaultId, { fingerprint: await cmekFingerprint(await generateCmekKey()) }));
      const now = Date.now;
      try {
        Date.now = () => now() + 61_000;
        equal(refused(await put(client, vaultId)).code, "not_a_blob");
      } finally {
        Date.now = now;
      }
      ok(!left({ sent }), "the value left");
    },
  },
  {
    name: "the state is read anew once for a write that is refused, and for one whose writer agrees",
    run: async (w) => {
      const { client, vaultId, state } = await liar(w);
      data(await client.secrets.put(vaultId, "b", { value: "first" }));
      state.lies = true;
      refused(await put(client, vaultId));
      equal(state.asked, 1);
      data(await put(client, vaultId, { acceptUnsealed: true }));
      equal(state.asked, 2);
      ok(left(state), "it was agreed to");
    },
  },
  {
    name: "who agrees to a vault that is still sealed has the value sealed",
    run: async (w) => {
      const { client, vaultId, state } = await liar(w);
      data(await put(client, vaultId, { acceptUnsealed: true }));
      ok(!left(state), "the value left");
      equal(data(await client.secrets.get(vaultId, "a")).value, canary);
    },
  },
  {
    name: "after somebody else disabled CMEK a client that agrees writes on, and no longer asks",
    run: async (w) => {
      const { client, owner, vaultId } = await liar(w);
      data(await client.secrets.put(vaultId, "b", { value: "first" }));
      data(await owner.vault.disableCmek(vaultId));
      equal(refused(await put(client, vaultId, { allowUnsealed: true })).code, "unsealed");
      data(await put(client, vaultId, { acceptUnsealed: true }));
      data(await put(client, vaultId, { allowUnsealed: true }));
      equal(data(await client.secrets.get(vaultId, "a")).cmek_encrypted, false);
    },
  },
  {
    name: "after somebody else enabled CMEK anew a client with the new key writes on, unasked",
    run: async (w) => {
      const { client, owner, vaultId, fingerprint } = await liar(w);
      data(await client.secrets.put(vaultId, "b", { value: "first" }));
      const fresh = await generateCmekKey();
      data(await owner.vault.disableCmek(vaultId));
      data(await owner.vault.enableCmek(vaultId, { fingerprint: await cmekFingerprint(fresh) }));
      equal(refused(await put(client, vaultId)).code, "key_missing");
      client.unlock(fresh);
      data(await put(client, vaultId));
      ok(data(await client.secrets.get(vaultId, "a")).cmek_fingerprint !== fingerprint, "the old key was used");
    },
  },
  {
    name: "a vault that took bound blobs is not believed to take others under the same key",
    run: async (w) => {
      const { client, owner, vaultId, fingerprint } = await liar(w);
      data(await owner.vault.disableCmek(vaultId));
      data(await owner.vault.enableCmek(vaultId, { fingerprint, blob_version: 2 }));
      data(await put(client, vaultId));
      data(await owner.vault.disableCmek(vaultId));
      data(await owner.vault.enableCmek(vaultId, { fingerprint, blob_version: 1 }));
      equal(data(await put(owner, vaultId)).version, 2);
      client.lock();
      client.unlock(await generateCmekKey());
      equal(refused(await put(client, vaultId)).code, "unbound");
    },
  },
  {
    name: "CMEK is enabled without a key check when none is wanted, though the client has the key",
    run: async (w) => {
      for (const keyCheck of [undefined, true, false]) {
        const key = await generateCmekKey();
        const sent: string[] = [];
        const client = createClient({ baseUrl: w.server.url, apiKey: w.server.api_key, cmekKey: key, fetch: (input, init) => (sent.push(String(init?.body ?? "")), fetch(input, init)) });
        const vaultId = data(await client.vault.create({ name: "checked" })).id;
        data(await client.vault.enableCmek(vaultId, { fingerprint: await cmekFingerprint(key) }, keyCheck === undefined ? {} : { keyCheck }));
        equal(sent.some((s) => s.includes("key_check")), keyCheck !== false);
        equal(data(await client.vault.cmekStatus(vaultId)).key_check !== undefined, keyCheck !== false);
        data(await client.secrets.put(vaultId, "a", { value: "x" }));
      }
    },
  },
];
