// One request: its URL, headers, tries and answer. Redirects are refused (they
// would carry a credential elsewhere), cookies are sent in calls on a session that a browser
// keeps alone, nothing is cached.

import { toHex, webCrypto } from "./bytes.js";
import { errorFor, KeyfoldError, NetworkError } from "./errors.js";
import { formatJson, parseJson } from "./json.js";
import { result, type Answer, type Result } from "./result.js";

/** What a request needs beyond method and path. */
export interface RequestOptions {
  query?: Record<string, string | number | boolean | readonly string[] | undefined>; // a list: the name once for each
  headers?: Record<string, string>;
  /** Sent as JSON. */
  body?: unknown;
  /** Sent as it is, as JSON Lines, in place of body. */
  lines?: string;
  /** A GET that must not be made twice, since the server counts it. */
  counts?: boolean;
  /** Needs no credential, and sends none. */
  public?: boolean;
  /** Integers of the answer that a number would change are bigints. Those of a body always may be. */
  exact?: boolean;
  /** On a session that the browser keeps in a cookie: see ClientOptions.browserSession. */
  browserSession?: boolean;
  signal?: AbortSignal | undefined;
}

/** What Http asks for the credential of a call. */
export type Bearer = () => Promise<string | undefined>;

export interface HttpConfig {
  baseUrl: string;
  bearer: Bearer;
  /** Sent with every request. */
  headers: Record<string, string>;
  timeoutMs: number;
  fetch: typeof fetch;
}

const maxTries = 4;
const firstPause = 100; // ms, doubled before each further try
const maxPause = 30; // s; a server that asks for more gets its error told to the caller

/** What every request is made with. */
const careful: RequestInit = { redirect: "error", credentials: "omit", cache: "no-store", referrerPolicy: "no-referrer" };

/** Calls one server. Paths begin with "/v1"; build those with IDs or names by pathOf. */
export class Http {
  readonly #config: HttpConfig;

  constructor(config: HttpConfig) {
    this.#config = config;
  }

  /** The server, without a trailing slash. */
  get baseUrl(): string {
    return this.#config.baseUrl;
  }

  /** Makes the call and resolves to a result. */
  request<T = unknown>(method: string, path: string, options?: RequestOptions): Promise<Result<T>> {
    return result(() => this.answer<T>(method, path, options));
  }

  /** Makes the call and resolves to its data. A failure is a KeyfoldError. */
  async requestOrThrow<T = unknown>(method: string, path: string, options?: RequestOptions): Promise<T> {
    return (await this.answer<T>(method, path, options)).data;
  }

  get<T = unknown>(path: string, options?: RequestOptions): Promise<T> {
    return this.requestOrThrow("GET", path, options);
  }
  post<T = unknown>(path: string, body?: unknown, options?: RequestOptions): Promise<T> {
    return this.requestOrThrow("POST", path, { ...options, body });
  }
  put<T = unknown>(path: string, body?: unknown, options?: RequestOptions): Promise<T> {
    return this.requestOrThrow("PUT", path, { ...options, body });
  }
  patch<T = unknown>(path: string, body?: unknown, options?: RequestOptions): Promise<T> {
    return this.requestOrThrow("PATCH", path, { ...options, body });
  }
  del<T = unknown>(path: string, options?: RequestOptions): Promise<T> {
    return this.requestOrThrow("DELETE", path, options);
  }

  /** Makes the call, again where that is safe. An answer that is not a success is thrown. */
  async answer<T>(method: string, path: string, options: RequestOptions = {}): Promise<Answer<T>> {
    const bearer = options.public ? undefined : await this.#config.bearer();
    if (isOnce(method, options) && !hasKey(options.headers)) options = { ...options, headers: { ...options.headers, "Idempotency-Key": await idempotencyKey() } };
    for (let n = 1; ; n++) {
      let failure: KeyfoldError;
      try {
        return await this.#once<T>(method, path, options, bearer);
      } catch (err) {
        if (!(err instanceof KeyfoldError)) throw err;
        failure = err;
      }
      const wait = failure.retryAfter ?? pauseBefore(n);
      if (n === maxTries || wait > maxPause || options.signal?.aborted || !mayRepeat(method, options, failure)) throw failure;
      await pause(wait, options.signal);
    }
  }

