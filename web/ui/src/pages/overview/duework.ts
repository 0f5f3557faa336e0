// What is due: keys that are older than their policy, and what expires soon. The
// ages of KEKs, DEKs and CMEK keys are the operator's policy, which the server
// tells; those of API keys, and how long ahead one is told, are the dashboard's.

import type { ErrorInfo, KeyfoldClient, Result, wire } from "@keyfold/sdk";
import { settle } from "../../load.js";
import { client } from "../../session.js";
import { nameOfKek } from "../keys/names.js";

const day = 24 * 60 * 60_000;

/** The dashboard's part of the policy, in days. */
export const own = { apiKey: 90, ahead: 7 };

/** From which part of its wraps on a KEK's version is due. */
const used = 0.8;

/** How many pages of KEKs, and of threads, are looked at. */
const mostPages = 10;
const pageSize = 100;
const mostAgents = 1000;

export interface DueItem {
  what: string;
  name: string;
  href: string;
  why: string;
  /** When it expires, or when what is too old was made. */
  at: string;
  act: string;
}

/** What is due, by which policy. */
export interface Found {
  items: DueItem[];
  /** Ages in seconds; what is absent, none is told of. */
  policy: wire.KeyAges;
  /** Why something was not looked at. */
  missed: string[];
}

type Part = Partial<Found>;

/** The time of something that is older than so many seconds. */
function older(at: string | number | undefined, seconds: number | undefined): string | undefined {
  if (at === undefined || !seconds) return undefined;
  const made = new Date(at);
  return Date.now() - made.getTime() > seconds * 1000 ? made.toISOString() : undefined;
}

const soon = (at: string | undefined): at is string => at !== undefined && Date.parse(at) - Date.now() < own.ahead * day;

/** What could not be looked at; that somebody may not see a thing at all is nothing to tell. */
function missing(what: string, error: ErrorInfo): Part {
  return error.type === "auth_error" ? {} : { missed: [`${what}: ${error.message}`] };
}

/** Looks at all that the user sees, and with an operator's client at the server's keys, too. */
export async function dueOf(vaults: readonly wire.Vault[], admin: KeyfoldClient | null): Promise<Result<Found>> {
  const parts = await Promise.all([apiKeys(), agents(), ...vaults.flatMap((v) => [cmekKeyOf(v), secretsOf(v)]), ...(admin ? [keks(admin, vaults)] : [])]);
  const items = parts.flatMap((p) => p.items ?? []).sort((a, b) => a.at.localeCompare(b.at));
  const data: Found = { items, policy: Object.assign({}, ...parts.map((p) => p.policy)) as wire.KeyAges, missed: parts.flatMap((p) => p.missed ?? []) };
  return { data, error: null, meta: { status: 200 } };
}

async function apiKeys(): Promise<Part> {
  const { data, error } = await settle(() => client.apiKeys.list());
  if (error) return missing("API keys", error);
  const items = data.keys.flatMap((k): DueItem[] => {
    const base = { what: "API key", name: k.name || k.key_prefix, href: "/ui/account", act: "Create another, then delete it" };
    const old = older(k.created_at, own.apiKey * 86_400);
    if (!k.is_active) return [];
    if (soon(k.expires_at)) return [{ ...base, why: "expires", at: k.expires_at }];
    return old ? [{ ...base, why: "made", at: old }] : [];
  });
  return { items };
}

async function agents(): Promise<Part> {
  const { data, error } = await settle(() => client.agents.list({ limit: mostAgents }));
  if (error) return missing("Agents", error);
  const items = data.agents.filter((a) => a.is_active).flatMap((a): DueItem[] => {
    const base = { name: a.name, href: "/ui/agents", why: "expires" };
    const key = data.api_keys_expire?.[a.id];
    if (soon(a.expires_at)) return [{ ...base, what: "Agent", at: a.expires_at, act: "Give it more time, or create another" }];
    return soon(key) ? [{ ...base, what: "API key", at: key, act: "Rotate the agent's key" }] : [];
  });
  return { items, missed: data.next_cursor === undefined ? [] : [`Agents after the first ${mostAgents.toLocaleString()}`] };
}

