// createClient: what a program makes one of per server and credential.

import { Admin } from "./admin.js";
import { Bodies } from "./bodies.js";
import { CmekError, KeyfoldError } from "./errors.js";
import { Http } from "./http.js";
import { Agents, ApiKeys, Auth, Orgs, Policies } from "./identity.js";
import { parseCmekKey } from "./keyfile.js";
import { KeyRing, VaultStates, type CmekKeyOption } from "./keys.js";
import type { Result } from "./result.js";
import { Secrets } from "./secrets.js";
import { Audit, Shares } from "./shares.js";
import { Messages, Threads } from "./threads.js";
import { inOneTab, sessionOf, Tokens, type Renew, type Session } from "./tokens.js";
import type { Health, Token } from "./types.js";
import { Vaults } from "./vault.js";

/** What a client is made of. What is absent comes from the environment, where there is one. */
export interface ClientOptions {
  /** Such as "https://keyfold.example.com"; KEYFOLD_URL. */
  baseUrl?: string;
  /** "1ck_...", of a user or an org, or "ocv_...", of an agent, which is exchanged for tokens; KEYFOLD_API_KEY. */
  apiKey?: string;
  /** In place of apiKey: a token, or a session whose refresh token renews it. Do not give one session to two clients. */
  token?: string | Session;
  /**
   * For a page of the server's own origin: what renews the session is kept by the
   * browser, in a cookie that no script reads. The access token is in memory; after a
   * reload auth.resume goes on. No key or token of the environment is looked at.
   */
  browserSession?: boolean;
  /** Whose key apiKey must be, of an agent. */
  agentId?: string;
  /**
   * The CMEK keys that the client seals and opens with; KEYFOLD_CMEK_KEY or
   * ONECLAW_CMEK_KEY. false: none, whatever the environment says.
   */
  cmekKey?: CmekKeyOption | CmekKeyOption[] | false;
  /** Post to, edit in, and import into, threads under a CMEK key alone, whatever the server says of a thread. */
  sealedThreads?: boolean;
  /** Names the end user of a frontend or backend key in calls on threads and messages. */
  user?: { id: string; signature?: string };
  /** How long one call may take; 120,000 when absent. */
  timeoutMs?: number;
  /** In place of the global fetch. */
  fetch?: typeof fetch;
}

/** A client of one server. It keeps nothing on disk, and prints without its credentials. */
export class KeyfoldClient {
  readonly http: Http;
  readonly auth: Auth;
  readonly vault: Vaults;
  readonly secrets: Secrets;
  readonly agents: Agents;
  readonly policies: Policies;
  readonly apiKeys: ApiKeys;
  readonly shares: Shares;
  readonly audit: Audit;
  readonly threads: Threads;
  readonly messages: Messages;
  readonly org: Orgs;
  readonly admin: Admin;
  readonly #keys: KeyRing;
  readonly #browserSession: boolean;
  #bearer: string | undefined;
  #tokens: Tokens | undefined;

