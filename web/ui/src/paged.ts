// Lists that the server answers page by page, of which more is shown when it is asked for.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import type { ErrorInfo, Result } from "@keyfold/sdk";
import { settle } from "./load.js";

/** What a component knows of a list. items is undefined until the first page is there. */
export interface Paged<T> {
  items: T[] | undefined;
  error: ErrorInfo | undefined;
  loading: boolean;
  /** Reads the next page; absent: there is none. */
  more: (() => void) | undefined;
  /** Reads as many pages again as there are. */
  reload: () => void;
}

interface Page<T> {
  items: T[];
  next?: string | undefined;
}

/** Reads the first page when the component appears and whenever one of deps changes. */
export function usePaged<T>(read: (cursor: string | undefined) => Promise<Result<Page<T>>>, deps: readonly unknown[]): Paged<T> {
  const [state, setState] = useState<{ pages: Page<T>[]; error?: ErrorInfo | undefined; loading: boolean }>({ pages: [], loading: true });
  const turn = useRef(0);
  const count = useRef(1);
  const run = useCallback(async (from: Page<T>[]) => {
    const mine = ++turn.current;
    setState((s) => ({ ...s, loading: true }));
    const pages = [...from];
    while (pages.length < count.current) {
      const got = await settle(() => read(pages.at(-1)?.next));
      if (mine !== turn.current) return;
      if (got.error) return setState((s) => ({ ...s, error: got.error, loading: false }));
      pages.push(got.data);
      if (got.data.next === undefined) break;
    }
    setState({ pages, loading: false });
  }, deps);
  useEffect(() => {
    count.current = 1;
    setState({ pages: [], loading: true });
    void run([]);
    return () => void turn.current++;
  }, [run]);
  const more = () => {
    count.current = state.pages.length + 1;
    void run(state.pages);
  };
  return {
    items: state.pages.length > 0 ? state.pages.flatMap((p) => p.items) : undefined,
    error: state.error,
    loading: state.loading,
    more: state.pages.at(-1)?.next === undefined ? undefined : more,
    reload: () => void run([]),
  };
}
