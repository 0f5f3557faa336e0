// The states that every list and page has beside its content.

import type { ComponentChildren } from "preact";
import type { ErrorInfo } from "@keyfold/sdk";
import type { Loaded } from "../load.js";
import { wordsOf } from "../rights.js";
import { Head } from "./parts.js";

/** What went wrong, what to do, and the number to find it in the server's log by. */
export function Problem({ error, retry }: { error: ErrorInfo | undefined | null; retry?: (() => void) | undefined }) {
  if (!error) return null;
  return (
    <div class="problem" role="alert">
      <p>{wordsOf(error)}</p>
      {error.request_id && (
        <p class="quiet">
          Request <code>{error.request_id}</code>
        </p>
      )}
      {retry && (
        <button type="button" onClick={retry}>
          Try again
        </button>
      )}
    </div>
  );
}

/** A list that has nothing in it: what it would hold, and how to begin. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <h3>{title}</h3>
      {children}
    </div>
  );
}

export function Loading({ what }: { what: string }) {
  return (
    <p class="loading" role="status">
      Loading {what}
    </p>
  );
}

interface ShowProps<T> {
  of: Loaded<T>;
  what: string;
  /** The heading, of what is a page by itself, while it is not there. */
  title?: string;
  children: (data: T) => ComponentChildren;
}

/** Shows children once data is there; before that, that it loads or why it did not. */
export function Show<T>({ of, what, title, children }: ShowProps<T>) {
  if (of.data === undefined) {
    return (
      <>
        {title && of.error && <Head title={title} />}
        {of.error ? <Problem error={of.error} retry={of.reload} /> : <Loading what={what} />}
      </>
    );
  }
  return (
    <>
      <Problem error={of.error} retry={of.reload} />
      {children(of.data)}
    </>
  );
}
