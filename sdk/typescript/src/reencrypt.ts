// Rotation by the client: no key is sent anywhere. The vault is switched to the
// new key, then the versions under the old one are re-encrypted in place. The
// fingerprint of each version says how far that is, so a second run goes on
// where the first one ended, and two at once do no harm.

import { decodeText, encodeText, isLowerHex, toHex } from "./bytes.js";
import { CmekKey, cmekEncrypt, inspectCmekValue, type CmekContext } from "./cmek.js";
import { CmekError, ConflictError, GoneError, KeyfoldError, NotFoundError } from "./errors.js";
import { pathOf, type Http } from "./http.js";
import { checkKey, KeyRing, openWith, sealWith, type ClientKey, type CmekKeyOption, type VaultStates } from "./keys.js";
import type { Answer } from "./result.js";
import { secretPath } from "./secrets.js";
import type { CmekStatus, CmekVersion, CmekVersions, EnableCmek, Secret } from "./types.js";

/** How a rotation by the client is done. */
export interface ClientRotationOptions {
  /** Re-encrypt every version that can be read; otherwise only the newest of each secret, and older ones stay under the old key. */
  all?: boolean;
  /** Re-encrypt versions with max_access_count too. It costs each one read; a version that has one left is not touched. */
  readLimited?: boolean;
  /** The vault takes bound blobs only from now on, and all that is re-encrypted becomes bound. */
  bound?: boolean;
  /** Calls at once; 8 when absent. */
  concurrency?: number;
  onProgress?: (done: number, total: number) => void;
  /** Ends the rotation between two versions. */
  signal?: AbortSignal;
}

/** What a rotation by the client has done. */
export interface ClientRotation {
  /** Versions that are under the new key now, and were under the old one when the call began. */
  reencrypted: number;
  /** The others that were under the old one then. */
  kept: KeptVersion[];
}

export interface KeptVersion {
  path: string;
  version: number;
  /**
   * older: not the newest, without all. read_limited: without readLimited, or
   * with one read left. failed: it does not open, or is not to be had. other_key: it is
   * under neither key by now. Or the state of a version that nobody can read any more.
   */
  why: "older" | "read_limited" | "failed" | "other_key" | "disabled" | "deleted" | "expired" | "read_out";
}

/** Everything that one rotation needs. */
interface Run {
  http: Http;
  vaultId: string;
  old: ClientKey;
  fresh: ClientKey;
  /** Of the blobs that the vault takes. */
  version: 1 | 2;
  options: ClientRotationOptions;
}

export async function rotateHere(
  http: Http, states: VaultStates, vaultId: string, oldKey: CmekKeyOption, newKey: CmekKeyOption, options: ClientRotationOptions,
): Promise<Answer<ClientRotation>> {
  const [old, fresh] = (await new KeyRing([oldKey, newKey]).all()) as [ClientKey, ClientKey];
  if (old.fingerprint === fresh.fingerprint) throw new KeyfoldError("The old and the new key are the same; there is nothing to do");
  const version = await switchKey(http, states, vaultId, old, fresh, options);
  const run: Run = { http, vaultId, old, fresh, version, options };
  const out: ClientRotation = { reencrypted: 0, kept: [] };
  const keep = (v: CmekVersion, why: KeptVersion["why"]) => out.kept.push({ path: v.path, version: v.version, why });
  const left: CmekVersion[] = [];
  for (const v of await listVersions(run, old)) {
    const why = reasonToKeep(v, options);
    if (why === undefined) left.push(v);
    else keep(v, why);
  }
  let done = 0;
  const faster: CmekVersion[] = [];
  await inParallel(left, options, async (v) => {
    const how = await reencrypt(run, v);
    if (how === "done") out.reencrypted++;
    else if (how === "faster") faster.push(v);
    else keep(v, how);
    options.onProgress?.(++done, left.length);
  });
  // Which key those are under that somebody else was faster with. No value is read, which could count.
  const under = new Set(faster.length === 0 ? [] : (await listVersions(run, fresh)).map(placeOf));
  for (const v of faster) {
    if (under.has(placeOf(v))) out.reencrypted++;
    else keep(v, "other_key");
  }
  return { data: out, status: 200, headers: new Headers() };
}

function reasonToKeep(v: CmekVersion, options: ClientRotationOptions): KeptVersion["why"] | undefined {
  if (v.state !== "readable") return v.state as KeptVersion["why"];
  if (!v.newest && !options.all) return "older";
  const left = v.max_access_count ? v.max_access_count - (v.reads ?? 0) : Infinity;
  return left <= 1 || (left < Infinity && !options.readLimited) ? "read_limited" : undefined;
}

