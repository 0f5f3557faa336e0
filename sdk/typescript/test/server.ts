// Against a real server: what the client does by itself.

import {
  CmekKey, cmekDecryptValue, cmekEncrypt, cmekEncryptValue, cmekFingerprint, createClient, generateCmekKey, inspectCmekValue, toBase64,
  type ClientOptions, type CmekSealer, type KeyfoldClient,
} from "@keyfold/sdk";
import { data, equal, ok, refused, same, text, utf8, type Case, type World } from "./suite.js";

const clientOf = (w: World, options: ClientOptions = {}) => createClient({ baseUrl: w.server.url, apiKey: w.server.api_key, cmekKey: false, ...options });

async function vaultOf(client: KeyfoldClient): Promise<string> {
  return data(await client.vault.create({ name: "sdk" })).id;
}

/** A fresh key, a client that has it, and a vault that is sealed with it. */
async function sealed(w: World, options: { bound?: boolean } = {}) {
  const key = await generateCmekKey();
  const fingerprint = await cmekFingerprint(key);
  const client = clientOf(w, { cmekKey: key });
  const bare = clientOf(w);
  const vaultId = await vaultOf(bare);
  data(await client.vault.enableCmek(vaultId, options.bound ? { fingerprint, blob_version: 2 } : { fingerprint }));
  return { key, fingerprint, client, bare, vaultId };
}

