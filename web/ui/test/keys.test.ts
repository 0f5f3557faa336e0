// Keys: what a user sees of them, and what an operator's key adds: KEKs with their
// versions, the root key, DEKs of threads, and their rotation.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { accessible, narrow, seen, shot, signIn, start, stored } from "./harness.js";
import { ago, asOperator, away, changed } from "./operator.js";

const site = await start();
const { dev } = site;

interface Kek {
  kek_id: string;
  of: string;
  vault_id?: string;
  versions: { version: number; state: string; created_at: string; wraps: number }[];
}
interface Keks {
  available: boolean;
  message?: string;
  root?: { kind: string; state: string };
  wrap_limit: number;
  keks: Kek[];
}
const keks = () => dev.call<Keks>("GET", "/admin/encryption/keys", undefined, dev.admin_key);
const primary = async (of: string, vault?: string) => (await keks()).keks.find((k) => k.of === of && k.vault_id === vault)!.versions.at(-1)!.version;

interface Deks {
  available: boolean;
  message?: string;
  seal_limit?: number;
  deks: { thread_id: string; key_id: string; state: string; kek_version: number; created_at?: string; seals: number }[];
}
const deks = (thread: string) => dev.call<Deks>("GET", `/admin/encryption/deks?thread_id=${thread}`, undefined, dev.admin_key);

const open = async (page: Page) => {
  await page.goto(site.at("keys"));
  await seen(page);
};
const openAsOperator = async (page: Page) => {
  await open(page);
  await asOperator(page, dev.admin_key);
};
const kekRow = (page: Page, name: string) => page.getByRole("region", { name: "KEKs", exact: true }).getByRole("row").filter({ hasText: name });
const confirm = (page: Page, name: string) => page.getByRole("dialog").getByRole("button", { name, exact: true }).click();

test("without an operator's key there is the state of the key process, and no more of KEKs", async (t) => {
  const { page } = await site.signedIn(t);
  await open(page);
  await page.getByText("its KEKs can be used").waitFor();
  await page.getByText("No CMEK keys").waitFor();
  await page.getByLabel("Admin key").waitFor();
  assert.equal(await page.getByRole("button", { name: /Rotate/ }).count(), 0);
  assert.equal(await page.getByText("Root key", { exact: true }).count(), 0);
});

test("a key that is no operator's is not taken", async (t) => {
  const { page, watch } = await site.signedIn(t);
  watch.allow(/ 40[13] .*\/admin\/health/);
  await open(page);
  for (const key of [dev.api_key, "1ck_0000000000000000000000000000000000000000000"]) {
    await asOperator(page, key);
    await page.getByRole("alert").waitFor();
    assert.equal(await page.getByRole("button", { name: "Forget the admin key" }).count(), 0);
  }
  await page.getByRole("link", { name: dev.email }).waitFor(); // the session goes on
});

test("an operator sees the root key, and each KEK with its versions", async (t) => {
  const { page } = await site.signedIn(t);
  const vault = await dev.call<{ id: string }>("POST", "/v1/vaults", { name: "listed <b>vault</b>" });
  await dev.call("PUT", `/v1/vaults/${vault.id}/secrets/a`, { value: "x" });
  await dev.call("POST", "/v1/threads", { title: "listed" });
  await openAsOperator(page);
  const root = page.getByRole("region", { name: "Root key" });
  await root.getByText("unlocked", { exact: true }).waitFor();
  await root.getByText("key file").waitFor();
  await root.getByText((await keks()).wrap_limit.toLocaleString()).waitFor();
  const row = kekRow(page, "listed <b>vault</b>");
  await row.waitFor();
  assert.equal(await row.locator("td").nth(1).innerText(), "1");
  await row.getByText("none").waitFor();
  await row.getByRole("button", { name: "Versions" }).click();
  const versions = page.getByRole("region", { name: "Versions of the KEK of listed <b>vault</b>" });
  await versions.getByText("enabled").waitFor();
  await kekRow(page, "The server's own").waitFor();
  await kekRow(page, "Threads").waitFor();
  await accessible(page);
  await narrow(page);
});

