// What an operator does, with an admin key.

import { pathOf, type Http } from "./http.js";
import { result, type Result } from "./result.js";
import type * as wire from "./types.js";

/** Which names of rows a page holds. */
export interface KeysQuery {
  prefix?: string;
  limit?: number;
  cursor?: string;
}

/** client.admin: for a client with an admin key. */
export class Admin {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** The jobs, newest first. */
  listJobs(): Promise<Result<wire.Jobs>> {
    return this.#http.request("GET", "/admin/jobs");
  }
  getJob(id: string): Promise<Result<wire.Job>> {
    return result(() => this.#http.answer("GET", adminPath("jobs", id)));
  }

  /** Ends a job between two batches. What is done stays done. */
  cancelJob(id: string): Promise<Result<wire.Job>> {
    return result(() => this.#http.answer("DELETE", adminPath("jobs", id)));
  }

  /**
   * A page of the KEKs with their versions, how the root key stands, and the policy of
   * keys' ages. With count, how many threads' DEKs are under each version. Where the
   * key process does not tell the server of its keys, available is false and message
   * says what to do.
   */
  listKeks(query: { limit?: number; cursor?: string; count?: boolean } = {}): Promise<Result<wire.EncryptionKeys>> {
    return this.#http.request("GET", "/admin/encryption/keys", { query });
  }

  /**
   * The DEKs of up to 100 threads with their states, ages and uses; a thread that is not
   * there, or is in clear, has none. Where the key process does not tell the server of its
   * keys, available is false, there are no uses, and message says what to do.
   */
  listDeks(threadIds: readonly string[]): Promise<Result<wire.EncryptionDeks>> {
    return this.#http.request("GET", "/admin/encryption/deks", { query: { thread_id: threadIds } });
  }

  /** Makes new primary versions of KEKs and rewraps the DEKs under them: a vault's, the threads', or all. The jobs run then. */
  rotateKek(request: wire.RotateKek): Promise<Result<wire.Jobs>> {
    return this.#http.request("POST", "/admin/encryption/rotate-kek", { body: request });
  }

  /** Rewraps DEKs under the present primary versions. */
  rewrap(request: wire.RotateKek): Promise<Result<wire.Jobs>> {
    return this.#http.request("POST", "/admin/encryption/rewrap", { body: request });
  }

  /** Gives a thread, or all, a new DEK; the job brings the messages under it. */
  rotateThreadDek(request: wire.RotateThreadDek): Promise<Result<wire.ThreadDekRotated>> {
    return this.#http.request("POST", "/admin/encryption/rotate-thread-dek", { body: request });
  }

  /** A page of the names of rows of the store that operators are shown: wrapped keys among them. */
  listKeys(query: KeysQuery = {}): Promise<Result<wire.StoreKeys>> {
    return this.#http.request("GET", "/admin/keys", { query: { ...query } });
  }

  /** A row of this name as it lies in the store. */
  getKey(name: string): Promise<Result<Uint8Array>> {
    return result(async () => {
      const body = await this.#http.stream(adminPath("keys", name), "application/octet-stream", {}, AbortSignal.timeout(30_000));
      return { data: new Uint8Array(await new Response(body).arrayBuffer()), status: 200, headers: new Headers() };
    });
  }

  /** A page of all threads of the server, each with the DEK that it has. */
  listThreads(query: { limit?: number; cursor?: string } = {}): Promise<Result<wire.Threads>> {
    return this.#http.request("GET", "/admin/threads", { query });
  }

  /** Makes another admin key. The key, which the answer holds, cannot be had again. */
  createKey(request: wire.CreateApiKey): Promise<Result<wire.ApiKeyCreated>> {
    return this.#http.request("POST", "/admin/keys", { body: request });
  }

  /** How many threads and messages there are. */
  stats(): Promise<Result<wire.Stats>> {
    return this.#http.request("GET", "/admin/stats");
  }
  health(): Promise<Result<wire.ServiceHealth>> {
    return this.#http.request("GET", "/admin/health");
  }

  /** A page of the server's own trail: what operators did. */
  auditEvents(query: wire.AuditQuery = {}): Promise<Result<wire.AuditEvents>> {
    return this.#http.request("GET", "/admin/audit/events", { query: { ...query } });
  }

  /** The server's metrics, as Prometheus reads them. */
  metrics(): Promise<Result<string>> {
    return result(async () => {
      const data = await new Response(await this.#http.stream("/admin/debug/prometheus", "text/plain", {}, AbortSignal.timeout(30_000))).text();
      return { data, status: 200, headers: new Headers() };
    });
  }
}

/** "/admin", then each part as one escaped segment. */
function adminPath(...parts: string[]): string {
  return pathOf(...parts).replace("/v1/", "/admin/");
}
