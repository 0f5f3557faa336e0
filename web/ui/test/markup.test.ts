// What others have written is text on every page, never markup: names, patterns,
// messages and all else that was stored through the API, which checks no page.
//
// A probe is an element with the attribute data-probe. Where one is in a page, or does
// anything, a text was taken for markup. A probe that is not seen as text on a page that
// shows its field says that the test has not reached it.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { Page } from "playwright-core";
import { seen, start } from "./harness.js";

const site = await start();

const fields = [
  "vault name", "vault description", "secret value", "secret metadata", "agent name", "agent description", "agent scope", "policy pattern", "thread title",
  "message", "message JSON", "message JSON name", "reaction", "hold reason", "participant", "display name", "API key name", "audit pattern",
] as const;
type Field = (typeof fields)[number];

/** Markup that shows itself when it is taken for such. */
function probe(field: Field): string {
  const n = fields.indexOf(field);
  if (field === "participant" || field === "reaction") return `<b data-probe="${n}">`; // which may have some bytes only
  if (field.startsWith("message JSON")) return `<img data-probe=${n} src=x onerror=alert(${n})>`; // which is shown as JSON, that is, with quotes escaped
  return `<img data-probe="${n}" src=x onerror="console.error('probe ${n} ran')">`;
}

/** Stores a probe in every field that takes any text. */
async function store(): Promise<{ vault: string; thread: string }> {
  const { call } = site.dev;
  const vault = await call<{ id: string }>("POST", "/v1/vaults", { name: probe("vault name"), description: probe("vault description") });
  await call("PUT", `/v1/vaults/${vault.id}/secrets/db/main`, { value: probe("secret value"), type: "generic", metadata: { note: probe("secret metadata") } });
  const { agent } = await call<{ agent: { id: string } }>("POST", "/v1/agents", { name: probe("agent name"), description: probe("agent description"), scopes: [probe("agent scope")] });
  await call("POST", `/v1/vaults/${vault.id}/policies`, { principal_type: "agent", principal_id: agent.id, secret_path_pattern: probe("policy pattern"), permissions: ["read"] });
  const thread = await call<{ id: string }>("POST", "/v1/threads", { title: probe("thread title") });
  const message = await call<{ id: string }>("POST", `/v1/threads/${thread.id}/messages`, { body: probe("message") });
  await call("POST", `/v1/threads/${thread.id}/messages`, { body: { [probe("message JSON name")]: probe("message JSON") }, reply_to: message.id });
  await call("POST", `/v1/threads/${thread.id}/messages/${message.id}/reactions`, { reaction: probe("reaction") });
  await call("PUT", `/v1/threads/${thread.id}/hold`, { reason: probe("hold reason") });
  await call("PUT", `/v1/threads/${thread.id}/participants/${encodeURIComponent(probe("participant"))}`, { part: "read", end_user: true });
  const { access_token } = await call<{ access_token: string }>("POST", "/v1/auth/token", site.dev.member);
  await call("PATCH", "/v1/auth/me", { display_name: probe("display name") }, access_token);
  await call("POST", "/v1/auth/api-keys", { name: probe("API key name") });
  return { vault: vault.id, thread: thread.id };
}

/** Fails when a probe is an element of the page, or one of the fields is not on it as text. */
async function isText(page: Page, where: string, shows: Field[]): Promise<void> {
  const has = async (field: Field) => page.waitForFunction((text) => document.body.innerText.includes(text) || [...document.querySelectorAll<HTMLInputElement>("input, textarea, select")].some((e) => e.value.includes(text)), probe(field));
  for (const field of shows) await has(field).catch(() => assert.fail(`${where} does not show the ${field}`));
  const found = await page.evaluate(() => [...document.querySelectorAll("[data-probe], main img, main script, main iframe, main [onerror]")].map((e) => e.outerHTML));
  assert.deepEqual(found, [], `${where} takes text for markup`);
}

async function opened(t: TestContext): Promise<Page> {
  const { page } = await site.signedIn(t);
  return page;
}

