// Who signs in, how it ends, and what the browser keeps of it.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { accessible, seen, shot, signIn, start, stored, totp, type Login } from "./harness.js";

const site = await start();

const signInButton = (page: Page) => page.getByRole("button", { name: "Sign in", exact: true });
let made = 0;

/** Signs up as somebody new, on the page. */
async function signUp(page: Page): Promise<Login> {
  const who = { email: `new${++made}@keyfold.example`, password: "Quiet-Harbour-58!" };
  await page.getByRole("button", { name: "Make an account" }).click();
  await page.getByLabel("Name").fill("Somebody New");
  await page.getByLabel("Email").fill(who.email);
  await page.getByLabel("Password").fill(who.password);
  await page.getByRole("button", { name: "Make the account" }).click();
  await seen(page);
  return who;
}

test("the sign-in is accessible and fits", async (t) => {
  const { page } = await site.open(t);
  await signInButton(page).waitFor();
  await accessible(page);
  await shot(page, "signin");
});

test("a session is kept by the browser, and no script can read it", async (t) => {
  const { page, watch } = await site.signedIn(t);
  const tokens = [];
  for (const { headers } of await watch.sent()) if (headers["authorization"]) tokens.push(headers["authorization"].replace("Bearer ", ""));
  assert.ok(tokens.length > 0, "no call was signed in");
  const kept = await stored(page);
  for (const token of tokens) assert.ok(!kept.includes(token), "a token is stored");
  assert.equal(kept, '[{},{},"",[],[]]');
  const cookies = await page.context().cookies();
  assert.ok(cookies.length > 0, "there is no cookie");
  for (const c of cookies) assert.ok(c.httpOnly && c.sameSite === "Strict", `${c.name}: httpOnly ${c.httpOnly}, sameSite ${c.sameSite}`);

  await page.reload();
  await seen(page);
  await page.getByRole("link", { name: site.dev.email }).waitFor();
});

test("tabs that are opened at once share the session", async (t) => {
  const { page } = await site.signedIn(t);
  const others = await Promise.all([1, 2, 3].map(() => page.context().newPage()));
  await Promise.all(others.map((p) => p.goto(site.at())));
  for (const p of others) await p.getByRole("link", { name: site.dev.email }).waitFor();
});

test("a wrong password is refused and can be tried again", async (t) => {
  const { page, watch } = await site.open(t);
  watch.allow(/ 401 .*\/v1\/auth\/token/);
  const who = await signUp(page);
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn(page, { ...who, password: "Wrong-Harbour-58!" });
  await page.getByRole("alert").waitFor();
  await accessible(page);
  await shot(page, "signin-refused");
  await signIn(page, who);
  await seen(page);
});

test("signing out ends the session", async (t) => {
  const { page } = await site.signedIn(t);
  await page.getByRole("button", { name: "Sign out" }).click();
  await signInButton(page).waitFor();
  await page.reload();
  await signInButton(page).waitFor();
});

/** Another tab of the page's browser, at a place of the dashboard. */
async function tab(page: Page, place = ""): Promise<Page> {
  const other = await page.context().newPage();
  await other.goto(site.at(place));
  return other;
}

/** Has a page remember what the tabs tell each other. */
async function listen(page: Page): Promise<() => Promise<unknown>> {
  await page.evaluate(() => {
    const heard: unknown[] = [];
    Object.assign(globalThis, { heard });
    new BroadcastChannel("keyfold-session").onmessage = ({ data }) => heard.push(data);
  });
  return () => page.evaluate(() => (globalThis as unknown as { heard: unknown[] }).heard);
}

test("signing out in one tab signs the others out at once, and keys are forgotten there", async (t) => {
  const { page } = await site.signedIn(t);
  const other = await tab(page, "keys");
  await other.getByLabel("Admin key").fill(site.dev.admin_key);
  await other.getByRole("button", { name: "Use this key" }).click();
  await other.getByRole("button", { name: "Forget the admin key" }).waitFor();
  const heard = await listen(other);
  const calls: string[] = [];
  other.on("request", (r) => calls.push(`${r.method()} ${new URL(r.url()).pathname}`));
  // Not even when the server does not answer yet.
  let answer = () => {};
  const answered = new Promise<void>((done) => (answer = done));
  await page.route("**/v1/auth/token", (route) => answered.then(() => route.continue()), { times: 1 });
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await signInButton(other).waitFor();
  await signInButton(page).waitFor();
  assert.deepEqual(calls, [], "the other tab needs the server for that");
  answer();

  await signIn(page, site.dev);
  await seen(page);
  await other.getByRole("link", { name: site.dev.email }).waitFor(); // it goes on, too
  await other.getByLabel("Admin key").waitFor(); // without the key
  assert.deepEqual(await heard(), ["out", "in"]);
});