  /**
   * Begins a GET whose answer goes on, of this media type, once. An answer that is
   * not a success is thrown. signal ends it; no timeout does.
   */
  async stream(path: string, media: string, headers: Record<string, string>, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
    const bearer = await this.#config.bearer();
    const all: Record<string, string> = { Accept: `${media}, application/problem+json`, ...this.#config.headers, ...headers };
    if (bearer !== undefined) all["Authorization"] = `Bearer ${bearer}`;
    try {
      const response = await this.#config.fetch(this.#config.baseUrl + path, { method: "GET", headers: all, ...careful, signal });
      if (response.ok && response.body && response.headers.get("Content-Type")?.startsWith(media)) return response.body;
      readAnswer(response, await response.text(), "GET", path);
    } catch (err) {
      throw err instanceof KeyfoldError ? err : this.#lost(err, false);
    }
    throw new KeyfoldError(`The answer to GET ${path} is not ${media}; is it a Keyfold server?`);
  }

  async #once<T>(method: string, path: string, options: RequestOptions, bearer: string | undefined): Promise<Answer<T>> {
    const headers: Record<string, string> = { Accept: "application/json", ...this.#config.headers, ...options.headers };
    const init: RequestInit = { method, headers, ...careful };
    if (options.browserSession) {
      headers["X-Keyfold-Session"] = "cookie";
      init.credentials = "same-origin";
      init.keepalive = true; // a page that is left must not lose the next cookie
    }
    if (bearer !== undefined) headers["Authorization"] = `Bearer ${bearer}`;
    if (options.lines !== undefined) {
      headers["Content-Type"] = "application/x-ndjson";
      init.body = options.lines;
    } else if (options.body !== undefined) {
      headers["Content-Type"] = "application/json";
      init.body = formatJson(options.body);
    }
    const limit = deadline(this.#config.timeoutMs, options.signal);
    try {
      const response = await this.#config.fetch(this.#config.baseUrl + path + queryOf(options.query), { ...init, signal: limit.signal });
      return readAnswer<T>(response, await response.text(), method, path, options.exact);
    } catch (err) {
      if (err instanceof KeyfoldError) throw err;
      throw this.#lost(err, limit.timedOut());
    } finally {
      limit.clear();
    }
  }

  /** The error for a call without an answer. The cause's own text could repeat the URL. */
  #lost(err: unknown, timedOut: boolean): NetworkError {
    const why = timedOut ? `no answer in ${this.#config.timeoutMs / 1000} seconds` : networkCode(err);
    return new NetworkError(`Calling ${this.#config.baseUrl} failed: ${why}`, { code: timedOut ? "timeout" : networkCode(err) });
  }
}

/** "/v1", then each part as one escaped segment. */
export function pathOf(...parts: string[]): string {
  for (const part of parts) {
    if (typeof part !== "string" || part === "" || part === "." || part === "..") {
      throw new KeyfoldError("An ID or a part of a path is empty or consists of dots");
    }
  }
  return "/v1/" + parts.map(encodeURIComponent).join("/");
}

/** How long to wait after the nth try, in seconds: not all clients the same. */
export function pauseBefore(n: number): number {
  return (firstPause * 2 ** (n - 1) * (0.5 + Math.random())) / 1000;
}

/** Waits, or rejects when the signal says so. */
export function pause(seconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const aborted = () => {
      clearTimeout(timer);
      reject(new NetworkError("The call was aborted", { code: "aborted" }));
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", aborted);
      resolve();
    }, 1000 * seconds);
    if (signal?.aborted) aborted();
    else signal?.addEventListener("abort", aborted, { once: true });
  });
}

/** Whether the call is a write that the server does once, for its Idempotency-Key. */
function isOnce(method: string, options: RequestOptions): boolean {
  return method !== "GET" && !options.public;
}

/** Whether the caller has sent a key of his own, in whatever case: fetch would join ours to it. */
function hasKey(headers: RequestOptions["headers"]): boolean {
  return Object.keys(headers ?? {}).some((name) => name.toLowerCase() === "idempotency-key");
}

