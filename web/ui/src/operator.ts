// The operator's admin key: a second client of the SDK, which has it in this
// tab's memory alone. It is forgotten on demand, on sign-out, on a reload, and
// when nobody has touched the page for a while.

import { createClient, type KeyfoldClient, type Result, type wire } from "@keyfold/sdk";
import { effect, signal } from "@preact/signals";
import { whenIdle } from "./keys.js";
import { user } from "./session.js";

/** The client with the operator's key; null while there is none. */
export const operator = signal<KeyfoldClient | null>(null);

/** Takes a key when the server says that it is an operator's. */
export async function enter(key: string): Promise<Result<wire.ServiceHealth>> {
  const client = createClient({ baseUrl: location.origin, apiKey: key.trim(), cmekKey: false });
  const who = user.value?.id;
  const got = await client.admin.health();
  if (got.data && who !== undefined && user.value?.id === who) operator.value = client; // or he has signed out meanwhile
  return got;
}

/** Forgets the key. */
export function forget(): void {
  operator.value = null;
}

effect(() => {
  if (user.value === null) forget();
});

effect(() => {
  if (operator.value !== null) return whenIdle(forget);
});