  constructor(options: ClientOptions) {
    this.#browserSession = options.browserSession ?? false;
    this.http = new Http({
      baseUrl: parseBase(options.baseUrl ?? environment("KEYFOLD_URL")),
      bearer: async () => (this.#tokens ? this.#tokens.get() : this.#bearer),
      headers: headersOf(options),
      timeoutMs: options.timeoutMs ?? 120_000,
      fetch: options.fetch ?? ((...args) => globalThis.fetch(...args)),
    });
    this.#takeCredential(options);
    const keys = new KeyRing(keysOf(options));
    this.#keys = keys;
    const states = new VaultStates(this.http);
    this.auth = new Auth(this.http, () => this.#tokens, (session) => this.#signedIn(session), this.#browserSession);
    this.vault = new Vaults(this.http, keys, states);
    this.secrets = new Secrets(this.http, keys, states);
    this.agents = new Agents(this.http);
    this.policies = new Policies(this.http);
    this.apiKeys = new ApiKeys(this.http);
    this.shares = new Shares(this.http, keys);
    this.audit = new Audit(this.http);
    const bodies = new Bodies(this.http, keys, options.sealedThreads ?? false);
    this.threads = new Threads(this.http, bodies);
    this.messages = new Messages(this.http, bodies);
    this.org = new Orgs(this.http);
    this.admin = new Admin(this.http);
  }

  /** Gives the client a CMEK key more. Throws a CmekError when it is none. */
  unlock(key: CmekKeyOption): void {
    this.#keys.add(key);
  }

  /** Forgets all CMEK keys of the client. What it knows of vaults stays: it writes nothing in the clear to a sealed one. */
  lock(): void {
    this.#keys.clear();
  }

  /** Whether the keys of the server can be used: status "ok" or "unavailable". */
  keyHealth(): Promise<Result<Health>> {
    return this.http.request("GET", "/v1/health/hsm", { public: true });
  }

  /** Whether the server works, and its version. */
  health(): Promise<Result<Health>> {
    return this.http.request("GET", "/v1/health", { public: true });
  }

  #takeCredential(options: ClientOptions): void {
    const { token, agentId } = options;
    if (token !== undefined) return this.#signedIn(typeof token === "string" ? { access_token: token } : token);
    if (this.#browserSession) return;
    const apiKey = options.apiKey ?? environment("KEYFOLD_API_KEY");
    if (apiKey !== undefined && !/^[!-~]+$/.test(apiKey)) throw new KeyfoldError("The API key is empty or holds a character that no key has");
    if (!apiKey?.startsWith("ocv_")) {
      this.#bearer = apiKey;
      return;
    }
    const body = agentId === undefined ? { api_key: apiKey } : { api_key: apiKey, agent_id: agentId };
    this.#tokens = new Tokens(async () => sessionOf(await this.http.post<Token>("/v1/auth/agent-token", body, { public: true })), undefined);
  }

  /** Acts for a session from now on; for nobody without one. */
  #signedIn(session: Session | undefined): void {
    this.#bearer = undefined;
    const renew: Renew = async (last) => {
      if (this.#browserSession) return inOneTab(() => this.#refresh({}));
      if (last?.refresh_token === undefined) return last!; // to its end
      return this.#refresh({ refresh_token: last.refresh_token });
    };
    this.#tokens = session && new Tokens(renew, session);
  }

  async #refresh(body: { refresh_token?: string }): Promise<Session> {
    return sessionOf(await this.http.post<Token>("/v1/auth/refresh", body, { public: true, browserSession: this.#browserSession }));
  }
}

/** A client. Throws a KeyfoldError when an option is wrong; makes no call itself. */
export function createClient(options: ClientOptions = {}): KeyfoldClient {
  return new KeyfoldClient(options);
}

function keysOf({ cmekKey }: ClientOptions): CmekKeyOption[] {
  if (cmekKey === false) return [];
  if (cmekKey !== undefined) return Array.isArray(cmekKey) ? cmekKey : [cmekKey];
  const name = ["KEYFOLD_CMEK_KEY", "ONECLAW_CMEK_KEY"].find(environment);
  return name === undefined ? [] : [checked(name, environment(name)!)];
}

/** The key text of a variable. A CmekError names the variable. */
function checked(name: string, text: string): string {
  try {
    parseCmekKey(text).fill(0);
    return text;
  } catch (err) {
    throw err instanceof CmekError ? new CmekError(err.code, `${name}: ${err.message}`) : err;
  }
}

function parseBase(text: string | undefined): string {
  let url: URL | undefined;
  try {
    url = new URL(text ?? "");
  } catch {
    // told below
  }
  if (!url || !/^https?:$/.test(url.protocol)) throw new KeyfoldError('baseUrl looks like "https://keyfold.example.com"; give it, or set KEYFOLD_URL');
  if (url.username || url.password || url.search || url.hash) throw new KeyfoldError("baseUrl holds no user, query or fragment");
  return url.href.replace(/\/+$/, "");
}

function headersOf({ user }: ClientOptions): Record<string, string> {
  const headers: Record<string, string> = {};
  if (inNode) headers["User-Agent"] = "keyfold-ts/1"; // browsers send their own
  if (user) headers["X-User-ID"] = user.id;
  if (user?.signature !== undefined) headers["X-User-Signature"] = user.signature;
  return headers;
}

interface NodeProcess {
  versions?: { node?: string };
  env?: Record<string, string | undefined>;
}
const nodeProcess = (globalThis as { process?: NodeProcess }).process;
const inNode = nodeProcess?.versions?.node !== undefined;

/** A variable of the environment that is set and not empty. */
function environment(name: string): string | undefined {
  return nodeProcess?.env?.[name] || undefined;
}
