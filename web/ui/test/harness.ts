// What the end-to-end tests are made of: a development server, a Chromium, and
// pages of the dashboard that fail their test when they complain of anything.
//
//	const site = await start();
//	test("a vault is made", async (t) => {
//		const { page } = await site.signedIn(t);
//		await page.goto(site.at("vaults"));
//		...
//		await accessible(page);
//	});
//
// A test waits for states, and for each as long as patience says: it holds on a
// machine of any pace.
//
// KEYFOLD_BIN is the program. KEYFOLD_SHOTS=DIR has shot() write images of what the
// tests look at. KEYFOLD_UI_DEV=1 takes the sources through Vite's development server: no build
// is needed then, and there is no Content-Security-Policy.

import assert from "node:assert/strict";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { after, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import type axe from "axe-core";
import { chromium, type Browser, type BrowserContextOptions, type Page } from "playwright-core";
import { small } from "./png.js";
import { startDev, type Login, type Running } from "./server.js";
import { watch, type Watch } from "./watch.js";

export { totp, type Login } from "./server.js";
export { assertNotSent, type Sent } from "./watch.js";

/** web/ui */
export const root = join(dirname(fileURLToPath(import.meta.url)), "../..");

/** How long a page may take to get where a test waits for it, on a machine that has much else to do. */
export const patience = 60_000;

endWithRunner();

export interface Opened {
  page: Page;
  watch: Watch;
}

export interface Site {
  dev: Running;
  browser: Browser;
  /** The address of a page: at("vaults") is .../ui/vaults. */
  at: (path?: string) => string;
  /** A page of a browser without cookies, at the sign-in. The test fails at its end when the page complained. */
  open: (t: TestContext, options?: BrowserContextOptions) => Promise<Opened>;
  /** A page that the owner, or another one, has signed in to; it shows the overview. */
  signedIn: (t: TestContext, who?: Login, options?: BrowserContextOptions) => Promise<Opened>;
}

/** Ends this process when the one that started it, or scripts/web.sh, was killed. The browser and the server end with it. */
function endWithRunner(): void {
  const parent = process.ppid;
  const script = Number(process.env["KEYFOLD_RUNNER"] ?? parent);
  const lives = (pid: number) => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  };
  setInterval(() => (process.ppid === parent && lives(script)) || process.exit(1), 500).unref();
}

/** Starts a server and a browser for the tests of one file; they end with it. */
export async function start(...flags: string[]): Promise<Site> {
  const dev = await startDev(...flags);
  after(dev.stop);
  const browser = await launch();
  after(() => browser.close());
  const base = process.env["KEYFOLD_UI_DEV"] ? await startVite(dev.url) : dev.url;
  const at = (path = "") => `${base}/ui/${path}`;
  const open: Site["open"] = async (t, options) => {
    const opened = await openPage(t, browser, options);
    await opened.page.goto(at());
    return opened;
  };
  const signedIn: Site["signedIn"] = async (t, who = dev, options) => {
    const opened = await openPage(t, browser, options);
    await haveSession(opened.page, base, who);
    await opened.page.goto(at());
    await seen(opened.page);
    return opened;
  };
  return { dev, browser, at, open, signedIn };
}

async function launch(): Promise<Browser> {
  const flags = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server"];
  if (process.getuid?.() === 0) flags.push("--no-sandbox"); // which Chromium cannot have as root
  return chromium.launch({ executablePath: process.env["CHROMIUM"] ?? "/usr/bin/chromium", headless: true, args: flags });
}

async function startVite(url: string): Promise<string> {
  process.env["KEYFOLD_URL"] = url;
  const { createServer } = await import("vite");
  const server = await createServer({ root, logLevel: "error", server: { port: 0, host: "127.0.0.1", hmr: false } });
  await server.listen();
  after(() => server.close());
  return server.resolvedUrls!.local[0]!.replace(/\/ui\/$/, "");
}

async function openPage(t: TestContext, browser: Browser, options: BrowserContextOptions = {}): Promise<Opened> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, colorScheme: "light", acceptDownloads: true, ...options });
  context.setDefaultTimeout(patience);
  const page = await context.newPage();
  const watched = await watch(page);
  t.after(async () => {
    await context.close();
    for (const complaint of watched.complaints()) t.diagnostic(complaint); // which is seen when the test has failed already, too
    assert.deepEqual(watched.complaints(), [], "the page complained");
  });
  watched.allow(/ 401 .*\/v1\/auth\//); // a page that has no session asks for one
  return { page, watch: watched };
}

