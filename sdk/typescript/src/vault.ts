// Vaults, and the CMEK key of a vault.

import { fromBase64, toBase64 } from "./bytes.js";
import { checkKeySize, cmekFingerprint, cmekKeyCheck } from "./cmek.js";
import { CmekError, KeyfoldError } from "./errors.js";
import { pathOf, pause, type Http } from "./http.js";
import type { CmekKeyOption, KeyRing, VaultStates } from "./keys.js";
import { rotateHere, type ClientRotation, type ClientRotationOptions } from "./reencrypt.js";
import { result, type Answer, type Result } from "./result.js";
import { sealRotationKeys } from "./rotationkeys.js";
import type * as wire from "./types.js";

/** How CMEK is enabled. */
export interface EnableOptions {
  /** false: no key check is sent, though the client has the key. */
  keyCheck?: boolean;
}

/** How a rotation by the server is asked for. */
export interface RotateOptions {
  /**
   * "sealed" (default): the keys go HPKE-sealed to a one-time key of the key
   * process, so that no proxy, log or server sees them. "headers": as they are,
   * over TLS, for a server that does not know the sealed way.
   */
  keys?: "sealed" | "headers";
  /** Complete in spite of versions that open with neither key. */
  acceptFailed?: boolean;
  /** false: no key check of the new key is sent, and the vault keeps none from then on. */
  keyCheck?: boolean;
}

/** What a rotation by the server is made of. */
interface Rotation {
  vaultId: string;
  old: Uint8Array;
  fresh: Uint8Array;
  oldFingerprint: string;
  body: wire.RotateCmek;
}

/** How a job is waited for. */
export interface WaitOptions {
  intervalMs?: number;
  onProgress?: (job: wire.RotationJob) => void;
  signal?: AbortSignal;
}

/** client.vault */
export class Vaults {
  readonly #http: Http;
  readonly #keys: KeyRing;
  readonly #states: VaultStates;

  constructor(http: Http, keys: KeyRing, states: VaultStates) {
    this.#http = http;
    this.#keys = keys;
    this.#states = states;
  }

  create(request: wire.CreateVault): Promise<Result<wire.Vault>> {
    return this.#http.request("POST", "/v1/vaults", { body: request });
  }

  list(): Promise<Result<{ vaults: wire.Vault[] }>> {
    return result(async () => {
      const answer = await this.#http.answer<{ vaults: wire.Vault[] }>("GET", "/v1/vaults");
      for (const v of answer.data?.vaults ?? []) this.#note(v.id, v);
      return answer;
    });
  }

  get(vaultId: string): Promise<Result<wire.Vault>> {
    return result(async () => {
      const answer = await this.#http.answer<wire.Vault>("GET", pathOf("vaults", vaultId));
      this.#note(vaultId, answer.data);
      return answer;
    });
  }