export const server: Case[] = [
  {
    name: "a value without CMEK comes back as it was put",
    run: async (w) => {
      const client = clientOf(w);
      const v = await vaultOf(client);
      for (const value of ["plain", "", "ключ🔑", "\ufeffbom", "a\u0000b", "x".repeat(100_000)]) {
        equal(data(await client.secrets.put(v, "a/b", { type: "note", value, metadata: { k: 1 } })).type, "note");
        const got = data(await client.secrets.get(v, "a/b"));
        equal(got.value, value);
        equal(got.cmek_encrypted, false);
        same(got.metadata, { k: 1 });
      }
      const raw = Uint8Array.from([0xff, 0, 0xfe]);
      data(await client.secrets.put(v, "bytes", { value: raw }));
      same(data(await client.secrets.getBytes(v, "bytes")).value, raw);
      equal(refused(await client.secrets.get(v, "bytes")).code, "not_text");
      equal(refused(await client.secrets.generate(v, "bytes")).type, "unknown");
      equal(data(await client.secrets.generate(v, "a/b", { length: 16 })).version, 7);
      equal(data(await client.secrets.get(v, "a/b")).value.length, 16);
      refused(await client.secrets.put(v, "half", { value: "\ud800" }));
    },
  },
  {
    name: "lists, versions, conditions, deletion",
    run: async (w) => {
      const client = clientOf(w);
      const v = await vaultOf(client);
      for (const value of ["one", "two"]) data(await client.secrets.set(v, "db/x", value, { type: "password" }));
      data(await client.secrets.put(v, "other", { value: "x" }));
      same(data(await client.secrets.list(v, "db/")).secrets.map((s) => [s.path, s.version]), [["db/x", 2]]);
      const listed = data(await client.secrets.list(v, "db/")).secrets[0]!;
      ok(/^user:[0-9a-f-]{36}$/.test(listed.created_by!) && listed.cmek_encrypted === false, "who wrote it is not said");
      equal(data(await client.secrets.listVersions(v, "db/x")).versions[1]!.created_by, listed.created_by);
      same(data(await client.secrets.listVersions(v, "db/x")).versions.map((s) => s.version), [2, 1]);
      equal(data(await client.secrets.getVersion(v, "db/x", 1)).value, "one");
      equal(refused(await client.secrets.put(v, "db/x", { value: "3" }, { ifMatch: 1 })).type, "conflict");
      equal(data(await client.secrets.put(v, "db/x", { value: "3", max_access_count: 1 }, { ifMatch: 2 })).version, 3);
      equal(data(await client.secrets.get(v, "db/x")).value, "3");
      equal(refused(await client.secrets.get(v, "db/x")).type, "gone");
      data(await client.secrets.disableVersion(v, "db/x", 1));
      equal(refused(await client.secrets.getVersion(v, "db/x", 1)).type, "gone");
      equal(data(await client.secrets.delete(v, "db/x")), null);
      const r = await client.secrets.get(v, "db/x");
      equal(r.meta.status, 410);
      equal(refused(await client.secrets.get(v, "never")).type, "not_found");
      equal(refused(await client.secrets.get(v, "a/../b")).type, "unknown");
      equal(refused(await client.secrets.put(v, "dots.in.it", { value: "x" })).type, "validation_error");
      equal(data(await client.vault.delete(v)), null);
      equal(refused(await client.vault.get(v)).type, "not_found");
    },
  },
  {
    name: "a client with the key seals and opens by itself",
    run: async (w) => {
      const { key, fingerprint, client, bare, vaultId } = await sealed(w);
      for (const value of ["my-secret-value", "", "ключ🔑"]) {
        data(await client.secrets.put(vaultId, "api-keys/stripe", { type: "api_key", value }));
        const stored = data(await bare.secrets.get(vaultId, "api-keys/stripe"));
        equal(stored.cmek_encrypted, true);
        equal(stored.cmek_fingerprint, fingerprint);
        equal(text(await cmekDecryptValue(stored.value, key)), value);
        const got = data(await client.secrets.get(vaultId, "api-keys/stripe"));
        equal(got.value, value);
        equal(got.cmek_encrypted, true);
        equal(got.cmek_opened, true);
      }
      const raw = Uint8Array.from([0xff, 0, 0xfe]);
      data(await client.secrets.put(vaultId, "raw", { value: raw }));
      same(data(await client.secrets.getBytes(vaultId, "raw")).value, raw);
    },
  },
  {
    name: "a vault of bound blobs is sealed and opened so, and a moved blob does not open",
    run: async (w) => {
      const { client, bare, vaultId, fingerprint } = await sealed(w, { bound: true });
      data(await client.secrets.put(vaultId, "a", { value: "value of a" }));
      const blob = data(await bare.secrets.get(vaultId, "a")).value;
      equal(inspectCmekValue(blob).version, 2);
      equal(data(await client.secrets.get(vaultId, "a")).value, "value of a");
      data(await bare.secrets.put(vaultId, "b", { value: blob }, { sealedWith: fingerprint }));
      equal(refused(await client.secrets.get(vaultId, "b")).code, "decrypt");
    },
  },
  {
    name: "plaintext does not leave where it must not",
    run: async (w) => {
      const bodies: string[] = [];
      const spy: typeof fetch = (input, init) => {
        bodies.push(String(init?.body ?? ""));
        return fetch(input, init);
      };
      const { bare, vaultId, fingerprint } = await sealed(w);
      const other = clientOf(w, { cmekKey: await generateCmekKey(), fetch: spy });
      equal(refused(await other.secrets.put(vaultId, "a", { value: "canary" })).code, "key_missing", "another key");
      const keyless = clientOf(w, { fetch: spy });
      equal(refused(await keyless.secrets.put(vaultId, "a", { value: "canary" })).code, "not_a_blob", "no key");
      equal(refused(await keyless.secrets.put(vaultId, "a", { value: "ab".repeat(32) })).code, "not_a_blob", "hex");
      const open = await vaultOf(bare);
      equal(refused(await other.secrets.put(open, "a", { value: "canary" })).code, "not_sealed", "a vault that is not sealed");
      const watching = clientOf(w, { fetch: spy });
      data(await watching.secrets.put(vaultId, "b", { value: await cmekEncryptValue(utf8("x"), await generateCmekKey()) }));
      data(await bare.vault.disableCmek(vaultId));
      equal(refused(await watching.secrets.put(vaultId, "b", { value: "canary" })).code, "unsealed", "a vault that was sealed");
      ok(!bodies.some((b) => b.includes("canary") || b.includes("abab")), "plaintext left");
      data(await other.secrets.put(open, "a", { value: "meant" }, { allowUnsealed: true }));
      data(await bare.vault.enableCmek(vaultId, { fingerprint }));
    },
  },
  {
    name: "a wrong key check is refused before anything is written",
    run: async (w) => {
      const key = await generateCmekKey();
      const client = clientOf(w, { cmekKey: key });
      const v = await vaultOf(client);
      data(await client.vault.enableCmek(v, { fingerprint: await cmekFingerprint(key), key_check: "0".repeat(64) }));
      equal(refused(await client.secrets.put(v, "a", { value: "x" })).code, "key_check");
      equal(data(await client.secrets.list(v)).secrets.length, 0);
    },
  },
  {
    name: "a blob is not sealed twice",
    run: async (w) => {
      const { key, fingerprint, client, vaultId } = await sealed(w);
      const blob = toBase64(await cmekEncrypt(utf8("x"), key));
      equal(refused(await client.secrets.put(vaultId, "a", { value: blob })).code, "already_sealed");
      data(await client.secrets.put(vaultId, "a", { value: blob }, { sealedWith: fingerprint }));
      equal(data(await client.secrets.get(vaultId, "a")).value, "x");
    },
  },
  {
    name: "of several keys each value has its own, and a stranger's is named",
    run: async (w) => {
      const one = await sealed(w);
      const two = await sealed(w);
      data(await one.client.secrets.put(one.vaultId, "a", { value: "1" }));
      data(await two.client.secrets.put(two.vaultId, "a", { value: "2" }));
      const both = clientOf(w, { cmekKey: [toBase64(one.key), await CmekKey.from(two.key)] });
      equal(data(await both.secrets.get(one.vaultId, "a")).value, "1");
      equal(data(await both.secrets.get(two.vaultId, "a")).value, "2");
      const err = refused(await one.client.secrets.get(two.vaultId, "a"));
      equal(err.code, "key_missing");
      ok(err.message.includes(two.fingerprint) && err.message.includes(one.fingerprint), err.message);
    },
  },
  {
    name: "a key that lives elsewhere seals and opens",
    run: async (w) => {
      const { key, fingerprint, vaultId, client } = await sealed(w, { bound: true });
      const uses: string[] = [];
      const away: CmekSealer = {
        fingerprint,
        seal: async (plaintext, version, context) => {
          uses.push(`seal ${version} ${context.path}`);
          return cmekEncryptValue(plaintext, key, context);
        },
        open: async (value, context) => {
          uses.push(`open ${context.path}`);
          return cmekDecryptValue(value, key, context);
        },
      };
      const delegated = clientOf(w, { cmekKey: away });
      data(await delegated.secrets.put(vaultId, "a", { value: "x" }));
      equal(data(await delegated.secrets.get(vaultId, "a")).value, "x");
      equal(data(await client.secrets.get(vaultId, "a")).value, "x");
      same(uses, ["seal 2 a", "open a"]);
    },
  },
  {
    name: "disabling leaves sealed values sealed and new ones plain",
    run: async (w) => {
      const { client, bare, vaultId } = await sealed(w);
      data(await client.secrets.put(vaultId, "old", { value: "x" }));
      equal(data(await client.vault.disableCmek(vaultId)).cmek_enabled, false);
      data(await client.secrets.put(vaultId, "new", { value: "y" }, { allowUnsealed: true }));
      equal(data(await bare.secrets.get(vaultId, "new")).value, "y");
      equal(data(await bare.secrets.get(vaultId, "old")).cmek_encrypted, true);
      equal(data(await client.secrets.get(vaultId, "old")).value, "x");
    },
  },
  {
    name: "an agent's key is exchanged, and the agent works with its CMEK key",
    run: async (w) => {
      const { key, bare, vaultId, client } = await sealed(w);
      const made = data(await bare.agents.create({ name: "robot" }));
      data(await bare.policies.create(vaultId, { secret_path_pattern: "**", principal_type: "agent", principal_id: made.agent.id, permissions: ["read", "write"] }));
      const agent = clientOf(w, { apiKey: made.api_key, cmekKey: toBase64(key) });
      equal(data(await agent.agents.me()).id, made.agent.id);
      data(await agent.secrets.put(vaultId, "a", { value: "from the agent" }));
      equal(data(await client.secrets.get(vaultId, "a")).value, "from the agent");
      const rotated = data(await bare.agents.rotateKey(made.agent.id));
      equal(refused(await clientOf(w, { apiKey: made.api_key }).agents.me()).type, "auth_error");
      data(await clientOf(w, { apiKey: rotated.api_key }).agents.me());
      ok(data(await bare.agents.list()).agents.some((a) => a.id === made.agent.id), "it is not listed");
      equal(data(await bare.agents.update(made.agent.id, { is_active: false })).is_active, false);
      equal(data(await bare.policies.list(vaultId)).policies.length, 1);
      data(await bare.agents.delete(made.agent.id));
    },
  },
  {
    name: "a key comes and goes: with it values are opened, without it none leaves in the clear",
    run: async (w) => {
      const { key, bare, vaultId, client, fingerprint } = await sealed(w);
      data(await client.secrets.put(vaultId, "a", { value: "x" }));
      const tab = clientOf(w);
      ok(data(await tab.secrets.get(vaultId, "a")).value !== "x", "it opened without a key");
      tab.unlock(await CmekKey.from(await generateCmekKey()));
      equal(refused(await tab.secrets.get(vaultId, "a")).code, "key_missing");
      tab.unlock(await CmekKey.from(key));
      tab.unlock(toBase64(key));
      equal(data(await tab.secrets.get(vaultId, "a")).value, "x");
      const { error, data: meta } = await tab.secrets.put(vaultId, "b", { value: "y" });
      equal(error, null);
      equal(meta!.version, 1);
      equal(data(await client.secrets.get(vaultId, "b")).cmek_fingerprint, fingerprint);
      tab.lock();
      equal(data(await tab.secrets.get(vaultId, "a")).cmek_opened, false);
      equal(refused(await tab.secrets.put(vaultId, "c", { value: "plain" })).code, "not_a_blob");
      const other = await CmekKey.from(await generateCmekKey());
      tab.unlock(other);
      equal(refused(await tab.secrets.get(vaultId, "a")).code, "key_missing", "what was locked came back with another key");
      tab.lock();
      equal(data(await bare.secrets.list(vaultId)).secrets.length, 2);
      let told = "";
      try {
        tab.unlock("too short");
      } catch (err) {
        told = (err as { code: string }).code;
      }
      ok(told !== "", "what is no key was taken");
      equal(data(await tab.secrets.get(vaultId, "a")).cmek_opened, false);
    },
  },
  {
    name: "members and invitations of an org",
    run: async (w) => {
      const client = clientOf(w);
      const me = data(await client.auth.me());
      equal(data(await client.org.get()).id, me.org_id);
      const email = `mate${Math.random()}@example.com`;
      const { invitation, text: invited } = data(await client.org.invite({ email, role: "member" }));
      ok(data(await client.org.invitations()).invitations.some((i) => i.id === invitation.id), "the invitation is not listed");
      const mate = createClient({ baseUrl: w.server.url, cmekKey: false, apiKey: "1ck_none" });
      const up = data(await mate.auth.signUp({ email, password: "Quiet-Harbour-58!", invitation: invited }));
      equal(up.org_id, me.org_id);
      equal(data(await client.org.setRole(up.user_id, "admin")).role, "admin");
      ok(data(await client.org.members()).members.some((m) => m.id === up.user_id && m.role === "admin"), "the member is not listed");
      data(await client.org.removeMember(up.user_id));
      refused(await mate.auth.me());
      const other = data(await client.org.invite({ email: "x" + email })).invitation;
      data(await client.org.deleteInvitation(other.id));
      ok(!data(await client.org.invitations()).invitations.some((i) => i.id === other.id), "the invitation is still there");
    },
  },
  {
    name: "an operator looks at keys and jobs, and rotates",
    run: async (w) => {
      const client = clientOf(w);
      const v = await vaultOf(client);
      data(await client.secrets.put(v, "a", { value: "x" }));
      const thread = data(await client.threads.create({ title: "T" }));
      data(await client.messages.post(thread.id, { body: 1 }));
      equal(refused(await client.admin.listJobs()).type, "auth_error");
      const { admin } = clientOf(w, { apiKey: w.server.admin_key });
      const job = data(await admin.rotateKek({ vault_id: v })).jobs[0]!;
      ok(data(await admin.listJobs()).jobs.some((j) => j.id === job.id), "the job is not listed");
      equal(data(await admin.getJob(job.id)).kind, job.kind);
      equal(data(await admin.rewrap({ vault_id: v })).jobs.length, 1);
      equal(data(await admin.cancelJob(job.id)).id, job.id);
      ok(data(await admin.rotateThreadDek({ thread_id: thread.id })).job_id, "there is no job");
      const { keys, pagination } = data(await admin.listKeys({ limit: 1 }));
      equal(keys.length, 1);
      ok(pagination.has_more && data(await admin.listKeys({ limit: 1, cursor: pagination.next_cursor! })).keys[0] !== keys[0], "the page is the same");
      ok(data(await admin.getKey(keys[0]!)).length > 0, "the row is empty");
      const keks = data(await admin.listKeks({ count: true, limit: 1000 }));
      equal(keks.available, true);
      same([keks.root?.kind, keks.root?.state], ["file", "unlocked"]);
      ok(keks.wrap_limit! > 0 && keks.max_age.kek! > 0, "there is no limit, or no policy");
      const ofVault = keks.keks.find((k) => k.vault_id === v);
      ok(ofVault?.of === "vault" && ofVault.versions.at(-1)!.state === "enabled" && Date.parse(ofVault.versions[0]!.created_at) > 0, "the vault has no KEK");
      ok(keks.keks.find((k) => k.of === "threads")!.versions.some((version) => version.thread_deks! > 0), "there is no DEK");
      const first = data(await admin.listKeks({ limit: 1 }));
      ok(data(await admin.listKeks({ limit: 1, cursor: first.pagination.next_cursor! })).keks[0]!.kek_id !== first.keks[0]!.kek_id, "the page is the same");
      equal(refused(await client.admin.listKeks()).type, "auth_error");
      const another = data(await client.threads.create({ title: "another" }));
      const deks = data(await admin.listDeks([thread.id, another.id]));
      ok(deks.available && deks.seal_limit! > 0, "the key process tells nothing");
      same([...new Set(deks.deks.filter((d) => d.state === "enabled").map((d) => d.thread_id))], [thread.id, another.id]);
      ok(deks.deks.every((d) => d.seals! > 0 && d.kek_version > 0 && Date.parse(d.created_at!) > 0), "a DEK is not told of");
      equal(refused(await admin.listDeks([])).type, "validation_error");
      equal(refused(await client.admin.listDeks([thread.id])).type, "auth_error");
      ok(data(await admin.stats()).threads > 0, "there is no thread");
      const { threads } = data(await admin.listThreads());
      ok(threads.find((t) => t.id === thread.id)?.kms?.key_id, "the thread is not listed with its DEK");
      ok(data(await admin.health()).status, "there is no health");
      ok(data(await admin.metrics()).includes("# TYPE"), "these are no metrics");
      ok(data(await admin.auditEvents({ limit: 5 })).events.length > 0, "nothing was recorded");
      equal(data(await admin.createKey({ name: "another" })).key.role, "admin");
      equal(data(await client.keyHealth()).status, "ok");
    },
  },
  {
    name: "a session signs in, renews itself and ends",
    run: async (w) => {
      const client = createClient({ baseUrl: w.server.url, cmekKey: false });
      equal(refused(await client.vault.list()).type, "auth_error");
      equal(refused(await client.auth.login({ email: w.server.email, password: "wrong" })).type, "auth_error");
      const session = data(await client.auth.login({ email: w.server.email, password: w.server.password }));
      equal(data(await client.auth.me()).email, w.server.email);
      const late = createClient({ baseUrl: w.server.url, cmekKey: false, token: { ...session, expires_in: 0.001 } });
      await new Promise((done) => setTimeout(done, 5));
      const answers = await Promise.all([late.auth.me(), late.auth.me(), late.vault.list()]);
      for (const a of answers) data<unknown>(a as { data: unknown; error: null });
      data(await late.auth.logout());
      equal(refused(await late.auth.me()).type, "auth_error");
    },
  },
  {
    name: "policies, keys, audit, health",
    run: async (w) => {
      const client = clientOf(w);
      const v = await vaultOf(client);
      data(await client.secrets.put(v, "a", { value: "x" }));
      const made = data(await client.apiKeys.create({ name: "one more" }));
      data(await clientOf(w, { apiKey: made.api_key }).vault.get(v));
      ok(data(await client.apiKeys.list()).keys.some((k) => k.id === made.key.id), "the key is not listed");
      data(await client.apiKeys.delete(made.key.id));
      equal(refused(await clientOf(w, { apiKey: made.api_key }).vault.get(v)).type, "auth_error");
      ok(data(await client.audit.list({ resource_id: v, action: "secret.write" })).events.length > 0, "nothing was recorded");
      equal(data(await client.audit.verify()).chain_valid, true);
      const lines = (await new Response(data(await client.audit.export())).text()).trim().split("\n");
      ok(lines.length > 2 && lines.every((l) => typeof JSON.parse(l) === "object"), "the export is none");
      equal(data(await client.health()).status, "healthy");
    },
  },
  {
    name: "a share is made, read, listed and ended; a sealed one is opened by who has the key",
    run: async (w) => {
      const { client, bare, vaultId, fingerprint } = await sealed(w, { bound: true });
      const meta = data(await client.secrets.put(vaultId, "a", { value: "shared" }));
      const expires_at = new Date(Date.now() + 3600_000).toISOString();
      equal(refused(await bare.shares.create(meta.id, { recipient_type: "anyone_with_link", expires_at })).code, "share_sealed");
      const share = data(await bare.shares.create(meta.id, { recipient_type: "anyone_with_link", expires_at, passphrase: "open sesame", recipient_has_key: true, cmek_fingerprint: fingerprint }));
      equal(refused(await client.shares.get(share.share_url, { vaultId })).code, "share_passphrase");
      const got = data(await client.shares.get(share.share_url, { passphrase: "open sesame", vaultId }));
      equal(got.value, "shared");
      equal(data(await client.shares.get(share.share_url, { passphrase: "open sesame" })).value, "shared", "where the server says");
      equal(refused(await client.shares.get(share.share_url, { passphrase: "open sesame", vaultId: "another" })).code, "decrypt");
      ok(data(await client.shares.listOutbound()).shares.some((s) => s.id === share.id && s.secret_id === meta.id && s.vault_id === vaultId), "the share is not listed");
      data(await client.shares.delete(share.id));
      refused(await client.shares.get(share.share_url, { passphrase: "open sesame", vaultId }));
    },
  },
  {
    name: "bodies of a thread under a key are sealed here, and open with that key alone and in that thread",
    run: async (w) => {
      const key = await generateCmekKey();
      const sent: string[] = [];
      const client = clientOf(w, { cmekKey: key, fetch: (input, init) => (sent.push(String(init?.body ?? "")), fetch(input, init)) });
      const [thread, other] = [data(await client.threads.create({ cmek_fingerprint: await cmekFingerprint(key) })), data(await client.threads.create({ cmek_fingerprint: await cmekFingerprint(key) }))];
      const m = data(await client.messages.post(thread.id, { body: { text: "canary" } }));
      same(m.body, { text: "canary" });
      same(data(await client.messages.edit(thread.id, m.id, { body: "canary 2" })).body, "canary 2");
      same(data(await client.messages.versions(thread.id, m.id)).versions.map((v) => v.body), [{ text: "canary" }, "canary 2"]);
      ok(!sent.join().includes("canary"), "a body left in the clear");
      const after = `${String(BigInt(Date.now() - 5000) * 1_000_000n).padStart(20, "0")}-000000`;
      for await (const event of client.threads.follow(thread.id, { after })) {
        same(event.message?.body, "canary 2");
        break;
      }
      const raw = (await (await fetch(`${w.server.url}/v1/threads/${thread.id}/messages/${m.id}`, { headers: { Authorization: `Bearer ${w.server.api_key}` } })).json()) as { body: string };
      equal(inspectCmekValue(raw.body).version, 2);
      equal(refused(await clientOf(w, { cmekKey: await generateCmekKey() }).messages.get(thread.id, m.id)).code, "key_missing");
      equal(refused(await clientOf(w).messages.post(thread.id, { body: "plain" })).code, "key_missing");
      const moved = (await (await fetch(`${w.server.url}/v1/threads/${other.id}/messages`, { method: "POST", body: JSON.stringify({ body: raw.body }), headers: { Authorization: `Bearer ${w.server.api_key}`, "Content-Type": "application/json" } })).json()) as { id: string };
      equal(refused(await client.messages.get(other.id, moved.id)).code, "decrypt");
    },
  },
  {
    name: "a thread that was under a key, and now is not, the server says, gets no body in the clear",
    run: async (w) => {
      const key = await generateCmekKey();
      const sent: string[] = [];
      const client = clientOf(w, {
        cmekKey: key,
        fetch: async (input, init) => {
          sent.push(String(init?.body ?? ""));
          const response = await fetch(input, init);
          if (init?.method !== "GET" || !/\/threads(\/[^/]+)?$/.test(new URL(String(input)).pathname)) return response;
          return new Response((await response.text()).replaceAll("cmek_fingerprint", "no_fingerprint"), response);
        },
      });
      const { id } = data(await client.threads.create({ cmek_fingerprint: await cmekFingerprint(key) }));
      equal(data(await client.threads.get(id)).cmek_fingerprint, undefined, "the server did not lie");
      for await (const t of client.threads.all()) if (t.id === id) break;
      data(await client.messages.post(id, { body: "canary" }));
      ok(!sent.join().includes("canary"), "the body left in the clear");
    },
  },
  {
    name: "threads and messages",
    run: async (w) => {
      const client = clientOf(w);
      const thread = data(await client.threads.create({ title: "Talk" }));
      for (let i = 0; i < 5; i++) data(await client.messages.post(thread.id, { body: { n: i, text: "<ключ🔑>" } }));
      same(data(await client.messages.list(thread.id, { limit: 2 })).messages.map((m) => (m.body as { n: number }).n), [3, 4]);
      const all: unknown[] = [];
      for await (const m of client.messages.all(thread.id)) all.push((m.body as { n: number }).n);
      same(all, [0, 1, 2, 3, 4]);
      const first = data(await client.messages.list(thread.id)).messages[0]!;
      same(data(await client.messages.get(thread.id, first.id)).body, { n: 0, text: "<ключ🔑>" });
      let found = false;
      for await (const t of client.threads.all({ title: "talk", limit: 1 })) found ||= t.id === thread.id;
      ok(found, "the thread is not listed");
      equal(data(await client.threads.update(thread.id, { title: "After" })).title, "After");
      equal(data(await client.messages.edit(thread.id, first.id, { body: "two" })).version, 2);
      same(Object.values(data(await client.messages.react(thread.id, first.id, "+1")).reactions ?? {}), ["+1"]);
      const { reactions } = data(await client.messages.reactions(thread.id, first.id));
      equal(data(await client.messages.unreact(thread.id, first.id, reactions[0]!.id)), null);
      equal(data(await client.messages.delete(thread.id, first.id)), null);
      equal(data(await client.messages.list(thread.id)).messages.length, 4);
      equal(data(await client.messages.list(thread.id, { include_deleted: true })).messages.length, 5);
      same(data(await client.messages.versions(thread.id, first.id)).versions.map((m) => m.body), [{ n: 0, text: "<ключ🔑>" }, "two", undefined]);
      equal(data(await client.threads.share(thread.id, "ann", { part: "read", end_user: true })).part, "read");
      equal(data(await client.threads.participants(thread.id)).participants.length, 1);
      equal(data(await client.threads.unshare(thread.id, "ann", { end_user: true })), null);
      equal(data(await client.threads.delete(thread.id)), null);
      equal(refused(await client.threads.get(thread.id)).type, "not_found");
    },
  },
  {
    name: "a backend key speaks for its users",
    run: async (w) => {
      const ann = clientOf(w, { apiKey: w.server.backend_key, user: { id: "ann" } });
      const bob = clientOf(w, { apiKey: w.server.backend_key, user: { id: "bob" } });
      const thread = data(await ann.threads.create({ title: "mine" }));
      equal(thread.author, "ann");
      equal(refused(await bob.threads.get(thread.id)).type, "auth_error");
    },
  },
];
