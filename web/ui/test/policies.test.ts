// Policies of a vault: the editor, and who can read a secret and why.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { createServer, type ViteDevServer } from "vite";
import { accessible, narrow, root, shot, start } from "./harness.js";

const site = await start();
const evil = `<img src=x onerror="alert(1)">`;

interface Vault {
  id: string;
  created_by: string;
}
interface Agent {
  id: string;
}

async function vaultWith(name: string, paths: string[]): Promise<Vault> {
  const vault = await site.dev.call<Vault>("POST", "/v1/vaults", { name });
  for (const path of paths) await site.dev.call("PUT", `/v1/vaults/${vault.id}/secrets/${path}`, { value: "x", type: "generic" });
  return vault;
}

async function agent(name: string, more: object = {}): Promise<string> {
  return (await site.dev.call<{ agent: Agent }>("POST", "/v1/agents", { name, ...more })).agent.id;
}

const paths = ["db/main/password", "db/replica/password", "web/key"];

test("a policy is made, with the paths that its pattern matches, changed and deleted", async (t) => {
  const vault = await vaultWith("Production", paths);
  await agent(`Deployer ${evil}`);
  const { page } = await site.signedIn(t);
  await page.goto(site.at(`vaults/${vault.id}/access`));
  await page.getByText("No policies yet").waitFor();
  await page.getByRole("button", { name: "Create a policy" }).click();
  await page.getByLabel("Who", { exact: true }).selectOption({ label: `Deployer ${evil} (agent)` });
  const pattern = page.getByLabel("Paths");
  const matched = page.locator(".matched");
  for (const [text, count, which] of [["db/*", 0, []], ["db/**", 2, paths.slice(0, 2)], ["**/password", 2, paths.slice(0, 2)], ["web/*", 1, ["web/key"]], ["db/*/password", 2, paths.slice(0, 2)]] as const) {
    await pattern.fill(text);
    await matched.getByText(count === 0 ? "No secret of now matches" : `Matches ${count} of 3 secrets`).waitFor();
    assert.deepEqual(await matched.locator("li").allTextContents(), which);
  }
  await pattern.fill("/db");
  await page.getByText("does not begin or end with a slash").waitFor();
  assert.equal(await page.getByRole("dialog").getByRole("button", { name: "Create the policy" }).isDisabled(), true);
  await pattern.fill("db/**");
  await page.getByLabel("write: new versions").check();
  await page.getByLabel("Priority").fill("7");
  await page.getByLabel("Only from these addresses").fill("10.0.0.0/8\n192.0.2.7");
  await page.getByLabel("Only in these hours").check();
  await page.getByLabel("Time zone").fill("Europe/Berlin");
  await page.getByLabel("sun", { exact: true }).uncheck();
  await page.getByLabel("It ends").fill("2090-01-02T03:04");
  await accessible(page);
  await narrow(page);
  await shot(page, "policy-editor");
  await page.getByRole("button", { name: "Create the policy" }).click();
  const row = page.getByRole("region", { name: "Policies" }).getByRole("row").nth(1);
  await row.getByText("from 10.0.0.0/8, 192.0.2.7").waitFor();
  assert.match(await row.innerText(), /Deployer <img src=x onerror="alert\(1\)">[\s\S]*db\/\*\*[\s\S]*read, write[\s\S]*7[\s\S]*08:00 to 18:00 Europe\/Berlin mon, tue, wed, thu, fri, sat/);
  const [made] = (await site.dev.call<{ policies: { expires_at: string; conditions: unknown }[] }>("GET", `/v1/vaults/${vault.id}/policies`)).policies;
  assert.deepEqual(made!.conditions, { ip_allowlist: ["10.0.0.0/8", "192.0.2.7"], time_window: { after: "08:00", before: "18:00", timezone: "Europe/Berlin", weekdays: ["mon", "tue", "wed", "thu", "fri", "sat"] } });

  await row.getByRole("button", { name: /^Edit/ }).click();
  await page.getByLabel("Only from these addresses").fill("");
  await page.getByLabel("Only in these hours").uncheck();
  await page.getByLabel("Effect").selectOption("deny");
  await page.getByRole("button", { name: "Save" }).click();
  await row.getByText("may not").waitFor();
  assert.equal(await row.getByText("10.0.0.0/8").count(), 0);

  await row.getByRole("button", { name: /^Delete/ }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Delete the policy" }).click();
  await page.getByText("No policies yet").waitFor();
});

test("who can read a secret, and why, is what the server decides", async (t) => {
  const vault = await vaultWith("Explained", paths);
  const grant = (principal_id: string, secret_path_pattern: string, more: object = {}) =>
    site.dev.call("POST", `/v1/vaults/${vault.id}/policies`, { principal_type: "agent", principal_id, secret_path_pattern, permissions: ["read"], ...more });
  const keys = new Map<string, string>();
  const make = async (name: string, more: object = {}) => {
    const made = await site.dev.call<{ agent: Agent; api_key: string }>("POST", "/v1/agents", { name, ...more });
    keys.set(name, made.api_key);
    return made.agent.id;
  };
  await grant(await make("Reader"), "db/**");
  const denied = await make("Denied");
  await grant(denied, "db/**");
  await grant(denied, "db/main/*", { effect: "deny" });
  await grant(await make("Elsewhere", { scopes: ["web/**"] }), "**");
  await grant(await make("Office"), "db/**", { conditions: { ip_allowlist: ["10.0.0.0/8"] } });
  await grant(await make("Late", {}), "**", { expires_at: "2020-01-01T00:00:00Z" });
  await make("Nothing", { scopes: ["**"] });
  await grant(await make("Bound", { vault_ids: ["01900000-0000-7000-8000-000000000000"] }), "**");
  await grant(await make("Signer", { intents_api_enabled: true }), "**");
  await site.dev.call("PUT", `/v1/vaults/${vault.id}/secrets/ssh/deploy`, { value: "x", type: "ssh_key" });
  const { page } = await site.signedIn(t);
  await page.goto(site.at(`vaults/${vault.id}/access`));
  await page.getByLabel("Path", { exact: true }).fill(paths[0]!);
  const list = page.getByRole("list", { name: `Who can read ${paths[0]}` });
  const says = async (name: string, can: string, why: string) => {
    const text = await list.getByRole("listitem").filter({ hasText: name }).first().innerText();
    assert.ok(text.includes(can) && text.includes(why), `${name}: ${text}`);
  };
  await list.waitFor();
  await says("owner", "can read", "Created the vault");
  await says("Reader", "can read", "Allowed by the policy db/**");
  await says("Denied", "cannot read", "Denied by the policy db/main/*");
  await says("Elsewhere", "cannot read", "No scope of the agent matches");
  await says("Office", "it depends", "Allowed for calls from 10.0.0.0/8");
  await says("Late", "cannot read", "has ended");
  await says("Nothing", "cannot read", "No policy allows it");
  await says("Bound", "cannot read", "bound to other vaults");
  await says("Signer", "can read", "Allowed by the policy **");
  for (const [name, key] of keys) {
    const { access_token } = await site.dev.call<{ access_token: string }>("POST", "/v1/auth/agent-token", { api_key: key });
    const read = (path: string) => fetch(`${site.dev.url}/v1/vaults/${vault.id}/secrets/${path}`, { headers: { Authorization: `Bearer ${access_token}` } });
    assert.equal((await read(paths[0]!)).status, name === "Reader" || name === "Signer" ? 200 : 403, name);
    if (name === "Signer") assert.equal((await read("ssh/deploy")).status, 403, "a key, to an agent that signs through intents");
  }
  const { secrets } = await site.dev.call<{ secrets: { id: string; path: string }[] }>("GET", `/v1/vaults/${vault.id}/secrets`);
  await site.dev.call("POST", `/v1/secrets/${secrets.find((s) => s.path === paths[0])!.id}/share`, { recipient_type: "anyone_with_link", expires_at: new Date(Date.now() + 3_600_000).toISOString() });
  await page.reload();
  await page.getByLabel("Path", { exact: true }).fill("ssh/deploy");
  await page.getByRole("list", { name: "Who can read ssh/deploy" }).getByRole("listitem").filter({ hasText: "Signer" }).getByText("reads no keys").waitFor();
  assert.equal(await page.getByRole("list", { name: "Your shares of it" }).count(), 0);
  await page.getByLabel("Path", { exact: true }).fill(paths[0]!);
  await page.getByRole("list", { name: "Your shares of it" }).getByText("anyone with the link").waitFor();
  await accessible(page);
  await narrow(page);
  await shot(page, "access");
});

test("who may not see policies is told so", async (t) => {
  const vault = await vaultWith("Not yours", []);
  const { page, watch } = await site.signedIn(t, site.dev.member);
  watch.allow(/ 40[34] /);
  await page.goto(site.at(`vaults/${vault.id}/access`));
  await page.getByRole("alert").first().waitFor();
  assert.equal(await page.getByRole("button", { name: "Create a policy" }).count(), 0);
});

let vite: ViteDevServer;
before(async () => {
  vite = await createServer({ root, configFile: false, logLevel: "error", appType: "custom", server: { middlewareMode: true, hmr: false, ws: false }, optimizeDeps: { noDiscovery: true } });
});
after(() => vite.close());

test("patterns match as the server's do", async () => {
  const { matches, patternProblem, isLabel } = (await vite.ssrLoadModule("/src/glob.ts")) as {
    matches: (pattern: string, path: string) => boolean;
    patternProblem: (pattern: string) => string | undefined;
    isLabel: (scope: string) => boolean;
  };
  // internal/access/glob_test.go
  const cases: [pattern: string, path: string, want: boolean][] = [
    ["a", "a", true], ["a", "A", false], ["a", "a/b", false], ["a/b", "a", false],
    ["*", "a", true], ["*", "a/b", false], ["*/*", "a", false], ["a/*", "a/b", true], ["a/*", "a", false], ["*/b", "a/b", true],
    ["**", "a", true], ["**", "a/b/c", true], ["a/**", "a", true], ["a/**", "a/b/c", true], ["a/**", "ab", false],
    ["**/c", "c", true], ["**/c", "a/b/c", true], ["**/c", "a/c/b", false],
    ["a/**/c", "a/c", true], ["a/**/c", "a/b/b/c", true], ["a/**/c", "a/b", false],
    ["a/**/b/**/c", "a/b/b/c/c", true], ["a/**/b/**/c", "a/c/b", false],
    ["**/**", "a", true], ["**/*", "a", true], ["**/*", "a/b", true], ["*/**", "a", true], ["**/*/*", "a", false],
    ["**/a/b", "a/a/b", true], ["**/a/b/**/c", "a/a/b/a/c", true],
    ["a*", "ab", false], ["a**", "ab", false], ["?", "a", false], ["[a]", "a", false], ["a.", "ab", false], ["***", "a", false], ["a\\*", "a*", false], ["{a,b}", "a", false],
  ];
  for (const [pattern, path, want] of cases) assert.equal(matches(pattern, path), want, `${pattern} ${path}`);
  const long = "a/".repeat(255) + "a";
  for (const pattern of ["**/a/".repeat(84) + "b", "**/".repeat(170) + "b", "**/*/".repeat(84) + "b", "**/a/".repeat(84) + "**"]) assert.equal(matches(pattern, long), pattern.endsWith("*"));
  for (const good of ["a", "**", "*", "a/**/b", "a*", "DB_1/x-y", "a".repeat(512), "ключ/*"]) assert.equal(patternProblem(good), undefined, good);
  for (const bad of ["", "/", "/a", "a/", "a//b", "a\x00", "a\nb", "a".repeat(513)]) assert.notEqual(patternProblem(bad), undefined, bad);
  for (const [scope, want] of Object.entries({ "vaults:read": true, "a-b:C_9": true, "a:": false, ":a": false, a: false, "a:b:c": false, "a/b:c": false, "a:*": false, "**": false, "": false, ":": false })) assert.equal(isLabel(scope), want, scope);
});

/** internal/policy/testdata/readers.json: what the server decided, see the Go test beside it. */
interface Readers {
  from: string[];
  matches: { pattern: string; path: string; matches: boolean }[];
  cases: { kind: string; id: string; agent?: { scopes: string[]; vault_ids: string[] }; path: string; policies: { conditions?: { time_window?: object } }[]; calls: { now: string; reads: string }[] }[];
}

interface Decide {
  canRead: (who: object, asked: object, policies: object[]) => { can: string; why: string; by: object[] };
  readsFrom: (who: object, asked: object, policies: object[], from: object) => boolean | undefined;
  inWindow: (window: object, now: Date) => boolean | undefined;
}

test("what is said of who can read is what the server decided, in every case of its own test", async () => {
  const { matches } = (await vite.ssrLoadModule("/src/glob.ts")) as { matches: (pattern: string, path: string) => boolean };
  const { canRead, readsFrom } = (await vite.ssrLoadModule("/src/decide.ts")) as Decide;
  const { parseAddress } = (await vite.ssrLoadModule("/src/addresses.ts")) as { parseAddress: (text: string) => object };
  const file = JSON.parse(await readFile(join(root, "../../internal/policy/testdata/readers.json"), "utf8")) as Readers;
  for (const c of file.matches) assert.equal(matches(c.pattern, c.path), c.matches, `${c.pattern} ${c.path}`);
  const seen = { yes: 0, no: 0, depends: 0 } as Record<string, number>;
  const [vault] = [{ id: "01900000-0000-7000-8000-0000000000a1", created_by: "01900000-0000-7000-8000-000000000001", created_by_type: "user" }];
  for (const [i, c] of file.cases.entries()) {
    const who = { kind: c.kind, id: c.id, name: c.id, ...(c.agent ? { agent: { is_active: true, intents_api_enabled: false, ...c.agent } } : {}) };
    const timeless = c.policies.every((p) => !p.conditions?.time_window);
    for (const { now, reads } of c.calls) {
      const asked = { vault, path: c.path, now: new Date(now) };
      const where = `case ${i} at ${now}`;
      assert.equal(file.from.map((a) => Number(readsFrom(who, asked, c.policies, parseAddress(a)))).join(""), reads, where);
      const { can, why, by } = canRead(who, asked, c.policies);
      if (can === "yes") assert.ok(!reads.includes("0"), `${where}: ${why}`);
      if (can === "no") assert.ok(!reads.includes("1"), `${where}: ${why}`);
      if (timeless) assert.equal(can === "depends", new Set(reads).size === 2, `${where}: ${why}`);
      if (can === "depends") assert.ok(by.length > 0, where);
      seen[can]!++;
    }
  }
  for (const [can, n] of Object.entries(seen)) assert.ok(n >= 50, `${can}: ${n}`);
});

test("policies decide as the server's do", async () => {
  const { canRead, inWindow } = (await vite.ssrLoadModule("/src/decide.ts")) as Decide;
  const who = { kind: "user", id: "q", name: "Q" };
  const asked = { vault: { id: "v", created_by: "p", created_by_type: "user" }, path: "db/x", now: new Date("2030-01-02T12:00:00Z") }; // a Wednesday
  const rule = (more: object) => ({ principal_type: "user", principal_id: "q", secret_path_pattern: "**", permissions: ["read"], ...more });
  const rows: [name: string, policies: object[], want: string][] = [
    ["none", [], "no"],
    ["an allow", [rule({})], "yes"],
    ["another's", [rule({ principal_id: "r" })], "no"],
    ["write alone", [rule({ permissions: ["write"] })], "no"],
    ["another path", [rule({ secret_path_pattern: "web/*" })], "no"],
    ["a deny at the same priority", [rule({}), rule({ effect: "deny" })], "no"],
    ["a deny below", [rule({ priority: 1 }), rule({ effect: "deny" })], "yes"],
    ["an allow below", [rule({}), rule({ effect: "deny", priority: 1 })], "no"],
    ["ended", [rule({ expires_at: "2030-01-02T12:00:00Z" })], "no"],
    ["an ended deny", [rule({}), rule({ effect: "deny", expires_at: "2030-01-02T12:00:00Z" })], "yes"],
    ["from an address", [rule({ conditions: { ip_allowlist: ["10.0.0.0/8"] } })], "depends"],
    ["a deny from an address", [rule({}), rule({ effect: "deny", conditions: { ip_allowlist: ["10.0.0.0/8"] } })], "depends"],
    ["an allow from an address, below one from anywhere", [rule({ priority: 1 }), rule({ conditions: { ip_allowlist: ["10.0.0.0/8"] } })], "yes"],
    ["an environment", [rule({ conditions: { environment_in: ["prod"] } })], "no"],
    ["a deny of an environment", [rule({}), rule({ effect: "deny", conditions: { environment_in: ["prod"] } })], "no"],
    ["in its hours", [rule({ conditions: { time_window: { after: "08:00", before: "18:00" } } })], "depends"],
    ["out of its hours", [rule({ conditions: { time_window: { after: "08:00", before: "12:00" } } })], "depends"],
    ["a deny at some hours", [rule({}), rule({ effect: "deny", conditions: { time_window: { after: "08:00", before: "12:00" } } })], "depends"],
    ["hours below a deny", [rule({ conditions: { time_window: { after: "08:00", before: "12:00" } } }), rule({ effect: "deny", priority: 1 })], "no"],
    ["hours and an address, both below an allow", [rule({ effect: "deny", conditions: { ip_allowlist: ["10.0.0.0/8"], time_window: { after: "08:00", before: "12:00" } } }), rule({ priority: 1 })], "yes"],
    ["a deny from an address, below an allow from it", [rule({}), rule({ priority: 2, conditions: { ip_allowlist: ["10.0.0.0/8"] } }), rule({ effect: "deny", priority: 1, conditions: { ip_allowlist: ["10.9.0.0/16"] } })], "yes"],
    ["an allow from everywhere, in two", [rule({ conditions: { ip_allowlist: ["0.0.0.0/0"] } }), rule({ conditions: { ip_allowlist: ["::/0"] } })], "yes"],
    ["a condition of a newer server", [rule({ conditions: { moon: "full" } })], "depends"],
    ["a network that this page cannot read", [rule({ conditions: { ip_allowlist: ["10.0.0.0/8/8"] } })], "depends"],
    ["a zone that this browser does not know", [rule({ conditions: { time_window: { after: "08:00", timezone: "No/Where" } } })], "depends"],
  ];
  for (const [name, policies, want] of rows) assert.equal(canRead(who, asked, policies).can, want, name);
  assert.equal(canRead({ ...who, id: "p" }, asked, [rule({ principal_id: "p", effect: "deny" })]).can, "yes", "the creator");
  const agent = { is_active: true, vault_ids: [], scopes: ["**"], intents_api_enabled: false };
  const grant = [rule({ principal_type: "agent" })];
  for (const [name, more, want] of [
    ["an agent", {}, "yes"], ["not active", { is_active: false }, "no"], ["expired", { expires_at: "2030-01-01T00:00:00Z" }, "no"],
    ["bound here", { vault_ids: ["v"] }, "yes"], ["bound elsewhere", { vault_ids: ["w"] }, "no"], ["one segment", { scopes: ["*"] }, "no"],
    ["a label", { scopes: ["vaults:read"] }, "yes"], ["a label and another scope", { scopes: ["vaults:read", "web/**"] }, "no"], ["no scopes", { scopes: [] }, "yes"],
  ] as const) assert.equal(canRead({ kind: "agent", id: "q", name: "A", agent: { ...agent, ...more } }, asked, grant).can, want, name);
  for (const [window, at, want] of [
    [{ after: "22:00", before: "06:00", weekdays: ["mon"] }, "2030-01-07T23:00:00Z", true],
    [{ after: "22:00", before: "06:00", weekdays: ["mon"] }, "2030-01-08T05:59:00Z", true],
    [{ after: "22:00", before: "06:00", weekdays: ["mon"] }, "2030-01-08T06:00:00Z", false],
    [{ after: "22:00", before: "06:00", weekdays: ["mon"] }, "2030-01-07T05:00:00Z", false],
    [{ weekdays: ["Wednesday"] }, "2030-01-02T12:00:00Z", true],
    [{ after: "13:00", timezone: "Europe/Berlin" }, "2030-01-02T12:00:00Z", true],
    [{ after: "13:00", timezone: "No/Where" }, "2030-01-02T12:00:00Z", undefined],
  ] as const) assert.equal(inWindow(window, new Date(at)), want, `${JSON.stringify(window)} ${at}`);
});

