// Bodies of messages in threads under a CMEK key: sealed before they leave, opened
// when they come.

import { decodeText, encodeText } from "./bytes.js";
import { inspectCmekValue, type CmekContext } from "./cmek.js";
import { CmekError } from "./errors.js";
import { pathOf, type Http } from "./http.js";
import { openWith, sealWith, type ClientKey, type KeyRing } from "./keys.js";
import type * as wire from "./types.js";

export class Bodies {
  readonly #http: Http;
  readonly #keys: KeyRing;
  readonly #sealedOnly: boolean;
  /** Fingerprints of the keys of threads, which are fixed; undefined: none. */
  readonly #threads = new Map<string, string | undefined>();

  /** With sealedOnly no body leaves for a thread under no key, whatever the server says of it. */
  constructor(http: Http, keys: KeyRing, sealedOnly: boolean) {
    this.#http = http;
    this.#keys = keys;
    this.#sealedOnly = sealedOnly;
  }

  /** Remembers the key of a thread, which is fixed when it is made: the first answer counts. */
  know(thread: wire.Thread): void {
    if (!this.#threads.has(thread.id)) this.#threads.set(thread.id, thread.cmek_fingerprint?.toLowerCase());
  }

  /** The key of a thread's bodies (CmekError "key_missing" without it); undefined: they are not sealed. */
  async key(threadId: string): Promise<ClientKey | undefined> {
    if (!this.#threads.has(threadId)) {
      const thread = await this.#http.get<wire.Thread>(pathOf("threads", threadId));
      this.know({ ...thread, id: threadId });
    }
    const fingerprint = this.#threads.get(threadId);
    return fingerprint === undefined ? undefined : this.#keys.find(fingerprint);
  }

  /** The key that bodies of a thread are sealed with before they are sent; undefined: they are not sealed. */
  async sealingKey(threadId: string): Promise<ClientKey | undefined> {
    const key = await this.key(threadId);
    if (key === undefined && this.#sealedOnly) throw new CmekError("not_sealed", "The thread is under no CMEK key; the body was not sent in the clear");
    return key;
  }

  /** A request as it is sent: its body sealed where the thread is under a key. */
  async seal<R extends { body?: unknown }>(threadId: string, request: R): Promise<R> {
    if (request.body === undefined || request.body === null) return request;
    const key = await this.sealingKey(threadId);
    return key === undefined ? request : { ...request, body: await sealBody(key, threadId, JSON.stringify(request.body)) };
  }

  /** A message as it was written. */
  async open(threadId: string, message: wire.Message): Promise<wire.Message> {
    const key = await this.key(threadId);
    if (key === undefined || message.body === undefined) return message;
    return { ...message, body: JSON.parse(await openBody(key, threadId, message.body)) };
  }
}

/** A body's JSON as it is sent. */
export function sealBody(key: ClientKey, threadId: string, text: string): Promise<string> {
  return sealWith(key, encodeText(text), 2, placeOf(threadId));
}

/** The JSON of a body. A bound blob alone is opened: one of version 1, from a vault of the same key say, opens anywhere. */
export async function openBody(key: ClientKey, threadId: string, blob: unknown): Promise<string> {
  if (typeof blob !== "string" || inspectCmekValue(blob).version !== 2) throw new CmekError("not_a_blob", "A message of a thread under a CMEK key is no bound blob");
  const text = decodeText(await openWith(key, blob, placeOf(threadId)));
  if (text === undefined || !isJson(text)) throw new CmekError("not_text", "What was sealed as a message is not JSON");
  return text;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false; // the cause could quote a body
  }
}

/** What the bodies of a thread's messages are bound to: see cmek/FORMAT.md. */
function placeOf(threadId: string): CmekContext {
  return { vaultId: `thread:${threadId}`, path: "message" };
}
