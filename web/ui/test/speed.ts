// How soon a page can be used, on this machine over loopback: scripts/web.sh speed
// prints the table of bench/RESULTS.md. No test fails for being slow.
//
// Each load is in a browser that has cached nothing, and counts from the beginning of
// the navigation to the frame after which the page is whole: its heading is there,
// nothing in it loads, and the main thread is free.

import { test } from "node:test";
import type { Page } from "playwright-core";
import { patience, start } from "./harness.js";
import { makeTeam } from "./team.js";

const rounds = Number(process.env["ROUNDS"] ?? 15);
const site = await start();
const team = await makeTeam(site.dev);

declare global {
  /** In the page: when it was whole, in ms from the beginning of the navigation. */
  var whole: number | undefined;
}

/** Has the page note when it is whole. */
async function note(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const look = () => {
      const there = document.querySelector("main h1, form input") && !document.querySelector(".loading");
      if (!there) return;
      // After the next frame a free main thread answers at once; what is shown may still change, and then the last time counts.
      requestAnimationFrame(() => setTimeout(() => (globalThis.whole = performance.now())));
    };
    new MutationObserver(look).observe(document, { childList: true, subtree: true });
  });
}

const median = (all: number[]) => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)]!;

/** Loads a page again and again. It is over when nothing has changed for half a second. */
async function measure(what: string, path: string, open: () => Promise<Page>): Promise<string> {
  const [whole, first, sent]: [number[], number[], number[]] = [[], [], []];
  for (let n = 0; n < rounds; n++) {
    const page = await open();
    await note(page);
    await page.goto(site.at(path));
    await page.waitForFunction(() => globalThis.whole !== undefined && performance.now() - globalThis.whole > 500, undefined, { timeout: patience });
    const got = await page.evaluate(() => ({
      whole: globalThis.whole!,
      first: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? NaN,
      sent: (performance.getEntriesByType("resource") as PerformanceResourceTiming[]).filter((r) => r.name.endsWith(".js")).reduce((sum, r) => sum + r.encodedBodySize, 0),
    }));
    whole.push(got.whole);
    first.push(got.first);
    sent.push(got.sent);
    await page.context().close();
  }
  const ms = (n: number) => n.toFixed(0);
  return `| ${what} | ${ms(median(first))} | ${ms(median(whole))} | ${ms(Math.min(...whole))} to ${ms(Math.max(...whole))} | ${(median(sent) / 1000).toFixed(1)} |`;
}

test("how soon pages can be used", async (t) => {
  const stranger = async () => {
    const page = await (await site.browser.newContext()).newPage();
    return page;
  };
  const member = async () => {
    const context = await site.browser.newContext();
    const answer = await context.request.post(`${site.dev.url}/v1/auth/token`, { headers: { "X-Keyfold-Session": "cookie", Origin: site.dev.url }, data: team.owner });
    if (!answer.ok()) throw new Error(await answer.text());
    return context.newPage();
  };
  console.log(`| page, nothing cached, the median of ${rounds} loads | first paint, ms | can be used, ms | from, to | script, KB |\n|---|---|---|---|---|`);
  console.log(await measure("sign-in", "", stranger));
  for (const path of ["", "vaults", `vaults/${team.vaults["payments"]}/settings`, "audit", `threads/${team.threads["Refund for order 58213"]}`]) {
    console.log(await measure(path === "" ? "overview" : path.replaceAll(/[0-9a-f-]{36}/g, "…"), path, member));
  }
  t.diagnostic(`${rounds} loads each`);
});