/** Makes the new key the vault's, and returns the version of the blobs that it takes then. */
async function switchKey(
  http: Http, states: VaultStates, vaultId: string, old: ClientKey, fresh: ClientKey, options: ClientRotationOptions,
): Promise<1 | 2> {
  const path = pathOf("vaults", vaultId, "cmek");
  const status = await http.get<CmekStatus>(path, { query: { keys: false } });
  if (!status.enabled) throw new CmekError("not_sealed", "The vault is not sealed; enable CMEK with the new key instead");
  if (status.rotation) throw new KeyfoldError(`The server is rotating the vault's key (${status.rotation.id}); cancel that first, or wait for its end`);
  const check = status.key_check === undefined ? undefined : await fresh.check?.(vaultId);
  if (status.fingerprint === fresh.fingerprint) {
    await checkKey(fresh, vaultId, states.remember(vaultId, status));
    return status.blob_version === 2 ? 2 : 1;
  }
  if (status.fingerprint !== old.fingerprint) {
    throw new CmekError("key_missing", `The vault's CMEK key is ${status.fingerprint}, neither the old nor the new one; nothing was changed`);
  }
  for (const key of [old, fresh]) await tryKey(key, vaultId);
  const version = (options.bound ?? status.blob_version === 2) ? 2 : 1;
  const request: EnableCmek = { fingerprint: fresh.fingerprint, blob_version: version, replaces: old.fingerprint };
  if (check !== undefined) request.key_check = check;
  await http.post(path, request);
  states.remember(vaultId, { ...request, enabled: true });
  return version;
}

/** Seals and opens: a vault must not get a key that cannot be used. */
async function tryKey(key: ClientKey, vaultId: string): Promise<void> {
  const at = { vaultId, path: "trial" };
  const opened = decodeText(await openWith(key, await sealWith(key, encodeText("trial"), 1, at), at));
  if (opened !== "trial") throw new CmekError("decrypt", `The key ${key.fingerprint} cannot be used; nothing was changed`);
}

const placeOf = (v: CmekVersion) => `${v.version} ${v.path}`;

/** The versions under a key. */
async function listVersions({ http, vaultId }: Run, key: ClientKey): Promise<CmekVersion[]> {
  const all: CmekVersion[] = [];
  for (let cursor: string | undefined; ; ) {
    const page: CmekVersions = await http.get(pathOf("vaults", vaultId, "cmek-versions"), { query: { fingerprint: key.fingerprint, cursor } });
    all.push(...page.versions);
    if (!page.next_cursor) return all;
    if (page.next_cursor === cursor) throw new KeyfoldError("The server answers with a page that was read already");
    cursor = page.next_cursor;
  }
}

/** Re-encrypts a version in its place, and tells whether it is under the new key. "faster": somebody else has done it meanwhile. */
async function reencrypt(run: Run, v: CmekVersion): Promise<"done" | "faster" | "failed" | "other_key"> {
  const url = secretPath(run.vaultId, "secret-version", v.path, v.version);
  try {
    const answer = await run.http.answer<Secret>("GET", url, { counts: true, signal: run.options.signal });
    const under = answer.headers.get("X-Keyfold-Cmek-Fingerprint")?.toLowerCase() ?? run.old.fingerprint; // without it the server decides below
    if (under === run.fresh.fingerprint) return "done";
    if (under !== run.old.fingerprint) return "other_key";
    const value = await reseal(run, answer.data.value, { vaultId: run.vaultId, path: v.path });
    await run.http.put(url, { value, old_fingerprint: run.old.fingerprint, new_fingerprint: run.fresh.fingerprint });
    return "done";
  } catch (err) {
    if (err instanceof ConflictError && err.status === 412) return "faster";
    if (err instanceof GoneError || err instanceof NotFoundError || (err instanceof CmekError && err.code !== "kms_denied")) return "failed";
    throw err;
  }
}

/** The value under the new key: in the form and of the version that it came in, unless the vault takes bound blobs only. */
async function reseal({ old, fresh, version }: Run, value: string, context: CmekContext): Promise<string> {
  const plaintext = await openWith(old, value, context);
  try {
    if (version === 1 && isLowerHex(value) && fresh instanceof CmekKey) {
      return toHex((await cmekEncrypt(plaintext, fresh)).subarray(1));
    }
    return await sealWith(fresh, plaintext, version === 2 || inspectCmekValue(value).version === 2 ? 2 : 1, context);
  } finally {
    plaintext.fill(0);
  }
}

/** Does work for every item, some at once, until one fails or the signal ends it. */
async function inParallel<T>(items: T[], options: ClientRotationOptions, work: (item: T) => Promise<void>): Promise<void> {
  const queue = items.values();
  let failed = false;
  const worker = async () => {
    for (const item of queue) {
      if (failed) return;
      if (options.signal?.aborted) throw new KeyfoldError("The rotation was aborted; run it again to go on");
      try {
        await work(item);
      } catch (err) {
        failed = true;
        throw err;
      }
    }
  };
  const workers = Array.from({ length: Math.max(1, options.concurrency ?? 8) }, worker);
  const ended = await Promise.allSettled(workers);
  const first = ended.find((e) => e.status === "rejected");
  if (first) throw first.reason;
}
