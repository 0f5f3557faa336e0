// Bodies of messages in threads under a CMEK key: sealed before they leave, opened
// when they come.

import { encodeText } from "./bytes.js";
import { inspectCmekValue, type CmekContext } from "./cmek.js";
import { CmekError } from "./errors.js";
import { pathOf, type Http } from "./http.js";
import { openWith, sealWith, type ClientKey, type KeyRing } from "./keys.js";
import type * as wire from "./types.js";

export class Bodies {
  readonly #http: Http;
  readonly #keys: KeyRing;
  /** Fingerprints of the keys of threads, which are fixed; undefined: none. */
  readonly #threads = new Map<string, string | undefined>();

  constructor(http: Http, keys: KeyRing) {
    this.#http = http;
    this.#keys = keys;
  }

  /** The key of a thread's bodies (CmekError "key_missing" without it); undefined: they are not sealed. */
  async #key(threadId: string): Promise<ClientKey | undefined> {
    if (!this.#threads.has(threadId)) {
      const thread = await this.#http.get<wire.Thread>(pathOf("threads", threadId));
      this.#threads.set(threadId, thread.cmek_fingerprint?.toLowerCase());
    }
    const fingerprint = this.#threads.get(threadId);
    return fingerprint === undefined ? undefined : this.#keys.find(fingerprint);
  }

  /** A request as it is sent: its body sealed where the thread is under a key. */
  async seal<R extends { body?: unknown }>(threadId: string, request: R): Promise<R> {
    const key = await this.#key(threadId);
    if (key === undefined || request.body === undefined || request.body === null) return request;
    return { ...request, body: await sealWith(key, encodeText(JSON.stringify(request.body)), 2, placeOf(threadId)) };
  }

  /** A message as it was written. */
  async open(threadId: string, message: wire.Message): Promise<wire.Message> {
    const key = await this.#key(threadId);
    if (key === undefined || message.body === undefined) return message;
    const blob: unknown = message.body;
    if (typeof blob !== "string" || inspectCmekValue(blob).version !== 2) throw new CmekError("not_a_blob", "A message of a thread under a CMEK key is no bound blob");
    return { ...message, body: JSON.parse(new TextDecoder().decode(await openWith(key, blob, placeOf(threadId)))) };
  }
}

/** What the bodies of a thread's messages are bound to: see cmek/FORMAT.md. */
function placeOf(threadId: string): CmekContext {
  return { vaultId: `thread:${threadId}`, path: "message" };
}
