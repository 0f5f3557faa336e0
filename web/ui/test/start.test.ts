// The server ends and starts again under open pages; and a run of tests that is
// killed leaves no process behind.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { access, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { accessible, patience, seen, start } from "./harness.js";

const site = await start();
const { dev } = site;

const away = "The server does not answer. Look whether it runs and this computer reaches it, then try again.";
/** What the browser's console says of a server that is away. */
const complaints = /ERR_CONNECTION|ERR_EMPTY_RESPONSE|ERR_NETWORK|ERR_SOCKET|ERR_INCOMPLETE/;

test("a page outlives its server: it says that it is away, comes back by itself, and the session goes on", async (t) => {
  const { page, watch } = await site.signedIn(t);
  watch.allow(complaints);
  await dev.call("POST", "/v1/vaults", { name: "before the end" });
  await page.goto(site.at("vaults"));
  await page.getByRole("cell", { name: "before the end", exact: true }).waitFor();
  await dev.kill();

  await page.getByRole("button", { name: "Create a vault" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Name").fill("after the end");
  await dialog.getByRole("button", { name: "Create" }).click();
  await dialog.getByText(away).waitFor();
  await dialog.getByText("It may have been done all the same").waitFor();
  await accessible(page);
  await dev.restart();
  assert.equal(await dialog.getByLabel("Name").inputValue(), "after the end", "what was typed is lost");
  await dialog.getByRole("button", { name: "Create" }).click();
  await page.getByRole("heading", { name: "after the end", level: 1 }).waitFor();

  await dev.kill();
  await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name: "Agents" }).click();
  await page.getByText(away).first().waitFor();
  await dev.restart();
  await page.getByText(away).first().waitFor({ state: "detached" });
  await page.reload();
  await seen(page);
  await page.getByRole("link", { name: dev.email }).waitFor();
});

test("a thread is live again after the server's end, and lacks nothing", async (t) => {
  const thread = await dev.call<{ id: string }>("POST", "/v1/threads", { title: "Outage" });
  const post = (body: string) => dev.call("POST", `/v1/threads/${thread.id}/messages`, { body });
  await post("before the end");
  const { page, watch } = await site.signedIn(t);
  watch.allow(complaints);
  watch.allow(/ 404 .*\/hold/); // a thread without a legal hold
  await page.goto(site.at(`threads/${thread.id}`));
  await page.getByText("live", { exact: true }).waitFor();
  await dev.kill();
  await page.getByText("live", { exact: true }).waitFor({ state: "detached" });
  await dev.restart();
  await post("after the end");
  await page.getByText("after the end", { exact: true }).waitFor();
  await page.getByText("live", { exact: true }).waitFor();
  assert.deepEqual(await page.locator("li.message .body").allTextContents(), ["before the end", "after the end"]);
});

test("a page that cannot ask who is signed in says so, and asks again", async (t) => {
  const { page, watch } = await site.signedIn(t);
  watch.allow(/ERR_FAILED|ERR_CONNECTION/);
  await page.route("**/v1/auth/refresh", (route) => route.abort("connectionrefused"));
  await page.reload();
  await page.getByText(away).waitFor();
  await accessible(page);
  await page.unroute("**/v1/auth/refresh");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("link", { name: dev.email }).waitFor();
});

test("a test that is killed leaves no server and no data", async () => {
  const dir = await mkdtemp(join(tmpdir(), "keyfold-web-killed-"));
  const code = `import { startDev } from ${JSON.stringify(new URL("./server.js", import.meta.url).href)};
    const dev = await startDev();
    console.log(JSON.stringify(dev));
    setInterval(() => {}, 1000);`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", code], { env: { ...process.env, TMPDIR: dir }, stdio: ["ignore", "pipe", "inherit"] });
  let told = "";
  for await (const chunk of child.stdout) {
    told += String(chunk);
    if (told.includes("\n")) break;
  }
  const other = JSON.parse(told) as { url: string; dir: string };
  const answers = () => fetch(`${other.url}/healthz`).then(() => true, () => false);
  assert.ok(await answers(), "the server does not answer");
  child.kill("SIGKILL");
  const there = () => access(other.dir).then(() => true, () => false);
  for (const until = Date.now() + patience; (await answers()) || (await there()); await sleep(50)) assert.ok(Date.now() < until, "it is still there");
  await rm(dir, { recursive: true, force: true });
});
