// The audit trail: its events, its filter, its chain, its export.

import assert from "node:assert/strict";
import { test } from "node:test";
import { accessible, downloaded, narrow, seen, shot, start } from "./harness.js";

const site = await start();
const { dev } = site;
const vault = await dev.call<{ id: string }>("POST", "/v1/vaults", { name: "payments" });
for (let i = 0; i < 60; i++) await dev.call("PUT", `/v1/vaults/${vault.id}/secrets/api-keys/n${i}`, { value: `value ${i}` });
await dev.call("GET", `/v1/vaults/${vault.id}/secrets/api-keys/n7`);

test("events are listed, drawn, filtered and paged", async (t) => {
  const { page } = await site.signedIn(t);
  await page.goto(site.at("audit"));
  await seen(page);
  const events = page.getByRole("region", { name: "Events", exact: true });
  const rows = events.getByRole("row");
  await rows.nth(50).waitFor();
  assert.equal(await rows.count(), 51);
  await page.getByRole("button", { name: "Show older events" }).click();
  await rows.nth(60).waitFor();
  const ids = await events.getByRole("row").locator("details dd").evaluateAll((all) => all.map((e) => e.textContent));
  assert.ok(ids.length > 60);

  const chart = page.getByRole("img", { name: "Events over time" });
  await chart.waitFor();
  await page.getByText("The numbers").click();
  const numbers = page.getByRole("region", { name: "Events over time, as numbers" });
  const counts = await numbers.locator("tbody td:nth-of-type(1)").allInnerTexts();
  assert.ok(counts.reduce((n, c) => n + Number(c), 0) >= 61, "the chart counts the writes");
  await accessible(page);
  await narrow(page);

  await page.getByRole("search").getByLabel("Action").fill("secret.read");
  await page.getByRole("search").getByLabel("Resource").fill(vault.id);
  await page.getByRole("button", { name: "Show these events" }).click();
  await page.waitForFunction(() => document.querySelectorAll('[aria-label="Events"] tbody tr').length === 1);
  await events.getByText("api-keys/n7").first().waitFor();
  await events.getByText("Facts").click();
  await events.getByText(vault.id).first().waitFor();

  await page.getByRole("search").getByLabel("Before").fill("2001-01-01T00:00");
  await page.getByRole("button", { name: "Show these events" }).click();
  await page.getByText("No such events").waitFor();
  await page.getByRole("button", { name: "Show all" }).click();
  await rows.nth(50).waitFor();
});

test("text in the filter is text", async (t) => {
  const { page } = await site.signedIn(t);
  await page.goto(site.at("audit"));
  await seen(page);
  await page.getByRole("search").getByLabel("Actor").fill('"><img src=x onerror=alert(1)>');
  await page.getByRole("button", { name: "Show these events" }).click();
  await page.getByText("No such events").waitFor();
  assert.equal(await page.locator("main img").count(), 0);
});

test("the chain is verified, with a verdict", async (t) => {
  const { page } = await site.signedIn(t);
  await page.goto(site.at("audit"));
  await seen(page);
  await page.getByRole("button", { name: "Verify the chain" }).click();
  await page.getByText("The chain is whole.").waitFor();
  await page.getByText(/\d+ events checked/).waitFor();
  await accessible(page);
  await shot(page, "audit");
});

test("a chain that the server finds broken is said to be so, and where", async (t) => {
  const { page } = await site.signedIn(t);
  await page.route("**/v1/audit/verify?**", (route) =>
    route.fulfill({
      json: {
        chain_valid: false, events_verified: 4, events_checked: 5, broken_at_event_id: "01a2041e-7ce0-7da5-9a20-aba869d802f6", reason: "the hash does not match",
        scheme: { algorithm: "", chain_structure: "", hash_field: "", link_field: "", documentation: "" }, events_signed: 4, checkpoints_checked: 1,
      },
    }),
  );
  await page.goto(site.at("audit"));
  await seen(page);
  await page.getByRole("button", { name: "Verify the chain" }).click();
  await page.getByText("The chain is broken.").waitFor();
  await page.getByText("01a2041e-7ce0-7da5-9a20-aba869d802f6").waitFor();
  await accessible(page);
});

test("the export is whole, and a file", async (t) => {
  const { page } = await site.signedIn(t);
  await page.goto(site.at("audit"));
  await seen(page);
  const { name, bytes } = await downloaded(page, () => page.getByRole("button", { name: "Export the trail" }).click());
  assert.match(name, /^audit-\d{4}-\d\d-\d\d\.jsonl$/);
  const lines = bytes.toString().trimEnd().split("\n").map((l) => JSON.parse(l) as { export?: { org_id: string }; event?: unknown; end?: { events: number } });
  assert.equal(lines[0]?.export?.org_id, dev.org_id);
  assert.equal(lines.at(-1)?.end?.events, lines.filter((l) => l.event).length);
});

test("an export that is cut off is an error, and no file", async (t) => {
  const { page } = await site.signedIn(t);
  await page.route("**/v1/audit/export", (route) => route.fulfill({ contentType: "application/x-ndjson", body: '{"export":{"format":1}}\n' }));
  await page.goto(site.at("audit"));
  await seen(page);
  await page.getByRole("button", { name: "Export the trail" }).click();
  await page.getByText("The export was cut off").waitFor();
});
