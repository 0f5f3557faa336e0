// The overview: numbers, what is due, what is rotating, what happened, and what the server does.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { accessible, narrow, seen, shot, start } from "./harness.js";
import { ago, asOperator, away, changed, day } from "./operator.js";

const site = await start();
const { dev } = site;
const inDays = (days: number) => new Date(Date.now() + days * day).toISOString();

const open = async (page: Page) => {
  await page.goto(site.at());
  await seen(page);
};
const tile = (page: Page, what: string) => page.getByRole("list", { name: "In short" }).getByRole("link").filter({ hasText: what });
const due = (page: Page) => page.getByRole("region", { name: "Due", exact: true });

test("a first visit is no error: no call is refused, and nothing is said on the console", async (t) => {
  const context = await site.browser.newContext();
  t.after(() => context.close());
  const page = await context.newPage();
  const bad: string[] = [];
  page.on("console", (m) => m.type() !== "info" && m.type() !== "debug" && bad.push(m.text()));
  page.on("response", (r) => r.status() >= 400 && bad.push(`${r.status()} ${r.url()}`));
  await page.goto(site.at());
  await page.getByLabel("Email").waitFor();
  assert.deepEqual(bad, []);
});

test("without anything the overview says how to begin", async (t) => {
  const { page } = await site.signedIn(t, dev.free);
  await open(page);
  await tile(page, "vaults, 0 sealed").waitFor();
  await tile(page, "rotating").getByText("0", { exact: true }).waitFor();
  await tile(page, "key process").getByText("works").waitFor();
  await page.getByText("Nothing is due").waitFor();
  await accessible(page);
  await narrow(page);
});

test("the vaults are asked for once", async (t) => {
  const { page, watch } = await site.signedIn(t);
  const before = (await watch.sent()).length;
  await open(page);
  await page.getByRole("region", { name: "Recent events" }).getByRole("row").nth(1).waitFor();
  const calls = (await watch.sent()).slice(before).map((r) => `${r.method} ${new URL(r.url).pathname}`);
  for (const path of ["/v1/vaults", "/v1/audit/events"]) assert.equal(calls.filter((c) => c === `GET ${path}`).length, 1, `${path} of ${calls.join(", ")}`);
});

test("what is due is told, by which policy, and what is not is not", async (t) => {
  const { page } = await site.signedIn(t);
  const vault = await dev.call<{ id: string }>("POST", "/v1/vaults", { name: "due <i>vault</i>" });
  await dev.call("PUT", `/v1/vaults/${vault.id}/secrets/expires/soon`, { value: "x", expires_at: inDays(3) });
  await dev.call("PUT", `/v1/vaults/${vault.id}/secrets/expires/late`, { value: "x", expires_at: inDays(30) });
  await dev.call("POST", "/v1/agents", { name: "agent that ends", expires_at: inDays(2) });
  await dev.call("POST", "/v1/agents", { name: "agent that stays", expires_at: inDays(60) });
  await dev.call("POST", `/v1/vaults/${vault.id}/cmek`, { fingerprint: "ab".repeat(32) });
  await page.route(/\/v1\/vaults\/[^/]+\/cmek(\?|$)/, changed<object>((s) => ({ ...s, since: ago(40), max_age: 30 * 86_400 })));
  await page.route("**/v1/auth/api-keys", changed<{ keys: object[] }>(({ keys }) => ({ keys: [...keys, { ...keys[0], id: "old", name: "old key", created_at: ago(100), is_active: true }] })));
  await open(page);
  const table = due(page);
  await table.getByText("due <i>vault</i>: expires/soon").waitFor();
  await table.getByText("agent that ends").waitFor();
  await table.getByText("old key").waitFor();
  const cmek = table.getByRole("row").filter({ hasText: "CMEK key" });
  await cmek.getByText(/in use since/).waitFor();
  assert.match((await cmek.getByRole("link").getAttribute("href"))!, new RegExp(`/ui/vaults/${vault.id}/settings`));
  await page.getByText("a CMEK key after 30 days").waitFor();
  for (const not of ["expires/late", "agent that stays"]) assert.equal(await table.getByText(not).count(), 0, not);
  assert.equal(Number(await tile(page, "due").locator("b").innerText()), await table.locator("tbody tr").count());
  await accessible(page);
  await narrow(page);
});

