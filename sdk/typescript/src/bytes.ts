// Bytes and texts: base64, hex, UTF-8, and where WebCrypto is.

import { CmekError, KeyfoldError } from "./errors.js";

/** What this package needs of Node's Buffer, where there is one. */
interface NodeBuffer {
  from(bytes: ArrayBufferLike, offset: number, length: number): { toString(encoding: string): string };
  from(text: string, encoding: string): Uint8Array;
}
const NodeBuffer = (globalThis as { Buffer?: NodeBuffer }).Buffer;

/** Bytes as standard base64 with padding. */
export function toBase64(bytes: Uint8Array): string {
  if (NodeBuffer) return NodeBuffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("base64");
  let chars = "";
  for (let i = 0; i < bytes.length; i += 0x8000) {
    chars += String.fromCharCode(...bytes.subarray(i, i + 0x8000));
  }
  return btoa(chars);
}

/**
 * The bytes of a standard base64 text. Every text but the one that toBase64
 * writes is refused (CmekError, code "bad_encoding"): other alphabets, missing
 * padding, white space, and spare bits that are not zero.
 */
export function fromBase64(text: string): Uint8Array {
  const bytes = decodeBase64(text);
  if (bytes === undefined || toBase64(bytes) !== text) {
    throw new CmekError("bad_encoding", "The text is not standard base64 with padding");
  }
  return bytes;
}

/** The bytes of a base64 text, read leniently; undefined when there is no reading. */
function decodeBase64(text: string): Uint8Array | undefined {
  if (NodeBuffer) {
    const b = NodeBuffer.from(text, "base64");
    return b.buffer.byteLength === b.length ? b : new Uint8Array(b); // out of Node's shared pool
  }
  try {
    const chars = atob(text);
    const bytes = new Uint8Array(chars.length);
    for (let i = 0; i < chars.length; i++) bytes[i] = chars.charCodeAt(i);
    return bytes;
  } catch {
    return undefined;
  }
}

const hexDigits = Array.from({ length: 256 }, (_, i) => i.toString(16).padStart(2, "0"));

/** Bytes as lower-case hex. */
export function toHex(bytes: Uint8Array): string {
  let text = "";
  for (const b of bytes) text += hexDigits[b];
  return text;
}

/** The bytes of a text that consists of an even number of hex digits. */
export function fromHex(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** Whether text consists of 0-9 and a-f; an empty one does. */
export function isLowerHex(text: string): boolean {
  return /^[0-9a-f]*$/.test(text);
}

/** The UTF-8 of a text. A text with half a surrogate pair has none and is refused. */
export function encodeText(text: string): Uint8Array {
  if (/\p{Surrogate}/u.test(text)) {
    throw new KeyfoldError("The value holds half of a surrogate pair and cannot be stored as text; pass its bytes");
  }
  return new TextEncoder().encode(text);
}

/** The text of UTF-8, exactly; undefined when the bytes are none. */
export function decodeText(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** The parts one after another. */
export function concat(...parts: Uint8Array[]): Uint8Array {
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

let found: Crypto | undefined;

/** WebCrypto, once webCrypto has found it. */
export function readyCrypto(): Crypto | undefined {
  return found;
}

/** WebCrypto: the global one, or that of Node 18, which has no global. */
export async function webCrypto(): Promise<Crypto> {
  if (found) return found;
  let crypto: Crypto | undefined = globalThis.crypto;
  if (!crypto && NodeBuffer) {
    const name = "node:crypto"; // not a literal, so that bundlers for browsers pass it over
    crypto = ((await import(name)) as { webcrypto: Crypto }).webcrypto;
  }
  if (!crypto?.subtle) {
    throw new KeyfoldError("There is no WebCrypto here: a page has it over https and on localhost only");
  }
  return (found = crypto);
}

/** A view as WebCrypto's types want it; ours are never shared memory. */
export function view(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return bytes as Uint8Array<ArrayBuffer>;
}
