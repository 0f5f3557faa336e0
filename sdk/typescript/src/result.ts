// Results: what every call of a client resolves to. Calls reject only with a
// NetworkError, when no answer came.

import { KeyfoldError, NetworkError, type ErrorInfo } from "./errors.js";

/** Of the answer. */
export interface Meta {
  /** HTTP status; 0 when nothing was sent. */
  status: number;
  request_id?: string;
}

/** Data or an error, never both. */
export type Result<T> = { data: T; error: null; meta: Meta } | { data: null; error: ErrorInfo; meta: Meta };

/** An answer that is a success. */
export interface Answer<T> {
  data: T;
  status: number;
  headers: Headers;
}

/** What call answers, or the error that it throws, as a result. */
export async function result<T>(call: () => Promise<Answer<T>>): Promise<Result<T>> {
  try {
    const a = await call();
    return { data: a.data, error: null, meta: meta(a.status, a.headers.get("X-Request-Id")) };
  } catch (err) {
    if (!(err instanceof KeyfoldError) || err instanceof NetworkError) throw err;
    return { data: null, error: err.info(), meta: meta(err.status, err.requestId) };
  }
}

function meta(status: number, requestId: string | null | undefined): Meta {
  return requestId ? { status, request_id: requestId } : { status };
}