test("an operator rotates the KEK of the threads and a DEK, sees the jobs, and the key is forgotten", async (t) => {
  const { page } = await site.signedIn(t);
  const title = 'Refund <img src=x onerror="alert(1)">';
  const thread = await dev.call<{ id: string }>("POST", "/v1/threads", { title });
  for (let i = 0; i < 20; i++) await dev.call("POST", `/v1/threads/${thread.id}/messages`, { role: "user", body: `message ${i}` });
  await openAsOperator(page);
  const row = page.getByRole("region", { name: "DEKs of threads" }).getByRole("row").filter({ hasText: thread.id.slice(0, 8) }).filter({ hasText: title });
  await row.waitFor();
  const dek = () => row.locator("td").nth(1).locator("code").getAttribute("title");
  const before = await dek();
  const version = await primary("threads");
  await row.getByText("just now").first().waitFor(); // the DEK's age
  await row.getByText("enabled", { exact: true }).waitFor();
  const [told] = (await deks(thread.id)).deks;
  await row.getByText(told!.seals.toLocaleString(), { exact: true }).waitFor();

  await page.getByRole("button", { name: "Rotate the KEK of Threads" }).click();
  await page.getByRole("dialog").getByText("Rotate the KEK of Threads?").waitFor();
  await confirm(page, "Rotate");
  const job = page.getByRole("group", { name: "Rewrap of the threads' DEKs" });
  await job.getByText("completed").waitFor();
  const kek = kekRow(page, "Threads");
  await kek.locator("td").nth(1).getByText(String(version + 1), { exact: true }).waitFor(); // it is read again by itself
  await kek.getByRole("button", { name: "Versions" }).click();
  const versions = page.getByRole("region", { name: "Versions of the KEK of Threads" });
  await versions.getByText(/decrypt-only|destroyed/).first().waitFor();
  assert.equal(await versions.getByText("enabled").count(), 1);
  assert.equal(await primary("threads"), version + 1);
  await accessible(page);
  await shot(page, "keys-operator");

  await row.getByRole("button", { name: "New DEK" }).click();
  await confirm(page, "Make a new DEK");
  await page.getByRole("group", { name: "New DEK of a thread" }).getByText("completed").waitFor();
  await page.waitForFunction(([id, old]) => [...document.querySelectorAll('[aria-label="DEKs of threads"] tr')].some((r) => r.querySelector(`code[title="${id}"]`) && !r.querySelector(`code[title="${old}"]`)), [thread.id, before]);
  await page.getByRole("region", { name: "DEKs of threads" }).getByText("the one before").waitFor({ state: "detached" }); // it is read again when the job has ended

  await page.getByRole("link", { name: "Jobs", exact: true }).click();
  const jobs = page.getByRole("region", { name: "Jobs of the server" });
  await jobs.getByText("Rewrap of the threads' DEKs").first().waitFor();
  await jobs.getByText("New DEK of a thread").first().waitFor();

  const kept = await stored(page);
  assert.ok(!kept.includes(dev.admin_key), "the admin key is stored");
  assert.ok(!(await page.content()).includes(dev.admin_key), "the admin key is in the page");
  await page.getByRole("button", { name: "Forget the admin key" }).click();
  await page.getByLabel("Admin key").waitFor();
  assert.equal(await jobs.count(), 0);
});

test("the KEK of one vault is rotated, and no other", async (t) => {
  const { page } = await site.signedIn(t);
  const [one, other] = await Promise.all(["rotated", "left"].map((name) => dev.call<{ id: string }>("POST", "/v1/vaults", { name })));
  for (const v of [one!, other!]) await dev.call("PUT", `/v1/vaults/${v.id}/secrets/a`, { value: "x" });
  await openAsOperator(page);
  await page.getByRole("button", { name: "Rotate the KEK of rotated" }).click();
  await confirm(page, "Rotate");
  await page.getByRole("group", { name: "Rewrap of vaults" }).getByText("completed").waitFor();
  await kekRow(page, "rotated").locator("td").nth(1).getByText("2", { exact: true }).waitFor();
  assert.equal(await primary("vault", other!.id), 1);
  assert.equal((await dev.call<{ value: string }>("GET", `/v1/vaults/${one!.id}/secrets/a`)).value, "x");

  await page.getByRole("button", { name: "Rewrap what is under the KEK of rotated" }).click();
  await confirm(page, "Rewrap");
  await page.getByRole("dialog").waitFor({ state: "detached" });
  assert.equal(await primary("vault", one!.id), 2);
});