/** Gives the page's browser the cookie of a session, as the sign-in would, without the time that it takes to load and to fill in. */
async function haveSession(page: Page, base: string, { email, password }: Login): Promise<void> {
  const answer = await page.context().request.post(`${base}/v1/auth/token`, { headers: { "X-Keyfold-Session": "cookie", "Sec-Fetch-Site": "same-origin", Origin: base }, data: { email, password } });
  assert.equal(answer.status(), 200, await answer.text());
}

/** Fills in the form of the sign-in and sends it. */
export async function signIn(page: Page, who: Login): Promise<void> {
  await page.getByLabel("Email").fill(who.email);
  await page.getByLabel("Password").fill(who.password);
  await page.getByRole("button", { name: "Sign in", exact: true }).click();
}

/** Waits until a signed-in page shows its heading and nothing in it still loads. */
export async function seen(page: Page): Promise<void> {
  await page.locator("main#main").waitFor();
  await page.locator("main#main h1, main#main .empty").first().waitFor();
  await page.waitForFunction(() => document.querySelector(".loading") === null);
}

const axeSource = readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** Fails when axe finds something serious or critical in the page as it is: all of it in light, the contrast in dark, too. */
export async function accessible(page: Page): Promise<void> {
  if (!(await page.evaluate(() => "axe" in globalThis))) await page.evaluate(await axeSource);
  for (const colorScheme of ["dark", "light"] as const) {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    const found = await page.evaluate(async (only) => {
      const { violations } = await (globalThis as unknown as { axe: typeof axe }).axe.run(document, { resultTypes: ["violations"], ...(only ? { runOnly: { type: "rule", values: only } } : {}) });
      return violations.filter((v) => v.impact === "serious" || v.impact === "critical").map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => `${n.html} ${n.failureSummary}`).join(" | ")}`);
    }, colorScheme === "dark" ? ["color-contrast"] : undefined);
    assert.deepEqual(found, [], `axe, ${colorScheme}`);
  }
}

/** Fails when the page itself scrolls sideways at a width of 360 pixels. */
export async function narrow(page: Page): Promise<void> {
  const before = page.viewportSize();
  await page.setViewportSize({ width: 360, height: 800 });
  const wide = await page.evaluate(() => {
    const over = [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".table, pre, .skip"));
    const width = document.documentElement.scrollWidth;
    return width > innerWidth ? [`it is ${width} wide`, ...over.slice(0, 5).map((e) => e.outerHTML.slice(0, 200))] : [];
  });
  if (before) await page.setViewportSize(before);
  assert.deepEqual(wide, [], "wider than 360 pixels");
}

/** Writes NAME-WIDTH-SCHEME.png for the eyes of who changes the page, when KEYFOLD_SHOTS names a directory. */
export async function shot(page: Page, name: string): Promise<void> {
  const dir = process.env["KEYFOLD_SHOTS"];
  if (!dir) return;
  for (const scheme of ["light", "dark"] as const) {
    for (const width of [1280, 360]) await picture(page, join(dir, `${name}-${width}-${scheme}.png`), width, scheme);
  }
}

/** Writes an image of the page, at a width, in light or dark: all of it, or as much as is not taller than that. */
export async function picture(page: Page, file: string, width: number, colorScheme: "light" | "dark", tallest = Infinity): Promise<void> {
  const before = page.viewportSize();
  await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
  await page.setViewportSize({ width, height: 800 });
  const dialog = (await page.locator("dialog[open]").count()) > 0; // whose backdrop covers what is seen
  const height = dialog ? 800 : Math.min(tallest, await page.evaluate(() => document.documentElement.scrollHeight));
  const png = await page.screenshot({ fullPage: !dialog, clip: { x: 0, y: 0, width, height }, animations: "disabled" });
  await mkdir(dirname(file), { recursive: true });
  await writeFile(file, small(png));
  if (before) await page.setViewportSize(before);
}

/** The bytes of the file that an act has the page hand to the user, and its name. */
export async function downloaded(page: Page, act: () => Promise<void>): Promise<{ name: string; bytes: Buffer }> {
  const [download] = await Promise.all([page.waitForEvent("download"), act()]);
  return { name: download.suggestedFilename(), bytes: await readFile(await download.path()) };
}

/** What the page keeps where scripts reach it: both storages, cookies that scripts see, and the databases. */
export function stored(page: Page): Promise<string> {
  return page.evaluate(async () => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, await indexedDB.databases(), await caches.keys()]));
}
