// Threads and messages. Times are nanoseconds since 1970, which a JavaScript
// number holds to some hundred nanoseconds; a message's ID has them exactly.

import type { Bodies } from "./bodies.js";
import { KeyfoldError } from "./errors.js";
import { follow, type FollowOptions, type ThreadEvent } from "./follow.js";
import { pathOf, type Http } from "./http.js";
import { exported, imported, messagesAfter, type ExportOptions, type ImportOptions, type LinesSource } from "./transfer.js";
import { result, type Answer, type Result } from "./result.js";
import type * as wire from "./types.js";

const pageSize = 200;
const stuck = () => new KeyfoldError("The server answers with a page that was read already");

/** Which threads a page holds. */
export interface ThreadQuery {
  /** Part of the title, case-blind. */
  title?: string;
  slug?: string;
  limit?: number;
  /** next_cursor of the page before. */
  cursor?: string;
}

/** client.threads */
export class Threads {
  readonly #http: Http;
  readonly #bodies: Bodies;

  constructor(http: Http, bodies: Bodies) {
    this.#http = http;
    this.#bodies = bodies;
  }

  /**
   * Makes a thread; its key exists when the call returns. With a CMEK fingerprint it is
   * under that key for good: bodies of its messages are sealed by clients that have it.
   */
  create(request: { title?: string; cmek_fingerprint?: string }): Promise<Result<wire.Thread>> {
    return result(async () => {
      const made = await this.#http.answer<wire.Thread>("POST", "/v1/threads", { body: request });
      if ((made.data.cmek_fingerprint ?? "").toLowerCase() !== (request.cmek_fingerprint ?? "").toLowerCase()) {
        throw new KeyfoldError("The server has made a thread that is not under the CMEK key that was named; delete it");
      }
      this.#bodies.know(made.data);
      return made;
    });
  }

  /** A page of the caller's threads, newest first. */
  list(query: ThreadQuery = {}): Promise<Result<wire.Threads>> {
    return this.#http.request("GET", "/v1/threads", { query: { ...query } });
  }

  /** All threads that the query selects, page by page. Throws a KeyfoldError. */
  async *all(query: ThreadQuery = {}): AsyncGenerator<wire.Thread, void, undefined> {
    for (let cursor = query.cursor; ; ) {
      const page: wire.Threads = await this.#http.get("/v1/threads", { query: { limit: pageSize, ...query, cursor } });
      yield* page.threads;
      if (!page.next_cursor) return;
      if (page.next_cursor === cursor) throw stuck();
      cursor = page.next_cursor;
    }
  }

