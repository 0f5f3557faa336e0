// The frame of all pages: by keyboard, in light and dark, and narrow.

import assert from "node:assert/strict";
import { test } from "node:test";
import { accessible, narrow, seen, shot, start } from "./harness.js";

const site = await start();
const places = ["Overview", "Vaults", "Agents", "Threads", "Audit", "Keys", "Jobs"];

test("every page is reached by keyboard, and takes the focus", async (t) => {
  const { page } = await site.signedIn(t);
  for (const name of places) {
    await page.goto(site.at("account"));
    await seen(page);
    for (let i = 0; i < 20; i++) {
      await page.keyboard.press("Tab");
      if (await page.evaluate((n) => document.activeElement?.textContent?.trim() === n, name)) break;
    }
    await page.keyboard.press("Enter");
    const here = page.getByRole("navigation", { name: "Main" }).getByRole("link", { name });
    await page.waitForFunction(() => document.activeElement?.id === "main");
    assert.equal(await here.getAttribute("aria-current"), "page", name);
  }
});

test("the first stop leads past the navigation", async (t) => {
  const { page } = await site.signedIn(t);
  await page.reload();
  await seen(page);
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement?.textContent?.trim()), "Skip to content");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.activeElement?.id === "main");
});

for (const path of ["", "vaults", "agents", "threads", "audit", "keys", "jobs", "account", "nowhere"]) {
  test(`/ui/${path} is accessible, has a title and one heading, and fits 360 pixels`, async (t) => {
    const name = path || "overview";
    const { page } = await site.signedIn(t);
    await page.goto(site.at(path));
    await seen(page);
    assert.equal(await page.locator("h1").count(), 1, "h1");
    assert.match(await page.title(), /\S · Keyfold$/);
    await accessible(page);
    await narrow(page);
    if (["overview", "threads", "keys", "jobs"].includes(name)) await shot(page, name); // the others have more to show in tests of their own
  });
}

test("what a first load takes", async (t) => {
  const { page } = await site.open(t);
  await page.getByLabel("Email").waitFor();
  const took = await page.evaluate(() => {
    const [navigation] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
    const scripts = (performance.getEntriesByType("resource") as PerformanceResourceTiming[]).filter((r) => r.name.endsWith(".js"));
    return { interactive: performance.now(), ready: navigation?.domContentLoadedEventEnd, scripts: scripts.length, sent: scripts.reduce((n, r) => n + r.encodedBodySize, 0), code: scripts.reduce((n, r) => n + r.decodedBodySize, 0) };
  });
  t.diagnostic(`sign-in usable after ${took.interactive.toFixed(0)} ms (DOM ready after ${took.ready?.toFixed(0)} ms); ${took.scripts} scripts, ${took.sent} bytes sent, ${took.code} bytes of code`);
});
