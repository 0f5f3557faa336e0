// Who can read a secret, and why: what the server's packages access and policy
// decide. The server decides at each call; this tells beforehand, for any address
// and any hour. It says "no" only of who cannot read from anywhere at any hour, and
// "yes" only of who always can. Where it cannot tell, it says that it depends.
//
// internal/policy/testdata/readers.json holds what the server decided in many cases.
// test/policies.test.ts holds this to it, and a test of package policy the server.

import type { wire } from "@keyfold/sdk";
import { contains, parseNetwork, samples, type Address, type Network } from "./addresses.js";
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
  /** depends: on the address that the call comes from, or on the hour. */
  can: "yes" | "no" | "depends";
  why: string;
  /** The policies that decide; the first that counts goes before the others. */
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
  if (created(who, asked.vault)) return { can: "yes", why: "Created the vault; no policy limits its creator", by: [] };
  return byPolicies(own, asked);
}

/** Whether a call of this moment from an address reads; undefined: this page cannot tell. */
export function readsFrom(who: Person, asked: Asked, policies: readonly wire.Policy[], from: Address): boolean | undefined {
  const own = policies.filter((p) => p.principal_type === who.kind && p.principal_id === who.id);
  if (beyondCeiling(who, asked, own) !== undefined) return false;
  return created(who, asked.vault) || decided(ruling(own, asked), from, (r) => isOpen(r, asked.now));
}

