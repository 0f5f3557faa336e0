// Threads: made, found, talked in by two at once, and under a customer's key.

import assert from "node:assert/strict";
import { createServer, connect, type AddressInfo, type Socket } from "node:net";
import { after, before, test, type TestContext } from "node:test";
import type { Page } from "playwright-core";
import { createServer as createVite, type ViteDevServer } from "vite";
import { accessible, downloaded, narrow, root, seen, shot, signIn, start, type Login, type Opened } from "./harness.js";

const site = await start();
const evil = `<img src=x onerror="alert(1)"><script>alert(2)</script>`;

interface Thread {
  id: string;
}

/** A page that somebody has signed in to. That a thread is under no hold the server tells by 404, of which a browser complains. */
async function signedIn(t: TestContext, who?: Login): Promise<Opened> {
  const opened = await site.signedIn(t, who);
  opened.watch.allow(/ 404 .*\/hold/);
  return opened;
}

/** Presses the button for older messages, which scrolling to the very top, as a click does that must look for it, would read by itself. */
async function showOlder(page: Page): Promise<void> {
  await page.locator(".messages").evaluate((box) => (box.scrollTop = 1));
  await page.getByRole("button", { name: "Show older messages" }).click();
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
  const { page } = await signedIn(t);
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
  const { page: mine } = await signedIn(t);
  await mine.goto(site.at(`threads/${thread.id}`));
  await mine.getByRole("button", { name: "Add somebody" }).click();
  await mine.getByLabel("Who", { exact: true }).selectOption(`user:${await memberId()}`);
  await mine.getByLabel("May").selectOption("write");
  await mine.getByRole("button", { name: "Add", exact: true }).click();
  const { page: theirs, watch } = await signedIn(t, site.dev.member);
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
  await theirs.getByLabel("Message", { exact: true }).fill('{"id": 9007199254740993}');
  await theirs.getByText("does not keep numbers as large as").waitFor();
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
  await theirs.getByText("not live").waitFor();
});

test("a long thread shows its older messages on demand", async (t) => {
  const thread = await site.dev.call<Thread>("POST", "/v1/threads", { title: "Long" });
  for (let i = 1; i <= 120; i++) await site.dev.call("POST", `/v1/threads/${thread.id}/messages`, { body: `Line ${i}` });
  const { page } = await signedIn(t);
  await page.goto(site.at(`threads/${thread.id}`));
  await page.getByText("Line 120", { exact: true }).waitFor();
  const lines = page.locator("li.message");
  assert.equal(await lines.count(), 50);
  await showOlder(page);
  await page.waitForFunction(() => document.querySelectorAll("li.message").length === 100);
  await page.waitForFunction(() => {
    const box = document.querySelector(".messages")!;
    box.scrollTop = box.scrollTop === 0 ? 1 : 0; // again and again, as people do: while it still reads, a scroll to the top reads no more
    return document.querySelectorAll("li.message").length === 120;
  });
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
  const { page, watch } = await signedIn(t);
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
  const { page } = await signedIn(t);
  await page.goto(site.at("keys"));
  await page.getByLabel("Admin key", { exact: true }).fill(site.dev.admin_key);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Forget the admin key" }).waitFor();
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Threads" }).click();
  await page.getByRole("link", { name: "Rotated" }).click();
  const key = page.getByRole("region", { name: "The key" });
  await key.getByText("enabled", { exact: true }).waitFor();
  await key.getByText("Encryptions").waitFor();
  await page.getByRole("button", { name: "Rotate its DEK" }).click();
  await page.getByRole("button", { name: "Rotate the DEK" }).click();
  await page.getByText("The thread has a new DEK").waitFor();
  const job = page.getByRole("group", { name: "Rotation of the DEK" });
  await job.getByText("All is under the new DEK").waitFor();
  await job.getByText("completed").waitFor();
  await key.getByText("decrypt-only").waitFor({ state: "detached" });
  await key.getByText("KEK version 1").waitFor();
  await accessible(page);
  await narrow(page);
  await page.getByLabel("Message", { exact: true }).fill("After");
  await page.getByRole("button", { name: "Post" }).click();
  await message(page, "After").waitFor();
  await message(page, "Before").waitFor();
});