  get(threadId: string): Promise<Result<wire.Thread>> {
    return result(() => this.#http.answer("GET", pathOf("threads", threadId)));
  }

  /** Gives a thread another title, and with it another slug. */
  update(threadId: string, request: { title: string }): Promise<Result<wire.Thread>> {
    return result(() => this.#http.answer("PUT", pathOf("threads", threadId), { body: request }));
  }

  /** Who takes part in a thread beside its owner. */
  participants(threadId: string): Promise<Result<wire.Participants>> {
    return result(() => this.#http.answer("GET", pathOf("threads", threadId, "participants")));
  }

  /** Lets a user or agent of the org, or an end user, take part in a thread of the caller's. */
  share(threadId: string, id: string, request: { part: "read" | "write"; end_user?: boolean }): Promise<Result<wire.Participant>> {
    return result(() => this.#http.answer("PUT", pathOf("threads", threadId, "participants", id), { body: request }));
  }

  /** Takes somebody's part in a thread of the caller's away, or the caller's own in another's. */
  unshare(threadId: string, id: string, options: { end_user?: boolean } = {}): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("threads", threadId, "participants", id), { query: { ...options } }));
  }

  /**
   * What changes in a thread, as it comes about, until the signal ends it. When the
   * connection fails or the server closes it comes again, and loses and repeats
   * nothing. Throws a KeyfoldError that time does not mend: who may not read the
   * thread any more, one that was deleted, an `after` of more than 24 hours ago
   * (a GoneError: list the messages, then follow from now on). Bodies of a thread
   * under a CMEK key are opened here; one that does not open ends the iteration.
   */
  async *follow(threadId: string, options: FollowOptions = {}): AsyncGenerator<ThreadEvent, void, undefined> {
    for await (const event of follow(this.#http, threadId, options)) {
      yield event.message === undefined ? event : { ...event, message: await this.#bodies.open(threadId, event.message) };
    }
  }

  /**
   * All versions of all messages, also of those that were deleted: messages in their
   * order, the versions of one together, oldest first. Bodies of a thread under a CMEK
   * key are opened here. Throws a KeyfoldError, with the code "cut_off" when the export
   * ends early: ask for it again. Numbers are JavaScript's; exportLines keeps all digits.
   */
  async *export(threadId: string, options: ExportOptions = {}): AsyncGenerator<wire.Message, void, undefined> {
    for await (const line of exported(this.#http, this.#bodies, threadId, options)) {
      if (!line.end) yield JSON.parse(line.text) as wire.Message;
    }
  }

  /** The export as JSON Lines in UTF-8, digit by digit: what import takes, and `keyfold message import`. */
  exportLines(threadId: string, options: ExportOptions = {}): ReadableStream<Uint8Array> {
    const lines = exported(this.#http, this.#bodies, threadId, options);
    const encoder = new TextEncoder();
    return new ReadableStream<Uint8Array>({
      pull: async (out) => {
        const { done, value } = await lines.next();
        if (done) out.close();
        else out.enqueue(encoder.encode(value.text + "\n"));
      },
      cancel: async () => void (await lines.return()),
    });
  }

  /**
   * Brings the lines of an export into a thread, part by part: each message with its
   * versions and its deletion, under the caller's name. Into a thread under a CMEK key
   * bodies are sealed here. What the thread has is not brought again, so the same lines
   * may be sent again after a failure. Where the last line is missing all is brought that
   * there was, and the error has the code "cut_off".
   */
  import(threadId: string, lines: LinesSource, options: ImportOptions = {}): Promise<Result<wire.ImportedMessages>> {
    return result(() => imported(this.#http, this.#bodies, threadId, lines, options));
  }

  /** The legal hold of a thread, for who may set it: owners and admins of the org. */
  getHold(threadId: string): Promise<Result<wire.Hold>> {
    return result(() => this.#http.answer("GET", pathOf("threads", threadId, "hold")));
  }

  /** Puts a thread, which may be deleted, under a legal hold: nothing of it is purged. */
  hold(threadId: string, request: { reason?: string } = {}): Promise<Result<wire.Hold>> {
    return result(() => this.#http.answer("PUT", pathOf("threads", threadId, "hold"), { body: request }));
  }

  /** Ends the legal hold of a thread. */
  release(threadId: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("threads", threadId, "hold")));
  }

  /** How long the org keeps threads and messages, for its owners and admins; without a number: for ever. */
  getRetention(): Promise<Result<wire.Retention>> {
    return this.#http.request("GET", "/v1/retention");
  }

  /** Sets how long the org keeps threads and messages, in days; what is left out is kept for ever. */
  setRetention(request: wire.Retention): Promise<Result<wire.Retention>> {
    return this.#http.request("PUT", "/v1/retention", { body: request });
  }

  /** What a run would purge now, under the retention that there is or, to try it, another. */
  previewRetention(attempt: wire.Retention = {}): Promise<Result<wire.RetentionPreview>> {
    return this.#http.request("GET", "/v1/retention/preview", { query: { ...attempt } });
  }

  /** Deletes a thread; its messages are no longer readable. */
  delete(threadId: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("threads", threadId)));
  }
}

/** Which messages a page holds: at most one of before and after; with neither, the newest. */
export interface MessageQuery {
  /** 1 to 1000. */
  limit?: number;
  /** ID of a message: the newest ones older than it. */
  before?: string;
  /** ID of a message: the oldest ones newer than it. */
  after?: string;
  /** Deleted ones, too: without body. */
  include_deleted?: boolean;
}

/** client.messages */
export class Messages {
  readonly #http: Http;
  readonly #bodies: Bodies;

  constructor(http: Http, bodies: Bodies) {
    this.#http = http;
    this.#bodies = bodies;
  }

  async #one(threadId: string, answer: Promise<Answer<wire.Message>>): Promise<Answer<wire.Message>> {
    const got = await answer;
    return { ...got, data: await this.#bodies.open(threadId, got.data) };
  }

  #all(threadId: string, messages: wire.Message[]): Promise<wire.Message[]> {
    return Promise.all(messages.map((m) => this.#bodies.open(threadId, m)));
  }

  /**
   * Appends a message. Its body is any JSON value but null, up to 4 MiB. In a thread
   * under a CMEK key it is sealed here. Each call has an Idempotency-Key of its own, so
   * it is made again when the connection fails, and there is one message.
   */
  post(threadId: string, request: wire.PostMessage): Promise<Result<wire.Message>> {
    return this.#write("POST", threadId, ["messages"], request);
  }

  /** Makes a new version of a message of the caller's; what is left out is kept. It is made again as a post is. */
  edit(threadId: string, messageId: string, request: wire.EditMessage): Promise<Result<wire.Message>> {
    return this.#write("PUT", threadId, ["messages", messageId], request);
  }

  #write(method: string, threadId: string, at: string[], request: { body?: unknown }): Promise<Result<wire.Message>> {
    return result(async () => {
      const body = await this.#bodies.seal(threadId, request);
      return this.#one(threadId, this.#http.answer(method, pathOf("threads", threadId, ...at), { body }));
    });
  }

  /** Deletes a message of the caller's, or in a thread of theirs. */
  delete(threadId: string, messageId: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("threads", threadId, "messages", messageId)));
  }

  /** The versions of a message, oldest first; of a deleted one, too. */
  versions(threadId: string, messageId: string, query: { limit?: number; cursor?: string } = {}): Promise<Result<wire.MessageVersions>> {
    return result(async () => {
      const got = await this.#http.answer<wire.MessageVersions>("GET", pathOf("threads", threadId, "messages", messageId, "versions"), { query: { ...query } });
      return { ...got, data: { ...got.data, versions: await this.#all(threadId, got.data.versions) } };
    });
  }

  reactions(threadId: string, messageId: string): Promise<Result<wire.Reactions>> {
    return result(() => this.#http.answer("GET", pathOf("threads", threadId, "messages", messageId, "reactions")));
  }

  /** Sets the caller's reaction to a message, in place of the one before. */
  react(threadId: string, messageId: string, reaction: string): Promise<Result<wire.Message>> {
    return result(() => this.#one(threadId, this.#http.answer("POST", pathOf("threads", threadId, "messages", messageId, "reactions"), { body: { reaction } })));
  }

  /** Takes the reaction of an identity back: the caller's or, in the caller's thread, anybody's. */
  unreact(threadId: string, messageId: string, identity: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("threads", threadId, "messages", messageId, "reactions", identity)));
  }

  /** A page of a thread's messages, oldest first. It ends early at 16 MiB; only an empty page is the end. */
  list(threadId: string, query: MessageQuery = {}): Promise<Result<wire.Messages>> {
    return result(async () => {
      const got = await this.#http.answer<wire.Messages>("GET", pathOf("threads", threadId, "messages"), { query: { ...query } });
      return { ...got, data: { ...got.data, messages: await this.#all(threadId, got.data.messages) } };
    });
  }

  get(threadId: string, messageId: string): Promise<Result<wire.Message>> {
    return result(() => this.#one(threadId, this.#http.answer("GET", pathOf("threads", threadId, "messages", messageId))));
  }

  /** All messages after the one with this ID, or from the first one on, oldest first. Throws a KeyfoldError. */
  async *all(threadId: string, after?: string): AsyncGenerator<wire.Message, void, undefined> {
    for await (const m of messagesAfter(this.#http, threadId, after)) yield await this.#bodies.open(threadId, m);
  }
}
