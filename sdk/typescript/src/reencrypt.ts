// Rotation by the client: no key is sent anywhere. The vault is switched to the
// new key, then the versions under the old one are re-encrypted in place. The
// fingerprint of each version says how far that is, so a second run goes on
// where the first one ended, and two at once do no harm.

import { isLowerHex, toHex } from "./bytes.js";
import { CmekKey, cmekEncrypt, inspectCmekValue, type CmekContext } from "./cmek.js";
import { CmekError, ConflictError, GoneError, KeyfoldError, NotFoundError } from "./errors.js";
import { pathOf, type Http } from "./http.js";
import { KeyRing, openWith, sealWith, type ClientKey, type CmekKeyOption, type VaultStates } from "./keys.js";
import type { Answer } from "./result.js";
import { secretPath } from "./secrets.js";
import type { CmekStatus, CmekVersion, CmekVersions, EnableCmek, Secret } from "./types.js";

/** How a rotation by the client is done. */
export interface ClientRotationOptions {
  /** "all" (default): every stored version that can be read. "newest": only the newest of each secret. */
  versions?: "all" | "newest";
  /** Versions at once; 8 when absent. */
  concurrency?: number;
  /** Re-encrypt versions with max_access_count too. Reading them counts: a version that has one read left is used up by it. */
  spendReads?: boolean;
  /** true: the vault takes bound blobs only from now on, and all that is re-encrypted becomes bound. */
  bound?: boolean;
  onProgress?: (progress: ClientRotationProgress) => void;
  /** Ends the rotation between two versions. */
  signal?: AbortSignal;
}

export interface ClientRotationProgress {
  /** Versions that were looked at. */
  done: number;
  total: number;
}

/** What a rotation by the client has done. */
export interface ClientRotation {
  reencrypted: number;
  /** Somebody else re-encrypted them meanwhile. */
  already: number;
  /** Versions that are under the old key still, and why. */
  skipped: SkippedVersion[];
}

export interface SkippedVersion {
  path: string;
  version: number;
  reason: "not_newest" | "disabled" | "deleted" | "expired" | "read_out" | "limited_reads" | "does_not_open" | "gone";
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
  const versions = await listVersions(run);
  const out: ClientRotation = { reencrypted: 0, already: 0, skipped: [] };
  let done = 0;
  await inParallel(versions, options, async (v) => {
    const outcome = await reencrypt(run, v);
    if (outcome === "reencrypted" || outcome === "already") out[outcome]++;
    else out.skipped.push({ path: v.path, version: v.version, reason: outcome });
    options.onProgress?.({ done: ++done, total: versions.length });
  });
  return { data: out, status: 200, headers: new Headers() };
}

/** Makes the new key the vault's, and returns the version of the blobs that it takes then. */
async function switchKey(
  http: Http, states: VaultStates, vaultId: string, old: ClientKey, fresh: ClientKey, options: ClientRotationOptions,
): Promise<1 | 2> {
  const path = pathOf("vaults", vaultId, "cmek");
  const status = await http.get<CmekStatus>(path, { query: { keys: false } });
  if (status.enabled && status.fingerprint === fresh.fingerprint) return status.blob_version === 2 ? 2 : 1;
  if (status.enabled && status.fingerprint !== old.fingerprint) {
    throw new CmekError("key_missing", `The vault's CMEK key is ${status.fingerprint}, neither the old nor the new one; nothing was changed`);
  }
  if (!status.enabled) throw new CmekError("not_sealed", "The vault is not sealed; enable CMEK with the new key instead");
  const version = (options.bound ?? status.blob_version === 2) ? 2 : 1;
  const request: EnableCmek = { fingerprint: fresh.fingerprint, blob_version: version, replaces: old.fingerprint };
  const check = await fresh.check?.(vaultId);
  if (check !== undefined) request.key_check = check;
  await http.post(path, request);
  states.forget(vaultId);
  return version;
}

async function listVersions({ http, vaultId, old }: Run): Promise<CmekVersion[]> {
  const all: CmekVersion[] = [];
  for (let cursor: string | undefined; ; ) {
    const page: CmekVersions = await http.get(pathOf("vaults", vaultId, "cmek-versions"), { query: { fingerprint: old.fingerprint, cursor } });
    all.push(...page.versions);
    if (!page.next_cursor) return all;
    if (page.next_cursor === cursor) throw new KeyfoldError("The server answers with a page that was read already");
    cursor = page.next_cursor;
  }
}

async function reencrypt(run: Run, v: CmekVersion): Promise<"reencrypted" | "already" | SkippedVersion["reason"]> {
  if (v.state !== "readable") return v.state as SkippedVersion["reason"];
  if (!v.newest && run.options.versions === "newest") return "not_newest";
  if (v.max_access_count && !run.options.spendReads) return "limited_reads";
  const url = secretPath(run.vaultId, "secret-version", v.path, v.version);
  try {
    const answer = await run.http.answer<Secret>("GET", url, { counts: true, signal: run.options.signal });
    if (answer.headers.get("X-Keyfold-Cmek-Fingerprint") !== run.old.fingerprint) return "already";
    const value = await reseal(run, answer.data.value, { vaultId: run.vaultId, path: v.path });
    await run.http.put(url, { value, old_fingerprint: run.old.fingerprint, new_fingerprint: run.fresh.fingerprint });
    return "reencrypted";
  } catch (err) {
    return excuse(err);
  }
}

function excuse(err: unknown): "already" | "gone" | "does_not_open" {
  if (err instanceof ConflictError && err.status === 412) return "already";
  if (err instanceof GoneError || err instanceof NotFoundError) return "gone";
  if (err instanceof CmekError) return "does_not_open";
  throw err;
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
