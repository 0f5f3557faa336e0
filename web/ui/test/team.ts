// An imaginary team, Fernhill Freight, and what it would have in Keyfold after some
// weeks: for the images of docs/images, and to measure how soon a page can be used.
// All is made in a minute; a Calendar tells at which time of those weeks.

import { createCipheriv, createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import type { Page } from "playwright-core";
import type { Login, Running } from "./server.js";

/** Gives what has happened at the server since it began times of weeks before. */
export class Calendar {
  readonly #marks: [real: number, told: number][] = [];

  /** From now on it is told that it is this time. What happened since the last call took place right after that one's. */
  async from(told: string): Promise<void> {
    const last = this.#marks.at(-1);
    if (last) this.#marks.push([Date.now(), Math.min(last[1] + 100 * (Date.now() - last[0]), Date.parse(told) - 1000)]); // a second is told as a hundred
    await sleep(2); // so that no two times meet
    this.#marks.push([Date.now(), Date.parse(told)]);
  }

  /** What is told of a real time. */
  told(real: number): number {
    return along(real, this.#marks);
  }

  /** The real time of one that is told. */
  real(told: number): number {
    return along(told, this.#marks.map(([real, t]) => [t, real]));
  }

  /** The last time that is told. */
  get now(): number {
    return this.#marks.at(-1)![1];
  }

  /** Shows the page told times only. Its clock stands at the last one; stepped: its timers, too, until the test lets time pass. */
  async show(page: Page, stepped = false): Promise<void> {
    if (stepped) await page.clock.install({ time: this.now });
    else await page.clock.setFixedTime(this.now);
    await page.route(/\/(v1|admin)\//, async (route) => {
      if (route.request().headers()["accept"]?.includes("event-stream")) return route.continue();
      const url = new URL(route.request().url());
      for (const name of ["from", "to"]) {
        const time = url.searchParams.get(name);
        if (time) url.searchParams.set(name, new Date(this.real(Date.parse(time))).toISOString());
      }
      // What the images' own browser does is no event of theirs.
      if (url.pathname === "/v1/audit/events" && !url.searchParams.has("to")) url.searchParams.set("to", new Date(this.#marks.at(-1)![0]).toISOString());
      const answer = await route.fetch({ url: url.href });
      await route.fulfill({ response: answer, body: this.#translated(await answer.text()) });
    });
  }

  #translated(text: string): string {
    return text
      .replaceAll(/"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"/g, (time) => JSON.stringify(new Date(this.told(Date.parse(time.slice(1, -1)))).toISOString()))
      .replaceAll(/\b1[6-9]\d{17}\b/g, (ns) => `${Math.round(this.told(Number(ns) / 1e6))}000000`);
  }
}

/** The value that belongs to x, between the marks and before and after them. */
function along(x: number, marks: readonly (readonly [number, number])[]): number {
  const after = marks.findIndex(([at]) => at > x);
  if (after === 0) return marks[0]![1] - (marks[0]![0] - x);
  if (after === -1) return marks.at(-1)![1] + (x - marks.at(-1)![0]);
  const [[x0, y0], [x1, y1]] = [marks[after - 1]!, marks[after]!];
  return y0 + ((x - x0) * (y1 - y0)) / (x1 - x0);
}

export interface Team {
  owner: Login;
  calendar: Calendar;
  /** The CMEK key of the vault payments, as the text of its key file. */
  key: string;
  /** IDs by name. */
  vaults: Record<string, string>;
  threads: Record<string, string>;
  /** Makes some calls as agents do, the nth time. */
  work: (n: number) => Promise<void>;
}

interface Named {
  id: string;
}

const colleagues = { "Jonas Lindqvist": "jonas.lindqvist", "Mei Tanaka": "mei.tanaka", "Rosa Delgado": "rosa.delgado" };
const password = "Quiet-Harbour-58!";
const emailOf = (local: string) => `${local}@fernhill.example`;

const vaults: [name: string, description: string, secrets: [path: string, type: string, value: string, more?: object][]][] = [
  ["payments", "Card processing, payouts and the ledger", [
    ["stripe/live/secret-key", "api_key", "rk_live_example_7Qd2", { metadata: { owner: "Payments", rotate: "quarterly" } }],
    ["stripe/live/webhook-signing", "api_key", "whsec_example_Xa81"],
    ["stripe/test/secret-key", "api_key", "rk_test_example_91Bc"],
    ["ledger/postgres/password", "password", "violet-anchor-tram-93"],
    ["ledger/postgres/replica-password", "password", "copper-lantern-dune-17"],
    ["payouts/sepa/client-certificate", "certificate", "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUFernhillExample\n-----END CERTIFICATE-----\n", { expires_in: 12 }],
    ["payouts/sepa/client-key", "private_key", "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49AgExample\n-----END PRIVATE KEY-----\n"],
    ["fraud-check/api-token", "api_key", "fc_example_20c1", { max_access_count: 500 }],
  ]],
  ["tracking", "Positions of trucks and containers", [
    ["gps-gateway/env", "env_bundle", "GATEWAY_HOST=gps.fernhill.example\nGATEWAY_USER=tracker\nGATEWAY_TOKEN=example-5512\n"],
    ["maps/tiles/api-key", "api_key", "tiles_example_ae90", { expires_in: 5 }],
    ["mqtt/broker/password", "password", "plum-harbor-sail-40"],
  ]],
  ["customs", "Declarations to the authorities of six countries", [
    ["declarations/signing-key", "private_key", "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIExample\n-----END PRIVATE KEY-----\n"],
    ["portal/nl/login", "password", "amber-ferry-quill-02"],
    ["portal/pt/login", "password", "juniper-cargo-moss-77"],
  ]],
  ["website", "fernhill.example and the booking form", [
    ["cms/admin-password", "password", "teal-meadow-crane-58"],
    ["mail/smtp-password", "password", "silver-otter-lane-31"],
  ]],
  ["data-warehouse", "Nightly loads and dashboards", [
    ["etl/service-account", "file", "eyJ0eXBlIjoic2VydmljZV9hY2NvdW50In0="],
    ["bi/readonly-password", "password", "maple-signal-cove-66"],
  ]],
];

const agents: [name: string, description: string, vault: string, pattern: string, permissions: string[], ttl: number][] = [
  ["invoice-bot", "Sends invoices when a delivery is signed", "payments", "stripe/live/*", ["read"], 900],
  ["refund-assistant", "Talks to customers about refunds, and prepares them", "payments", "stripe/live/secret-key", ["read"], 600],
  ["route-planner", "Plans tomorrow's routes overnight", "tracking", "**", ["read"], 3600],
  ["customs-clerk", "Fills in declarations", "customs", "portal/**", ["read"], 1800],
  ["nightly-etl", "Loads the warehouse at 02:00", "data-warehouse", "etl/*", ["read", "write"], 3600],
];

/** A blob of version 1, as cmek/FORMAT.md has it. Its nonce is of the text, so that the same is made each time. */
function seal(key: Buffer, text: string): string {
  const nonce = createHash("sha256").update(text).digest().subarray(0, 12);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  return Buffer.concat([Buffer.of(1), nonce, cipher.update(text, "utf8"), cipher.final(), cipher.getAuthTag()]).toString("base64");
}

const fingerprintOf = (key: Buffer) => createHash("sha256").update(key).digest("hex");
const keyOf = (name: string) => createHash("sha256").update(`${name} of an imaginary team`).digest();

/** Makes all that the team has. */
export async function makeTeam(dev: Running): Promise<Team> {
  const calendar = new Calendar();
  const team: Team = { owner: { email: emailOf("amara.okafor"), password }, calendar, key: "", vaults: {}, threads: {}, work: async () => {} };
  await calendar.from("2026-01-19T09:02:00Z");
  const { access_token: amara } = await dev.call<{ access_token: string }>("POST", "/v1/auth/signup", { ...team.owner, display_name: "Amara Okafor", org_name: "Fernhill Freight" }, "");
  const call = <T = unknown>(method: string, path: string, body?: unknown, key = amara) => dev.call<T>(method, path, body, key);
  const people = await makePeople(call);
  await makeVaults(call, team);
  const bots = await makeAgents(call, team);
  await seals(dev, call, team, amara);
  await threads(call, team);
  await ordinaryDay(call, team, bots);
  await refund(call, team, people["Jonas Lindqvist"]!, bots["refund-assistant"]!);
  await calendar.from("2026-03-12T10:24:00Z");
  team.work = async (n) => {
    const calls = 20 + Math.round(8 * Math.sin(n / 3)) + ((7 * n) % 5);
    const path = `/v1/vaults/${team.vaults["tracking"]}/secrets`;
    const get = (url: string) => call("GET", url, undefined, bots["route-planner"]!.token).catch(() => {}); // some are refused
    await Promise.all(Array.from({ length: calls }, (_, i) => get(i === 7 ? `${path}/mqtt/none` : i % 3 === 0 ? path : `${path}/gps-gateway/env`)));
  };
  return team;
}

type Call = <T = unknown>(method: string, path: string, body?: unknown, key?: string) => Promise<T>;
interface Who {
  id: string;
  token: string;
}

/** The other members, who came by invitation. */
async function makePeople(call: Call): Promise<Record<string, Who>> {
  const all: Record<string, Who> = {};
  for (const [name, local] of Object.entries(colleagues)) {
    const email = emailOf(local);
    const { text } = await call<{ text: string }>("POST", "/v1/org/invitations", { email });
    const { access_token, user_id } = await call<{ access_token: string; user_id: string }>("POST", "/v1/auth/signup", { email, password, display_name: name, invitation: text }, "");
    all[name] = { id: user_id, token: access_token };
  }
  return all;
}

async function makeVaults(call: Call, team: Team): Promise<void> {
  for (const [i, [name, description]] of vaults.entries()) {
    await team.calendar.from(`2026-01-${20 + i}T08:${40 + i}:00Z`);
    team.vaults[name] = (await call<Named>("POST", "/v1/vaults", { name, description })).id;
  }
}

async function writeSecrets(call: Call, team: Team, name: string, key?: Buffer): Promise<void> {
  for (const [path, type, value, more = {}] of vaults.find(([n]) => n === name)![2]) {
    const { expires_in, ...rest } = more as { expires_in?: number };
    const expires_at = expires_in === undefined ? undefined : new Date(Date.now() + expires_in * 86_400_000).toISOString();
    await call("PUT", `/v1/vaults/${team.vaults[name]}/secrets/${path}`, { type, value: key ? seal(key, value) : value, expires_at, ...rest });
  }
}

async function makeAgents(call: Call, team: Team): Promise<Record<string, Who>> {
  const all: Record<string, Who> = {};
  for (const [i, [name, description, vault, pattern, permissions, token_ttl_seconds]] of agents.entries()) {
    await team.calendar.from(`2026-01-${26 + i}T13:${10 + 7 * i}:00Z`);
    const made = await call<{ agent: Named; api_key: string }>("POST", "/v1/agents", { name, description, token_ttl_seconds, vault_ids: [team.vaults[vault]] });
    await call("POST", `/v1/vaults/${team.vaults[vault]}/policies`, { secret_path_pattern: pattern, principal_type: "agent", principal_id: made.agent.id, permissions });
    const token = await call<{ access_token: string }>("POST", "/v1/auth/agent-token", { agent_id: made.agent.id, api_key: made.api_key }, "");
    all[name] = { id: made.agent.id, token: token.access_token };
  }
  return all;
}

/** The vault payments is sealed, and its key rotated later. */
async function seals(dev: Running, call: Call, team: Team, token: string): Promise<void> {
  const vault = team.vaults["payments"]!;
  const [old, fresh] = [keyOf("the first key"), keyOf("the second key")];
  await team.calendar.from("2026-02-02T15:31:00Z");
  await call("POST", `/v1/vaults/${vault}/cmek`, { fingerprint: fingerprintOf(old) });
  for (const [i, name] of Object.keys(team.vaults).entries()) {
    await team.calendar.from(`2026-02-0${3 + i}T10:0${i}:00Z`);
    await writeSecrets(call, team, name, name === "payments" ? old : undefined);
  }
  await team.calendar.from("2026-03-04T11:47:00Z");
  const headers = { Authorization: `Bearer ${token}`, "Content-Type": "application/json", "X-CMEK-Old-Key": old.toString("base64"), "X-CMEK-New-Key": fresh.toString("base64") };
  const answer = await fetch(`${dev.url}/v1/vaults/${vault}/cmek-rotate`, { method: "POST", headers, body: JSON.stringify({ new_fingerprint: fingerprintOf(fresh) }) });
  if (!answer.ok) throw new Error(await answer.text());
  while ((await call<{ rotation?: unknown }>("GET", `/v1/vaults/${vault}/cmek`)).rotation) await sleep(20);
  await team.calendar.from("2026-03-05T09:20:00Z");
  await call("PUT", `/v1/vaults/${vault}/secrets/stripe/live/secret-key`, { type: "api_key", value: seal(fresh, "rk_live_example_9Tm4"), metadata: { owner: "Payments", rotate: "quarterly" } });
  team.key = `${fresh.toString("base64")}\n`;
}

async function begin(call: Call, team: Team, title: string): Promise<string> {
  return (team.threads[title] = (await call<Named>("POST", "/v1/threads", { title })).id);
}

async function threads(call: Call, team: Team): Promise<void> {
  for (const [i, title] of ["Missing container MSKU 204417", "New rates for the Lisbon route", "Customs: stricter checks from April"].entries()) {
    await team.calendar.from(`2026-03-0${6 + i}T14:05:00Z`);
    await call("POST", `/v1/threads/${await begin(call, team, title)}/messages`, { role: "user", body: "Let us collect here what we know." });
  }
}

/** A conversation between two people and an agent. */
async function refund(call: Call, team: Team, jonas: Who, bot: Who): Promise<void> {
  await team.calendar.from("2026-03-12T09:41:00Z");
  const id = await begin(call, team, "Refund for order 58213");
  for (const p of [jonas, bot]) await call("PUT", `/v1/threads/${id}/participants/${p.id}`, { part: "write" });
  const say = async (time: string, token: string | undefined, role: string, body: unknown) => {
    await team.calendar.from(`2026-03-12T${time}Z`);
    await call("POST", `/v1/threads/${id}/messages`, { role, body }, token);
  };
  await say("09:41:10", undefined, "user", "The customer of order 58213 says that one of four pallets arrived wet. Can we refund a quarter today?");
  await say("09:41:30", bot.token, "assistant", "I look at the delivery note and the payment.");
  await say("09:41:34", bot.token, "tool", { tool: "payments.lookup", order: 58213, paid: { amount: "1840.00", currency: "EUR" }, method: "card", refundable: true });
  await say("09:43:00", bot.token, "assistant", "The driver noted “pallet 3 wet, film torn” at the handover. A quarter of the freight is 460.00 EUR; it can go back to the card. Shall I prepare it?");
  await say("10:12:00", jonas.token, "user", "Please do. I have told the warehouse in Porto to check the film of the other three.");
  await say("10:13:00", bot.token, "assistant", "Prepared: a refund of 460.00 EUR, which waits for the approval of Amara Okafor.");
}

/** What agents read in a day and a night, and what was refused to them. */
async function ordinaryDay(call: Call, team: Team, bots: Record<string, Who>): Promise<void> {
  const vaultOf = (bot: string) => team.vaults[agents.find(([name]) => name === bot)![2]]!;
  const read = (bot: string, path: string) => call("GET", `/v1/vaults/${vaultOf(bot)}/secrets/${path}`, undefined, bots[bot]!.token).catch(() => {}); // a refusal is an event as well
  for (let hour = 0; hour < 24; hour++) {
    const day = hour < 14 ? 11 : 12;
    await team.calendar.from(`2026-03-${day}T${String((hour + 10) % 24).padStart(2, "0")}:${String((17 * hour) % 60).padStart(2, "0")}:00Z`);
    for (let n = 0; n <= (7 * hour) % 5; n++) await read("invoice-bot", "stripe/live/secret-key");
    if (hour % 4 === 1) await read("route-planner", "gps-gateway/env");
    if (hour % 6 === 2) await read("customs-clerk", "portal/nl/login");
    if (hour === 16) await read("nightly-etl", "etl/service-account");
    if (hour === 5 || hour === 20) await read("refund-assistant", "ledger/postgres/password"); // which it may not
  }
}
