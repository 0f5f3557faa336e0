// Secrets. A client that has CMEK keys seals values before they leave and opens
// them when they return; one without sends and returns what it is given.

import { decodeText, encodeText, fromBase64, toBase64 } from "./bytes.js";
import { inspectCmekValue, CmekKey, type CmekContext } from "./cmek.js";
import { CmekError, KeyfoldError } from "./errors.js";
import { pathOf, pause, type Http } from "./http.js";
import { checkKey, contradicts, openWith, sealWith, type ClientKey, type KeyRing, type VaultState, type VaultStates } from "./keys.js";
import { result, type Answer, type Result } from "./result.js";
import type * as wire from "./types.js";

/** A new version of a secret. */
export interface PutSecret {
  /** "generic" when absent. */
  type?: wire.SecretType;
  /** Text or bytes, up to about 6 MB. */
  value: string | Uint8Array;
  /** Stored in the clear, and listed without the value. Integers that no number holds are bigints. */
  metadata?: Record<string, unknown>;
  /** Not readable from then on. */
  expires_at?: string | Date;
  rotation_policy?: Record<string, unknown>;
  /** Not readable after so many reads. */
  max_access_count?: number;
}

/** How a version is written. */
export interface PutOptions {
  /** Write only if this is the newest version (error type "conflict" otherwise). */
  ifMatch?: number;
  /** Write to a vault that is not sealed though the client has a CMEK key (CmekError "not_sealed" otherwise). */
  allowUnsealed?: boolean;
  /**
   * Write in the clear to a vault that was sealed when this client last knew, and that the
   * server, asked anew, says is not (CmekError "unsealed" otherwise). For somebody who knows
   * that CMEK was disabled: a server that lies gets the value. Do not set it beforehand.
   */
  acceptUnsealed?: boolean;
  /** The value is a blob already, sealed with the key of this fingerprint: it is sent as it is. */
  sealedWith?: string;
}

/** A version of a secret with its value. */
export interface SecretValue<V = string> extends Omit<wire.Secret, "value"> {
  /** Opened, where the client has the key. */
  value: V;
  /** The version was sealed by a client before it was sent, whether or not this client has opened it. */
  cmek_encrypted: boolean;
  /** The client has opened the value with a CMEK key; where cmek_encrypted is true and this is false, the value is a blob. */
  cmek_opened: boolean;
  /** Of the key that the value is sealed with, where the server says it. */
  cmek_fingerprint?: string;
}

/** The metadata member that says that the value of an open vault is base64 of bytes. */
export const METADATA_ENCODING = "keyfold_encoding";

const fingerprintHeader = "X-Keyfold-Cmek-Fingerprint";
const closingPatience = 30_000;

/** client.secrets */
export class Secrets {
  readonly #http: Http;
  readonly #keys: KeyRing;
  readonly #states: VaultStates;

  constructor(http: Http, keys: KeyRing, states: VaultStates) {
    this.#http = http;
    this.#keys = keys;
    this.#states = states;
  }

  /**
   * Writes the next version of a secret. In a sealed vault a client with the key
   * seals the value; one without takes a blob and refuses anything else, before
   * it is sent. A blob that the client's own key opens is refused too: give the
   * plaintext, or say options.sealedWith.
   */
  put(vaultId: string, path: string, secret: PutSecret, options: PutOptions = {}): Promise<Result<wire.SecretMetadata>> {
    return result(async () => {
      const end = Date.now() + closingPatience;
      for (let n = 1; ; n++) {
        try {
          return await this.#putOnce(vaultId, path, secret, options);
        } catch (err) {
          const closing = err instanceof KeyfoldError && err.code === "cmek_rotation_closing" && Date.now() < end;
          if (!contradicts(err) || (n > 1 && !closing)) throw err;
          this.#states.doubt(vaultId);
          if (closing && n > 1) await pause((err as KeyfoldError).retryAfter ?? 1);
        }
      }
    });
  }

  /** put, with the value before the rest. */
  set(vaultId: string, path: string, value: string | Uint8Array, secret: Omit<PutSecret, "value"> = {}): Promise<Result<wire.SecretMetadata>> {
    return this.put(vaultId, path, { ...secret, value });
  }

