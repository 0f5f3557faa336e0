// The CMEK format in TypeScript: cmek/FORMAT.md is the law, and
// cmek/testdata/vectors.json holds cases of it. Keys and plaintexts are bytes;
// no error shows any part of either.
//
// A blob is of one of two versions:
//
//   0x01 | nonce (12) | ciphertext | tag (16)                                     AES-256-GCM under the key, no AAD
//   0x02 | salt (32) | commitment (32) | nonce (12) | ciphertext | tag (16)       bound to vault, path and key
//
// commitment (32) | sealing key (32) = HKDF-SHA256(secret: the key, salt, info: "keyfold/cmek/v2"), 64 bytes.

import { concat, encodeText, fromBase64, fromHex, isLowerHex, readyCrypto, toBase64, toHex, view, webCrypto } from "./bytes.js";
import { CmekError } from "./errors.js";

/** Length of a CMEK key, in bytes. */
export const CMEK_KEY_SIZE = 32;

const nonceSize = 12;
const tagSize = 16;
const saltSize = 32;
const commitmentSize = 32;
const plainOverhead = 1 + nonceSize + tagSize;
const boundOverhead = plainOverhead + saltSize + commitmentSize;
const boundKind = "keyfold/cmek/v2";
const checkInfo = "keyfold/cmek/check/v1";

/** Where a bound value lives. Both members are bound byte by byte. */
export interface CmekContext {
  vaultId: string;
  /** Of the secret, without the version. */
  path: string;
}

/** A raw key of 32 bytes, or one that is ready for use. */
export type CmekKeyLike = Uint8Array | CmekKey;

/**
 * A CMEK key that is ready for use. Its raw bytes are inside WebCrypto, which
 * does not give them out again; the printers of Node and of browsers show its
 * fingerprint only.
 */
export class CmekKey {
  /** Lower-case hex SHA-256 of the raw key. It names the key and proves nothing. */
  readonly fingerprint: string;
  readonly #aes: CryptoKey;
  readonly #hkdf: CryptoKey;

  private constructor(fingerprint: string, aes: CryptoKey, hkdf: CryptoKey) {
    this.fingerprint = fingerprint;
    this.#aes = aes;
    this.#hkdf = hkdf;
  }

  /** The key of 32 raw bytes, which stay the caller's to wipe (CmekError, code "key_size"). */
  static async from(key: CmekKeyLike): Promise<CmekKey> {
    if (key instanceof CmekKey) return key;
    const raw = checkKeySize(key).slice(); // the caller's may change while we wait
    try {
      const { subtle } = await webCrypto();
      const [sum, aes, hkdf] = await Promise.all([
        subtle.digest("SHA-256", view(raw)),
        subtle.importKey("raw", view(raw), "AES-GCM", false, ["encrypt", "decrypt"]),
        subtle.importKey("raw", view(raw), "HKDF", false, ["deriveBits"]),
      ]);
      return new CmekKey(toHex(new Uint8Array(sum)), aes, hkdf);
    } finally {
      raw.fill(0);
    }
  }

