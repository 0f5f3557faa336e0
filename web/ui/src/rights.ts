// What the user may do, where the page can know it: so that it offers no more, and
// says what a refusal means. The server decides.

import type { ErrorInfo, wire } from "@keyfold/sdk";
import { user } from "./session.js";

/** Whether the user is the org's owner or one of its admins. */
export function runsOrg(): boolean {
  return user.value?.role === "owner" || user.value?.role === "admin";
}

/** Whether the user made the vault: nobody else may delete it, or change its CMEK key. */
export function madeIt(vault: wire.Vault): boolean {
  return vault.created_by === user.value?.id;
}

/** What the server's actions are in words. */
const acts: Record<string, string> = {
  "vault.read": "open this vault",
  "vault.delete": "delete this vault",
  "vault.cmek": "change the key of this vault",
  "secret.read": "read this secret",
  "secret.list": "see the secrets here",
  "secret.write": "write a secret here",
  "secret.delete": "delete this secret",
  "secret.rotate": "have this secret made anew",
  "secret.share": "share this secret",
  "thread.read": "read this thread",
  "thread.write": "change this thread",
  "thread.delete": "delete this thread",
  "thread.share": "say who takes part in this thread",
  "message.append": "post in this thread",
  "message.read": "read this thread",
  "message.write": "change this message",
  "policy.read": "see the policies of this vault",
  "policy.write": "change the policies of this vault",
  "agent.write": "change this agent",
  "org_key.write": "make keys of the org",
};

/** The message of an error; a refusal for lack of a right in words. */
export function wordsOf({ type, message }: ErrorInfo): string {
  const act = type === "auth_error" ? /may not do ([a-z_.]+) here/.exec(message)?.[1] : undefined;
  if (act === undefined) return message;
  return `You may not ${acts[act] ?? "do this"}. Ask the owner for access.`;
}
