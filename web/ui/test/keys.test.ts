// Keys and jobs: what a user sees of them, and what an operator's key adds.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { accessible, narrow, seen, shot, start, stored } from "./harness.js";

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
});

test("a rewrap runs and can be seen on the overview's server", async (t) => {
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
