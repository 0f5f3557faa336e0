// The audit trail: its events, its filter, its chain, its export.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { accessible, downloaded, narrow, seen, shot, start } from "./harness.js";
import { away } from "./operator.js";

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
  const times = await events.locator("tbody time").evaluateAll((all) => all.map((e) => e.getAttribute("datetime")!));
  assert.deepEqual(times, times.toSorted().reverse(), "the newest first, and none twice, though reading them is recorded as well");

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
  await events.getByText("in payments").waitFor();
  await events.getByRole("button", { name: "Facts" }).click();
  await events.getByRole("row").getByText(vault.id).waitFor();
  await accessible(page);

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

test("this browser checks the chain by itself", async (t) => {
  const { page } = await site.signedIn(t);
  await page.goto(site.at("audit"));
  await seen(page);
  await page.getByRole("button", { name: "Verify in this browser" }).click();
  await page.getByText("This browser found the chain whole.").waitFor();
  await page.getByText(/signatures are right/).waitFor();
  await accessible(page);
  await narrow(page);
});

/** One line of an export. */
interface Line {
  export?: { from?: string };
  event?: { id: string; action: string; details: Record<string, string> };
  checkpoint?: object;
  end?: { events: number; checkpoints: number };
}
const written = (lines: Line[]) => lines.findIndex((l) => l.event?.details["path"] === "api-keys/n30" && l.event.action === "secret.written");

/** Has the server tamper with the trails that it sends. What tamper returns is the line that is wrong then, or the one where a gap or a double shows. */
async function liar(page: Page, tamper: (lines: Line[], at: number) => number): Promise<{ id: string }> {
  const wrong = { id: "" };
  await page.route("**/v1/audit/export", async (route) => {
    const response = await route.fetch();
    const lines = (await response.text()).trimEnd().split("\n").map((l) => JSON.parse(l) as Line);
    wrong.id = lines[tamper(lines, written(lines))]!.event!.id;
    lines.at(-1)!.end = { events: lines.filter((l) => l.event).length, checkpoints: lines.filter((l) => l.checkpoint).length };
    await route.fulfill({ response, body: lines.map((l) => `${JSON.stringify(l)}\n`).join("") });
  });
  await page.goto(site.at("audit"));
  await seen(page);
  await page.getByRole("button", { name: "Verify in this browser" }).click();
  return wrong;
}

for (const [name, tamper] of [
  ["an event that was changed", (lines, at) => ((lines[at]!.event!.details["path"] = "api-keys/n31"), at)],
  ["an event that was taken out", (lines, at) => (lines.splice(at, 1), at)],
  ["an event that was put in", (lines, at) => (lines.splice(at, 0, lines[at - 1]!), at)],
  ["a beginning that was cut off", (lines, at) => (lines.splice(1, at - 1), 1)],
] as const satisfies readonly (readonly [string, (lines: Line[], at: number) => number])[]) {
  test(`this browser sees ${name}, whatever the server says`, async (t) => {
    const { page } = await site.signedIn(t);
    const wrong = await liar(page, tamper);
    await page.getByText("The chain is broken.").waitFor();
    await page.getByRole("region", { name: "The chain" }).getByText(wrong.id).waitFor();
    assert.equal(await page.getByText("found the chain whole").count(), 0);
    await accessible(page);
    await shot(page, "audit-broken");
  });
}

test("a beginning that was cut off is no trail of a part in time that nobody asked for", async (t) => {
  const { page } = await site.signedIn(t);
  await liar(page, (lines, at) => {
    lines[0]!.export!.from = "2026-01-01T00:00:00Z";
    lines.splice(1, at - 1);
    return 1;
  });
  await page.getByRole("region", { name: "The chain" }).getByRole("alert").getByText("another trail than the whole one").waitFor();
  assert.equal(await page.getByText("found the chain whole").count(), 0);
});

test("events that cannot be read say why, and are asked for again", async (t) => {
  const { page, watch } = await site.signedIn(t);
  watch.allow(/ 503 /);
  await page.route("**/v1/audit/**", (route) => route.fulfill(away));
  await page.goto(site.at("audit"));
  await seen(page);
  await page.getByRole("alert").getByText("the key process does not answer").first().waitFor();
  await page.getByRole("button", { name: "Verify the chain" }).click();
  await page.getByRole("region", { name: "The chain" }).getByRole("alert").waitFor();
  await accessible(page);
  await page.unroute("**/v1/audit/**");
  await page.getByRole("button", { name: "Read again" }).click();
  await page.getByRole("region", { name: "Events", exact: true }).getByRole("row").nth(5).waitFor();
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
