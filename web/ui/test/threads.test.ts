// Threads: made, found, talked in by two at once, and under a customer's key.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { accessible, narrow, seen, shot, start } from "./harness.js";

const site = await start();
const evil = `<img src=x onerror="alert(1)"><script>alert(2)</script>`;

interface Thread {
  id: string;
}

/** The message whose text is this. */
function message(page: Page, text: string) {
  return page.locator("li.message").filter({ has: page.locator(".body").getByText(text, { exact: true }) });
}

/** The ID of the user of dev.json's second account. */
async function memberId(): Promise<string> {
  const { members } = await site.dev.call<{ members: { id: string; email: string }[] }>("GET", "/v1/org/members");
  return members.find((m) => m.email === site.dev.member.email)!.id;
}

test("a thread is made, found by its title, renamed and deleted", async (t) => {
  for (let i = 0; i < 52; i++) await site.dev.call("POST", "/v1/threads", { title: `Filler ${i}` });
  const { page } = await site.signedIn(t);
  await page.goto(site.at("threads"));
  const rows = page.getByRole("region", { name: "Threads" }).locator("tbody tr");
  await rows.nth(49).waitFor();
  await page.getByRole("button", { name: "Show more" }).click();
  await rows.nth(51).waitFor();
  await page.getByRole("button", { name: "Create a thread" }).click();
  await page.getByLabel("Title", { exact: true }).fill(`Release ${evil}`);
  await page.getByRole("button", { name: "Create the thread" }).click();
  await page.getByRole("heading", { name: "Release" }).waitFor();
  await page.goto(site.at("threads"));
  await page.getByLabel("Search by title").fill("RELEASE");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  await seen(page);
  await accessible(page);
  await narrow(page);
  await page.getByLabel("Search by title").fill("no such");
  await page.getByText("No thread has “no such” in its title").waitFor();
  await page.getByLabel("Search by title").fill("Release");
  await page.getByRole("link", { name: `Release ${evil}` }).click();
  await page.getByRole("button", { name: "Rename" }).click();
  await page.getByRole("dialog").getByLabel("Title").fill("Renamed");
  await page.getByRole("dialog").getByRole("button", { name: "Rename" }).click();
  await page.getByRole("heading", { name: "Renamed", level: 1 }).waitFor();
  await page.getByRole("button", { name: "Delete" }).click();
  await page.getByLabel("Type Renamed to confirm").fill("Renamed");
  await page.getByRole("button", { name: "Delete the thread" }).click();
  await page.getByRole("heading", { name: "Threads", level: 1 }).waitFor();
});

test("two talk in a thread, and each sees at once what the other does", async (t) => {
  const thread = await site.dev.call<Thread>("POST", "/v1/threads", { title: "Incident 12" });
  const { page: mine } = await site.signedIn(t);
  await mine.goto(site.at(`threads/${thread.id}`));
  await mine.getByRole("button", { name: "Add somebody" }).click();
  await mine.getByLabel("Who", { exact: true }).selectOption(`user:${await memberId()}`);
  await mine.getByLabel("May").selectOption("write");
  await mine.getByRole("button", { name: "Add", exact: true }).click();
  const { page: theirs, watch } = await site.signedIn(t, site.dev.member);
  watch.allow(/ 403 .*\/events/); // at the end, of who was removed
  await theirs.goto(site.at(`threads/${thread.id}`));
  for (const page of [mine, theirs]) await page.getByText("live", { exact: true }).waitFor();

  await mine.getByLabel("Message", { exact: true }).fill(evil);
  await mine.getByRole("button", { name: "Post" }).click();
  await message(theirs, evil).waitFor();
  await message(theirs, evil).getByRole("button", { name: /^Reply/ }).click();
  await theirs.getByLabel("It is JSON").check();
  await theirs.getByLabel("Message", { exact: true }).fill("{");
  await theirs.getByText("This is not JSON").waitFor();
  await theirs.getByLabel("Message", { exact: true }).fill(`{"level":"high","html":"<b>x</b>"}`);
  await theirs.getByRole("button", { name: "Post" }).click();
  const json = mine.locator("pre.body");
  await json.waitFor();
  assert.equal(await json.innerText(), `{\n  "level": "high",\n  "html": "<b>x</b>"\n}`);
  await mine.getByText("In reply to you:").waitFor();
  await accessible(mine);
  await narrow(mine);

  const reply = mine.locator("li.message").filter({ has: json });
  assert.equal(await reply.getByRole("button", { name: /^Edit/ }).count(), 0);
  await reply.getByRole("button", { name: /^React/ }).click();
  await mine.getByRole("button", { name: "🎉" }).click();
  await accessible(mine);
  await mine.getByRole("dialog").getByRole("button", { name: "React", exact: true }).click();
  await theirs.getByRole("button", { name: "🎉 1" }).click();
  await mine.getByRole("button", { name: "🎉 2" }).click();
  await theirs.getByRole("button", { name: "🎉 1" }).waitFor();

  await message(mine, evil).getByRole("button", { name: /^Edit/ }).click();
  await mine.getByRole("dialog").getByLabel("Message", { exact: true }).fill("The second version");
  await mine.getByRole("button", { name: "Save" }).click();
  const edited = message(theirs, "The second version");
  await edited.getByRole("button", { name: /^Versions/ }).click();
  await theirs.getByRole("dialog").getByText("Version 2").waitFor();
  assert.deepEqual(await theirs.getByRole("dialog").locator(".body").allTextContents(), [evil, "The second version"]);
  await theirs.keyboard.press("Escape");
  await shot(mine, "thread");

  await message(mine, "The second version").getByRole("button", { name: /^Delete/ }).click();
  await mine.getByRole("dialog").getByRole("button", { name: "Delete the message" }).click();
  await edited.waitFor({ state: "detached" });
  await theirs.getByLabel("Show deleted ones").check();
  await theirs.getByText("Deleted", { exact: true }).waitFor();

  await mine.getByRole("button", { name: /^Remove/ }).click();
  await mine.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await theirs.getByText("not live").waitFor({ timeout: 30_000 });
});

