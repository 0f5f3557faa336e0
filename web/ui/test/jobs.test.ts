// Jobs: rotations of CMEK keys, and the jobs of the server, as they run, end, fail, and are cancelled.

import assert from "node:assert/strict";
import { test } from "node:test";
import { accessible, narrow, seen, shot, start } from "./harness.js";
import { asOperator, away } from "./operator.js";

const site = await start();
const { dev } = site;
const now = new Date().toISOString();
const job = (more: object) => ({ id: "01a2042c-0000-7000-8000-000000ddc8be", kind: "vault-rewrap", status: "running", total: 40, processed: 10, failed: 0, created_at: now, updated_at: now, ...more });

test("without jobs the page says where they are started", async (t) => {
  const { page } = await site.signedIn(t);
  await page.route("**/admin/jobs", (route) => route.fulfill({ json: { jobs: [] } }));
  await page.goto(site.at("jobs"));
  await seen(page);
  await page.getByText("No rotations").waitFor();
  await asOperator(page, dev.admin_key);
  await page.getByText("No jobs", { exact: true }).waitFor();
  await accessible(page);
  await narrow(page);
});

test("a running job is watched and cancelled, and what failed is named", async (t) => {
  const { page } = await site.signedIn(t);
  const running = job({ failed: 2, failed_items: ["vault <b>one</b>", "vault two"], created_at: new Date(Date.now() - 60_000).toISOString() }) as { id: string; processed: number; status: string };
  await page.route("**/admin/jobs", (route) => route.fulfill({ json: { jobs: [{ ...running, processed: (running.processed = Math.min(30, running.processed + 5)) }] } }));
  let cancelled = "";
  await page.route("**/admin/jobs/*", (route) => {
    cancelled = `${route.request().method()} ${new URL(route.request().url()).pathname}`;
    running.status = "cancelled";
    return route.fulfill({ json: running });
  });
  await page.goto(site.at("jobs"));
  await seen(page);
  await asOperator(page, dev.admin_key);
  const jobs = page.getByRole("region", { name: "Jobs of the server" });
  await jobs.getByText("30 of 40 (75%)").waitFor(); // it is read again by itself
  await jobs.getByText(/about \d+ seconds? left/).waitFor();
  await jobs.getByText("2 left as they were").click();
  await jobs.getByText("vault <b>one</b>").waitFor();
  await accessible(page);
  await narrow(page);
  await jobs.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel the job" }).click();
  await jobs.getByText("cancelled").waitFor();
  assert.equal(cancelled, `DELETE /admin/jobs/${running.id}`);
});