  #note(vaultId: string, vault: wire.Vault | null): void {
    if (vault?.cmek_enabled) this.#states.note(vaultId, vault.cmek_fingerprint);
  }

  /** Deletes a vault and all its secrets, for good. */
  delete(vaultId: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("vaults", vaultId)));
  }

  /**
   * Says that from now on values of the vault are sealed with the CMEK key of
   * this fingerprint. Only the fingerprint is sent, and a key check when the
   * client has the key and options do not say otherwise. Values stored before stay as they are.
   */
  enableCmek(vaultId: string, request: wire.EnableCmek, options: EnableOptions = {}): Promise<Result<wire.Vault>> {
    return result(async () => {
      const own = options.keyCheck === false ? undefined : (await this.#keys.all()).find((k) => k.fingerprint === request.fingerprint);
      const check = request.key_check ?? (await own?.check?.(vaultId));
      const body: wire.EnableCmek = check === undefined ? request : { ...request, key_check: check };
      const answer = await this.#http.answer<wire.Vault>("POST", pathOf("vaults", vaultId, "cmek"), { body });
      this.#states.forget(vaultId);
      this.#states.remember(vaultId, { ...body, enabled: true });
      return answer;
    });
  }

  /** Says that from now on values of the vault are not sealed by clients. Values stored before still need their key. */
  disableCmek(vaultId: string): Promise<Result<wire.Vault>> {
    return result(async () => {
      const answer = await this.#http.answer<wire.Vault>("DELETE", pathOf("vaults", vaultId, "cmek"));
      this.#states.forget(vaultId);
      return answer;
    });
  }

  /** The vault's key, how many stored versions need which key, and a rotation that is not over. With keys false the versions are not counted, which is cheaper. */
  cmekStatus(vaultId: string, options: { keys?: boolean } = {}): Promise<Result<wire.CmekStatus>> {
    return result(async () => {
      const answer = await this.#http.answer<wire.CmekStatus>("GET", pathOf("vaults", vaultId, "cmek"), options.keys === false ? { query: { keys: "false" } } : {});
      if (answer.data?.enabled) this.#states.note(vaultId, answer.data.fingerprint);
      return answer;
    });
  }

  /** A page of the versions that are sealed with a key, without values. Where it has next_cursor, go on from there, also when it is empty. */
  cmekVersions(vaultId: string, fingerprint: string, cursor?: string): Promise<Result<wire.CmekVersions>> {
    return result(() => this.#http.answer("GET", pathOf("vaults", vaultId, "cmek-versions"), { query: { fingerprint, cursor } }));
  }

  /**
   * Has the server re-encrypt all versions under the old key to the new one.
   * Each key is its 32 bytes, which stay the caller's to wipe, or their base64, which
   * cannot be wiped; a CmekKey does not give its bytes. The answer is a running job: see
   * getRotationJobStatus and waitForRotation. The same call resumes an
   * interrupted job. Where the one-time key that the keys are sealed to is gone,
   * another one is asked for, once. A rotation that sends no key: rotateCmekHere.
   */
  rotateCmek(vaultId: string, oldKey: Uint8Array | string, newKey: Uint8Array | string, newFingerprint: string, options: RotateOptions = {}): Promise<Result<wire.RotationJob>> {
    return result(async () => {
      const ours: Uint8Array[] = [];
      const take = (key: Uint8Array | string) => ours[ours.push(typeof key === "string" ? fromBase64(key) : checkKeySize(key).slice()) - 1]!;
      try {
        const [old, fresh] = [take(oldKey), take(newKey)];
        const oldFingerprint = await cmekFingerprint(old);
        if ((await cmekFingerprint(fresh)) !== newFingerprint) {
          throw new CmekError("fingerprint_mismatch", "newFingerprint is not the fingerprint of the new key; nothing was sent");
        }
        const body: wire.RotateCmek = { new_fingerprint: newFingerprint };
        if (options.keyCheck !== false) body.new_key_check = await cmekKeyCheck(fresh, vaultId);
        if (options.acceptFailed) body.accept_failed = true;
        const rotation = { vaultId, old, fresh, oldFingerprint, body };
        return await (options.keys === "headers" ? this.#rotateByHeaders(rotation) : this.#rotateSealed(rotation));
      } finally {
        for (const key of ours) key.fill(0);
      }
    });
  }

  #rotateByHeaders({ vaultId, old, fresh, body }: Rotation): Promise<Answer<wire.RotationJob>> {
    refuseOpenTransport(this.#http.baseUrl);
    const headers = { "x-cmek-old-key": toBase64(old), "x-cmek-new-key": toBase64(fresh) };
    return this.#http.answer("POST", pathOf("vaults", vaultId, "cmek-rotate"), { body, headers });
  }

  async #rotateSealed({ vaultId, old, fresh, oldFingerprint, body }: Rotation): Promise<Answer<wire.RotationJob>> {
    const send = async () => {
      const to = await this.#http.get<wire.RotationKey>(pathOf("vaults", vaultId, "cmek-rotate-key"));
      const sealed_keys = await sealRotationKeys(to, vaultId, old, fresh, oldFingerprint, body.new_fingerprint);
      return this.#http.answer<wire.RotationJob>("POST", pathOf("vaults", vaultId, "cmek-rotate"), { body: { ...body, sealed_keys } });
    };
    try {
      return await send();
    } catch (err) {
      if (err instanceof KeyfoldError && err.code === "cmek_rotation_key_gone") return await send();
      throw err;
    }
  }

  /** How far a rotation is. */
  getRotationJobStatus(vaultId: string, jobId: string): Promise<Result<wire.RotationJob>> {
    return result(() => this.#http.answer("GET", pathOf("vaults", vaultId, "cmek-rotate", jobId)));
  }

  /** The rotations of a vault, newest first. */
  listRotations(vaultId: string): Promise<Result<wire.Rotations>> {
    return result(() => this.#http.answer("GET", pathOf("vaults", vaultId, "cmek-rotations")));
  }

  /** Ends a rotation between two batches. What is done stays done. */
  cancelRotation(vaultId: string, jobId: string): Promise<Result<wire.RotationJob | null>> {
    return result(() => this.#http.answer("DELETE", pathOf("vaults", vaultId, "cmek-rotate", jobId)));
  }

  /** Asks until a rotation no longer runs, and resolves to its last state. */
  waitForRotation(vaultId: string, jobId: string, options: WaitOptions = {}): Promise<Result<wire.RotationJob>> {
    return result(async () => {
      for (;;) {
        const answer = await this.#http.answer<wire.RotationJob>("GET", pathOf("vaults", vaultId, "cmek-rotate", jobId), { signal: options.signal });
        options.onProgress?.(answer.data);
        if (answer.data.status !== "running") return answer;
        await pause((options.intervalMs ?? 1000) / 1000, options.signal);
      }
    });
  }

  /**
   * Rotates without sending a key anywhere: the vault is switched to the new
   * key, and then each version under the old one is read, opened, sealed anew
   * and put back in its place, unless somebody else did that meanwhile. Run it
   * again to go on after an interruption.
   */
  rotateCmekHere(vaultId: string, oldKey: CmekKeyOption, newKey: CmekKeyOption, options: ClientRotationOptions = {}): Promise<Result<ClientRotation>> {
    return result(() => rotateHere(this.#http, this.#states, vaultId, oldKey, newKey, options));
  }
}

/** Keys as they are go over TLS, or stay on this machine. */
function refuseOpenTransport(baseUrl: string): void {
  const { protocol, hostname } = new URL(baseUrl);
  if (protocol === "https:" || hostname === "localhost" || hostname === "[::1]" || /^127(\.\d+){3}$/.test(hostname)) return;
  throw new KeyfoldError("Keys in headers need https; nothing was sent");
}