test("all KEKs are rotated only by a word that is typed", async (t) => {
  const { page } = await site.signedIn(t);
  await dev.call("POST", "/v1/threads", { title: "all" });
  const before = await primary("threads");
  await openAsOperator(page);
  await page.getByRole("button", { name: "Rotate all" }).click();
  const rotate = page.getByRole("dialog").getByRole("button", { name: "Rotate", exact: true });
  assert.ok(await rotate.isDisabled());
  await page.getByLabel("Type all to confirm").fill("all");
  await rotate.click();
  await page.getByRole("dialog").waitFor({ state: "detached" });
  await kekRow(page, "Threads").locator("td").nth(1).getByText(String(before + 1), { exact: true }).waitFor();
});

test("where the key process does not list its KEKs, the page says what to do, and rotates all the same", async (t) => {
  const { page } = await site.signedIn(t);
  await dev.call("POST", "/v1/threads", { title: "unlisted" });
  const before = await primary("threads");
  const message = "The key process does not let this server list its keys: give it the role operator <b>there</b>";
  await page.route("**/admin/encryption/keys?**", changed<Keks>(({ root: _, ...all }) => ({ ...all, available: false, message, keks: [] })));
  await openAsOperator(page);
  await page.getByRole("region", { name: "Root key" }).getByText(message).waitFor();
  await page.getByText("can be rotated all the same").waitFor();
  await accessible(page);
  await narrow(page);
  await page.getByLabel("KEK", { exact: true }).selectOption({ label: "The KEK of the threads" });
  await page.getByRole("button", { name: "Rotate", exact: true }).click();
  await confirm(page, "Rotate");
  await page.getByRole("group", { name: "Rewrap of the threads' DEKs" }).getByText("completed").waitFor();
  assert.equal(await primary("threads"), before + 1);
});

test("a locked HSM, old KEKs, and KEKs near their limit are told", async (t) => {
  const { page } = await site.signedIn(t);
  await dev.call("POST", "/v1/threads", { title: "old" });
  await page.route(
    "**/admin/encryption/keys?**",
    changed<Keks>((all) => ({
      ...all,
      root: { kind: "pkcs11", state: "locked" },
      keks: all.keks.map((k) => ({ ...k, versions: k.versions.map((v) => (k.of === "threads" ? { ...v, created_at: ago(400), wraps: Math.ceil(0.9 * all.wrap_limit) } : v)) })),
    })),
  );
  await openAsOperator(page);
  const root = page.getByRole("region", { name: "Root key" });
  await root.getByText("HSM (PKCS#11)").waitFor();
  await root.getByText("locked", { exact: true }).waitFor();
  const threads = kekRow(page, "Threads");
  await threads.getByText("due", { exact: true }).waitFor();
  await threads.getByText("90% of the limit").waitFor();
  assert.equal(await kekRow(page, "The server's own").getByText("due", { exact: true }).count(), 0);
  await accessible(page);
});

test("a DEK shows its state and its uses, and the one before it until that is replaced", async (t) => {
  const { page } = await site.signedIn(t);
  const made = (title: string) => dev.call<{ id: string }>("POST", "/v1/threads", { title });
  const [moving, worn, lost] = [await made("moving"), await made("worn"), await made("lost")];
  const of = (all: Deks, id: string) => all.deks.find((d) => d.thread_id === id)!;
  await page.route(
    "**/admin/encryption/deks?**",
    changed<Deks>((all) => {
      of(all, worn.id).seals = Math.ceil(0.85 * all.seal_limit!);
      Object.assign(of(all, lost.id), { state: "missing", seals: undefined });
      return { ...all, deks: [...all.deks, { ...of(all, moving.id), key_id: "dek-before", state: "decrypt-only", seals: 8192, created_at: ago(400) }] };
    }),
  );
  const clear = { id: "01a20000-0000-7000-8000-000000000001", title: "clear", author: "a", slug: "clear", created_ts: 1e18, updated_ts: 1e18 };
  await page.route("**/admin/threads?**", (route) =>
    route.request().url().includes("cursor=") ? route.fulfill({ json: { threads: [clear] } }) : changed<object>((all) => ({ ...all, next_cursor: lost.id }))(route),
  );
  await openAsOperator(page);
  const rows = page.getByRole("region", { name: "DEKs of threads" }).getByRole("row");
  const row = (title: string) => rows.filter({ hasText: title });
  await row("worn").getByText("85% of the limit").waitFor();
  await row("lost").getByText("missing", { exact: true }).waitFor();
  await row("lost").getByText("not told").waitFor();
  await row("moving").getByText("enabled", { exact: true }).waitFor();
  const before = rows.filter({ hasText: "the one before" });
  await before.getByText("decrypt-only", { exact: true }).waitFor();
  await before.getByText((8192).toLocaleString(), { exact: true }).waitFor();
  assert.equal(await before.getByRole("button", { name: /New DEK/ }).count(), 0);
  await page.getByRole("button", { name: "Show more" }).click();
  await row("clear").getByText("in clear", { exact: true }).waitFor();
  await row("worn").getByText("85% of the limit").waitFor(); // the page of a thread without a DEK told no limit
  await accessible(page);
  await narrow(page);
});