test("jobs are filtered by status, and one that failed is started again", async (t) => {
  const { page } = await site.signedIn(t);
  const list = [
    job({ id: "1", status: "failed", error: "the disk is full; free some space", processed: 7 }),
    job({ id: "2", kind: "thread-rewrap", status: "completed", processed: 40 }),
    job({ id: "3", kind: "thread-retention", status: "cancelled" }),
    job({ id: "4", kind: "thread-dek-all", status: "interrupted" }),
  ];
  await page.route("**/admin/jobs", (route) => route.fulfill({ json: { jobs: list } }));
  let sent: unknown;
  await page.route("**/admin/encryption/rewrap", async (route) => {
    sent = route.request().postDataJSON();
    await route.fulfill({ status: 202, json: { jobs: [job({ id: "5" })] } });
  });
  await page.goto(site.at("jobs"));
  await seen(page);
  await asOperator(page, dev.admin_key);
  const jobs = page.getByRole("region", { name: "Jobs of the server" });
  const rows = jobs.locator("tbody tr");
  await jobs.getByText("the disk is full; free some space").waitFor();
  assert.equal(await rows.count(), 4);
  for (const badge of ["failed", "completed", "cancelled", "interrupted"]) await jobs.locator(".badge", { hasText: badge }).waitFor();
  await accessible(page);
  await shot(page, "jobs-operator");
  const status = page.getByLabel("Status");
  for (const [value, count] of [["underway", 1], ["completed", 1], ["cancelled", 1], ["failed", 1]] as const) {
    await status.selectOption(value);
    assert.equal(await rows.count(), count, value);
  }
  await rows.getByText("7 of 40").waitFor();
  await rows.getByRole("button", { name: "Resume" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Start it again" }).click();
  await page.getByText("Another job goes on with it").waitFor();
  assert.deepEqual(sent, { all: true });
  list.splice(0, 4, job({ id: "9", status: "completed", processed: 40 }));
  await page.getByText("No such jobs").waitFor();
});

test("rotations of CMEK keys are watched, cancelled, and lead to where they are resumed", async (t) => {
  const { page } = await site.signedIn(t);
  const vault = await dev.call<{ id: string }>("POST", "/v1/vaults", { name: "turning" });
  await dev.call("POST", `/v1/vaults/${vault.id}/cmek`, { fingerprint: "ab".repeat(32) });
  const rotation = (id: string, more: object) => ({ id, vault_id: vault.id, old_fingerprint: "ab".repeat(32), new_fingerprint: "cd".repeat(32), status: "running", total_secrets: 200, processed: 50, created_at: now, started_at: now, ...more });
  const list = [
    rotation("a", {}) as { status: string; processed: number },
    rotation("b", { status: "interrupted", error: "the keys are gone; send the rotation again" }),
    rotation("c", { status: "failed", error: "3 versions do not open with the old key" }),
    rotation("d", { status: "completed", processed: 200 }),
  ];
  await page.route("**/cmek-rotations", (route) => {
    if (list[0]!.status === "running") list[0]!.processed = Math.min(150, list[0]!.processed + 50);
    return route.fulfill({ json: { rotations: list } });
  });
  await page.route("**/cmek-rotate/a", (route) => {
    list[0]!.status = "cancelled";
    return route.fulfill({ json: list[0] });
  });
  await page.goto(site.at("jobs"));
  await seen(page);
  const table = page.getByRole("region", { name: "CMEK rotations" });
  await table.getByText("150 of 200 (75%)").waitFor();
  await table.getByText("the keys are gone; send the rotation again").waitFor();
  await table.getByText("3 versions do not open with the old key").waitFor();
  const resume = table.getByRole("link", { name: "Resume the rotation of turning, with its key files" });
  assert.equal(await resume.count(), 2);
  assert.match((await resume.first().getAttribute("href"))!, new RegExp(`/ui/vaults/${vault.id}/settings$`));
  await accessible(page);
  await narrow(page);
  await shot(page, "jobs");
  await table.getByRole("button", { name: "Cancel the rotation of turning" }).first().click();
  await page.getByRole("dialog").getByText("Keep both key files of turning").waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel the rotation" }).click();
  await table.locator(".badge", { hasText: "cancelled" }).waitFor();
});

test("a real job of the server ends on the page", async (t) => {
  const { page } = await site.signedIn(t);
  await dev.call("POST", "/v1/threads", { title: "real" });
  await page.goto(site.at("jobs"));
  await seen(page);
  await asOperator(page, dev.admin_key);
  await page.getByRole("region", { name: "Jobs of the server" }).waitFor();
  const { jobs } = await dev.call<{ jobs: { id: string }[] }>("POST", "/admin/encryption/rotate-kek", { threads: true }, dev.admin_key);
  await page.getByRole("button", { name: "Read again" }).last().click();
  const row = page.getByRole("row").filter({ has: page.locator(`code[title="${jobs[0]!.id}"]`) });
  await row.getByText("completed").waitFor();
});

test("jobs that cannot be read say why, and are asked for again", async (t) => {
  const { page, watch } = await site.signedIn(t);
  watch.allow(/ 503 /);
  await page.route("**/admin/jobs", (route) => route.fulfill(away));
  await page.goto(site.at("jobs"));
  await seen(page);
  await asOperator(page, dev.admin_key);
  await page.getByRole("alert").getByText("the key process does not answer").waitFor();
  await page.unroute("**/admin/jobs");
  await page.getByRole("alert").getByRole("button", { name: "Try again" }).click();
  await page.getByRole("region", { name: "Jobs of the server" }).waitFor();
});
