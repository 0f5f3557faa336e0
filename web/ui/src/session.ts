// The session of this tab: the SDK's client, and who it acts for. The access
// token is in the client's memory; what renews it is in a cookie that no script
// can read. So a reload goes on with the session, and nothing is stored here.

import { createClient, KeyfoldError, NetworkError, type ErrorInfo, type KeyfoldClient, type wire } from "@keyfold/sdk";
import { signal } from "@preact/signals";

/** The one way to the server. */
export const client: KeyfoldClient = createClient({ baseUrl: location.origin, browserSession: true, cmekKey: false });

/** Who is signed in: undefined until the server was asked, null when nobody is. */
export const user = signal<wire.Profile | null | undefined>(undefined);

/** Why the server could not be asked who is signed in, when it could not. */
export const unasked = signal<ErrorInfo | undefined>(undefined);

/** Asks the server whether this browser has a session. */
export async function resume(): Promise<void> {
  unasked.value = undefined;
  try {
    const { error } = await client.auth.resume();
    if (!error) await whoAmI();
    else if (error.type === "auth_error") user.value = null;
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
  const { data } = await client.auth.me();
  user.value = data;
}

/** Looks whether the session is over, after a call that was refused for its credential. */
export async function stillSignedIn(): Promise<void> {
  if (!user.value) return;
  const { meta } = await client.auth.me();
  if (meta.status === 401) user.value = null;
}

/** Ends the session of this browser, or all of the user's. */
export async function signOut(everywhere: boolean): Promise<void> {
  await (everywhere ? client.auth.logoutEverywhere() : client.auth.logout());
  user.value = null;
}