test("what cannot be looked at is not said to be in order", async (t) => {
  const { page, watch } = await site.signedIn(t);
  watch.allow(/ 503 /);
  await page.route("**/v1/agents?**", (route) => route.fulfill(away));
  await open(page);
  await page.getByText("Not looked at:").waitFor();
  await page.getByText("Agents: the key process does not answer").waitFor();
});

test("with an admin key old KEKs, KEKs near their limit, and old DEKs are due", async (t) => {
  const { page } = await site.signedIn(t);
  const thread = await dev.call<{ id: string }>("POST", "/v1/threads", { title: "old thread" });
  type Keks = { wrap_limit: number; keks: { of: string; versions: object[] }[]; max_age: object };
  await page.route(
    "**/admin/encryption/keys?**",
    changed<Keks>((all) => ({
      ...all,
      max_age: { kek: 90 * 86_400, dek: 30 * 86_400 },
      keks: all.keks.map((k) => ({ ...k, versions: k.versions.map((v) => (k.of === "threads" ? { ...v, created_at: ago(100) } : k.of === "server" ? { ...v, wraps: all.wrap_limit - 1 } : v)) })),
    })),
  );
  await page.route("**/admin/threads?**", changed<{ threads: { id: string; kms: object }[] }>((all) => ({ ...all, threads: all.threads.map((x) => (x.id === thread.id ? { ...x, kms: { ...x.kms, created_ts: Date.parse(ago(31)) * 1e6 } } : x)) })));
  await open(page);
  await asOperator(page, dev.admin_key);
  const table = due(page);
  const all = page.getByRole("button", { name: "Show all" });
  await page.getByText("a KEK after 90 days, the DEK of a thread after 30 days").waitFor();
  if (await all.isVisible()) await all.click();
  await table.getByRole("row").filter({ hasText: "Threads" }).getByText(/primary since/).waitFor();
  await table.getByRole("row").filter({ hasText: "The server's own" }).getByText(/near the limit of its uses/).waitFor();
  await table.getByRole("row").filter({ hasText: "old thread" }).getByText("Make a new one").waitFor();
  await accessible(page);
});

test("what happened lately is told by name, and looks at lists are left out", async (t) => {
  const { page, watch } = await site.signedIn(t);
  watch.allow(/ 401 /);
  const vault = await dev.call<{ id: string }>("POST", "/v1/vaults", { name: "events" });
  await dev.call("PUT", `/v1/vaults/${vault.id}/secrets/told`, { value: "x" });
  await dev.call("GET", `/v1/vaults/${vault.id}/secrets/told`);
  await fetch(`${dev.url}/v1/auth/token`, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ email: dev.email, password: "wrong" }) });
  await open(page);
  const recent = page.getByRole("region", { name: "Recent events" });
  await recent.getByText("secret.read").first().waitFor();
  await recent.getByText("auth.failure").first().waitFor();
  await recent.getByRole("row").filter({ hasText: "secret.written" }).getByText("in events").waitFor();
  assert.equal(await recent.getByText("vault.list").count(), 0);
  await recent.getByText("you", { exact: true }).first().waitFor();
  const refused = Number(await tile(page, "refused or failed").locator("b").innerText());
  assert.ok(refused >= 1);
});

test("a rotation that runs is seen, and how far it is", async (t) => {
  const { page } = await site.signedIn(t);
  const vault = await dev.call<{ id: string }>("POST", "/v1/vaults", { name: "turning" });
  await dev.call("POST", `/v1/vaults/${vault.id}/cmek`, { fingerprint: "ef".repeat(32) });
  let processed = 0;
  const now = new Date().toISOString();
  const rotation = () => ({ id: "a", vault_id: vault.id, old_fingerprint: "ef".repeat(32), new_fingerprint: "cd".repeat(32), status: processed < 200 ? "running" : "completed", total_secrets: 200, processed: (processed = Math.min(200, processed + 50)), created_at: now, started_at: now });
  await page.route(`**/v1/vaults/${vault.id}/cmek-rotations`, (route) => route.fulfill({ json: { rotations: [rotation()] } }));
  await open(page);
  const table = page.getByRole("region", { name: "CMEK rotations under way" });
  await table.getByText(/of 200 \(\d+%\)/).waitFor();
  await tile(page, "rotating").getByText("1", { exact: true }).waitFor();
  await table.waitFor({ state: "detached" }); // it is read again by itself
  await tile(page, "rotating").getByText("0", { exact: true }).waitFor();
});