function created(who: Person, vault: wire.Vault): boolean {
  return who.id === vault.created_by && who.kind === vault.created_by_type;
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

/** A policy that may count, and on what that hangs. */
interface Rule {
  policy: wire.Policy;
  allows: boolean;
  /** Only from these. */
  from: Network[] | undefined;
  window: wire.TimeWindow | undefined;
  /** Has a condition that this page does not know. */
  strange: boolean;
}

/** The policies that may count for reading at the path, in the order in which they go before each other. */
function ruling(own: readonly wire.Policy[], asked: Asked): Rule[] {
  return own
    .filter((p) => p.permissions.includes("read") && matches(p.secret_path_pattern, asked.path) && !hasEnded(p, asked.now))
    .sort(rank)
    .map(ruleOf)
    .filter((r) => r !== undefined);
}

function hasEnded(policy: wire.Policy, now: Date): boolean {
  return policy.expires_at !== undefined && new Date(policy.expires_at) <= now;
}

const known: ReadonlySet<string> = new Set(["ip_allowlist", "time_window", "environment_in"]);

/** Undefined: the policy never counts. */
function ruleOf(policy: wire.Policy): Rule | undefined {
  const allows = policy.effect !== "deny";
  const c = policy.conditions ?? {};
  if (c.environment_in) return allows ? undefined : { policy, allows, from: undefined, window: undefined, strange: false }; // nobody can say whether it holds
  const from = c.ip_allowlist?.map(parseNetwork);
  const strange = Object.keys(c).some((name) => !known.has(name)) || (from?.includes(undefined) ?? false);
  return { policy, allows, from: from?.filter((n) => n !== undefined), window: c.time_window, strange };
}

/**
 * What the first rule that counts says; no rule: no. open says whether the rule counts
 * at the time in question; undefined: that cannot be told.
 */
function decided(rules: readonly Rule[], from: Address, open: (r: Rule) => boolean | undefined): boolean | undefined {
  const unsure = new Set<boolean>();
  for (const r of rules) {
    if (!r.strange && r.from && !r.from.some((n) => contains(n, from))) continue;
    const counts = open(r);
    if (counts === false) continue;
    unsure.add(r.allows);
    if (counts) return unsure.size === 1 ? r.allows : undefined;
  }
  return unsure.has(true) ? undefined : false;
}

/** Whether a rule counts at a moment. */
function isOpen(r: Rule, now: Date): boolean | undefined {
  if (r.window && inWindow(r.window, now) === false) return r.strange ? undefined : false;
  if (r.strange || (r.window && inWindow(r.window, now) === undefined)) return undefined;
  return true;
}

const varies = (r: Rule) => r.strange || r.window !== undefined;
const maxNetworks = 2_000; // which a page compares in no time

function byPolicies(own: readonly wire.Policy[], asked: Asked): Verdict {
  const rules = ruling(own, asked);
  const networks = rules.flatMap((r) => r.from ?? []);
  const places = samples(networks.slice(0, maxNetworks));
  const whole = networks.length <= maxNetworks;
  const always = places.map((from) => decided(rules, from, (r) => (varies(r) ? !r.allows : true))); // at the worst of times
  const ever = places.map((from) => decided(rules, from, (r) => (varies(r) ? r.allows : true))); // at the best
  const by = deciding(rules);
  if (whole && always.every((yes) => yes)) return { can: "yes", why: whyYes(rules), by };
  if (whole && !ever.some((yes) => yes)) return rules.some((r) => r.allows) || rules.some(isFixed) ? { can: "no", why: whyNo(rules), by } : { can: "no", why: nothingAllows(own, asked), by: [] };
  const now = places.map((from) => decided(rules, from, (r) => isOpen(r, asked.now)));
  return { can: "depends", why: whole ? dependence(rules, places, now) : "It depends on the address that the call comes from", by };
}

/** The rules up to the first that counts whatever the address and the hour. */
function deciding(rules: readonly Rule[]): wire.Policy[] {
  const last = rules.findIndex(isFixed);
  return (last < 0 ? rules : rules.slice(0, last + 1)).map((r) => r.policy);
}

const isFixed = (r: Rule) => r.from === undefined && !varies(r);

function whyYes(rules: readonly Rule[]): string {
  return byOne("Allowed", rules, true) ?? "Allowed by policies that between them count for every address";
}

function whyNo(rules: readonly Rule[]): string {
  return byOne("Denied", rules, false) ?? "Denied by policies that between them count for every address";
}

function byOne(what: string, rules: readonly Rule[], allows: boolean): string | undefined {
  const by = rules.find(isFixed);
  if (by?.allows !== allows) return undefined;
  return `${what} by the policy ${by.policy.secret_path_pattern}${rules.length > 1 ? ", which goes before the others" : ""}`;
}

function nothingAllows(own: readonly wire.Policy[], { path, now }: Asked): string {
  const ended = own.some((p) => p.effect !== "deny" && p.permissions.includes("read") && matches(p.secret_path_pattern, path) && hasEnded(p, now));
  return ended ? "No policy allows it any more: what allowed it has ended" : "No policy allows it";
}

/** On what it depends: now is what a call from each of the places reads at this moment. */
function dependence(rules: readonly Rule[], places: readonly Address[], now: readonly (boolean | undefined)[]): string {
  if (rules.some((r) => r.strange)) return "It depends on conditions that this page does not know";
  const hours = rules.some((r) => r.window);
  const later = hours ? "; at other hours it may be otherwise" : "";
  if (now.includes(undefined)) return "It depends on hours in a time zone that this browser does not know";
  if (now.every((yes) => yes)) return `Allowed at this hour${later}`;
  if (!now.some((yes) => yes)) return `Not allowed at this hour${later}`;
  const at = hours ? " at this hour" : "";
  const isIn = (allows: boolean) => places.map((a) => rules.some((r) => r.allows === allows && r.from?.some((n) => contains(n, a))));
  const listed = (allows: boolean) => [...new Set(rules.filter((r) => r.allows === allows).flatMap((r) => r.policy.conditions?.ip_allowlist ?? []))].join(", ");
  if (isIn(true).every((inside, i) => inside === now[i])) return `Allowed for calls from ${listed(true)}${at}, otherwise not${later}`;
  if (isIn(false).every((inside, i) => inside !== now[i])) return `Denied for calls from ${listed(false)}${at}, otherwise allowed${later}`;
  return `It depends on the address that the call comes from: the first of these that counts for it decides${later}`;
}

/** The greater priority first; at the same one a deny beats an allow. */
export function rank(a: wire.Policy, b: wire.Policy): number {
  return (b.priority ?? 0) - (a.priority ?? 0) || Number(b.effect === "deny") - Number(a.effect === "deny");
}

const days = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/**
 * Whether a moment is in a window of hours; one that goes over midnight belongs to the
 * day that it begins on. Undefined: this browser does not know the zone.
 */
export function inWindow(window: wire.TimeWindow, now: Date): boolean | undefined {
  const clock = wallClock(window.timezone ?? "UTC", now);
  if (!clock) return undefined;
  const { minute, weekday } = clock;
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

/** What a clock shows in a zone; undefined: this browser does not know the zone. */
function wallClock(timeZone: string, now: Date): { minute: number; weekday: number } | undefined {
  try {
    const format = new Intl.DateTimeFormat("en-US", { timeZone, hourCycle: "h23", weekday: "short", hour: "2-digit", minute: "2-digit" });
    const parts = format.formatToParts(now);
    const part = (type: Intl.DateTimeFormatPartTypes) => parts.find((p) => p.type === type)?.value ?? "";
    return { minute: Number(part("hour")) * 60 + Number(part("minute")), weekday: days.indexOf(part("weekday").toLowerCase()) };
  } catch {
    return undefined;
  }
}