async function cmekKeyOf(vault: wire.Vault): Promise<Part> {
  if (!vault.cmek_enabled) return {};
  const { data, error } = await settle(() => client.vault.cmekStatus(vault.id, { keys: false }));
  if (error) return missing(`The CMEK key of ${vault.name}`, error);
  const old = older(data.since, data.max_age);
  return {
    policy: data.max_age ? { cmek: data.max_age } : {},
    items: old ? [{ what: "CMEK key", name: vault.name, href: `/ui/vaults/${vault.id}/settings`, why: "in use since", at: old, act: "Rotate it" }] : [],
  };
}

async function secretsOf(vault: wire.Vault): Promise<Part> {
  const { data, error } = await settle(() => client.secrets.list(vault.id));
  if (error) return missing(`Secrets of ${vault.name}`, error);
  const due = data.secrets.filter((s) => soon(s.expires_at));
  return { items: due.map((s) => ({ what: "Secret", name: `${vault.name}: ${s.path}`, href: `/ui/vaults/${vault.id}`, why: "expires", at: s.expires_at!, act: "Write a new version" })) };
}

/** The KEKs, and then the DEKs of threads, for which the same answer has the policy. */
async function keks(admin: KeyfoldClient, vaults: readonly wire.Vault[]): Promise<Part> {
  const items: DueItem[] = [];
  let max: wire.KeyAges = {};
  let cursor: string | undefined;
  for (let page = 0; page < mostPages; page++) {
    const { data, error } = await settle(() => admin.admin.listKeks({ limit: pageSize, ...(cursor === undefined ? {} : { cursor }) }));
    if (error) return missing("KEKs", error);
    max = data.max_age;
    items.push(...data.keks.flatMap((k) => dueKek(k, data, vaults)));
    cursor = data.pagination.has_more ? data.pagination.next_cursor : undefined;
    if (cursor === undefined) break;
  }
  const deks = await threadDeks(admin, max.dek);
  const missed = cursor === undefined ? [] : [`KEKs after the first ${(mostPages * pageSize).toLocaleString()}`];
  return { items: [...items, ...(deks.items ?? [])], policy: max, missed: [...missed, ...(deks.missed ?? [])] };
}

function dueKek(kek: wire.Kek, { max_age, wrap_limit }: wire.EncryptionKeys, vaults: readonly wire.Vault[]): DueItem[] {
  const primary = kek.versions.at(-1);
  if (primary?.state !== "enabled") return [];
  const base = { what: "KEK", name: nameOfKek(kek, vaults), href: "/ui/keys", act: kek.of === "vault" || kek.of === "threads" ? "Rotate it" : "Rotate all KEKs" };
  if (wrap_limit && primary.wraps > used * wrap_limit) return [{ ...base, why: "near the limit of its uses, made", at: primary.created_at }];
  const old = older(primary.created_at, max_age.kek);
  return old ? [{ ...base, why: "primary since", at: old }] : [];
}

async function threadDeks(admin: KeyfoldClient, max: number | undefined): Promise<Part> {
  if (!max) return {};
  const items: DueItem[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < mostPages; page++) {
    const { data, error } = await settle(() => admin.admin.listThreads({ limit: pageSize, ...(cursor === undefined ? {} : { cursor }) }));
    if (error) return missing("DEKs of threads", error);
    for (const t of data.threads) {
      const old = t.deleted || !t.kms?.created_ts ? undefined : older(t.kms.created_ts / 1e6, max);
      if (old) items.push({ what: "DEK", name: t.title || t.id, href: "/ui/keys", why: "made", at: old, act: "Make a new one" });
    }
    cursor = data.next_cursor;
    if (cursor === undefined) return { items };
  }
  return { items, missed: [`DEKs of threads after the first ${(mostPages * pageSize).toLocaleString()}`] };
}
