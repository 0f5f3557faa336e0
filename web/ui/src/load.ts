// Reading from the server inside a component: what is shown while it loads, when
// it failed, and when it is there.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { ErrorInfo, Result } from "@keyfold/sdk";
import { stillSignedIn, told } from "./session.js";

/** What a component knows of something that it reads. data stays while it is read again. */
export interface Loaded<T> {
  data: T | undefined;
  error: ErrorInfo | undefined;
  loading: boolean;
  /** Reads it again. */
  reload: () => void;
}

/** How long after a call that no answer came to it is made again, in ms. */
const retryPause = 3_000;

/**
 * Reads when the component appears and whenever one of deps changes; an answer for
 * other deps is dropped. What is to be read again while it is being read is read once
 * more after that, so that answers are seen however slowly they come. While the server
 * does not answer, it is asked again by itself.
 */
export function useLoad<T>(read: () => Promise<Result<T>>, deps: readonly unknown[]): Loaded<T> {
  const [state, setState] = useState<Omit<Loaded<T>, "reload">>({ data: undefined, error: undefined, loading: true });
  const reads = useRef<() => void>(() => {});
  const begin = useCallback(() => {
    const turn = { over: false, reading: false, again: false };
    const run = async () => {
      turn.again = turn.reading;
      if (turn.reading) return;
      turn.reading = true;
      setState((s) => ({ ...s, loading: true }));
      const { data, error } = await settle(read).finally(() => (turn.reading = false));
      if (turn.over) return;
      setState((s) => (error ? { data: s.data, error, loading: turn.again } : { data, error: undefined, loading: turn.again }));
      if (turn.again) void run();
      else if (isLost(error)) setTimeout(() => turn.over || void run(), retryPause);
    };
    reads.current = () => void run();
    return turn;
  }, deps);
  useEffect(() => {
    const turn = begin();
    setState({ data: undefined, error: undefined, loading: true });
    reads.current();
    return () => void (turn.over = true);
  }, [begin]);
  return { ...state, reload: () => reads.current() };
}

/** Runs work every so often (ms) while the component is there and its tab is seen. */
export function useEvery(ms: number, work: () => void): void {
  const latest = useRef(work);
  latest.current = work;
  useEffect(() => {
    const timer = setInterval(() => document.visibilityState === "visible" && latest.current(), ms);
    return () => clearInterval(timer);
  }, [ms]);
}

/** The result of a call, with what the client throws (no answer came, a key is missing) as an error too. */
export async function settle<T>(call: () => Promise<Result<T>>): Promise<{ data: T; error: null } | { data: null; error: ErrorInfo }> {
  try {
    const got = await call();
    if (got.meta.status === 401) await stillSignedIn(); // or it was an operator's key that is none
    return got.error ? { data: null, error: got.error } : { data: got.data, error: null };
  } catch (err) {
    return { data: null, error: told(err) };
  }
}

/** Whether no answer came to the call: what it asked for may have been done or not. */
export const isLost = (error: ErrorInfo | null) => error?.code === "connection_failed" || error?.code === "timeout";
