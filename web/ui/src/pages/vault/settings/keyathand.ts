// A CMEK key between its making or picking and its use. Its raw bytes are wiped as
// soon as they are in the CmekKey; what can give them out again is the key file alone.

import { CmekKey, formatCmekKeyFile, generateCmekKey, KeyfoldError, parseCmekKeyFile, type wire } from "@keyfold/sdk";

export interface KeyAtHand {
  key: CmekKey;
  /** The key file: one that was picked, or one in memory that has been made here. */
  file: File;
  /** Made here. Its file in memory is the only one until it is saved. */
  fresh: boolean;
  /** Its user has a file of it. */
  saved: boolean;
}

/** A new random key and its file. */
export async function makeKey(vault: wire.Vault): Promise<KeyAtHand> {
  const raw = await generateCmekKey();
  try {
    const key = await CmekKey.from(raw);
    const text = await formatCmekKeyFile(raw, vault.id);
    return { key, file: new File([text], fileName(vault.name, key.fingerprint)), fresh: true, saved: false };
  } finally {
    raw.fill(0);
  }
}

/** The key of a file. A KeyfoldError when it is not a key file, or holds another key than the one that is wanted. */
export async function readKey(file: File, wanted?: string): Promise<KeyAtHand> {
  const raw = await rawOf(file);
  try {
    const key = await CmekKey.from(raw);
    if (wanted !== undefined && key.fingerprint !== wanted) {
      throw new KeyfoldError(`${file.name} holds the key ${short(key.fingerprint)}, and ${short(wanted)} is needed. Choose the file of that key`);
    }
    return { key, file, fresh: false, saved: true };
  } finally {
    raw.fill(0);
  }
}

/** Does work with the bytes of two keys, such as sealing them for the key process, and wipes the bytes. */
export async function withBytes<T>(one: KeyAtHand, other: KeyAtHand, work: (one: Uint8Array, other: Uint8Array) => Promise<T>): Promise<T> {
  const raw: Uint8Array[] = [];
  try {
    for (const { file } of [one, other]) raw.push(await rawOf(file));
    return await work(raw[0]!, raw[1]!);
  } finally {
    for (const bytes of raw) bytes.fill(0);
  }
}

async function rawOf(file: File): Promise<Uint8Array> {
  if (file.size > 4096) throw new KeyfoldError(`${file.name} is too large for a key file. Choose the .key file`);
  let bytes: Uint8Array;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new KeyfoldError(`${file.name} cannot be read, or has changed since it was chosen. Choose it again`);
  }
  try {
    return await parseCmekKeyFile(bytes);
  } finally {
    bytes.fill(0);
  }
}

/** Such as "payments-630dcd29.key". */
function fileName(vault: string, fingerprint: string): string {
  const name = vault.normalize("NFKD").replace(/[^A-Za-z0-9._-]+/g, "-").replace(/^[-.]+|[-.]+$/g, "").slice(0, 60);
  return `${name || "vault"}-${fingerprint.slice(0, 8)}.key`;
}

/** A fingerprint in a sentence. */
export const short = (fingerprint: string) => `${fingerprint.slice(0, 8)}…${fingerprint.slice(-6)}`;
