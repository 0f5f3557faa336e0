// The texts of a CMEK key: cmek/FORMAT.md, sections "Key file" and "Key text".

import { decodeText, fromBase64, fromHex, toBase64 } from "./bytes.js";
import { CMEK_KEY_SIZE, cmekFingerprint } from "./cmek.js";
import { CmekError } from "./errors.js";

const maxKeyFile = 4096;
const space = /^[ \t\r\n]+|[ \t\r\n]+$/g;

/** The raw key of a key text: base64 of 32 bytes, or 64 hex digits. Errors: "key_encoding", "key_size". */
export function parseCmekKey(text: string): Uint8Array {
  const trimmed = text.replace(space, "");
  if (/^[0-9a-fA-F]{64}$/.test(trimmed)) return fromHex(trimmed);
  const raw = decodeKey(trimmed);
  if (raw.length === CMEK_KEY_SIZE) return raw;
  raw.fill(0);
  throw new CmekError("key_size", `A CMEK key is 32 bytes, 44 characters of base64 or 64 hex digits; this one is ${raw.length} bytes`);
}

/** Base64 of the standard or the URL alphabet, not both, with full padding or none. */
function decodeKey(text: string): Uint8Array {
  const standard = /[-_]/.test(text) ? (/[+/]/.test(text) ? "!" : text.replaceAll("-", "+").replaceAll("_", "/")) : text;
  const padded = standard.endsWith("=") ? standard : standard + "=".repeat((4 - (standard.length % 4)) % 4);
  try {
    return fromBase64(padded);
  } catch {
    throw new CmekError("key_encoding", "The key is neither base64 nor 64 hex digits");
  }
}

/**
 * The raw key of a key file: text with # comments, or 32 raw bytes. Errors:
 * "key_size", "key_encoding", "no_key", "two_keys", "fingerprint_mismatch".
 */
export async function parseCmekKeyFile(file: Uint8Array): Promise<Uint8Array> {
  if (file.length > maxKeyFile) throw new CmekError("key_size", `A key file is at most ${maxKeyFile} bytes`);
  const text = decodeText(file);
  if (text === undefined || /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]/.test(text)) {
    if (file.length === CMEK_KEY_SIZE) return file.slice();
    throw new CmekError("key_size", `A CMEK key is 32 bytes; this file is ${file.length} bytes`);
  }
  const { key, fingerprints } = readLines(text.replace(/^\ufeff/, ""));
  const raw = parseCmekKey(key);
  const own = await cmekFingerprint(raw);
  if (fingerprints.some((f) => f.toLowerCase() !== own)) {
    throw new CmekError("fingerprint_mismatch", "A comment of the key file names another key than the file holds");
  }
  return raw;
}

function readLines(text: string): { key: string; fingerprints: string[] } {
  const keys: string[] = [];
  const fingerprints: string[] = [];
  for (const line of text.split("\n").map((l) => l.replace(space, ""))) {
    const comment = line.startsWith("#") ? line.slice(1).replace(space, "") : undefined;
    if (comment?.startsWith("fingerprint:")) fingerprints.push(comment.slice("fingerprint:".length).replace(space, ""));
    if (comment === undefined && line !== "") keys.push(line);
  }
  if (keys.length > 1) throw new CmekError("two_keys", "The key file holds a second line that is not a comment");
  if (keys.length === 0) throw new CmekError("no_key", "The key file holds no key");
  return { key: keys[0]!, fingerprints };
}

/** The text of a key file, which holds the key itself. */
export async function formatCmekKeyFile(key: Uint8Array, vaultId?: string, created: Date = new Date()): Promise<string> {
  const lines = [
    "# Keyfold CMEK key. It opens what was encrypted under it, and nothing else does: keep it secret, and do not lose it.",
    ...(vaultId === undefined ? [] : [`# vault: ${vaultId.replace(/[\r\n]/g, " ")}`]),
    `# fingerprint: ${await cmekFingerprint(key)}`,
    `# created: ${created.toISOString().replace(/\.\d+Z$/, "Z")}`,
    toBase64(key),
  ];
  return lines.join("\n") + "\n";
}