  /** The blob of plaintext: version 2 with a context, else version 1. */
  async encrypt(plaintext: Uint8Array, context?: CmekContext): Promise<Uint8Array> {
    const crypto = readyCrypto() ?? (await webCrypto());
    if (context) return this.#encryptBound(crypto, plaintext, context);
    return encryptPlain(crypto, this.#aes, plaintext);
  }

  /** The plaintext of a blob of either version; a bound one needs the context that it was read from. */
  async decrypt(blob: Uint8Array, context?: CmekContext): Promise<Uint8Array> {
    const crypto = readyCrypto() ?? (await webCrypto());
    if (checkBlob(blob) === 1) return decryptPlain(crypto, this.#aes, blob);
    return this.#decryptBound(crypto, blob, context);
  }

  /** The key check for a vault: 64 lower-case hex digits that only this key makes, and that open nothing. */
  async check(vaultId: string): Promise<string> {
    const { subtle } = await webCrypto();
    const mac = await this.#derive(subtle, new Uint8Array(0), checkInfo, 32);
    const key = await subtle.importKey("raw", view(mac), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
    mac.fill(0);
    return toHex(new Uint8Array(await subtle.sign("HMAC", key, view(encodeText(vaultId)))));
  }

  async #encryptBound(crypto: Crypto, plaintext: Uint8Array, context: CmekContext): Promise<Uint8Array> {
    const salt = crypto.getRandomValues(new Uint8Array(saltSize));
    const { commitment, sealing } = await this.#bind(crypto.subtle, salt, context);
    const iv = crypto.getRandomValues(new Uint8Array(nonceSize));
    const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv, additionalData: this.#aad(context) }, sealing, view(plaintext));
    return concat(Uint8Array.of(2), salt, commitment, iv, new Uint8Array(sealed));
  }

  async #decryptBound(crypto: Crypto, blob: Uint8Array, context: CmekContext | undefined): Promise<Uint8Array> {
    const salt = blob.subarray(1, 1 + saltSize);
    const rest = blob.subarray(1 + saltSize);
    const { commitment, sealing } = await this.#bind(crypto.subtle, salt, context);
    if (!equalBytes(commitment, rest.subarray(0, commitmentSize))) throw doesNotOpen();
    const iv = view(rest.subarray(commitmentSize, commitmentSize + nonceSize));
    return open(crypto, { name: "AES-GCM", iv, additionalData: this.#aad(context!) }, sealing, rest.subarray(commitmentSize + nonceSize));
  }

  /** What a bound blob with this salt needs: the commitment to the key, and the blob's own sealing key. */
  async #bind(subtle: SubtleCrypto, salt: Uint8Array, context: CmekContext | undefined) {
    if (!context?.vaultId || !context.path) {
      throw new CmekError("needs_context", "The blob is bound to its place: vault and path are needed");
    }
    const both = await this.#derive(subtle, salt, boundKind, commitmentSize + CMEK_KEY_SIZE);
    const sealing = await subtle.importKey("raw", view(both.subarray(commitmentSize)), "AES-GCM", false, ["encrypt", "decrypt"]);
    both.fill(0, commitmentSize);
    return { commitment: both.subarray(0, commitmentSize), sealing };
  }

  async #derive(subtle: SubtleCrypto, salt: Uint8Array, info: string, size: number): Promise<Uint8Array> {
    const params = { name: "HKDF", hash: "SHA-256", salt: view(salt), info: view(encodeText(info)) };
    return new Uint8Array(await subtle.deriveBits(params, this.#hkdf, 8 * size));
  }

  /** 0x01, then of kind, vault, path and fingerprint: length (8 bytes, big endian) and bytes. */
  #aad(context: CmekContext): Uint8Array<ArrayBuffer> {
    const parts: Uint8Array[] = [Uint8Array.of(1)];
    for (const field of [boundKind, context.vaultId, context.path, this.fingerprint]) {
      const bytes = encodeText(field);
      const length = new Uint8Array(8);
      new DataView(length.buffer).setUint32(4, bytes.length);
      parts.push(length, bytes);
    }
    return view(concat(...parts));
  }
}

/** A fresh random key of 32 bytes. Whoever loses it loses what it sealed. */
export async function generateCmekKey(): Promise<Uint8Array> {
  return (await webCrypto()).getRandomValues(new Uint8Array(CMEK_KEY_SIZE));
}

/** The lower-case hex SHA-256 of the raw key. */
export async function cmekFingerprint(key: CmekKeyLike): Promise<string> {
  if (key instanceof CmekKey) return key.fingerprint;
  const { subtle } = await webCrypto();
  return toHex(new Uint8Array(await subtle.digest("SHA-256", view(checkKeySize(key)))));
}

/** The key check of a key for a vault: see CmekKey.check. */
export async function cmekKeyCheck(key: CmekKeyLike, vaultId: string): Promise<string> {
  return (await CmekKey.from(key)).check(vaultId);
}

/**
 * The blob of plaintext. With a context it is version 2 and opens in that vault
 * and at that path only; without one it is version 1 and opens anywhere.
 */
export async function cmekEncrypt(plaintext: Uint8Array, key: CmekKeyLike, context?: CmekContext): Promise<Uint8Array> {
  if (key instanceof CmekKey) return key.encrypt(plaintext, context);
  if (context) return (await CmekKey.from(key)).encrypt(plaintext, context);
  const crypto = readyCrypto() ?? (await webCrypto());
  return encryptPlain(crypto, await importAes(crypto, key, "encrypt"), plaintext);
}

/**
 * The plaintext of a blob. Errors are CmekError: "CMEK blob too short",
 * "Unsupported CMEK version: n", and code "decrypt" for every blob that does
 * not open, whatever the cause.
 */
export async function cmekDecrypt(blob: Uint8Array, key: CmekKeyLike, context?: CmekContext): Promise<Uint8Array> {
  if (key instanceof CmekKey) return key.decrypt(blob, context);
  checkKeySize(key);
  if (checkBlob(blob) === 2) return (await CmekKey.from(key)).decrypt(blob, context);
  const crypto = readyCrypto() ?? (await webCrypto());
  return decryptPlain(crypto, await importAes(crypto, key, "decrypt"), blob);
}

/** What a value shows without a key. It is a check of shape, not proof of encryption. */
export interface CmekValueInfo {
  /** "base64" is the documented form; "hex" the older one, without a version byte. */
  form: "base64" | "hex";
  /** 1 or 2; 0 in the older form. */
  version: 0 | 1 | 2;
  /** Of the plaintext, in bytes. */
  size: number;
}

/** What a value looks like from outside. Errors are those of the first steps of cmekDecryptValue. */
export function inspectCmekValue(value: string): CmekValueInfo {
  const { form, blob, version } = parseValue(value);
  const size = blob.length - (version === 2 ? boundOverhead : plainOverhead);
  return { form, version: form === "hex" ? 0 : version, size };
}

/** cmekEncrypt, as the text that a secret's value is: base64. */
export async function cmekEncryptValue(plaintext: Uint8Array, key: CmekKeyLike, context?: CmekContext): Promise<string> {
  return toBase64(await cmekEncrypt(plaintext, key, context));
}

/** The plaintext of a secret's value, in the documented form or the older one. */
export async function cmekDecryptValue(value: string, key: CmekKeyLike, context?: CmekContext): Promise<Uint8Array> {
  return cmekDecrypt(parseValue(value).blob, key, context);
}

/** A value's blob, with a version byte in either form. A text of lower-case hex digits only is of the older form. */
function parseValue(value: string): { form: "base64" | "hex"; blob: Uint8Array; version: 1 | 2 } {
  if (value === "" || !isLowerHex(value)) {
    const blob = fromBase64(value);
    return { form: "base64", blob, version: checkBlob(blob) };
  }
  if (value.length % 2 !== 0) throw new CmekError("bad_encoding", "The value is an odd number of hex digits");
  const blob = concat(Uint8Array.of(1), fromHex(value));
  return { form: "hex", blob, version: checkBlob(blob) };
}

/** The version of a blob whose shape is right. */
function checkBlob(blob: Uint8Array): 1 | 2 {
  if (blob.length < plainOverhead) throw tooShort();
  const version = blob[0];
  if (version === 1) return version;
  if (version !== 2) throw new CmekError("unknown_version", `Unsupported CMEK version: ${version}`);
  if (blob.length < boundOverhead) throw tooShort();
  return version;
}

async function encryptPlain(crypto: Crypto, key: CryptoKey, plaintext: Uint8Array): Promise<Uint8Array> {
  const iv = crypto.getRandomValues(new Uint8Array(nonceSize));
  const sealed = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, key, view(plaintext));
  const blob = new Uint8Array(1 + nonceSize + sealed.byteLength);
  blob[0] = 1;
  blob.set(iv, 1);
  blob.set(new Uint8Array(sealed), 1 + nonceSize);
  return blob;
}

function decryptPlain(crypto: Crypto, key: CryptoKey, blob: Uint8Array): Promise<Uint8Array> {
  const iv = view(blob.subarray(1, 1 + nonceSize));
  return open(crypto, { name: "AES-GCM", iv }, key, blob.subarray(1 + nonceSize));
}

async function open(crypto: Crypto, params: AesGcmParams, key: CryptoKey, sealed: Uint8Array): Promise<Uint8Array> {
  try {
    return new Uint8Array(await crypto.subtle.decrypt(params, key, view(sealed)));
  } catch {
    throw doesNotOpen();
  }
}

function importAes(crypto: Crypto, key: Uint8Array, use: KeyUsage): Promise<CryptoKey> {
  return crypto.subtle.importKey("raw", view(checkKeySize(key)), "AES-GCM", false, [use]);
}

/** The key, if it is 32 bytes (CmekError, code "key_size"). */
export function checkKeySize(key: Uint8Array): Uint8Array {
  if (!(key instanceof Uint8Array) || key.length !== CMEK_KEY_SIZE) {
    const is = key instanceof Uint8Array ? `${key.length} bytes` : "not bytes";
    throw new CmekError("key_size", `A CMEK key is 32 bytes; this one is ${is}`);
  }
  return key;
}

const tooShort = () => new CmekError("too_short", "CMEK blob too short");
const doesNotOpen = () => new CmekError("decrypt", "The blob does not open: another key, another place, or changed bytes");

/** Whether two texts or byte arrays of one length are equal, in a time that does not tell where they differ. */
function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  let different = a.length ^ b.length;
  for (let i = 0; i < a.length; i++) different |= a[i]! ^ (b[i] ?? 0);
  return different === 0;
}