const metric = (requests: number, failed: number, seconds: number) => `# TYPE keyfold_http_requests_total counter
keyfold_http_requests_total{code="200",method="GET",route="/v1/vaults/{vault}/secrets/{path...}"} ${requests}
keyfold_http_requests_total{code="404",method="GET",route="/v1/vaults/{vault}"} ${requests / 10}
keyfold_http_requests_total{code="503",method="POST",route="/v1/threads/{thread}/messages"} ${failed}
keyfold_http_requests_total{code="200",method="GET",route="/admin/debug/prometheus"} 100000
keyfold_http_request_duration_seconds_sum{method="GET",route="/v1/vaults/{vault}/secrets/{path...}"} ${seconds}
keyfold_http_request_duration_seconds_count{method="GET",route="/v1/vaults/{vault}/secrets/{path...}"} ${requests}
`;

test("an operator sees requests, errors and times, from one reading of the counters to the next", async (t) => {
  const { page } = await site.signedIn(t);
  let reading = 0;
  await page.route("**/admin/debug/prometheus", (route) => {
    const n = reading++;
    // The server begins anew before the third reading: its counters are less then.
    const [requests, failed, seconds] = n < 2 ? [1000 + 500 * n, 10 * n, 5 + 2 * n] : [400 * (n - 1), 0, 1.6 * (n - 1)];
    return route.fulfill({ contentType: "text/plain; version=0.0.4", body: metric(requests!, failed!, seconds!) });
  });
  await open(page);
  await asOperator(page, dev.admin_key);
  const requests = page.getByRole("region", { name: "Requests" });
  await requests.getByText(/with the second reading/).waitFor();
  await requests.getByRole("img", { name: "Requests per second" }).waitFor();
  await requests.getByText("4 ms", { exact: true }).waitFor();
  await requests.getByRole("img", { name: "Time to answer" }).waitFor();
  const routes = page.getByRole("region", { name: /Busiest routes/ });
  await routes.getByText("GET /v1/vaults/{vault}/secrets/{path...}").waitFor();
  assert.equal(await routes.getByText("prometheus").count(), 0);
  await page.waitForFunction(() => [...document.querySelectorAll('[aria-label="Requests per second, as numbers"] tbody tr')].filter((r) => /[1-9]/.test(r.querySelector("td")?.textContent ?? "")).length >= 2); // two bars: what began anew is counted on
  const negative = await page.locator('[aria-label="Requests per second, as numbers"] td').evaluateAll((all) => all.filter((e) => e.textContent?.includes("-")).length);
  assert.equal(negative, 0);
  await accessible(page);
  await narrow(page);
  await shot(page, "overview-operator");
});

test("the real counters are read", async (t) => {
  const { page } = await site.signedIn(t);
  await open(page);
  await asOperator(page, dev.admin_key);
  const requests = page.getByRole("region", { name: "Requests" });
  await requests.getByText(/with the second reading/).waitFor();
  for (let i = 0; i < 5; i++) await dev.call("GET", "/v1/auth/me");
  await requests.getByRole("img", { name: "Requests per second" }).waitFor();
  const routes = page.getByRole("region", { name: /Busiest routes/ });
  await routes.getByText("GET /v1/auth/me").waitFor();
  await page.getByRole("img", { name: "Operators' calls" }).waitFor();
});

test("a server that does not count its requests is said not to", async (t) => {
  const { page } = await site.signedIn(t);
  await page.route("**/admin/debug/prometheus", (route) => route.fulfill({ contentType: "text/plain; version=0.0.4", body: "# nothing\n" }));
  await open(page);
  await asOperator(page, dev.admin_key);
  await page.getByText("This server does not count its requests").waitFor();
});

test("parts that fail say so, and the rest is there", async (t) => {
  const { page, watch } = await site.signedIn(t);
  watch.allow(/ 503 /);
  await page.route("**/v1/vaults", (route) => route.fulfill(away));
  await page.route("**/v1/health/hsm", (route) => route.fulfill({ json: { status: "unavailable" } }));
  await page.route("**/v1/health", (route) => route.fulfill({ json: { status: "degraded", version: "0" } }));
  await open(page);
  await page.getByText("A part of the server does not answer").waitFor();
  await page.getByRole("alert").getByText("the key process does not answer").waitFor();
  await page.getByRole("region", { name: "Recent events" }).waitFor();
  await accessible(page);
  await page.unroute("**/v1/vaults");
  await page.getByRole("alert").getByRole("button", { name: "Try again" }).click();
  await tile(page, "key process").getByText("away").waitFor();
});