/** Brings lines "Line 1" to "Line n" into a thread. */
async function fill(thread: string, n: number): Promise<void> {
  for (let from = 1; from <= n; from += 1000) {
    const lines = Array.from({ length: Math.min(1000, n - from + 1) }, (_, i) => JSON.stringify({ ts: 1_700_000_000_000_000_000 + (from + i) * 1_000_000, body: `Line ${from + i}` }));
    const answer = await fetch(`${site.dev.url}/v1/threads/${thread}/import`, { method: "POST", headers: { Authorization: `Bearer ${site.dev.api_key}`, "Content-Type": "application/x-ndjson" }, body: lines.join("\n") });
    assert.equal(answer.status, 200, await answer.text());
  }
}

/** The numbers of the lines that are shown. */
async function numbers(page: Page): Promise<number[]> {
  return (await page.locator("li.message .body").allTextContents()).map((text) => Number(text.replace("Line ", "")));
}

/** Where a message is, in the box that scrolls; without its text, the one that is seen first. */
function placeOf(page: Page, text?: string): Promise<{ text: string; top: number }> {
  return page.getByRole("region", { name: "Conversation" }).evaluate((box, text) => {
    const top = box.getBoundingClientRect().top;
    const body = (li: Element) => li.querySelector(".body")!.textContent!;
    const li = [...box.querySelectorAll("li.message")].find((e) => (text === undefined ? e.getBoundingClientRect().bottom > top + 1 : body(e) === text))!;
    return { text: body(li), top: li.getBoundingClientRect().top - top };
  }, text);
}

test("a conversation of 10,000 messages is paged through, without a jump, and a part of it is held", async (t) => {
  const thread = await site.dev.call<Thread>("POST", "/v1/threads", { title: "Very long" });
  await fill(thread.id, 10_000);
  const { page } = await signedIn(t);
  await page.goto(site.at(`threads/${thread.id}`));
  await page.getByText("Line 10000", { exact: true }).waitFor();
  await page.getByText("live", { exact: true }).waitFor();
  const box = page.getByRole("region", { name: "Conversation" });
  assert.ok(await box.evaluate((e) => e.scrollHeight - e.scrollTop - e.clientHeight < 2), "it begins at the end");
  for (let oldest = 9_951; oldest > 9_951 - 8 * 50; oldest -= 50) {
    await box.evaluate((e) => (e.scrollTop = 1));
    const before = await placeOf(page);
    await showOlder(page);
    await page.getByText(`Line ${oldest - 50}`, { exact: true }).waitFor({ state: "attached" });
    const shown = await numbers(page);
    assert.ok(shown.length <= 300, `${shown.length} are held`);
    assert.deepEqual(shown, Array.from(shown, (_, i) => oldest - 50 + i), "one after the other");
    const after = await placeOf(page, before.text);
    assert.ok(Math.abs(after.top - before.top) < 2, `${before.text} was at ${before.top} and is at ${after.top}`);
  }
  await site.dev.call("POST", `/v1/threads/${thread.id}/messages`, { body: "Line 10001" });
  await page.getByRole("button", { name: "Go to the newest (1 new)" }).waitFor();
  await box.evaluate((e) => (e.scrollTop = e.scrollHeight)); // reads newer ones by itself
  await page.getByText("Line 9900", { exact: true }).waitFor({ state: "attached" });
  assert.deepEqual(await numbers(page).then((shown) => shown.map((n) => n - shown[0]!)), Array.from({ length: 300 }, (_, i) => i));
  await accessible(page);
  let goOn!: () => void;
  const late = new Promise<void>((go) => (goOn = go));
  await page.route(/after=/, async (route) => (await late, route.continue()));
  await box.evaluate((e) => (e.scrollTop = e.scrollHeight));
  await page.locator("button:disabled", { hasText: "Show newer messages" }).waitFor();
  await page.getByRole("button", { name: /^Go to the newest/ }).click(); // while newer ones are being read
  await page.getByText("Line 10001", { exact: true }).waitFor();
  const answered = page.waitForResponse(/after=/);
  goOn();
  await answered;
  assert.equal(await page.getByRole("button", { name: /^Go to the newest/ }).count(), 0);
  assert.ok(await box.evaluate((e) => e.scrollHeight - e.scrollTop - e.clientHeight < 2), "it ends at the end");
  await page.getByLabel("Message", { exact: true }).fill("Line 10002");
  await page.getByRole("button", { name: "Post" }).click();
  await page.getByText("Line 10002", { exact: true }).waitFor();
  assert.deepEqual(await numbers(page), Array.from({ length: 51 }, (_, i) => 9_952 + i), "without what was being read");
});