  async #putOnce(vaultId: string, path: string, secret: PutSecret, options: PutOptions): Promise<Answer<wire.SecretMetadata>> {
    const { value, ...rest } = secret;
    const headers: Record<string, string> = {};
    if (options.ifMatch !== undefined) headers["If-Match"] = `"${options.ifMatch}"`;
    const url = secretPath(vaultId, "secrets", path);
    const encoded = await this.#encode({ vaultId, path }, secret, options);
    if (encoded.fingerprint !== undefined) headers[fingerprintHeader] = encoded.fingerprint;
    return this.#http.answer("PUT", url, { headers, body: { ...rest, value: encoded.text, metadata: encoded.metadata } });
  }

  async #encode(context: CmekContext, secret: PutSecret, options: PutOptions) {
    const { value, metadata } = secret;
    if (metadata && Object.hasOwn(metadata, METADATA_ENCODING)) {
      throw new KeyfoldError(`The metadata member "${METADATA_ENCODING}" is the client's own; leave it out`);
    }
    if (options.sealedWith !== undefined) return { text: blobText(value), metadata, fingerprint: options.sealedWith };
    const state = await this.#states.get(context.vaultId, options.acceptUnsealed);
    if (state.fingerprint === undefined) return { ...this.#inTheClear(value, metadata, options), fingerprint: undefined };
    if (this.#keys.empty) return { text: blobText(value), metadata, fingerprint: undefined };
    const key = await this.#keys.find(state.fingerprint, state.next);
    await checkKey(key, context.vaultId, state);
    await refuseBlob(key, value, context);
    return { text: await seal(key, value, state, context), metadata, fingerprint: key.fingerprint };
  }

  #inTheClear(value: string | Uint8Array, metadata: PutSecret["metadata"], options: PutOptions) {
    if (!this.#keys.empty && !options.allowUnsealed && !options.acceptUnsealed) {
      throw new CmekError("not_sealed", "A CMEK key is given and the vault is not sealed; the value was not sent in the clear. Enable CMEK, or say allowUnsealed");
    }
    const text = typeof value === "string" ? value : decodeText(value);
    if (text !== undefined) {
      encodeText(text); // refuses what is no text
      return { text, metadata };
    }
    return { text: toBase64(value as Uint8Array), metadata: { ...metadata, [METADATA_ENCODING]: "base64" } };
  }

  /** The newest version of a secret, its value as text (CmekError "not_text" when it is none: see getBytes). */
  get(vaultId: string, path: string): Promise<Result<SecretValue>> {
    return result(async () => asText(await this.#read(vaultId, path, "secrets")));
  }

  /** The newest version of a secret, its value as bytes. */
  getBytes(vaultId: string, path: string): Promise<Result<SecretValue<Uint8Array>>> {
    return result(() => this.#read(vaultId, path, "secrets"));
  }

  /** Version n of a secret, its value as text. */
  getVersion(vaultId: string, path: string, version: number): Promise<Result<SecretValue>> {
    return result(async () => asText(await this.#read(vaultId, path, "secret-version", version)));
  }

  /** Version n of a secret, its value as bytes. */
  getVersionBytes(vaultId: string, path: string, version: number): Promise<Result<SecretValue<Uint8Array>>> {
    return result(() => this.#read(vaultId, path, "secret-version", version));
  }

  /** The newest version of every secret whose path begins with the prefix, without values, and who wrote it. */
  list(vaultId: string, prefix?: string): Promise<Result<{ secrets: wire.ListedSecret[] }>> {
    return result(() => this.#http.answer("GET", pathOf("vaults", vaultId, "secrets"), { query: { prefix, details: true }, exact: true }));
  }

  /** All versions of a secret, newest first, without values, and who wrote them. */
  listVersions(vaultId: string, path: string): Promise<Result<{ versions: wire.VersionMetadata[] }>> {
    return result(() => this.#http.answer("GET", secretPath(vaultId, "secret-versions", path), { query: { details: true }, exact: true }));
  }

  /** Makes a version unreadable, for good. */
  disableVersion(vaultId: string, path: string, version: number): Promise<Result<null>> {
    return result(() => this.#http.answer("POST", secretPath(vaultId, "secret-version-disable", path, version)));
  }

  /** Makes all versions of a secret unreadable. The path can be written again. */
  delete(vaultId: string, path: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", secretPath(vaultId, "secrets", path)));
  }

  /** Lets the server make the next version's value at random; the secret must exist, in a vault that is not sealed. */
  generate(vaultId: string, path: string, request: wire.GenerateSecret = {}): Promise<Result<wire.SecretMetadata>> {
    return result(async () => {
      const { secrets } = await this.#http.get<{ secrets: wire.SecretMetadata[] }>(pathOf("vaults", vaultId, "secrets"), { query: { prefix: path } });
      if (secrets.some((s) => s.path === path && isMarked(s))) {
        throw new KeyfoldError(`The newest version of ${path} is no text; put a text there first`); // its mark would be carried over
      }
      return this.#http.answer("POST", secretPath(vaultId, "secret-rotate", path), { body: request });
    });
  }

  async #read(vaultId: string, path: string, route: string, version?: number): Promise<Answer<SecretValue<Uint8Array>>> {
    const answer = await this.#http.answer<wire.Secret>("GET", secretPath(vaultId, route, path, version), { counts: true, exact: true });
    const fingerprint = answer.headers.get(fingerprintHeader)?.toLowerCase() || undefined;
    // The path that was asked for, not the one that came: a bound blob of another must not open.
    const data = await openSecret(this.#keys, answer.data, fingerprint, { vaultId, path });
    return { ...answer, data };
  }
}

/** What a read of a secret tells, opened where the client has keys. */
export async function openSecret<S extends { value: string; cmek_encrypted: boolean; metadata?: Record<string, unknown> }>(
  keys: KeyRing, secret: S, fingerprint: string | undefined, context: CmekContext,
): Promise<Omit<S, "value"> & { value: Uint8Array; cmek_opened: boolean; cmek_fingerprint?: string }> {
  const opened = secret.cmek_encrypted && !keys.empty;
  const named = fingerprint === undefined ? {} : { cmek_fingerprint: fingerprint };
  const value = opened ? await openAny(keys, secret.value, fingerprint, context) : bytesOf(secret);
  return { ...secret, ...named, value, cmek_opened: opened };
}

/** Opens with the key that the server names; with each in turn where it names none. */
async function openAny(keys: KeyRing, value: string, fingerprint: string | undefined, context: CmekContext): Promise<Uint8Array> {
  if (fingerprint !== undefined) return openWith(await keys.find(fingerprint), value, context);
  let failure: unknown;
  for (const key of await keys.all()) {
    try {
      return await openWith(key, value, context);
    } catch (err) {
      failure = err;
    }
  }
  throw failure;
}

function bytesOf(secret: { value: string; cmek_encrypted: boolean; metadata?: Record<string, unknown> }): Uint8Array {
  return !secret.cmek_encrypted && isMarked(secret) ? fromBase64(secret.value) : new TextEncoder().encode(secret.value);
}

function isMarked(secret: { metadata?: Record<string, unknown> }): boolean {
  return secret.metadata?.[METADATA_ENCODING] === "base64";
}

/** A read whose value is text. */
export function asText<S extends { value: Uint8Array }>(answer: Answer<S>): Answer<Omit<S, "value"> & { value: string }> {
  const value = decodeText(answer.data.value);
  if (value === undefined) throw new CmekError("not_text", "The value is not text; read its bytes: getBytes");
  return { ...answer, data: { ...answer.data, value } };
}

function seal(key: ClientKey, value: string | Uint8Array, state: VaultState, context: CmekContext): Promise<string> {
  return sealWith(key, typeof value === "string" ? encodeText(value) : value, state.version, context);
}

/** A blob in the documented form. A hex text has the older form's shape also when it is a plain secret, so it is none here. */
function blobText(value: string | Uint8Array): string {
  try {
    if (typeof value === "string" && inspectCmekValue(value).form === "base64") return value;
  } catch {
    // told below
  }
  throw new CmekError("not_a_blob", "The vault is sealed, the client has no CMEK key, and the value is not a blob; it was not sent. Give the client the key (cmekKey), or seal the value");
}

/** Refuses to seal twice: whoever reads would get the inner blob. */
async function refuseBlob(key: ClientKey, value: string | Uint8Array, context: CmekContext): Promise<void> {
  if (typeof value !== "string" || !value.startsWith("A") || !(key instanceof CmekKey)) return;
  try {
    (await openWith(key, value, context)).fill(0);
  } catch {
    return;
  }
  throw new CmekError("already_sealed", "The value is a blob that this client's key opens, and the client seals by itself. Give it the plaintext, or say sealedWith, or make the client with cmekKey: false");
}

/** The URL path of a route of a secret; each segment of its path is escaped, slashes stay. */
export function secretPath(vaultId: string, route: string, path: string, version?: number): string {
  if (typeof path !== "string" || path === "") throw new KeyfoldError("The secret's path is empty");
  return pathOf("vaults", vaultId, route, ...path.split("/"), ...(version === undefined ? [] : [String(version)]));
}
