// Following a thread: server-sent events over fetch, since EventSource sends no
// credential. A stream that ends is gone on with.

import { KeyfoldError, NetworkError } from "./errors.js";
import { pathOf, pause, pauseBefore, type Http } from "./http.js";
import type * as wire from "./types.js";

/** A change of a thread. */
export interface ThreadEvent extends wire.MessageEvent {
  /** follow goes on after it. */
  id: string;
  /** purged: the message and all before it are gone, for their age. */
  kind: "created" | "edited" | "deleted" | "reactions" | "purged" | "thread";
}

export interface FollowOptions {
  /** ID of an event that follow goes on after; without it, it begins with what comes next. */
  after?: string;
  /** Is told at each beginning of a stream: what was read before may lack what came about meanwhile. */
  onOpen?: () => void;
  /** Is told when a stream has ended, or none began, and follow comes again. */
  onClose?: () => void;
  /** Ends the iteration, which then throws a NetworkError with the code "aborted". */
  signal?: AbortSignal;
}

const maxTries = 4; // before a stream began; afterwards there is no end
const silence = 45_000; // ms; a comment comes every 15 s
const maxBlock = 256 << 20; // characters
const remembered = 60n * 1_000_000_000n; // ns; what is older does not come again

/** The iteration of Threads.follow. */
export async function* follow(http: Http, threadId: string, options: FollowOptions = {}): AsyncGenerator<ThreadEvent, void, undefined> {
  const path = pathOf("threads", threadId, "events");
  const seen = new Seen(options.after);
  const state = { last: options.after, retry: 1, tries: 0, begun: false };
  for (;;) {
    try {
      for await (const block of blocks(http, path, state.last, options)) {
        state.begun = true;
        state.tries = 0;
        if (block.id !== undefined) state.last = block.id;
        if (block.retry !== undefined) state.retry = block.retry;
        if (block.id === undefined || block.event === undefined || !seen.add(block.id)) continue;
        yield { ...dataOf(block, http.baseUrl), id: block.id, kind: block.event as ThreadEvent["kind"] };
      }
      options.onClose?.();
    } catch (err) {
      if (!mends(err, options.signal) || (!state.begun && state.tries + 1 === maxTries)) throw err;
      options.onClose?.();
      if (state.tries > 0 || !state.begun) {
        await pause(Math.max(err.retryAfter ?? 0, pauseBefore(Math.min(++state.tries, 9))), options.signal);
        continue;
      }
    }
    state.tries++;
    await pause(state.retry, options.signal);
  }
}

/** Whether it may go better another time. */
function mends(err: unknown, signal: AbortSignal | undefined): err is KeyfoldError {
  if (signal?.aborted) return false;
  return err instanceof NetworkError || (err instanceof KeyfoldError && [429, 502, 503, 504].includes(err.status));
}

/** The IDs of events that may come again. */
class Seen {
  #ids = new Set<string>();
  #swept = 0;

  constructor(after: string | undefined) {
    if (after !== undefined) this.#ids.add(after);
  }

  /** Whether id was not there. */
  add(id: string): boolean {
    if (this.#ids.has(id)) return false;
    this.#ids.add(id);
    if (this.#ids.size > 2 * this.#swept + 64) this.#sweep(id);
    return true;
  }

  #sweep(newest: string): void {
    const [time = ""] = newest.split("-");
    if (!/^\d{20}$/.test(time)) return;
    const old = BigInt(time) > remembered ? BigInt(time) - remembered : 0n;
    const from = String(old).padStart(20, "0");
    for (const id of this.#ids) if (id < from) this.#ids.delete(id);
    this.#swept = this.#ids.size;
  }
}

/** What stands between two empty lines of a stream. */
interface Block {
  id?: string;
  event?: string;
  data?: string;
  /** Seconds. */
  retry?: number;
}

function dataOf(block: Block, baseUrl: string): wire.MessageEvent {
  try {
    return JSON.parse(block.data ?? "") as wire.MessageEvent;
  } catch {
    throw new KeyfoldError(`${baseUrl} sent an event that is not Keyfold's; is it a Keyfold server?`); // the cause could quote a message
  }
}

/** The blocks of one stream. A connection that fails or falls silent is a NetworkError. */
async function* blocks(http: Http, path: string, last: string | undefined, { signal, onOpen }: FollowOptions): AsyncGenerator<Block, void, undefined> {
  const controller = new AbortController();
  const abort = () => controller.abort();
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort);
  let timer = setTimeout(abort, silence);
  try {
    const body = await http.stream(path, "text/event-stream", last === undefined ? {} : { "Last-Event-ID": last }, controller.signal);
    onOpen?.();
    let block: Block = {};
    for await (const line of lines(body, () => {
      clearTimeout(timer);
      timer = setTimeout(abort, silence);
    })) {
      if (line !== "") take(block, line);
      else {
        yield block;
        block = {};
      }
    }
  } catch (err) {
    if (err instanceof KeyfoldError) throw err;
    throw new NetworkError(`The stream of events from ${http.baseUrl} broke off`, { code: controller.signal.aborted ? "aborted" : "connection_failed" });
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
    abort();
  }
}

/** The lines of a body, without their ends. */
async function* lines(body: ReadableStream<Uint8Array>, heard: () => void): AsyncGenerator<string, void, undefined> {
  const reader = body.getReader();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const text = decoder.decode(value, { stream: true });
    if (!text.includes("\n")) {
      rest += text;
      if (rest.length > maxBlock) throw new KeyfoldError("An event is over the limit of 256 MiB");
      continue;
    }
    const parts = (rest + text).split("\n");
    rest = parts.pop()!;
    for (const part of parts) yield part.endsWith("\r") ? part.slice(0, -1) : part;
  }
}

function take(block: Block, line: string): void {
  const colon = line.indexOf(":");
  const name = colon < 0 ? line : line.slice(0, colon);
  const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
  if (name === "id") block.id = value;
  else if (name === "event") block.event = value;
  else if (name === "data") block.data = block.data === undefined ? value : block.data + "\n" + value;
  else if (name === "retry" && /^\d{1,5}$/.test(value)) block.retry = Math.min(Number(value) / 1000, 30);
}