test("a connection that is lost is told, comes again, and nothing is missing", async (t) => {
  const thread = await site.dev.call<Thread>("POST", "/v1/threads", { title: "Offline" });
  await site.dev.call("POST", `/v1/threads/${thread.id}/messages`, { body: "Before" });
  const sockets = new Set<Socket>();
  let up = true;
  const proxy = createServer((socket) => {
    if (!up) return socket.destroy();
    const server = connect(Number(new URL(site.dev.url).port), "127.0.0.1");
    for (const [from, to] of [[socket, server], [server, socket]] as const) {
      sockets.add(from);
      from.pipe(to);
      from.on("error", () => to.destroy()).on("close", () => (sockets.delete(from), to.destroy()));
    }
  });
  await new Promise<void>((listening) => proxy.listen(0, "127.0.0.1", listening));
  t.after(() => proxy.close());
  const { page, watch } = await site.open(t);
  watch.allow(/ERR_| 404 .*\/hold/); // of calls while there is no connection
  await page.goto(`http://127.0.0.1:${(proxy.address() as AddressInfo).port}/ui/threads/${thread.id}`);
  await signIn(page, site.dev);
  await page.getByText("live", { exact: true }).waitFor();
  up = false;
  for (const socket of sockets) socket.destroy();
  await page.getByText("connection lost, trying again").waitFor();
  await accessible(page);
  for (let i = 1; i <= 60; i++) await site.dev.call("POST", `/v1/threads/${thread.id}/messages`, { body: `Meanwhile ${i}` });
  up = true;
  await page.getByText("live", { exact: true }).waitFor();
  await page.getByText("Meanwhile 60", { exact: true }).waitFor();
  await page.waitForFunction(() => {
    const box = document.querySelector(".messages")!;
    box.scrollTop = 0; // at which older ones are read
    return box.querySelector("li.message .body")?.textContent === "Before";
  });
  assert.deepEqual(await page.locator("li.message .body").allTextContents(), ["Before", ...Array.from({ length: 60 }, (_, i) => `Meanwhile ${i + 1}`)]);
});

