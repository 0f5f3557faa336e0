// The messages of a thread as they are: the newest page, others on demand, and what
// changes as it comes about, over connections that may break and come again.

import { useEffect, useRef, useState } from "preact/hooks";
import { KeyfoldError, type ErrorInfo, type ThreadEvent, type wire } from "@keyfold/sdk";
import { settle } from "../../load.js";
import { client } from "../../session.js";
import { nothing, withAnswer, withEvent, withNewer, withNewest, withOlder, type Held } from "./window.js";

const pageSize = 50;
const showEvery = 50; // ms

export type Connection = "connecting" | "live" | "broken" | "ended";

export interface Live {
  /** Undefined until the first page is there. */
  held: Held | undefined;
  error: ErrorInfo | undefined;
  /** broken: it comes again by itself. ended: it does not; error says why. */
  connection: Connection;
  /** Reads older messages. */
  older: () => Promise<void>;
  /** Reads newer messages, where the newest is not held. */
  newer: () => Promise<void>;
  /** Holds the newest messages in place of those that it holds, and drops what is being read. */
  newest: () => Promise<void>;
  /** Says whether who reads is at the end, where what is new is shown and the oldest leave. */
  follow: (following: boolean) => void;
  /** Takes the answer of a call. */
  take: (message: wire.Message) => void;
  /** Begins anew. */
  again: () => void;
}

/** Also the deleted ones, when deleted is set. changed is told when the thread itself changes. */
export function useLive(threadId: string, deleted: boolean, changed: () => void): Live {
  const [held, setHeld] = useState<Held>();
  const [error, setError] = useState<ErrorInfo>();
  const [connection, setConnection] = useState<Connection>("connecting");
  const [turn, setTurn] = useState(0);
  const following = useRef(true);
  const notify = useRef(changed);
  notify.current = changed;
  const reading = useRef(0); // what was asked for before is dropped

  const change = (by: (held: Held) => Held) => setHeld((had) => by(had ?? nothing));
  const page = (query: { before?: string; after?: string; limit: number }) => settle(() => client.messages.list(threadId, { ...query, include_deleted: deleted }));

  /** A page of a direction, and whether there is nothing beyond: a page may be short for its size in bytes. */
  const read = async (query: { before?: string; after?: string }) => {
    const got = await page({ limit: pageSize, ...query });
    if (got.error) return got;
    const { messages } = got.data;
    if (messages.length === 0 || messages.length === pageSize) return { messages, over: messages.length === 0, error: null };
    const beyond = query.after === undefined ? { before: messages[0]!.id } : { after: messages.at(-1)!.id };
    const more = await page({ limit: 1, ...beyond });
    return { messages, over: more.data?.messages.length === 0, error: null };
  };

  /** Reads a page and has it taken, unless all was begun anew meanwhile. */
  const readInto = async (query: { before?: string; after?: string }, take: (messages: wire.Message[], over: boolean) => void) => {
    const mine = reading.current;
    const got = await read(query);
    if (mine !== reading.current) return;
    setError(got.error ?? undefined);
    if (!got.error) take(got.messages, got.over);
  };

  const newestInto = (anew: boolean) => readInto({}, (messages, over) => setHeld((had) => withNewest(anew ? undefined : had, messages, over, following.current)));
  const newest = () => {
    reading.current++;
    return newestInto(true);
  };
  const older = () => readInto({ before: held?.messages[0]?.id ?? "" }, (messages, over) => change((h) => withOlder(h, messages, over)));
  const newer = async () => {
    await readInto({ after: held?.messages.at(-1)?.id ?? "" }, (messages, over) => {
      change((h) => withNewer(h, messages, over));
      if (over) void newestInto(false); // what came between the answer and this
    });
  };

  useEffect(() => {
    const stop = new AbortController();
    reading.current++;
    setHeld(undefined);
    setError(undefined);
    setConnection("connecting");
    void newestInto(false);
    void watch(stop.signal);
    return () => stop.abort();
  }, [threadId, deleted, turn]);

  const watch = async (signal: AbortSignal) => {
    const queue: ThreadEvent[] = []; // many come at once where somebody imports
    const show = () => {
      const events = queue.splice(0);
      if (!signal.aborted) change((h) => events.reduce((to, event) => withEvent(to, event, following.current), h));
    };
    const onOpen = () => {
      if (signal.aborted) return;
      setConnection("live");
      void newestInto(false);
    };
    const onClose = () => void (signal.aborted || setConnection("broken"));
    try {
      for await (const event of client.threads.follow(threadId, { signal, onOpen, onClose })) {
        if (signal.aborted) return;
        if (event.kind === "thread") notify.current();
        else if (queue.push(event) === 1) setTimeout(show, showEvery);
      }
    } catch (err) {
      if (!(err instanceof KeyfoldError)) throw err;
      if (signal.aborted) return;
      setError(err.info());
      setConnection("ended");
    }
  };

  return {
    held,
    error,
    connection,
    older,
    newer,
    newest,
    follow: (is) => void (following.current = is),
    take: (m) => change((h) => withAnswer(h, m)),
    again: () => setTurn((t) => t + 1),
  };
}
