// The session of this tab: the SDK's client, and who it acts for. The access
// token is in the client's memory; what renews it is in a cookie that no script
// can read. So a reload goes on with the session, and nothing is stored here.

import { createClient, type KeyfoldClient, type wire } from "@keyfold/sdk";
import { signal } from "@preact/signals";

/** The one way to the server. */
export const client: KeyfoldClient = createClient({ baseUrl: location.origin, browserSession: true, cmekKey: false });

/** Who is signed in: undefined until the server was asked, null when nobody is. */
export const user = signal<wire.Profile | null | undefined>(undefined);

/** Asks the server whether this browser has a session. */
export async function resume(): Promise<void> {
  const { data } = await client.auth.resume();
  if (data) await whoAmI();
  else user.value = null;
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
