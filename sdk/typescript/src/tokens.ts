// The credential of a client. A user's API key is sent itself; an agent's is
// exchanged for short-lived tokens; a user's session is renewed by its refresh
// token. Tokens stay in memory.

import { KeyfoldError, NetworkError } from "./errors.js";
import type { Token } from "./types.js";

/** A session, as signing in answers it. */
export type Session = Pick<Token, "access_token"> & Partial<Pick<Token, "expires_in" | "refresh_token">>;

/** Gets the next session: for an agent's key, or by the refresh token of the one before. */
export type Renew = (last: Session | undefined) => Promise<Session>;

const renewBefore = 60_000;
const retryPause = 10_000;

/** Keeps a session and renews it when 60 seconds of it are left (half of it, of one under two minutes). */
export class Tokens {
  #session: Session | undefined;
  #expires = 0;
  #renewAt = 0;
  #renewing: Promise<void> | undefined;
  #failed: unknown;
  #retryAt = 0;
  readonly #renew: Renew;
  readonly #now: () => number;

  constructor(renew: Renew, session: Session | undefined, now: () => number = Date.now) {
    this.#renew = renew;
    this.#now = now;
    if (session) this.set(session);
  }

  /** Takes a session that was got otherwise. */
  set(session: Session): void {
    const now = this.#now();
    const life = lifeOf(session, now);
    this.#session = session;
    this.#expires = now + life;
    this.#renewAt = this.#expires - Math.min(renewBefore, life / 2);
    this.#failed = undefined;
  }

  /** The refresh token at hand. */
  get refreshToken(): string | undefined {
    return this.#session?.refresh_token;
  }

  /** A live token. Of many calls at once, one renews; a token that could not be renewed is used to its end. */
  async get(): Promise<string> {
    const now = this.#now();
    if (now >= this.#renewAt && now >= this.#retryAt) {
      this.#renewing ??= this.#next().finally(() => (this.#renewing = undefined));
      await this.#renewing;
    }
    if (this.#failed !== undefined && this.#now() >= this.#expires) throw this.#failed;
    return this.#session!.access_token;
  }

  async #next(): Promise<void> {
    try {
      this.set(await this.#renew(this.#session));
    } catch (err) {
      this.#failed = err;
      if (!(err instanceof NetworkError)) this.#retryAt = this.#now() + retryPause;
    }
  }
}

/** The life that is left of a session, in ms: as the server said, or as the token says, or for ever. */
function lifeOf(session: Session, now: number): number {
  if (session.expires_in) return 1000 * session.expires_in;
  try {
    const claims = session.access_token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/");
    const exp = (JSON.parse(atob(claims)) as { exp?: unknown }).exp;
    if (typeof exp === "number") return Math.max(0, 1000 * exp - now);
  } catch {
    // not a JWT
  }
  return Number.MAX_SAFE_INTEGER;
}

/** Runs work while no other tab of this origin does, where the browser can tell. */
export async function inOneTab<T>(work: () => Promise<T>): Promise<T> {
  const { locks } = (globalThis.navigator ?? {}) as { locks?: LockManager };
  return locks ? await locks.request("keyfold-session", work) : work();
}

/** The session in an answer that should hold one. */
export function sessionOf(answer: Partial<Token>): Session {
  if (!answer.access_token) throw new KeyfoldError("The server answered without a token; is it a Keyfold server?");
  return answer as Session;
}
