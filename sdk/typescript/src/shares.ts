// Shares, and the audit trail.

import { pathOf, queryOf, type Http } from "./http.js";
import type { KeyRing } from "./keys.js";
import { result, type Result } from "./result.js";
import { asText, openSecret } from "./secrets.js";
import type * as wire from "./types.js";

/** How a share is opened. */
export interface OpenShareOptions {
  passphrase?: string;
  /** Where the secret must be; without it the server is believed. A bound blob of another vault does not open. */
  vaultId?: string;
}

/** What a share hands out, opened where the client has the key. */
export type OpenedShare = wire.SharedSecret & { cmek_opened: boolean };

/** client.shares */
export class Shares {
  readonly #http: Http;
  readonly #keys: KeyRing;

  constructor(http: Http, keys: KeyRing) {
    this.#http = http;
    this.#keys = keys;
  }

  /** Shares a secret, by the ID that its metadata has. A sealed one is shared with who has the key (recipient_has_key). */
  create(secretId: string, request: wire.CreateShare): Promise<Result<wire.CreatedShare>> {
    return result(() => this.#http.answer("POST", pathOf("secrets", secretId, "share"), { body: request }));
  }

  /** The shares that the caller has made, newest first. */
  listOutbound(): Promise<Result<{ shares: wire.Share[] }>> {
    return this.#http.request("GET", "/v1/shares/outbound");
  }

  /** The shares made for the caller, newest first. */
  listInbound(): Promise<Result<{ shares: wire.Share[] }>> {
    return this.#http.request("GET", "/v1/shares/inbound");
  }

  /** Reads the secret of a share, which counts, by the share's ID or its link. */
  get(share: string, options: OpenShareOptions = {}): Promise<Result<OpenedShare>> {
    return result(async () => {
      const path = pathOf("share", share.slice(share.lastIndexOf("/") + 1));
      const answer =
        options.passphrase === undefined
          ? await this.#http.answer<wire.SharedSecret>("GET", path, { counts: true })
          : await this.#http.answer<wire.SharedSecret>("POST", path, { body: { passphrase: options.passphrase } });
      const context = { vaultId: options.vaultId ?? answer.data.vault_id ?? "", path: answer.data.path };
      return asText({ ...answer, data: await openSecret(this.#keys, answer.data, answer.data.cmek_fingerprint, context) });
    });
  }

  /** Ends a share. */
  delete(id: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("share", id)));
  }
  accept(id: string): Promise<Result<null>> {
    return result(() => this.#http.answer("POST", pathOf("shares", id, "accept")));
  }
  decline(id: string): Promise<Result<null>> {
    return result(() => this.#http.answer("POST", pathOf("shares", id, "decline")));
  }
}

/** client.audit */
export class Audit {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** A page of events, newest first. Where it has next_to, go on from there, also when it is empty. */
  list(query: wire.AuditQuery = {}): Promise<Result<wire.AuditEvents>> {
    return this.#http.request("GET", "/v1/audit/events", { query: { ...query } });
  }

  /** Has the server check the trail. */
  verify(query: Pick<wire.AuditQuery, "from" | "to" | "limit"> = {}): Promise<Result<wire.AuditVerification>> {
    return this.#http.request("GET", "/v1/audit/verify", { query: { ...query } });
  }

  /** The events of a time, oldest first, with all that a check needs who does not trust the server: JSON Lines. signal ends it. */
  export(query: Pick<wire.AuditQuery, "from" | "to"> = {}, signal?: AbortSignal): Promise<Result<ReadableStream<Uint8Array>>> {
    return result(async () => {
      const data = await this.#http.stream("/v1/audit/export" + queryOf({ ...query }), "application/x-ndjson", {}, signal ?? new AbortController().signal);
      return { data, status: 200, headers: new Headers() };
    });
  }
}
