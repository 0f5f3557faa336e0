// The messages of a thread as they are: the newest page, older ones on demand, and
// what changes as it comes about.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { KeyfoldError, type ErrorInfo, type ThreadEvent, type wire } from "@keyfold/sdk";
import { settle } from "../../load.js";
import { client } from "../../session.js";

const pageSize = 50;

export interface Live {
  /** Oldest first; undefined until the first page is there. */
  messages: wire.Message[] | undefined;
  error: ErrorInfo | undefined;
  /** Reads older ones; undefined: there are none. */
  older: (() => Promise<void>) | undefined;
  /** What comes about is shown by itself. */
  live: boolean;
  /** Takes the answer of a call. */
  take: (message: wire.Message) => void;
  /** Begins anew. */
  again: () => void;
}

type ById = ReadonlyMap<string, wire.Message>;

/** changed is told when the thread itself changes. */
export function useLive(threadId: string, deleted: boolean, changed: () => void): Live {
  const [byId, setById] = useState<ById>();
  const [error, setError] = useState<ErrorInfo>();
  const [start, setStart] = useState(true); // the first message is shown
  const [live, setLive] = useState(false);
  const [turn, setTurn] = useState(0);
  const notify = useRef(changed);
  notify.current = changed;

  const merge = useCallback((messages: wire.Message[]) => setById((had) => new Map([...(had ?? []), ...messages.map((m) => [m.id, m] as const)])), []);
  const page = (query: { before?: string; limit: number }) => settle(() => client.messages.list(threadId, { ...query, include_deleted: deleted }));

  /** A page and whether it begins with the thread's first message: a page may be short for its size in bytes. */
  const read = async (before?: string) => {
    const got = await page({ limit: pageSize, ...(before === undefined ? {} : { before }) });
    if (got.error) return got;
    const { messages } = got.data;
    if (messages.length === 0 || messages.length === pageSize) return { messages, first: messages.length === 0, error: null };
    const more = await page({ limit: 1, before: messages[0]!.id });
    return { messages, first: more.data?.messages.length === 0, error: null };
  };

  useEffect(() => {
    const stop = new AbortController();
    const gone = () => stop.signal.aborted;
    let known = false; // where the first page begins
    const newest = async () => {
      const got = await read();
      if (gone()) return;
      if (got.error) return setError(got.error);
      merge(got.messages);
      if (!known) setStart(got.first);
      known = true;
    };
    setById(undefined);
    setError(undefined);
    setStart(true);
    void newest();
    void (async () => {
      try {
        const onOpen = () => {
          setLive(true);
          void newest();
        };
        for await (const event of client.threads.follow(threadId, { signal: stop.signal, onOpen })) {
          if (gone()) return;
          if (event.kind === "thread") notify.current();
          else setById((had) => after(had, event));
        }
      } catch (err) {
        if (!(err instanceof KeyfoldError)) throw err;
        if (!gone()) setError(err.info());
      } finally {
        if (!gone()) setLive(false);
      }
    })();
    return () => stop.abort();
  }, [threadId, deleted, turn]);

  const messages = byId && [...byId.values()].filter((m) => deleted || !m.deleted).sort((a, b) => (a.id < b.id ? -1 : 1));
  const older = async () => {
    const oldest = byId && [...byId.keys()].sort()[0];
    const got = await read(oldest);
    if (got.error) return setError(got.error);
    merge(got.messages);
    setStart(got.first);
  };
  return { messages, error, older: start ? undefined : older, live, take: (m) => merge([m]), again: () => setTurn(turn + 1) };
}

/** The messages after an event. */
function after(had: ById | undefined, { kind, message_id, message }: ThreadEvent): ById {
  const next = new Map(had);
  if (kind === "purged" && message_id !== undefined) {
    for (const id of next.keys()) if (id <= message_id) next.delete(id);
  } else if (message) next.set(message.id, message);
  return next;
}