test("what others have written is text on every page", async (t) => {
  const { vault, thread } = await store();
  const page = await opened(t);
  const pages: [path: string, shows: Field[]][] = [
    ["", []],
    ["vaults", ["vault name", "vault description"]],
    [`vaults/${vault}`, ["vault name"]],
    [`vaults/${vault}/access`, ["agent name", "policy pattern"]],
    [`vaults/${vault}/audit`, []],
    [`vaults/${vault}/settings`, ["vault name"]],
    ["agents", ["agent name", "agent description", "agent scope"]],
    ["threads", ["thread title"]],
    [`threads/${thread}`, ["thread title", "message", "message JSON", "message JSON name", "reaction", "hold reason", "participant"]],
    ["audit", []],
    ["jobs", []],
    ["account", ["API key name"]],
  ];
  for (const [path, shows] of pages) {
    await page.goto(site.at(path));
    await seen(page);
    await isText(page, path || "the overview", shows);
  }
});

test("what others have written is text in dialogs and fields", async (t) => {
  const { vault, thread } = await store();
  const page = await opened(t);
  const dialog = page.getByRole("dialog");
  const close = async () => {
    await dialog.getByRole("button", { name: "Close", exact: true }).click();
    await dialog.waitFor({ state: "detached" });
  };
  await page.goto(site.at("agents"));
  for (const [button, shows] of [["Edit", ["agent name", "agent description", "vault name"]], ["Rotate key", ["agent name"]], ["Delete", ["agent name"]]] as const) {
    await page.getByRole("button", { name: new RegExp(`^${button}`) }).first().click();
    await isText(page, `the dialog ${button} of an agent`, [...shows]);
    await close();
  }
  await page.goto(site.at(`vaults/${vault}/access`));
  await page.getByLabel("Path", { exact: true }).fill("db/main");
  await page.getByRole("list", { name: "Who can read db/main" }).getByText(probe("display name")).waitFor();
  await isText(page, "who can read", ["agent name"]);
  await page.getByLabel("Path", { exact: true }).fill(probe("audit pattern"));
  await isText(page, "who can read", ["audit pattern"]);
  for (const button of ["Edit the policy", "Delete the policy"]) {
    await page.getByRole("button", { name: new RegExp(`^${button}`) }).first().click();
    await isText(page, button, ["policy pattern"]);
    await close();
  }
  await page.getByRole("button", { name: "Create a policy" }).click();
  await dialog.getByLabel("Paths").fill(probe("audit pattern"));
  await dialog.getByText(probe("agent name")).first().waitFor({ state: "attached" });
  await isText(page, "a new policy", ["audit pattern"]);
  await close();
  await page.goto(site.at(`threads/${thread}`));
  for (const [button, shows] of [["Rename", ["thread title"]], ["Delete", ["thread title"]], ["Change the reason", ["hold reason"]], ["Export", []], ["Edit the message", ["message"]], ["React to the message", ["reaction"]], ["Remove", ["participant"]], ["Add somebody", []]] as const) {
    await page.getByRole("button", { name: new RegExp(`^${button}`) }).first().click();
    await dialog.waitFor();
    await isText(page, `the dialog ${button}`, [...shows]);
    await close();
  }
  await page.getByRole("button", { name: "Add somebody" }).click();
  await dialog.getByText(probe("display name")).waitFor({ state: "attached" });
  await isText(page, "who may be added", []);
});

test("a secret's value and its metadata are text", async (t) => {
  const { vault } = await store();
  const page = await opened(t);
  await page.goto(site.at(`vaults/${vault}/secrets?path=db%2Fmain`));
  await page.getByRole("button", { name: "Reveal" }).click();
  await isText(page, "a secret", ["secret value", "secret metadata"]);
});

test("what others have written is text to an operator", async (t) => {
  const page = await opened(t);
  await page.goto(site.at("keys"));
  await page.getByLabel("Admin key", { exact: true }).fill(site.dev.admin_key);
  await page.keyboard.press("Enter");
  await isText(page, "the keys, to an operator", ["thread title"]);
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Jobs" }).click();
  await seen(page);
  await isText(page, "the jobs, to an operator", []);
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Overview" }).click();
  await seen(page);
  await isText(page, "the overview, to an operator", []);
});
