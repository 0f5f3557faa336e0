// Who may: sessions, second factors, orgs, API keys, agents and policies.

import { AuthError } from "./errors.js";
import { pathOf, type Http, type RequestOptions } from "./http.js";
import { Passkeys } from "./passkeys.js";
import { result, type Answer, type Result } from "./result.js";
import { inOneTab, sessionOf, type Session, type Tokens } from "./tokens.js";
import type * as wire from "./types.js";

/** client.auth. What signs in makes the client act for that user from then on, and renews the session by itself. */
export class Auth {
  readonly passkeys: Passkeys;
  readonly #http: Http;
  readonly #signedIn: (session: Session | undefined) => void;
  readonly #tokens: () => Tokens | undefined;
  readonly #browserSession: boolean;

  constructor(http: Http, tokens: () => Tokens | undefined, signedIn: (session: Session | undefined) => void, browserSession: boolean) {
    this.#http = http;
    this.#tokens = tokens;
    this.#signedIn = signedIn;
    this.#browserSession = browserSession;
    this.passkeys = new Passkeys(http, (path, body) => this.#begin<wire.Token>(path, body));
  }

  signUp(request: wire.SignUp): Promise<Result<wire.SignedUp>> {
    return this.#signIn("/v1/auth/signup", request);
  }

  /** Signs in with a password. When data.mfa_required is set, go on with verifyMfa. */
  login(request: { email: string; password: string }): Promise<Result<wire.SignedIn>> {
    return this.#signIn("/v1/auth/token", request);
  }

  /** Ends what login began, with a code of the app or a recovery code. */
  verifyMfa(request: { mfa_token: string; code: string }): Promise<Result<wire.Token>> {
    return this.#signIn("/v1/auth/mfa/verify", request);
  }

  /** Goes on with the session that this browser keeps (browserSession), after a reload say; error type "auth_error": it keeps none. */
  resume(): Promise<Result<wire.Token>> {
    return result(() =>
      inOneTab(async () => {
        const answer = await this.#http.answer<wire.Token>("POST", "/v1/auth/refresh", { public: true, browserSession: true, body: {} });
        if (answer.status === 204) throw new AuthError("This browser keeps no session; sign in", { status: 204 });
        this.#signedIn(sessionOf(answer.data));
        return answer;
      }),
    );
  }

  /** Ends the session of the client: its token and refresh token are dead when the call returns. */
  logout(): Promise<Result<null>> {
    return result(async () => {
      await this.#tokens()?.get(); // now, so that the refresh token is the last one
      const refresh_token = this.#tokens()?.refreshToken;
      return this.#end("/v1/auth/token", refresh_token === undefined ? {} : { body: { refresh_token } });
    });
  }

  /** Forgets the session in this client, and calls nobody: of a page that another one has signed out. */
  forget(): void {
    this.#signedIn(undefined);
  }

  /** Ends all sessions of the user, this one too. */
  logoutEverywhere(): Promise<Result<null>> {
    return result(() => this.#end("/v1/auth/tokens"));
  }

  async #end(path: string, options: RequestOptions = {}): Promise<Answer<null>> {
    const answer = await this.#withCookie<null>("DELETE", path, options);
    this.#signedIn(undefined);
    return answer;
  }

  /**
   * Makes a call that may change the cookie of a browser's session: while no other
   * tab does, so that the cookie is of the last one. A token is got before that, since
   * renewing it would wait for this call.
   */
  async #withCookie<T>(method: string, path: string, options: RequestOptions): Promise<Answer<T>> {
    if (!this.#browserSession) return this.#http.answer(method, path, options);
    const token = options.public ? undefined : await this.#tokens()?.get();
    const headers: Record<string, string> = token === undefined ? {} : { Authorization: `Bearer ${token}` };
    return inOneTab(() => this.#http.answer<T>(method, path, { ...options, headers, public: true, browserSession: true }));
  }

  /** The user that the client acts for. */
  me(): Promise<Result<wire.Profile>> {
    return this.#http.request("GET", "/v1/auth/me");
  }

  updateMe(request: wire.UpdateProfile): Promise<Result<wire.Profile>> {
    return this.#http.request("PATCH", "/v1/auth/me", { body: request });
  }

  /** Changes the password and ends all other sessions; this one, too, by the end of its token, unless a browser keeps it. */
  changePassword(request: { current_password: string; new_password: string }): Promise<Result<null>> {
    return result(() => this.#withCookie("POST", "/v1/auth/change-password", { body: request }));
  }

  /** Makes a second factor for an app that shows codes. It counts once confirmTotp was called with one. */
  beginTotp(request: { password: string }): Promise<Result<wire.TOTP>> {
    return this.#http.request("POST", "/v1/auth/mfa/totp", { body: request });
  }

  /** Puts the second factor in force. The recovery codes of the answer cannot be had again. */
  confirmTotp(request: { code: string }): Promise<Result<wire.RecoveryCodes>> {
    return this.#http.request("POST", "/v1/auth/mfa/totp/confirm", { body: request });
  }

  /** Takes the second factor away, with a code of the app or a recovery code. */
  disableTotp(request: { code: string }): Promise<Result<null>> {
    return this.#http.request("DELETE", "/v1/auth/mfa/totp", { body: request });
  }

  #signIn<T extends wire.SignedIn>(path: string, body: unknown): Promise<Result<T>> {
    return result(() => this.#begin<T>(path, body));
  }

  async #begin<T extends wire.SignedIn>(path: string, body: unknown): Promise<Answer<T>> {
    const answer = await this.#withCookie<T>("POST", path, { public: true, body });
    if (!answer.data.mfa_required) this.#signedIn(sessionOf(answer.data));
    return answer;
  }
}

/** client.org: the org that the client acts in. */
export class Orgs {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  get(): Promise<Result<wire.Org>> {
    return this.#http.request("GET", "/v1/org");
  }

  /** The users of the org, oldest first. */
  members(): Promise<Result<wire.Members>> {
    return this.#http.request("GET", "/v1/org/members");
  }
  setRole(userId: string, role: wire.Member["role"]): Promise<Result<wire.Member>> {
    return result(() => this.#http.answer("PATCH", pathOf("org", "members", userId), { body: { role } }));
  }
  removeMember(userId: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("org", "members", userId)));
  }

  /** Lets somebody join by signUp. The text of the invitation, which the answer holds, cannot be had again; the server sends no mail. */
  invite(request: wire.CreateInvitation): Promise<Result<wire.InvitationCreated>> {
    return this.#http.request("POST", "/v1/org/invitations", { body: request });
  }

  /** The invitations that can still be used, oldest first. */
  invitations(): Promise<Result<wire.Invitations>> {
    return this.#http.request("GET", "/v1/org/invitations");
  }
  deleteInvitation(id: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("org", "invitations", id)));
  }
}

