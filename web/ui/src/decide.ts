// Who can read a secret, and why: what the server's package access decides, from
// the policies of a vault. The server decides at each call; this tells beforehand,
// as far as it can be told without the address that a call comes from.

import type { wire } from "@keyfold/sdk";
import { isLabel, matches } from "./glob.js";

/** A user or agent of the org. */
export interface Person {
  kind: "user" | "agent";
  id: string;
  name: string;
  /** Of a user. */
  role?: wire.Profile["role"];
  /** Of an agent, where the caller may see it. */
  agent?: wire.Agent;
}

export interface Verdict {
  /** depends: on the address that the call comes from. */
  can: "yes" | "no" | "depends";
  why: string;
  /** The policies that decide. */
  by: wire.Policy[];
}

/** What is asked for. */
export interface Asked {
  vault: wire.Vault;
  path: string;
  /** Of the secret, when there is one at the path. */
  type?: wire.SecretMetadata["type"] | undefined;
  now: Date;
}

/** Whether somebody can read the secret at a path. policies are all of the vault. */
export function canRead(who: Person, asked: Asked, policies: readonly wire.Policy[]): Verdict {
  const own = policies.filter((p) => p.principal_type === who.kind && p.principal_id === who.id);
  const closed = beyondCeiling(who, asked, own);
  if (closed !== undefined) return { can: "no", why: closed, by: [] };
  if (who.id === asked.vault.created_by && who.kind === asked.vault.created_by_type) return { can: "yes", why: "Created the vault; no policy limits its creator", by: [] };
  return byPolicies(own, asked);
}

/** Why an agent cannot, whatever its policies say. */
function beyondCeiling({ agent }: Person, { vault, path, type, now }: Asked, own: readonly wire.Policy[]): string | undefined {
  if (!agent) return undefined;
  if (!agent.is_active) return "The agent is not active";
  if (agent.expires_at !== undefined && new Date(agent.expires_at) <= now) return "The agent has expired";
  if (agent.vault_ids.length > 0 && !agent.vault_ids.includes(vault.id)) return "The agent is bound to other vaults";
  if (agent.scopes.length === 0 && own.length === 0) return "The agent has no scopes, and no policy that would give it some";
  const scopes = agent.scopes.filter((s) => !isLabel(s));
  if (scopes.length > 0 && !scopes.some((s) => matches(s, path))) return `No scope of the agent matches this path (${scopes.join(", ")})`;
  if (agent.intents_api_enabled && (type === "private_key" || type === "ssh_key")) return "The agent signs through intents, and reads no keys";
  return undefined;
}

function byPolicies(own: readonly wire.Policy[], asked: Asked): Verdict {
  const ranked = own.filter((p) => p.permissions.includes("read") && matches(p.secret_path_pattern, asked.path)).sort(rank);
  const perhaps: wire.Policy[] = []; // count for some addresses
  let last: wire.Policy | undefined; // counts for all
  for (const p of ranked) {
    const counts = countsNow(p, asked.now);
    if (counts === "address") perhaps.push(p);
    if (counts !== "yes") continue;
    last = p;
    break;
  }
  const otherwise = last !== undefined && last.effect !== "deny";
  const other = perhaps.filter((p) => (p.effect !== "deny") !== otherwise);
  if (other.length > 0) return { can: "depends", why: addressed(other, otherwise), by: last ? [...other, last] : other };
  if (last) return { can: otherwise ? "yes" : "no", why: `${otherwise ? "Allowed" : "Denied"} by the policy ${last.secret_path_pattern}${ranked.length > 1 ? ", which goes before the others" : ""}`, by: [last] };
  if (ranked.length > 0 && ranked.length > perhaps.length) return { can: "no", why: "The policies that match do not count now: they have ended, or it is outside of their hours", by: [] };
  return { can: "no", why: "No policy allows it", by: [] };
}

function addressed(policies: readonly wire.Policy[], otherwise: boolean): string {
  const from = [...new Set(policies.flatMap((p) => p.conditions?.ip_allowlist ?? []))].join(", ");
  return otherwise ? `Denied for calls from ${from}, otherwise allowed` : `Allowed for calls from ${from}, otherwise not`;
}

/** The greater priority first; at the same one a deny beats an allow. */
export function rank(a: wire.Policy, b: wire.Policy): number {
  return (b.priority ?? 0) - (a.priority ?? 0) || Number(b.effect === "deny") - Number(a.effect === "deny");
}

/** Whether a policy counts at this moment; "address": for the addresses that it lists. */
export function countsNow(policy: wire.Policy, now: Date): "yes" | "no" | "address" {
  const { conditions, expires_at, effect } = policy;
  if (expires_at !== undefined && new Date(expires_at) <= now) return "no";
  if (conditions?.environment_in) return effect === "deny" ? "yes" : "no"; // nobody can say whether it holds
  if (conditions?.time_window && !inWindow(conditions.time_window, now)) return "no";
  return conditions?.ip_allowlist ? "address" : "yes";
}

const days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/** Whether a moment is in a window of hours; one that goes over midnight belongs to the day that it begins on. */
export function inWindow(window: wire.TimeWindow, now: Date): boolean {
  const { minute, weekday } = wallClock(window.timezone ?? "UTC", now);
  const after = minutes(window.after ?? "00:00");
  const before = window.before === undefined ? 24 * 60 : minutes(window.before);
  const on = (day: number) => !window.weekdays || window.weekdays.some((d) => d.toLowerCase().slice(0, 3) === days[(day + 7) % 7]);
  if (after < before) return after <= minute && minute < before && on(weekday);
  return minute >= after ? on(weekday) : minute < before && on(weekday - 1);
}

function minutes(text: string): number {
  const [hours = 0, rest = 0] = text.split(":").map(Number);
  return hours * 60 + rest;
}

function wallClock(timeZone: string, now: Date): { minute: number; weekday: number } {
  const format = formatIn(timeZone);
  if (!format) return { minute: NaN, weekday: NaN }; // in no window
  const parts = format.formatToParts(now);
  const part = (type: Intl.DateTimeFormatPartTypes) => parts.find((p) => p.type === type)?.value ?? "";
  return { minute: Number(part("hour")) * 60 + Number(part("minute")), weekday: days.indexOf(part("weekday").toLowerCase()) };
}

/** Undefined for a zone that this browser does not know. */
function formatIn(timeZone: string): Intl.DateTimeFormat | undefined {
  try {
    return new Intl.DateTimeFormat("en-US", { timeZone, hourCycle: "h23", weekday: "short", hour: "2-digit", minute: "2-digit" });
  } catch {
    return undefined;
  }
}