/** The key of one more write; all tries of it send the same. */
async function idempotencyKey(): Promise<string> {
  return toHex((await webCrypto()).getRandomValues(new Uint8Array(16)));
}

/**
 * Whether a failed call may be made again: a read, or a write with an Idempotency-Key,
 * which the server does once, after a lost connection, a 502, 503 or 504, or while an
 * earlier try is under way; any call that was never sent, or that a rate limit refused.
 * A read that counts is never sent again, nor a write that needs no credential.
 */
function mayRepeat(method: string, options: RequestOptions, failure: KeyfoldError): boolean {
  const once = isOnce(method, options);
  const repeatable = once || (method === "GET" && !options.counts);
  if (once && failure.status === 409 && failure.code === "idempotency_in_progress") return true;
  if (failure instanceof NetworkError) return neverSent.has(failure.code ?? "") || (repeatable && failure.code !== "timeout");
  return failure.status === 429 || (repeatable && away.has(failure.status));
}

/** Statuses of a server that cannot be asked now, or of a proxy before it. */
const away = new Set([502, 503, 504]);

const neverSent = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "UND_ERR_CONNECT_TIMEOUT"]);

/** What Node says of a lost connection; browsers say nothing. */
function networkCode(err: unknown): string {
  if (err instanceof Error && err.name === "AbortError") return "aborted";
  const code = ((err as { cause?: { code?: unknown } } | null)?.cause ?? {}).code;
  return typeof code === "string" ? code : "connection_failed";
}

export function queryOf(query: RequestOptions["query"]): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query ?? {})) {
    for (const one of Array.isArray(value) ? value : [value]) if (one !== undefined && one !== "") params.append(name, String(one));
  }
  const text = params.toString();
  return text === "" ? "" : "?" + text;
}

/** A signal that ends after the time, or with the other signal. */
function deadline(ms: number, other: AbortSignal | undefined) {
  const controller = new AbortController();
  let timedOut = false;
  const abort = () => controller.abort();
  const timer = setTimeout(() => {
    timedOut = true;
    abort();
  }, ms);
  if (other?.aborted) abort();
  other?.addEventListener("abort", abort);
  const clear = () => {
    clearTimeout(timer);
    other?.removeEventListener("abort", abort);
  };
  return { signal: controller.signal, timedOut: () => timedOut, clear };
}

function readAnswer<T>(response: Response, text: string, method: string, path: string, exact?: boolean): Answer<T> {
  const body = parse(text, exact);
  if (!response.ok) throw problem(response, body);
  if (text !== "" && body === undefined) {
    throw new KeyfoldError(`The answer to ${method} ${path} is not JSON; is it a Keyfold server?`, { status: response.status });
  }
  return { data: (body ?? null) as T, status: response.status, headers: response.headers };
}

function parse(text: string, exact = false): unknown {
  try {
    return text === "" ? undefined : exact ? parseJson(text) : JSON.parse(text);
  } catch {
    return undefined; // the cause could quote a value
  }
}

const maxDetail = 2000;

/** The error of a problem body (RFC 9457). A body that is none, from a proxy perhaps, is not quoted. */
function problem(response: Response, body: unknown): KeyfoldError {
  const p = (typeof body === "object" && body !== null ? body : {}) as Record<string, unknown>;
  const text = (name: string) => (typeof p[name] === "string" ? (p[name] as string).slice(0, maxDetail) : "");
  const message = text("detail") || text("message") || text("error") || `The server answered with status ${response.status} and said no more`;
  const facts: Parameters<typeof errorFor>[2] = {};
  if (text("type") !== "" && text("type") !== "about:blank") facts.code = text("type");
  if (text("approval_request_id")) facts.approvalRequestId = text("approval_request_id");
  const requestId = response.headers.get("X-Request-Id") ?? text("request_id");
  if (requestId) facts.requestId = requestId;
  const seconds = response.headers.get("Retry-After") ?? "";
  if (/^\d{1,5}$/.test(seconds)) facts.retryAfter = Number(seconds);
  return errorFor(response.status, message, facts);
}
