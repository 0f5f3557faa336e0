// The CMEK keys of a client, and what it knows of its vaults: with which key a
// vault is sealed, and whether a value may leave in the clear.

import { parseCmekKey } from "./keyfile.js";
import { checkKeySize, cmekDecryptValue, cmekEncryptValue, CmekKey, type CmekContext } from "./cmek.js";
import { CmekError, ConflictError, KeyfoldError, ValidationError } from "./errors.js";
import { pathOf, type Http } from "./http.js";
import type { CmekStatus } from "./types.js";

/**
 * A CMEK key that lives elsewhere, in a key process of the customer's, say.
 * What it seals and opens are the texts of cmek/FORMAT.md; version 2 is bound
 * to the context.
 */
export interface CmekSealer {
  readonly fingerprint: string;
  seal(plaintext: Uint8Array, version: 1 | 2, context: CmekContext): Promise<string>;
  open(value: string, context: CmekContext): Promise<Uint8Array>;
  /** See CmekKey.check. Without it a vault's key check is not compared. */
  check?(vaultId: string): Promise<string>;
}

/** A key as a client takes it: raw bytes, a key text (base64 or hex), one that is ready, or one that lives elsewhere. */
export type CmekKeyOption = Uint8Array | string | CmekKey | CmekSealer;

/** A key that is inside the client. */
export type ClientKey = CmekKey | CmekSealer;

/** The keys of a client. */
export class KeyRing {
  #keys: Promise<ClientKey[]>;
  #empty: boolean;

  /** Throws a CmekError when a raw key or a text is not a key. */
  constructor(options: CmekKeyOption[]) {
    this.#empty = options.length === 0;
    this.#keys = Promise.all(options.map(load));
    this.#keys.catch(() => undefined); // told by the first call that needs a key
  }

  get empty(): boolean {
    return this.#empty;
  }

  /** Adds a key, in place of one of its fingerprint. Throws as the constructor does. */
  add(option: CmekKeyOption): void {
    this.#keys = Promise.all([this.#keys, load(option)]).then(([had, key]) => [...had.filter((k) => k.fingerprint !== key.fingerprint), key]);
    this.#keys.catch(() => undefined);
    this.#empty = false;
  }

  /** Forgets all keys. */
  clear(): void {
    this.#keys = Promise.resolve([]);
    this.#empty = true;
  }

  all(): Promise<ClientKey[]> {
    return this.#keys;
  }

  /** The key with the first of these fingerprints that the client has (CmekError, code "key_missing"). */
  async find(...fingerprints: (string | undefined)[]): Promise<ClientKey> {
    const keys = await this.#keys;
    for (const wanted of fingerprints) {
      const found = keys.find((k) => k.fingerprint === wanted);
      if (found) return found;
    }
    const wanted = fingerprints.find((f) => f !== undefined) ?? "of the vault";
    const given = keys.map((k) => k.fingerprint).join(", ") || "none";
    throw new CmekError("key_missing", `The CMEK key ${wanted} is needed; the client has ${given}. Give it that key (cmekKey)`);
  }
}

function load(option: CmekKeyOption): ClientKey | Promise<CmekKey> {
  if (typeof option === "string") return imported(parseCmekKey(option), true);
  if (option instanceof Uint8Array) return imported(checkKeySize(option), false);
  return option;
}

async function imported(raw: Uint8Array, ours: boolean): Promise<CmekKey> {
  try {
    return await CmekKey.from(raw);
  } finally {
    if (ours) raw.fill(0);
  }
}

/** What a write must know of a vault. */
export interface VaultState {
  /** Of the vault's CMEK key; undefined when it is not sealed. */
  fingerprint: string | undefined;
  version: 1 | 2;
  keyCheck: string | undefined;
  /** Of the key that a running rotation of the server goes to; writes under it are taken too. */
  next: string | undefined;
}

interface Remembered extends VaultState {
  until: number;
  stale: boolean;
}

// How long a vault is believed not to be sealed. A value that is sent so to a
// vault that somebody has sealed meanwhile is refused, but has left in the clear.
const openStateLives = 60_000;

/**
 * What the server said of vaults: a sealed one is believed until the server
 * contradicts, an open one for a minute. None turns from sealed to open, unless
 * this very client disabled CMEK or its user agrees: somebody else did, or the
 * server pretends so.
 */