test("a long thread shows its older messages on demand", async (t) => {
  const thread = await site.dev.call<Thread>("POST", "/v1/threads", { title: "Long" });
  for (let i = 1; i <= 120; i++) await site.dev.call("POST", `/v1/threads/${thread.id}/messages`, { body: `Line ${i}` });
  const { page } = await site.signedIn(t);
  await page.goto(site.at(`threads/${thread.id}`));
  await page.getByText("Line 120", { exact: true }).waitFor();
  const lines = page.locator("li.message");
  assert.equal(await lines.count(), 50);
  await page.getByRole("button", { name: "Show older messages" }).click();
  await page.waitForFunction(() => document.querySelectorAll("li.message").length === 100);
  await page.getByRole("region", { name: "Conversation" }).evaluate((e) => (e.scrollTop = 0));
  await page.waitForFunction(() => document.querySelectorAll("li.message").length === 120);
  await page.getByRole("button", { name: "Show older messages" }).waitFor({ state: "detached" });
  assert.deepEqual(await lines.locator(".body").allTextContents(), Array.from({ length: 120 }, (_, i) => `Line ${i + 1}`));
  await site.dev.call("POST", `/v1/threads/${thread.id}/messages`, { body: "x".repeat(20_000) });
  await page.getByRole("button", { name: "Show all 20,000 characters" }).click();
  assert.equal((await lines.last().locator(".body").innerText()).length, 20_000);
});

test("a thread under a customer's key says that it needs the key file, and opens with it", async (t) => {
  const key = Buffer.alloc(32, 7);
  const fingerprint = Buffer.from(await crypto.subtle.digest("SHA-256", key)).toString("hex");
  const thread = await site.dev.call<Thread>("POST", "/v1/threads", { title: "Sealed", cmek_fingerprint: fingerprint });
  const { page, watch } = await site.signedIn(t);
  await page.goto(site.at(`threads/${thread.id}`));
  await page.getByText("This thread is under a key of its own").waitFor();
  assert.equal(await page.getByLabel("Message", { exact: true }).count(), 0);
  await accessible(page);
  await page.getByRole("button", { name: "Unlock with key file" }).click();
  await page.getByLabel("Key file", { exact: true }).setInputFiles({ name: "x.key", mimeType: "text/plain", buffer: Buffer.from(key.toString("base64")) });
  await page.getByRole("button", { name: "Unlock", exact: true }).click();
  await page.getByLabel("Message", { exact: true }).fill("Only for us");
  await page.getByRole("button", { name: "Post" }).click();
  await message(page, "Only for us").waitFor();
  for (const r of await watch.sent()) assert.ok(!r.body.includes("Only for us"), r.url);
  await page.getByRole("button", { name: /^Lock/ }).click();
  await page.getByText("This thread is under a key of its own").waitFor();
  assert.equal(await page.getByText("Only for us").count(), 0);
});

test("an operator rotates the DEK of a thread", async (t) => {
  const thread = await site.dev.call<Thread>("POST", "/v1/threads", { title: "Rotated" });
  await site.dev.call("POST", `/v1/threads/${thread.id}/messages`, { body: "Before" });
  const { page } = await site.signedIn(t);
  await page.goto(site.at("keys"));
  await page.getByLabel("Admin key", { exact: true }).fill(site.dev.admin_key);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Forget the admin key" }).waitFor();
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Threads" }).click();
  await page.getByRole("link", { name: "Rotated" }).click();
  await page.getByRole("button", { name: "Rotate its DEK" }).click();
  await page.getByRole("button", { name: "Rotate the DEK" }).click();
  await page.getByText("The new DEK is").waitFor();
  await page.getByLabel("Message", { exact: true }).fill("After");
  await page.getByRole("button", { name: "Post" }).click();
  await message(page, "After").waitFor();
  await message(page, "Before").waitFor();
});