test("where the key process does not tell of DEKs, the threads are shown and the page says why", async (t) => {
  const { page, watch } = await site.signedIn(t);
  const thread = await dev.call<{ id: string }>("POST", "/v1/threads", { title: "untold" });
  const message = "give the server the role list <b>there</b>";
  const untold = changed<Deks>(({ seal_limit: _, ...all }) => ({ ...all, available: false, message, deks: all.deks.map(({ seals: _, ...d }) => d) }));
  await page.route("**/admin/encryption/deks?**", untold);
  await openAsOperator(page);
  const section = page.locator("section").filter({ has: page.getByRole("heading", { name: "DEKs of threads" }) });
  await section.getByText(message).waitFor();
  const row = section.getByRole("row").filter({ hasText: "untold" });
  await row.getByText("not told").waitFor();
  await row.getByText("enabled", { exact: true }).waitFor();

  watch.allow(/ 503 /);
  await page.unroute("**/admin/encryption/deks?**", untold);
  await page.route("**/admin/encryption/deks?**", (route) => route.fulfill(away));
  await section.getByRole("button", { name: "Read again" }).click();
  await section.getByText("the key process does not answer").waitFor();
  await row.getByRole("button", { name: "New DEK for untold" }).waitFor();
  const told = await row.locator("td").nth(1).locator("code").getAttribute("title");
  assert.equal(told, (await deks(thread.id)).deks[0]!.key_id);
});

test("what fails says so, and can be tried again", async (t) => {
  const { page, watch } = await site.signedIn(t);
  watch.allow(/ 503 /);
  await page.route("**/admin/encryption/keys?**", (route) => route.fulfill(away));
  await page.route("**/v1/health/hsm", (route) => route.fulfill({ json: { status: "unavailable" } }));
  await openAsOperator(page);
  await page.getByText("away", { exact: true }).waitFor();
  await page.getByText("keyfold-kms status").first().waitFor();
  await page.getByRole("alert").getByText("the key process does not answer").first().waitFor();
  await accessible(page);
  await page.unroute("**/admin/encryption/keys?**");
  const root = page.getByRole("region", { name: "Root key" });
  await root.getByRole("button", { name: "Try again" }).click();
  await root.getByText("unlocked", { exact: true }).waitFor();
  await page.getByRole("alert").getByRole("button", { name: "Try again" }).click(); // of the KEKs, the only one left
  await kekRow(page, "The server's own").waitFor();
});

test("the admin key is gone after a reload, after a sign-out, and when the page is left alone", async (t) => {
  const { page } = await site.signedIn(t);
  const forget = page.getByRole("button", { name: "Forget the admin key" });
  await page.clock.install();
  await page.goto(site.at("jobs"));
  await seen(page);
  await asOperator(page, dev.admin_key);
  await forget.waitFor();
  await page.reload();
  await page.getByLabel("Admin key").waitFor();

  await asOperator(page, dev.admin_key);
  await forget.waitFor();
  await page.clock.fastForward("09:00");
  await page.keyboard.press("Tab");
  await page.clock.fastForward("09:00");
  await forget.waitFor();
  await page.clock.fastForward("01:30");
  await page.getByLabel("Admin key").waitFor();

  await asOperator(page, dev.admin_key);
  await forget.waitFor();
  await page.getByRole("button", { name: "Sign out" }).click();
  await signIn(page, dev);
  await page.getByLabel("Admin key").waitFor();
});