test("an owner puts a thread under legal hold, changes its reason and lifts it; a member is not shown it", async (t) => {
  const thread = await site.dev.call<Thread>("POST", "/v1/threads", { title: "Held" });
  await site.dev.call("PUT", `/v1/threads/${thread.id}/participants/${await memberId()}`, { part: "read" });
  const { page } = await signedIn(t);
  await page.goto(site.at(`threads/${thread.id}`));
  const card = page.getByRole("region", { name: "Keeping" });
  await card.getByText("Under no legal hold").waitFor();
  await card.getByRole("button", { name: "Put under legal hold" }).click();
  await page.getByLabel("Reason", { exact: true }).fill(evil);
  await accessible(page);
  await page.getByRole("dialog").getByRole("button", { name: "Put under legal hold" }).click();
  await card.getByText("legal hold", { exact: true }).waitFor();
  await card.getByText(evil).waitFor();
  assert.equal((await site.dev.call<{ reason: string }>("GET", `/v1/threads/${thread.id}/hold`)).reason, evil);
  await card.getByRole("button", { name: "Change the reason" }).click();
  await page.getByLabel("Reason", { exact: true }).fill("Case 7");
  await page.getByRole("button", { name: "Save the reason" }).click();
  await card.getByText("Case 7").waitFor();
  await accessible(page);
  await narrow(page);
  const { page: theirs } = await signedIn(t, site.dev.member);
  await theirs.goto(site.at(`threads/${thread.id}`));
  await theirs.getByText("You may read this thread and not write in it").waitFor();
  assert.equal(await theirs.getByRole("region", { name: "Keeping" }).count(), 0);
  assert.equal(await theirs.getByRole("button", { name: "Import" }).count(), 0);
  await card.getByRole("button", { name: "Lift the hold" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Lift the hold" }).click();
  await card.getByText("Under no legal hold").waitFor();
});

test("how long threads are kept is tried, set, and shown at a thread", async (t) => {
  const thread = await site.dev.call<Thread>("POST", "/v1/threads", { title: "Old" });
  await fill(thread.id, 3); // of 2023
  await site.dev.call("PUT", `/v1/threads/${thread.id}/hold`, { reason: "so that nothing of it goes" });
  const { page } = await signedIn(t);
  await page.goto(site.at("threads"));
  await page.getByRole("button", { name: "How long they are kept" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("A run would purge nothing now.").waitFor();
  await dialog.getByLabel("Purge messages after (days)").fill("30");
  await dialog.getByText("A legal hold keeps something of").waitFor();
  const save = dialog.getByRole("button", { name: "Save" });
  assert.equal(await save.isDisabled(), true);
  await dialog.getByLabel("I know that what is purged").check();
  await accessible(page);
  await narrow(page);
  await dialog.getByLabel("Purge messages after (days)").fill("");
  await dialog.getByLabel("Purge what was deleted after (days)").fill("400");
  await save.click();
  await page.getByText("Saved how long threads are kept").waitFor();
  await page.goto(site.at(`threads/${thread.id}`));
  await page.getByText("What is deleted is purged after 400 days. Messages are kept for ever.").waitFor();
  await site.dev.call("PUT", "/v1/retention", {});
});

test("a thread is exported to a file and imported into a sealed one, and again", async (t) => {
  const from = await site.dev.call<Thread>("POST", "/v1/threads", { title: `From/${evil}` });
  const post = (body: unknown) => site.dev.call<{ id: string }>("POST", `/v1/threads/${from.id}/messages`, { body });
  const first = await post("canary of the export");
  await site.dev.call("PUT", `/v1/threads/${from.id}/messages/${first.id}`, { body: { canary: [evil] } });
  await site.dev.call("DELETE", `/v1/threads/${from.id}/messages/${(await post("canary, deleted")).id}`);
  await post(evil);
  const { page, watch } = await signedIn(t);
  await page.goto(site.at(`threads/${from.id}`));
  await page.getByText("live", { exact: true }).waitFor();
  await page.getByRole("button", { name: "Export" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByText("The file holds the messages in clear").waitFor();
  await accessible(page);
  const file = await downloaded(page, () => dialog.getByRole("button", { name: "Export" }).click());
  assert.equal(file.name, "From-img-src-x-onerror-alert-1-script-alert-2-script.jsonl");
  const lines = file.bytes.toString().trimEnd().split("\n").map((l) => JSON.parse(l) as { body?: unknown; end?: boolean; messages?: number; deleted?: boolean });
  assert.deepEqual(lines.map((l) => l.body ?? (l.deleted ? "deleted" : l.messages)), ["canary of the export", { canary: [evil] }, "canary, deleted", "deleted", evil, 3]);

  const key = Buffer.alloc(32, 9);
  const fingerprint = Buffer.from(await crypto.subtle.digest("SHA-256", key)).toString("hex");
  const into = await site.dev.call<Thread>("POST", "/v1/threads", { title: "Into", cmek_fingerprint: fingerprint });
  await page.goto(site.at(`threads/${into.id}`));
  await page.getByText("This thread is under a key of its own").waitFor();
  assert.equal(await page.getByRole("button", { name: "Export" }).count() + (await page.getByRole("button", { name: "Import" }).count()), 0);
  await page.getByRole("button", { name: "Unlock with key file" }).click();
  await page.getByLabel("Key file", { exact: true }).setInputFiles({ name: "x.key", mimeType: "text/plain", buffer: Buffer.from(key.toString("base64")) });
  await page.getByRole("button", { name: "Unlock", exact: true }).click();
  const bring = async (content: Buffer) => {
    await page.getByRole("button", { name: "Import" }).click();
    await dialog.getByLabel("File", { exact: true }).setInputFiles({ name: "x.jsonl", mimeType: "application/x-ndjson", buffer: content });
    await dialog.getByRole("button", { name: "Import" }).click();
  };
  await bring(file.bytes);
  await dialog.getByText("Were there already").waitFor();
  assert.match(await dialog.getByLabel("What was imported").innerText(), /Imported\s+3\s+Were there already\s+0/);
  await accessible(page);
  await dialog.getByRole("button", { name: "Done" }).click();
  await message(page, evil).waitFor();
  await bring(file.bytes);
  await dialog.getByText("Were there already").waitFor();
  assert.match(await dialog.getByLabel("What was imported").innerText(), /Imported\s+0\s+Were there already\s+3/);
  await dialog.getByRole("button", { name: "Done" }).click();
  for (const r of await watch.sent()) assert.ok(!r.body.includes("canary"), r.url);
  const again = await (async () => {
    await page.getByRole("button", { name: "Export" }).click();
    await dialog.getByText("opened in this page").waitFor();
    return downloaded(page, () => dialog.getByRole("button", { name: "Export" }).click());
  })();
  assert.deepEqual(again.bytes.toString().match(/"body":/g)?.length, 4);
  assert.ok(again.bytes.includes("canary, deleted") && again.bytes.includes('"canary":['));

  await bring(Buffer.from("{}\nno line\n"));
  await dialog.getByRole("alert").getByText(/Line 2 is none of an export/).waitFor();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await bring(file.bytes.subarray(0, file.bytes.lastIndexOf(10, file.bytes.length - 2) + 1)); // without the last line
  await dialog.getByRole("alert").getByText(/are not whole/).waitFor();
});

test("an import that fails on its way goes on with the same file", async (t) => {
  const thread = await site.dev.call<Thread>("POST", "/v1/threads", { title: "Resumed" });
  const lines = Array.from({ length: 1_500 }, (_, i) => JSON.stringify({ id: String(i), ts: 1_700_000_000_000_000_000 + i * 1_000_000, body: `Line ${i + 1}` }));
  const { page, watch } = await signedIn(t);
  watch.allow(/ 409 .*\/import/);
  let parts = 0;
  await page.route("**/import", (route) => (++parts === 2 ? route.fulfill({ status: 409, contentType: "application/problem+json", body: JSON.stringify({ type: "about:blank", title: "Conflict", status: 409, detail: "not now" }) }) : route.continue()));
  await page.goto(site.at(`threads/${thread.id}`));
  await page.getByRole("button", { name: "Import" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("File", { exact: true }).setInputFiles({ name: "x.jsonl", mimeType: "application/x-ndjson", buffer: Buffer.from([...lines, '{"end":true,"messages":1500}', ""].join("\n")) });
  await dialog.getByRole("button", { name: "Import" }).click();
  await dialog.getByText("Stopped; 1,000 messages of the file are in the thread").waitFor();
  await dialog.getByText("not now").waitFor();
  await accessible(page);
  await dialog.getByRole("button", { name: "Go on" }).click();
  await dialog.getByText("Were there already").waitFor();
  assert.match(await dialog.getByLabel("What was imported").innerText(), /Imported\s+500\s+Were there already\s+1,000/);
  await dialog.getByRole("button", { name: "Done" }).click();
  await page.getByText("Line 1500", { exact: true }).waitFor();
});

let vite: ViteDevServer;
before(async () => {
  vite = await createVite({ root, configFile: false, logLevel: "error", appType: "custom", server: { middlewareMode: true, hmr: false, ws: false }, optimizeDeps: { noDiscovery: true } });
});
after(() => vite.close());

interface HeldPart {
  messages: { id: string }[];
  start: boolean;
  end: boolean;
  missed: number;
}
type Page50 = (held: HeldPart | undefined, page: object[], edge: boolean, following?: boolean) => HeldPart;

test("the part of a conversation that is held has no gaps, and no more than it may", async () => {
  const w = (await vite.ssrLoadModule("/src/pages/thread/window.ts")) as Record<"withNewest" | "withOlder" | "withNewer", Page50> & { maxHeld: number; withEvent: (held: HeldPart, event: object, following: boolean) => HeldPart };
  const message = (n: number, body: unknown = "x") => ({ id: `message ${String(n).padStart(6, "0")}`, thread: "t", body });
  const run = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => message(from + i));
  const ids = (h: HeldPart) => h.messages.map((m) => Number(m.id.slice(8)));
  const isRun = (h: HeldPart) => ids(h).every((n, i, all) => i === 0 || n === all[i - 1]! + 1) && h.messages.length <= w.maxHeld;
  const event = (kind: string, n: number) => ({ id: "", kind, thread: "t", message_id: message(n).id, ...(kind === "purged" ? {} : { message: message(n) }) });

  let h = w.withNewest(undefined, run(9_951, 10_000), false, true);
  for (let i = 1; i <= 1_000; i++) h = w.withEvent(h, event("created", 10_000 + i), true);
  assert.ok(isRun(h) && ids(h).at(-1) === 11_000 && h.end && !h.start && h.messages.length === w.maxHeld, "who follows has the newest");
  const up = h;
  for (let i = 1; i <= 10; i++) h = w.withEvent(h, event("created", 11_000 + i), false);
  assert.ok(isRun(h) && ids(h)[0] === ids(up)[0] && !h.end && h.missed === 10, "who reads further up keeps his, and is told of the others");
  assert.equal(w.withEvent(h, event("edited", 99_999), false).missed, 10);
  h = w.withNewer(h, run(11_001, 11_010), true);
  assert.ok(isRun(h) && h.end && h.missed === 0 && ids(h).at(-1) === 11_010);
  while (ids(h)[0]! > 50) h = w.withOlder(h, run(ids(h)[0]! - 50, ids(h)[0]! - 1), false);
  assert.ok(isRun(h) && !h.end && !h.start);
  h = w.withOlder(h, run(1, ids(h)[0]! - 1), true);
  assert.ok(isRun(h) && h.start && ids(h)[0] === 1);
  assert.deepEqual(w.withNewest(h, run(11_000, 11_049), false, false), h, "what is at the end does not come to who is at the beginning");
  h = w.withEvent(h, event("purged", 20), false);
  assert.ok(isRun(h) && ids(h)[0] === 21);
  assert.deepEqual(ids(w.withNewest(w.withNewest(undefined, run(1, 50), true, true), run(200, 249), false, true)), ids({ ...h, messages: run(200, 249) }), "a gap is not hidden");
  const reading = w.withNewest(w.withNewest(undefined, run(1, 50), true, true), run(200, 249), false, false);
  assert.ok(ids(reading)[0] === 1 && reading.messages.length === 50 && !reading.end, "who reads further up keeps his over a gap");
  const none = w.withNewest(undefined, [], true, true);
  assert.deepEqual(ids(w.withEvent(none, event("created", 1), true)), [1]);
  assert.deepEqual(ids(w.withNewest(none, run(2, 3), true, true)), [2, 3]);
  const large = Array.from({ length: 50 }, (_, i) => message(i + 1, "x".repeat(1 << 20)));
  const heavy = w.withNewer(w.withNewest(undefined, large.slice(0, 20), true, true), large.slice(20, 30), false);
  assert.ok(heavy.messages.length <= 24 && heavy.messages.length >= 10 && !heavy.start, `${heavy.messages.length} of a million characters each`);
});
