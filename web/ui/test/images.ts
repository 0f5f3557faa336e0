// Writes docs/images: each page of the dashboard with what an imaginary team has in
// it, in light, some in dark, two on a narrow screen. scripts/web.sh images runs it.
// The IDs in the images are of the run; the rest is the same each time.

import { readdir, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { picture, root, seen, start } from "./harness.js";
import { makeTeam } from "./team.js";

const dir = join(root, "../../docs/images");
const most = 2_000_000; // bytes of all of them
const tallest = 1200;

const site = await start();
const team = await makeTeam(site.dev);
const payments = team.vaults["payments"]!;
await rm(dir, { recursive: true, force: true });

type Look = readonly [width: number, scheme: "light" | "dark"];
const light: Look = [1280, "light"];
const dark: Look = [1280, "dark"];
const narrow: Look = [360, "light"];

/** Images of the page as it is. */
async function show(page: Page, name: string, ...looks: Look[]): Promise<void> {
  for (const [width, scheme] of looks) await picture(page, join(dir, `${name}-${width}-${scheme}.png`), width, scheme, tallest);
}

const button = (page: Page, name: string) => page.getByRole("button", { name, exact: true });
const keyFile = (text = team.key) => ({ name: "payments.key", mimeType: "text/plain", buffer: Buffer.from(text) });
const locale = { locale: "en-GB", timezoneId: "Europe/Lisbon" };

test("the sign-in", async (t) => {
  const { page } = await site.open(t, locale);
  await page.getByLabel("Email").fill(team.owner.email);
  await page.getByLabel("Password").fill("not shown anyway");
  await show(page, "signin", light);
});

test("the pages of a member", async (t) => {
  const { page, watch } = await site.signedIn(t, team.owner, locale);
  await team.calendar.show(page);
  const open = async (path: string) => {
    await page.goto(site.at(path));
    await seen(page);
  };
  watch.allow(/ 404 .*\/hold/); // a thread without a legal hold
  await open("vaults");
  await show(page, "vaults", light);
  await open("agents");
  await show(page, "agents", light);
  await open(`vaults/${payments}/access`);
  await page.getByLabel("Path", { exact: true }).fill("stripe/live/secret-key");
  await page.getByRole("list", { name: /^Who can read/ }).waitFor();
  await show(page, "access", light);
  await open("threads");
  await show(page, "threads", light);
  await open(`threads/${team.threads["Refund for order 58213"]}`);
  await page.getByText("live", { exact: true }).waitFor();
  await show(page, "thread", light, dark, narrow);
  await open("audit");
  await button(page, "Last day").click();
  await page.getByText("Events per hour", { exact: true }).waitFor();
  await button(page, "Verify the chain").click();
  await page.getByText("The chain is whole.").waitFor();
  await show(page, "audit", light, dark);
  await open("account");
  await show(page, "account", light);
});

test("a sealed vault and its key", async (t) => {
  const { page } = await site.signedIn(t, team.owner, locale);
  await team.calendar.show(page);
  await page.goto(site.at(`vaults/${payments}`));
  await seen(page);
  await show(page, "vault-locked", light);
  await button(page, "Unlock with key file").first().click();
  await page.getByLabel("Key file", { exact: true }).setInputFiles(keyFile());
  await button(page, "Unlock").click();
  await page.getByText("live/", { exact: true }).click();
  await page.getByRole("link", { name: "secret-key" }).click();
  await button(page, "Reveal").click();
  await button(page, "Hide").waitFor();
  await show(page, "vault-unlocked", light, dark, narrow);

  await page.getByRole("navigation", { name: "Parts of the vault" }).getByRole("link", { name: "Settings" }).click();
  await seen(page);
  await show(page, "cmek", light);
  await button(page, "Rotate the key").click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile());
  const download = page.waitForEvent("download");
  await button(page, "Make a key and download its file").click();
  await download;
  await page.getByLabel("I have saved it").check();
  await show(page, "cmek-rotate", light);
});

test("enabling CMEK", async (t) => {
  const { page } = await site.signedIn(t, team.owner, locale);
  await team.calendar.show(page);
  await page.goto(site.at(`vaults/${team.vaults["tracking"]}/settings`));
  await seen(page);
  await button(page, "Enable CMEK").click();
  const download = page.waitForEvent("download");
  await button(page, "Make a key and download its file").click();
  await download;
  await show(page, "cmek-enable", light);
});

test("the pages of an operator", async (t) => {
  const { page } = await site.signedIn(t, team.owner, locale);
  await team.calendar.show(page, true);
  await page.goto(site.at());
  await page.getByLabel("Admin key").fill(site.dev.admin_key);
  await button(page, "Use this key").click();
  await button(page, "Forget the admin key").waitFor();
  await seen(page);
  await page.clock.pauseAt(team.calendar.now + 60_000);
  await page.clock.runFor(1_000);
  for (let n = 0; n < 37; n++) { // as many readings as the chart of requests has
    await team.work(n);
    const read = page.waitForResponse(/\/admin\/debug\/prometheus/);
    await page.clock.runFor(5_000);
    await read;
  }
  await page.clock.runFor(1_000);
  await show(page, "overview", light, dark);
  await page.clock.resume();
  for (const name of ["Keys", "Jobs"]) {
    await page.getByRole("navigation", { name: "Main" }).getByRole("link", { name, exact: true }).click();
    await page.getByRole("heading", { name, level: 1 }).waitFor();
    await seen(page);
    await show(page, name.toLowerCase(), light);
  }
});

test("they are small", async (t) => {
  const sizes = await Promise.all((await readdir(dir)).map(async (name) => (await stat(join(dir, name))).size));
  const sum = sizes.reduce((a, b) => a + b, 0);
  t.diagnostic(`${sizes.length} images, ${Math.round(sum / 1000)} KB`);
  if (sum > most) throw new Error(`they take ${sum} bytes; ${most} are allowed`);
});