/** client.apiKeys */
export class ApiKeys {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** Makes an API key. The key, which the answer holds, cannot be had again. */
  create(request: wire.CreateApiKey): Promise<Result<wire.ApiKeyCreated>> {
    return this.#http.request("POST", "/v1/auth/api-keys", { body: request });
  }
  list(): Promise<Result<{ keys: wire.ApiKey[] }>> {
    return this.#http.request("GET", "/v1/auth/api-keys");
  }
  delete(id: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("auth", "api-keys", id)));
  }
}

/** client.agents */
export class Agents {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** Makes an agent. Its API key, which the answer holds, cannot be had again. */
  create(request: wire.CreateAgent): Promise<Result<wire.AgentCreated>> {
    return this.#http.request("POST", "/v1/agents", { body: request });
  }

  /** A page of the agents, oldest first; next_cursor is absent on the last. */
  list(query: { limit?: number; cursor?: string } = {}): Promise<Result<wire.Agents>> {
    return this.#http.request("GET", "/v1/agents", { query });
  }

  get(id: string): Promise<Result<wire.Agent>> {
    return result(() => this.#http.answer("GET", pathOf("agents", id)));
  }

  /** The agent that the client acts for. */
  me(): Promise<Result<wire.AgentSelf>> {
    return this.#http.request("GET", "/v1/agents/me");
  }

  /** Changes what the request holds. is_active false ends its tokens at once. */
  update(id: string, request: wire.UpdateAgent): Promise<Result<wire.Agent>> {
    return result(() => this.#http.answer("PATCH", pathOf("agents", id), { body: request }));
  }

  /** Gives an agent another API key; the one before, and all its tokens, are dead then. */
  rotateKey(id: string): Promise<Result<wire.AgentKeyRotated>> {
    return result(() => this.#http.answer("POST", pathOf("agents", id, "rotate-key")));
  }

  delete(id: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("agents", id)));
  }
}

/** client.policies */
export class Policies {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  /** Says what a principal may do, or may not, in a vault. It counts from the next request on. */
  create(vaultId: string, request: wire.CreatePolicy): Promise<Result<wire.Policy>> {
    return result(() => this.#http.answer("POST", pathOf("vaults", vaultId, "policies"), { body: request }));
  }
  list(vaultId: string): Promise<Result<{ policies: wire.Policy[] }>> {
    return result(() => this.#http.answer("GET", pathOf("vaults", vaultId, "policies")));
  }
  update(vaultId: string, id: string, request: wire.UpdatePolicy): Promise<Result<wire.Policy>> {
    return result(() => this.#http.answer("PUT", pathOf("vaults", vaultId, "policies", id), { body: request }));
  }
  delete(vaultId: string, id: string): Promise<Result<null>> {
    return result(() => this.#http.answer("DELETE", pathOf("vaults", vaultId, "policies", id)));
  }
}
