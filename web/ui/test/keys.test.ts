// Keys and jobs: what a user sees of them, and what an operator's key adds.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { accessible, narrow, seen, shot, signIn, start, stored } from "./harness.js";

const site = await start();
const { dev } = site;

const asOperator = async (page: Page, key = dev.admin_key) => {
  await page.getByLabel("Admin key").fill(key);
  await page.getByRole("button", { name: "Use this key" }).click();
};

test("without an operator's key there is the state of the key process, and no more of KEKs", async (t) => {
  const { page } = await site.signedIn(t);
  await page.goto(site.at("keys"));
  await seen(page);
  await page.getByText("its KEKs can be used").waitFor();
  await page.getByLabel("Admin key").waitFor();
  assert.equal(await page.getByRole("button", { name: "Rotate", exact: true }).count(), 0);
});

test("a key that is no operator's is not taken", async (t) => {
  const { page, watch } = await site.signedIn(t);
  watch.allow(/ 40[13] .*\/admin\/health/);
  await page.goto(site.at("keys"));
  for (const key of [dev.api_key, "1ck_0000000000000000000000000000000000000000000"]) {
    await asOperator(page, key);
    await page.getByRole("alert").waitFor();
    assert.equal(await page.getByRole("button", { name: "Forget the admin key" }).count(), 0);
  }
  await page.getByRole("link", { name: dev.email }).waitFor(); // the session goes on
});

test("an operator rotates a KEK and a DEK, sees the jobs, and the key is forgotten", async (t) => {
  const { page } = await site.signedIn(t);
  const title = 'Refund <img src=x onerror="alert(1)">';
  const thread = await dev.call<{ id: string }>("POST", "/v1/threads", { title });
  for (let i = 0; i < 20; i++) await dev.call("POST", `/v1/threads/${thread.id}/messages`, { role: "user", body: `message ${i}` });
  await page.goto(site.at("keys"));
  await seen(page);
  await asOperator(page);
  const row = page.getByRole("row").filter({ hasText: thread.id.slice(0, 8) });
  await row.getByText(title).waitFor();
  const dek = () => row.locator("td").nth(1).locator("code").getAttribute("title");
  const [before, version] = [await dek(), Number(await row.locator("td").nth(2).innerText())];
  await accessible(page);
  await narrow(page);
  await shot(page, "keys-operator");

  await page.getByRole("button", { name: "Rotate", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Rotate", exact: true }).click();
  const job = page.getByRole("region", { name: "Rewrap of the threads' DEKs" });
  await job.getByText("completed").waitFor();
  await page.getByRole("button", { name: "Read again" }).last().click();
  await row.getByText(String(version + 1), { exact: true }).waitFor();

  await row.getByRole("button", { name: "New DEK" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Make a new DEK" }).click();
  const move = page.getByRole("region", { name: "New DEK of a thread" });
  await move.getByText("completed").waitFor();
  assert.notEqual(await dek(), before);

  await page.getByRole("link", { name: "Jobs", exact: true }).click();
  const jobs = page.getByRole("region", { name: "Jobs of the server" });
  await jobs.getByText("Rewrap of the threads' DEKs").waitFor();
  await jobs.getByText("New DEK of a thread").waitFor();
  await accessible(page);
  await narrow(page);
  await shot(page, "jobs-operator");

  const kept = await stored(page);
  assert.ok(!kept.includes(dev.admin_key), "the admin key is stored");
  assert.ok(!(await page.content()).includes(dev.admin_key), "the admin key is in the page");
  await page.getByRole("button", { name: "Forget the admin key" }).click();
  await page.getByLabel("Admin key").waitFor();
  assert.equal(await jobs.count(), 0);
});

test("the admin key is gone after a reload, after a sign-out, and when the page is left alone", async (t) => {
  const { page } = await site.signedIn(t);
  const forget = page.getByRole("button", { name: "Forget the admin key" });
  await page.clock.install();
  await page.goto(site.at("jobs"));
  await seen(page);
  await asOperator(page);
  await forget.waitFor();
  await page.reload();
  await page.getByLabel("Admin key").waitFor();

  await asOperator(page);
  await forget.waitFor();
  await page.clock.fastForward("09:00");
  await page.keyboard.press("Tab");
  await page.clock.fastForward("09:00");
  await forget.waitFor();
  await page.clock.fastForward("01:30");
  await page.getByLabel("Admin key").waitFor();

  await asOperator(page);
  await forget.waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn(page, dev);
  await page.getByLabel("Admin key").waitFor();
});

test("an operator's overview has the counts and the charts of the server", async (t) => {
  const { page } = await site.signedIn(t);
  await seen(page);
  await asOperator(page);
  const server = page.getByRole("region", { name: "The server", exact: true });
  await server.getByText("messages").waitFor();
  await page.getByRole("img", { name: "Work of jobs" }).waitFor();
  await page.getByRole("img", { name: "Operators' calls" }).waitFor();
  await accessible(page);
  await narrow(page);
  await shot(page, "overview-operator");
});

test("a running job is watched and cancelled, and what failed is named", async (t) => {
  const { page } = await site.signedIn(t);
  const job = { id: "01a2042c-0000-7000-8000-000000ddc8be", kind: "vault-rewrap", status: "running", total: 40, processed: 10, failed: 2, failed_items: ["vault <b>one</b>", "vault two"], created_at: new Date().toISOString(), updated_at: new Date().toISOString() };
  await page.route("**/admin/jobs", (route) => route.fulfill({ json: { jobs: [{ ...job, processed: (job.processed += 5) }] } }));
  let cancelled = "";
  await page.route("**/admin/jobs/*", (route) => {
    cancelled = `${route.request().method()} ${new URL(route.request().url()).pathname}`;
    job.status = "cancelled";
    return route.fulfill({ json: job });
  });
  await page.goto(site.at("jobs"));
  await seen(page);
  await asOperator(page);
  const jobs = page.getByRole("region", { name: "Jobs of the server" });
  await jobs.getByText("20 of 40 (50%)").waitFor(); // it is read again by itself
  await jobs.getByText("2 left as they were").click();
  await jobs.getByText("vault <b>one</b>").waitFor();
  await accessible(page);
  await narrow(page);
  await jobs.getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel the job" }).click();
  await jobs.getByText("cancelled").waitFor();
  assert.equal(cancelled, `DELETE /admin/jobs/${job.id}`);
});

test("the overview says what is due, and by what policy", async (t) => {
  const { page } = await site.signedIn(t);
  const vault = await dev.call<{ id: string }>("POST", "/v1/vaults", { name: "due" });
  await dev.call("PUT", `/v1/vaults/${vault.id}/secrets/expires/soon`, { value: "x", expires_at: new Date(Date.now() + 3 * 86_400_000).toISOString() });
  await dev.call("PUT", `/v1/vaults/${vault.id}/secrets/expires/late`, { value: "x", expires_at: new Date(Date.now() + 30 * 86_400_000).toISOString() });
  await page.goto(site.at());
  await seen(page);
  await page.getByText("a CMEK key is due after 365 days").waitFor();
  const due = page.getByRole("region", { name: "Due" });
  await due.getByText("due: expires/soon").waitFor();
  assert.equal(await due.getByText("expires/late").count(), 0);
});