export class VaultStates {
  readonly #http: Http;
  readonly #known = new Map<string, Remembered>();

  constructor(http: Http) {
    this.#http = http;
  }

  /** With accept, a server that is asked is believed that a sealed vault is open by now. */
  async get(vaultId: string, accept = false): Promise<VaultState> {
    const known = this.#known.get(vaultId);
    if (known && !known.stale && (known.fingerprint !== undefined || Date.now() < known.until)) return known;
    return this.remember(vaultId, await this.#http.get<CmekStatus>(pathOf("vaults", vaultId, "cmek"), { query: { keys: false } }), accept);
  }

  remember(vaultId: string, status: CmekStatus, accept = false): VaultState {
    const had = this.#known.get(vaultId);
    const fingerprint = status.enabled ? status.fingerprint?.toLowerCase() : undefined;
    if (status.enabled && !fingerprint) throw new KeyfoldError("The server says that the vault is sealed and not with which key");
    if (!fingerprint && had?.fingerprint !== undefined && !accept) {
      throw new CmekError("unsealed", `The vault was sealed with the key ${had.fingerprint} and now is not, the server says; the value was not sent in the clear. Whoever knows that CMEK was disabled says acceptUnsealed`);
    }
    if (had?.version === 2 && status.blob_version !== 2 && fingerprint === had.fingerprint) {
      throw new CmekError("unbound", "The vault took bound blobs and now does not, under the same key; nothing was sent. A new client accepts the new state");
    }
    const state: Remembered = {
      fingerprint,
      version: status.blob_version === 2 ? 2 : 1,
      keyCheck: status.key_check,
      next: status.rotation?.status === "running" ? status.rotation.new_fingerprint : undefined,
      until: Date.now() + openStateLives,
      stale: false,
    };
    this.#known.set(vaultId, state);
    return state;
  }

  /** Takes from any answer that a vault is sealed: from then on it is not believed to be open. */
  note(vaultId: string, fingerprint: string | undefined): void {
    const known = this.#known.get(vaultId);
    const now = fingerprint?.toLowerCase();
    if (!now || known?.fingerprint === now) return;
    this.#known.set(vaultId, { version: 1, keyCheck: undefined, next: undefined, until: 0, ...known, fingerprint: now, stale: true });
  }

  /** Marks what is known as contradicted; that the vault was sealed is not forgotten. */
  doubt(vaultId: string): void {
    const known = this.#known.get(vaultId);
    if (known) known.stale = true;
  }

  /** Forgets a vault that this client itself has disabled CMEK for. */
  forget(vaultId: string): void {
    this.#known.delete(vaultId);
  }
}

/** Whether an error shows that what is remembered of a vault is wrong, or too old to decide. Nothing was stored then. */
export function contradicts(err: unknown): boolean {
  if (err instanceof CmekError) return err.code === "not_sealed" || err.code === "not_a_blob" || err.code === "key_missing";
  const code = err instanceof ConflictError || err instanceof ValidationError ? err.code : undefined;
  return code === "cmek_key_mismatch" || code === "cmek_blob_required" || code === "cmek_rotation_closing";
}

/** Refuses a key whose check is not the one that the vault keeps. */
export async function checkKey(key: ClientKey, vaultId: string, state: VaultState): Promise<void> {
  if (state.keyCheck === undefined || key.fingerprint !== state.fingerprint || !key.check) return;
  if (!equalTexts(await key.check(vaultId), state.keyCheck)) {
    throw new CmekError("key_check", "The CMEK key is not the one that the vault was enabled with: its key check differs. Nothing was written");
  }
}

function equalTexts(a: string, b: string): boolean {
  let different = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) different |= a.charCodeAt(i) ^ (b.charCodeAt(i) | 0);
  return different === 0;
}

/** Seals a value under a key of the client. */
export async function sealWith(key: ClientKey, plaintext: Uint8Array, version: 1 | 2, context: CmekContext): Promise<string> {
  if (!(key instanceof CmekKey)) return key.seal(plaintext, version, context);
  return cmekEncryptValue(plaintext, key, version === 2 ? context : undefined);
}

/** Opens a value with a key of the client. */
export function openWith(key: ClientKey, value: string, context: CmekContext): Promise<Uint8Array> {
  return key instanceof CmekKey ? cmekDecryptValue(value, key, context) : key.open(value, context);
}