test("a sign-out that the server does not hear of is told, and can be tried again", async (t) => {
  const { page, watch } = await site.signedIn(t);
  watch.allow(/request: DELETE|ERR_FAILED/);
  await page.route("**/v1/auth/token", (route) => route.abort());
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await page.getByRole("alert").getByText("the server was not told").waitFor();
  await accessible(page);
  await page.unroute("**/v1/auth/token");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("alert").waitFor({ state: "detached" });
  await page.reload();
  await signInButton(page).waitFor();
  assert.deepEqual(await page.context().cookies(), []);
});

test("a tab goes on as who signed in last, and keeps no key of who was there before", async (t) => {
  const { page } = await site.signedIn(t);
  await page.goto(site.at("keys"));
  await page.getByLabel("Admin key").fill(site.dev.admin_key);
  await page.getByRole("button", { name: "Use this key" }).click();
  await page.getByRole("button", { name: "Forget the admin key" }).waitFor();
  const other = await tab(page);
  await seen(other);
  // As from a tab that did not hear of the session: the cookie becomes another user's.
  await other.evaluate(async ({ email, password }) => {
    await fetch("/v1/auth/token", { method: "POST", headers: { "Content-Type": "application/json", "X-Keyfold-Session": "cookie" }, body: JSON.stringify({ email, password }) });
    new BroadcastChannel("keyfold-session").postMessage("in");
  }, site.dev.member);
  await page.getByRole("link", { name: site.dev.member.email }).waitFor();
  await page.getByLabel("Admin key").waitFor();
});

test("signing out everywhere ends the sessions of other browsers", async (t) => {
  const { page } = await site.open(t);
  const who = await signUp(page);
  const other = await site.signedIn(t, who);
  const second = await tab(page);
  await seen(second);
  await page.goto(site.at("account"));
  await page.getByRole("button", { name: "Sign out everywhere" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Sign out everywhere" }).click();
  await signInButton(page).waitFor();
  await signInButton(second).waitFor();
  await other.page.reload();
  await signInButton(other.page).waitFor();
});

test("signing in with a code, and with a recovery code", async (t) => {
  const { page } = await site.open(t);
  const who = await signUp(page);
  await page.goto(site.at("account"));
  await page.getByRole("button", { name: "Set it up" }).click();
  await page.getByRole("dialog").getByLabel("Your password").fill(who.password);
  await page.getByRole("button", { name: "Go on" }).click();
  const secret = (await page.getByLabel("Secret", { exact: true }).innerText()).replace(/\s/g, "");
  await accessible(page);
  await shot(page, "account-totp");
  await page.getByLabel("Code that the app shows").fill(totp(secret));
  await page.getByRole("button", { name: "Turn it on" }).click();
  const codes = (await page.getByLabel("the recovery codes", { exact: true }).innerText()).trim().split("\n");
  assert.equal(codes.length, 10);
  await accessible(page);
  await page.getByLabel("I have saved").check();
  await page.getByRole("button", { name: "Done" }).click();

  // A code works once, and that of the next 30 seconds works already.
  for (const code of [() => totp(secret, Date.now() + 30_000), () => codes[0]!]) {
    await page.getByRole("button", { name: "Sign out", exact: true }).click();
    await signIn(page, who);
    await page.getByLabel("Code").waitFor();
    await accessible(page);
    await page.getByLabel("Code").fill(code());
    await page.getByRole("button", { name: "Go on" }).click();
    await seen(page);
  }
});

test("signing up makes an account and an org", async (t) => {
  const { page } = await site.open(t);
  await page.getByRole("button", { name: "Make an account" }).click();
  await accessible(page);
  await page.getByRole("button", { name: "Sign in to an account" }).click();
  const who = await signUp(page);
  await page.getByRole("link", { name: who.email }).waitFor();
});
