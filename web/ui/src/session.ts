// The session of this tab: the SDK's client, and who it acts for. The access
// token is in the client's memory; what renews it is in a cookie that no script
// can read. So a reload goes on with the session, and nothing is stored here.

import { createClient, KeyfoldError, NetworkError, type ErrorInfo, type KeyfoldClient, type Result, type wire } from "@keyfold/sdk";
import { signal } from "@preact/signals";

/** The one way to the server. */
export const client: KeyfoldClient = createClient({ baseUrl: location.origin, browserSession: true, cmekKey: false });

/** Who is signed in: undefined until the server was asked, null when nobody is. */
export const user = signal<wire.Profile | null | undefined>(undefined);

/** Why the server could not be asked who is signed in, when it could not. */
export const unasked = signal<ErrorInfo | undefined>(undefined);

/**
 * What the tabs of this browser tell each other: "out" when one has ended the
 * session, "in" when one has begun it, or goes on with it after a change that ended
 * the others' tokens. Nothing else, so that nobody has something to overhear or forge.
 */
const tabs = new BroadcastChannel("keyfold-session");
tabs.onmessage = ({ data }) => {
  if (data === "out") over();
  if (data === "in") void resume();
};

/** Asks the server whether this browser has a session. */
export async function resume(): Promise<void> {
  unasked.value = undefined;
  try {
    const { error } = await client.auth.resume();
    if (!error) await whoAmI();
    else if (error.type === "auth_error") over();
    else unasked.value = error;
  } catch (err) {
    unasked.value = told(err);
  }
}

/** An error that a call was rejected with, as people read it. What is no error of the client is thrown. */
export function told(err: unknown): ErrorInfo {
  if (!(err instanceof KeyfoldError)) throw err;
  if (!(err instanceof NetworkError) || err.code === "aborted") return err.info();
  return { ...err.info(), message: "The server does not answer. Look whether it runs and this computer reaches it, then try again." };
}

/** Reads who the client acts for, after a sign-in or a change. */
export async function whoAmI(): Promise<void> {
  const { data, error, meta } = await client.auth.me();
  if (data) take(data);
  else if (meta.status === 401 || (!user.value && error.type === "auth_error")) over();
  else if (!user.value) {
    unasked.value = error; // there is a session, and it is not known whose
    user.value = undefined;
  }
}

/** What a page does once it has signed in. */
export async function signedIn(): Promise<void> {
  unasked.value = undefined;
  try {
    await whoAmI();
  } catch (err) {
    unasked.value = told(err);
    user.value = undefined;
  }
  tellTabs();
}

/** Has the other tabs go on with the session as it is now. */
export function tellTabs(): void {
  tabs.postMessage("in");
}

let looking: Promise<void> | undefined;

/** Looks whether the session is over, after a call that was refused for its credential. The browser may keep another one, of another tab. */
export async function stillSignedIn(): Promise<void> {
  if (!user.value) return;
  looking ??= look().finally(() => (looking = undefined));
  await looking;
}

async function look(): Promise<void> {
  const { meta } = await client.auth.me();
  if (meta.status === 401) await resume();
}

/** Why the server could not be told that the session is over, when it could not: it still keeps it. */
export const unended = signal<ErrorInfo | undefined>(undefined);

/** Ends the session of this browser. All its tabs forget it at once, and their keys, whatever becomes of the call. */
export async function signOut(): Promise<void> {
  const ended = end(() => client.auth.logout());
  tabs.postMessage("out");
  user.value = null;
  unended.value = await ended;
}

/** Ends a session that could not be ended before. */
export async function endAgain(): Promise<void> {
  unended.value = await end(async () => {
    const got = await client.auth.resume();
    return got.error ? got : client.auth.logout();
  });
}

/** Why the session could not be ended; undefined: it is over. This tab forgets it in any case. */
async function end(call: () => Promise<Result<unknown>>): Promise<ErrorInfo | undefined> {
  try {
    const { error } = await call();
    return error && error.type !== "auth_error" ? error : undefined;
  } catch (err) {
    return told(err);
  } finally {
    client.auth.forget();
  }
}

/** The session was ended by a call of a page: all tabs forget it. */
export function signedOut(): void {
  tabs.postMessage("out");
  over();
}

/** Nobody is signed in: what this tab has of a session, and its keys, are forgotten. */
function over(): void {
  client.auth.forget();
  user.value = null;
}

/** Somebody is signed in. Keys of another user are forgotten first. */
function take(profile: wire.Profile): void {
  if (user.value && user.value.id !== profile.id) user.value = null;
  unended.value = undefined; // the browser keeps this session now
  user.value = profile;
}
