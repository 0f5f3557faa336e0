// Vaults and their secrets: made, found, read, versioned, disabled and deleted; in
// a sealed vault with a key file of the user's.

import assert from "node:assert/strict";
import { createCipheriv, createHash, randomBytes, randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { accessible, assertNotSent, downloaded, narrow, root, seen, shot, start, stored } from "./harness.js";

const site = await start();
const { dev } = site;

interface Vault {
  id: string;
  name: string;
}
interface Secret {
  value: string;
  type: string;
  version: number;
  metadata?: Record<string, unknown>;
  expires_at?: string;
}

let made = 0;
const makeVault = (name = `vault ${++made}`) => dev.call<Vault>("POST", "/v1/vaults", { name });
const put = (vault: Vault, path: string, secret: Record<string, unknown>) => dev.call("PUT", `/v1/vaults/${vault.id}/secrets/${path}`, secret);
const get = (vault: Vault, path: string) => dev.call<Secret>("GET", `/v1/vaults/${vault.id}/secrets/${path}`);
const button = (page: Page, name: string | RegExp) => page.getByRole("button", { name, exact: true });

async function openVault(page: Page, vault: Vault, rest = ""): Promise<void> {
  await page.goto(site.at(`vaults/${vault.id}${rest}`));
  await seen(page);
}

/** Opens the form of a new secret with path and type filled in. */
async function newSecret(page: Page, path: string, type: string) {
  await button(page, "New secret").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Path", { exact: true }).fill(path);
  await dialog.getByLabel("Type").selectOption(type);
  const create = async () => {
    await dialog.getByRole("button", { name: "Create the secret" }).click();
    await dialog.waitFor({ state: "detached" });
    await page.getByRole("heading", { level: 2, name: path }).waitFor();
  };
  return { dialog, create };
}

test("the styles of a vault's pages style no element of other pages", async () => {
  const css = (await readFile(join(root, "src/pages/vault/vault.css"), "utf8")).replace(/\/\*[\s\S]*?\*\//g, "");
  const selectors = [...css.matchAll(/([^{};]+)\{/g)].map((m) => m[1]!.trim()).filter((s) => !s.startsWith("@"));
  assert.ok(selectors.length > 20);
  for (const s of selectors.flatMap((list) => list.replace(/\([^)]*\)/g, (inner) => inner.replaceAll(",", " ")).split(","))) assert.match(s, /\./, `"${s.trim()}" names no class`);
});

test("a vault is created, and deleted by its name", async (t) => {
  const { page } = await site.signedIn(t);
  await page.route("**/v1/vaults", (route) => (route.request().method() === "GET" ? route.fulfill({ json: { vaults: [] } }) : route.continue()), { times: 1 });
  await page.goto(site.at("vaults"));
  await button(page, "Create the first vault").waitFor();
  await accessible(page);
  await narrow(page);
  await shot(page, "vaults-empty");
  const name = `<img src=x onerror="document.title='run'"> & "quoted"`;
  await button(page, "Create the first vault").click();
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Description").fill("<script>document.title='run'</script>");
  await accessible(page);
  await button(page, "Create").click();
  await page.getByRole("heading", { level: 1, name }).waitFor();
  assert.equal(await page.title(), `Secrets · ${name} · Keyfold`);
  await page.getByText("No secret yet").waitFor();
  await page.getByRole("link", { name: "Vaults" }).first().click();
  const row = page.getByRole("row", { name });
  await row.waitFor();
  await accessible(page);
  await narrow(page);
  await shot(page, "vaults");
  await row.getByRole("button", { name: `Delete ${name}` }).click();
  const dialog = page.getByRole("dialog");
  const sure = dialog.getByRole("button", { name: "Delete the vault" });
  assert.ok(await sure.isDisabled());
  await dialog.getByRole("textbox").fill(name);
  await sure.click();
  await row.waitFor({ state: "detached" });
  const { vaults } = await dev.call<{ vaults: Vault[] }>("GET", "/v1/vaults");
  assert.ok(!vaults.some((v) => v.name === name));
});

// As who types fast on a slow machine does, and whatever fills fields for him.
test("what is typed into a bundle before the page was drawn again is kept", async (t) => {
  const vault = await makeVault();
  const { page } = await site.signedIn(t);
  await openVault(page, vault);
  const bundle = await newSecret(page, "app/fast", "env_bundle");
  await bundle.dialog.getByLabel("Value 1").waitFor();
  await page.evaluate(async () => {
    const type = async (label: string, text: string) => {
      const field = document.querySelector<HTMLInputElement | HTMLTextAreaElement>(`dialog [aria-label="${label}"]`)!;
      for (let n = 1; n <= text.length; n++) {
        field.value = text.slice(0, n);
        field.dispatchEvent(new InputEvent("input", { bubbles: true }));
        await new Promise((resolve) => setTimeout(resolve)); // rendered, and not yet drawn
      }
    };
    await type("Name 1", "URL");
    await type("Value 1", "a b");
    [...document.querySelectorAll<HTMLElement>("dialog button")].find((b) => b.textContent === "Add a variable")!.click();
    await new Promise((resolve) => setTimeout(resolve));
    await type("Name 2", "NOTE");
    await type("Value 2", "c d");
  });
  for (const [label, text] of Object.entries({ "Name 1": "URL", "Value 1": "a b", "Name 2": "NOTE", "Value 2": "c d" })) {
    assert.equal(await bundle.dialog.getByLabel(label).inputValue(), text);
  }
  await bundle.create();
  assert.equal((await get(vault, "app/fast")).value, 'URL="a b"\nNOTE="c d"\n');
});

test("text, a file, PEM and an environment bundle are written and read back", async (t) => {
  const vault = await makeVault();
  const { page } = await site.signedIn(t);
  await openVault(page, vault);

  const password = await newSecret(page, "db/password", "password");
  await password.dialog.getByLabel("Value", { exact: true }).fill("hunter2");
  await password.dialog.getByLabel("Expires").fill("2099-01-02T03:04");
  await password.dialog.getByLabel("Read limit").fill("9");
  await password.dialog.getByText("Metadata", { exact: true }).click();
  await button(page, "Add a member").click();
  await password.dialog.getByLabel("Name 1").fill("owner");
  await password.dialog.getByLabel("Value 1").fill("<b>ann</b>");
  await accessible(page);
  await narrow(page);
  await shot(page, "secret-new");
  await password.create();
  await page.getByText("<b>ann</b>", { exact: true }).waitFor();
  const stored = await get(vault, "db/password");
  assert.deepEqual([stored.value, stored.type, stored.metadata], ["hunter2", "password", { owner: "<b>ann</b>" }]);
  assert.equal(new Date(stored.expires_at!).getUTCFullYear(), 2099);

  const again = await newSecret(page, "db/password", "password");
  await button(page, "Create the secret").click();
  await again.dialog.getByRole("alert").getByText(/^There is a secret at db\/password/).waitFor();
  await button(page, "Cancel").click();

  const bundle = await newSecret(page, "app/env", "env_bundle");
  const multi = 'two\nlines "quoted" $HOME \\';
  await bundle.dialog.getByLabel("Name 1").fill("URL");
  await bundle.dialog.getByLabel("Value 1").fill("https://x.example/?a=b");
  await button(page, "Add a variable").click();
  await bundle.dialog.getByLabel("Name 2").fill("NOTE");
  await bundle.dialog.getByLabel("Value 2").fill(multi);
  await accessible(page);
  await shot(page, "secret-env");
  await bundle.create();
  assert.equal((await get(vault, "app/env")).value, 'URL="https://x.example/?a=b"\nNOTE="two\\nlines \\"quoted\\" \\$HOME \\\\"\n');
  await button(page, "Reveal").click();
  const cells = page.getByRole("region", { name: "Variables" }).getByRole("cell");
  await cells.first().waitFor();
  assert.deepEqual(await cells.allTextContents(), ["URL", "https://x.example/?a=b", "NOTE", multi]);

  const text = "# of production\nURL=x\n";
  await button(page, "New version").click();
  const next = page.getByRole("dialog");
  await button(page, "Begin with the value of version 1").click();
  await page.waitForFunction(() => document.querySelectorAll("dialog .row").length === 2);
  await next.getByLabel("Or read an .env file").setInputFiles({ name: ".env", mimeType: "text/plain", buffer: Buffer.from(text) });
  await next.getByLabel("Value", { exact: true }).fill(text + "DEBUG=1\n");
  await button(page, "Store the version").click();
  await next.waitFor({ state: "detached" });
  assert.equal((await get(vault, "app/env")).value, text + "DEBUG=1\n");

  const key = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
  const pem = await newSecret(page, "tls/key", "private_key");
  await pem.dialog.getByLabel("Or read it from a file").setInputFiles({ name: "key.pem", mimeType: "text/plain", buffer: Buffer.from(key) });
  await page.waitForFunction((text) => document.querySelector<HTMLTextAreaElement>("dialog textarea")?.value === text, key);
  await pem.create();
  assert.equal((await get(vault, "tls/key")).value, key);

  const bytes = randomBytes(1000);
  const file = await newSecret(page, "app/logo", "file");
  await file.dialog.getByLabel("File").setInputFiles({ name: "logo.png", mimeType: "image/png", buffer: bytes });
  await file.dialog.getByText("1,000 bytes").waitFor();
  await file.create();
  const got = await downloaded(page, () => button(page, "Download").click());
  assert.equal(got.name, "logo.png");
  assert.deepEqual(got.bytes, bytes);
  await accessible(page);
  await narrow(page);
});

test("a tree is searched, versions are read and disabled, and a secret is deleted", async (t) => {
  const vault = await makeVault("payments production");
  for (const path of ["api-keys/stripe", "api-keys/sendgrid", "db/primary/password", "db/replica/password", "OPENAI_KEY"]) await put(vault, path, { value: `first of ${path}`, type: "api_key" });
  const { page } = await site.signedIn(t);
  await openVault(page, vault);
  const tree = page.getByRole("navigation", { name: "Secrets by path" });
  assert.equal(await tree.getByRole("link", { name: "password" }).count(), 0, "a folder is open that was not opened");
  await page.getByLabel("Search paths").fill("REPLICA");
  assert.deepEqual((await tree.getByRole("link").allTextContents()).map((s) => s.trim()), ["password"]);
  await tree.getByRole("link", { name: "password" }).click();
  await page.getByRole("heading", { level: 2, name: "db/replica/password" }).waitFor();
  await page.getByLabel("Search paths").fill("nothing");
  await page.getByText("No path has “nothing” in it.").waitFor();
  await page.getByLabel("Search paths").fill("");

  await button(page, "New version").click();
  const dialog = page.getByRole("dialog");
  await button(page, "Begin with the value of version 1").click();
  await page.waitForFunction(() => document.querySelector<HTMLInputElement>("dialog input[type=password]")?.value === "first of db/replica/password");
  await dialog.getByLabel("Value", { exact: true }).fill("second");
  await button(page, "Store the version").click();
  await dialog.waitFor({ state: "detached" });
  await button(page, "Show version 2").waitFor();
  assert.equal((await get(vault, "db/replica/password")).value, "second");

  await button(page, "Reveal").click();
  await page.getByText("second", { exact: true }).waitFor();
  await button(page, "Hide").click();
  assert.equal(await page.getByText("second", { exact: true }).count(), 0);
  await page.getByRole("cell", { name: "You" }).first().waitFor();
  await accessible(page);
  await narrow(page);
  await shot(page, "secrets");

  await button(page, "Show version 1").click();
  await dialog.getByRole("button", { name: "Reveal" }).click();
  await dialog.getByText("first of db/replica/password", { exact: true }).waitFor();
  await button(page, "Close").click();
  await button(page, "Disable version 1").click();
  await button(page, "Disable it").click();
  await page.getByRole("cell", { name: "Disabled" }).waitFor();
  await assert.rejects(dev.call("GET", `/v1/vaults/${vault.id}/secret-version/db/replica/password/1`), /410/);

  await button(page, "Delete").click();
  await dialog.getByLabel("Type db/replica/password to confirm").fill("db/replica/password");
  await button(page, "Delete the secret").click();
  await page.getByText("Choose one to see").waitFor();
  await assert.rejects(get(vault, "db/replica/password"), /410|404/);
});

test("a version that somebody else wrote meanwhile is not lost", async (t) => {
  const vault = await makeVault();
  await put(vault, "shared", { value: "one", type: "password" });
  const { page, watch } = await site.signedIn(t);
  watch.allow(/ 412 /);
  await openVault(page, vault, "/secrets?path=shared");
  await button(page, "New version").click();
  await page.getByRole("dialog").getByLabel("Value", { exact: true }).fill("mine");
  await put(vault, "shared", { value: "theirs", type: "password" });
  await button(page, "Store the version").click();
  await page.getByRole("dialog").getByRole("alert").waitFor();
  assert.equal((await get(vault, "shared")).value, "theirs");
});

test("a value is hidden by itself, and copied", async (t) => {
  const vault = await makeVault();
  await put(vault, "db/password", { value: "correct horse", type: "password" });
  const { page } = await site.signedIn(t, dev, { permissions: ["clipboard-read", "clipboard-write"] });
  await page.clock.install();
  await openVault(page, vault, "/secrets?path=db%2Fpassword");
  const shown = page.getByText("correct horse", { exact: true });
  await button(page, "Reveal").click();
  await shown.waitFor();
  await page.clock.fastForward(31_000);
  await shown.waitFor({ state: "detached" });
  await button(page, "Copy").click();
  await page.getByText("Copied the value").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "correct horse");
  assert.equal(await shown.count(), 0);
  assert.ok(!(await stored(page)).includes("correct horse"));
});

const fingerprintOf = (key: Buffer) => createHash("sha256").update(key).digest("hex");

/** A blob of version 1. */
function seal(key: Buffer, plaintext: string): string {
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  return Buffer.concat([Buffer.of(1), nonce, cipher.update(plaintext), cipher.final(), cipher.getAuthTag()]).toString("base64");
}

const enable = (vault: Vault, key: Buffer) => dev.call("POST", `/v1/vaults/${vault.id}/cmek`, { fingerprint: fingerprintOf(key) });

async function unlock(page: Page, key: Buffer): Promise<void> {
  await button(page, "Unlock with key file").first().click();
  await page.getByLabel("Key file", { exact: true }).setInputFiles({ name: "my.key", mimeType: "text/plain", buffer: Buffer.from(`${key.toString("base64")}\n`) });
  await button(page, "Unlock").click();
  await page.getByText("Unlocked in this tab").first().waitFor();
}

/** All that the page holds for who reads its DOM, what is typed in fields included. */
const dom = (page: Page) =>
  page.evaluate(() => document.documentElement.outerHTML + [...document.querySelectorAll<HTMLInputElement | HTMLTextAreaElement>("input, textarea")].map((e) => (e.type === "file" ? "" : e.value)).join("\n"));

/** How many keys the page's memory holds, after its garbage was collected. */
async function keysInMemory(page: Page): Promise<number> {
  const devtools = await page.context().newCDPSession(page);
  const { result } = await devtools.send("Runtime.evaluate", { expression: "CryptoKey.prototype" });
  const { objects } = await devtools.send("Runtime.queryObjects", { prototypeObjectId: result.objectId! });
  const count = await devtools.send("Runtime.callFunctionOn", { objectId: objects.objectId!, functionDeclaration: "function () { return this.length; }" });
  await devtools.detach();
  return count.result.value as number;
}

test("a sealed vault is opened with its key file, and locked again", async (t) => {
  const key = randomBytes(32);
  const vault = await makeVault();
  await enable(vault, key);
  await put(vault, "db/password", { value: seal(key, "sealed words"), type: "password", max_access_count: 5 });
  const { page, watch } = await site.signedIn(t);
  await openVault(page, vault, "/secrets?path=db%2Fpassword");
  await page.getByText("This vault is sealed").waitFor();
  assert.equal(await button(page, "Reveal").count(), 0);
  await accessible(page);
  await narrow(page);
  await shot(page, "vault-locked");

  await button(page, "Unlock with key file").first().click();
  await page.getByLabel("Key file", { exact: true }).setInputFiles({ name: "my.key", mimeType: "text/plain", buffer: Buffer.from(`${randomBytes(32).toString("base64")}\n`) });
  await button(page, "Unlock").click();
  await page.getByRole("dialog").getByRole("alert").getByText(/is needed/).waitFor();
  await button(page, "Cancel").click();
  await unlock(page, key);
  await button(page, "Reveal").click();
  await page.getByText("sealed words", { exact: true }).waitFor();
  await page.getByRole("cell", { name: "1 of 5" }).waitFor();
  await accessible(page);
  await shot(page, "vault-unlocked");

  assert.ok((await keysInMemory(page)) > 0, "the key that is used is not seen");
  await button(page, "Lock 1 key").click();
  await page.getByText("This vault is sealed").waitFor();
  for (let n = 0; (await keysInMemory(page)) > 0; n++) assert.ok(n < 50, "the page's memory keeps a key");
  assert.equal(await page.getByText("sealed words", { exact: true }).count(), 0);
  assertNotSent(await watch.sent(), key, "the key");
});

test("a vault that nobody touches is locked, and no plaintext stays in its page", async (t) => {
  const key = randomBytes(32);
  const vault = await makeVault();
  await enable(vault, key);
  await put(vault, "db/password", { value: seal(key, "sealed words"), type: "note" });
  const { page } = await site.signedIn(t);
  await page.clock.install();
  await openVault(page, vault, "/secrets?path=db%2Fpassword");
  await unlock(page, key);
  await button(page, "Reveal").click();
  await page.getByText("sealed words", { exact: true }).waitFor();
  assert.ok((await dom(page)).includes("sealed words"));
  await page.clock.fastForward(31_000);
  await page.getByText("sealed words", { exact: true }).waitFor({ state: "detached" });
  assert.ok(!(await dom(page)).includes("sealed words"), "a value that was hidden is still there");

  await button(page, "New version").click();
  await button(page, "Begin with the value of version 1").click();
  const field = page.getByRole("dialog").getByLabel("Value", { exact: true });
  await page.waitForFunction(() => document.querySelector<HTMLTextAreaElement>("dialog textarea")?.value === "sealed words");
  await field.fill("sealed words, and more that is typed");
  assert.ok((await dom(page)).includes("and more that is typed"));
  await page.clock.fastForward(9 * 60_000);
  assert.equal(await button(page, "Lock 1 key").count(), 1, "it was locked too early");
  await page.clock.fastForward(61_000);
  await page.getByRole("dialog").getByText("This vault is sealed").waitFor();
  assert.equal(await button(page, "Lock 1 key").count(), 0);
  assert.ok(!/sealed words|and more/.test(await dom(page)), "plaintext stays in the locked page");
});

test("keys are forgotten by the clock, also when the timers of a computer that slept stood still", async (t) => {
  const key = randomBytes(32);
  const vault = await makeVault();
  await enable(vault, key);
  const { page } = await site.signedIn(t);
  await page.clock.install();
  await openVault(page, vault);
  await unlock(page, key);
  const lock = button(page, "Lock 1 key");
  const now = await page.evaluate(() => Date.now());
  await page.clock.setSystemTime(now + 9 * 60_000);
  await page.keyboard.press("Shift");
  assert.equal(await lock.count(), 1, "it was locked too early");
  await page.clock.setSystemTime(now + 25 * 60_000);
  await page.keyboard.press("Shift");
  await lock.waitFor({ state: "detached" });
});

test("values are made at random in the browser, of the kind and length that is wanted", async (t) => {
  const vault = await makeVault();
  const { page } = await site.signedIn(t);
  await openVault(page, vault);
  const { dialog, create } = await newSecret(page, "db/password", "generic");
  const value = dialog.getByLabel("Value", { exact: true });
  const made = async () => {
    const before = await value.inputValue();
    await dialog.getByRole("button", { name: "Make it" }).click();
    await page.waitForFunction((had) => document.querySelector<HTMLTextAreaElement>("dialog textarea")!.value !== had, before);
    return value.inputValue();
  };
  await dialog.getByText("Make a value at random").click();
  await dialog.getByLabel("Length").fill("40");
  const plain = await made();
  assert.match(plain, /^(?=.*[a-zA-Z])(?=.*\d)[A-Za-z0-9]{40}$/);
  assert.notEqual(await made(), plain);
  await dialog.getByLabel("With marks").check();
  await dialog.getByLabel("Length").fill("8");
  for (let n = 0; n < 5; n++) assert.match(await made(), /^(?=.*[a-zA-Z])(?=.*\d)(?=.*[^A-Za-z0-9])[!-~]{8}$/);
  await dialog.getByLabel("Length").fill("7");
  assert.ok(await dialog.getByRole("button", { name: "Make it" }).isDisabled());
  await accessible(page);
  await narrow(page);
  await dialog.getByLabel("Kind").selectOption("uuid");
  assert.match(await made(), /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  await dialog.getByLabel("Kind").selectOption("base64");
  assert.equal(Buffer.from(await made(), "base64").length, 32);
  await dialog.getByLabel("Kind").selectOption("hex");
  await dialog.getByLabel("Size").selectOption("64");
  const hex = await made();
  assert.match(hex, /^[0-9a-f]{128}$/);
  await shot(page, "secret-generate");
  await create();
  assert.equal((await get(vault, "db/password")).value, hex);
});

test("a secret is shared by a link that is shown once, listed, and ended", async (t) => {
  const vault = await makeVault();
  await put(vault, "db/password", { value: "hunter2", type: "password" });
  const { page } = await site.signedIn(t);
  await openVault(page, vault, "/secrets?path=db%2Fpassword");
  const share = async (reads: string, passphrase = "") => {
    await button(page, "Share").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Ends after").selectOption("1");
    await dialog.getByLabel("Reads").fill(reads);
    await dialog.getByLabel("Passphrase").fill(passphrase);
    await accessible(page);
    await narrow(page);
    await shot(page, "secret-share");
    await button(page, "Make the link").click();
    const link = await dialog.getByLabel("the link", { exact: true }).textContent();
    await accessible(page);
    await shot(page, "secret-shared");
    await page.getByLabel("I have saved the link").check();
    await button(page, "Done").click();
    assert.ok(!(await dom(page)).includes(link!.slice(-20)), "the link is still in the page");
    return link!.trim();
  };
  const once = await share("1");
  const opened = await fetch(once);
  assert.equal(((await opened.json()) as Secret).value, "hunter2");
  assert.equal((await fetch(once)).status, 404);
  const guarded = await share("", "open sesame");
  assert.equal((await fetch(guarded)).status, 403);

  await page.reload();
  await seen(page);
  const rows = page.getByRole("region", { name: "Shares" }).getByRole("row");
  await page.getByRole("cell", { name: "1 of 1" }).waitFor();
  assert.equal(await rows.count(), 3);
  await accessible(page);
  await narrow(page);
  await page.getByRole("button", { name: "End the share of db/password" }).click();
  await page.getByRole("dialog").getByRole("button", { name: "End it" }).click();
  await rows.nth(2).waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Remove the share of db/password" }).waitFor();
  assert.equal((await fetch(guarded, { headers: { "X-Share-Passphrase": "open sesame" } })).status, 404);
  await page.goto(site.at("vaults"));
  await seen(page);
  await page.getByRole("region", { name: "Shares" }).getByRole("link", { name: "db/password" }).click();
  await page.getByRole("heading", { level: 2, name: "db/password" }).waitFor();
});

test("a sealed secret is shared as the blob, with who has the key", async (t) => {
  const key = randomBytes(32);
  const vault = await makeVault();
  await enable(vault, key);
  const blob = seal(key, "sealed words");
  await put(vault, "db/password", { value: blob, type: "password" });
  const { page } = await site.signedIn(t);
  await openVault(page, vault, "/secrets?path=db%2Fpassword");
  await button(page, "Share").click();
  await page.getByText("The link hands out the sealed value").waitFor();
  assert.ok(await button(page, "Make the link").isDisabled());
  await page.getByLabel(`Whoever gets the link has the key ${fingerprintOf(key).slice(0, 8)}`).check();
  await accessible(page);
  await shot(page, "secret-share-sealed");
  await button(page, "Make the link").click();
  const link = await page.getByLabel("the link", { exact: true }).textContent();
  assert.equal(((await (await fetch(link!.trim())).json()) as Secret).value, blob);
});

test("who wrote a version and whether it is sealed is said of each", async (t) => {
  const key = randomBytes(32);
  const vault = await makeVault();
  await put(vault, "db/password", { value: "in the clear", type: "password" });
  await put(vault, "other", { value: "in the clear" });
  await enable(vault, key);
  const { agent, api_key } = await dev.call<{ agent: { id: string }; api_key: string }>("POST", "/v1/agents", { name: "deployer" });
  await dev.call("POST", `/v1/vaults/${vault.id}/policies`, { secret_path_pattern: "**", principal_type: "agent", principal_id: agent.id, permissions: ["read", "write"] });
  const { access_token } = await dev.call<{ access_token: string }>("POST", "/v1/auth/agent-token", { api_key, agent_id: agent.id });
  await dev.call("PUT", `/v1/vaults/${vault.id}/secrets/db/password`, { value: seal(key, "sealed"), type: "password" }, access_token);
  const { page } = await site.signedIn(t);
  await openVault(page, vault, "/secrets?path=db%2Fpassword");
  const tree = page.getByRole("navigation", { name: "Secrets by path" });
  assert.equal(await tree.getByRole("link", { name: "password" }).getByText("Sealed").count(), 1);
  assert.equal(await tree.getByRole("link", { name: "other" }).getByText("Sealed").count(), 0);
  const rows = page.getByRole("region", { name: "Versions" }).getByRole("row");
  await rows.nth(1).getByText("agent deployer").waitFor();
  assert.equal(await rows.nth(1).getByText("Sealed").count(), 1);
  await rows.nth(2).getByText("You").waitFor();
  assert.equal(await rows.nth(2).getByText("Sealed").count(), 0);
  await shot(page, "secret-versions");
});

test("large integers of the metadata keep their digits when a new version is written", async (t) => {
  const vault = await makeVault();
  const path = `/v1/vaults/${vault.id}/secrets/a`;
  const headers = { Authorization: `Bearer ${dev.api_key}`, "Content-Type": "application/json" };
  await fetch(dev.url + path, { method: "PUT", headers, body: `{"value":"x","type":"note","metadata":{"id":12345678901234567890,"team":"core"}}` });
  const { page } = await site.signedIn(t);
  await openVault(page, vault, "/secrets?path=a");
  await page.getByText("12345678901234567890").first().waitFor();
  await button(page, "New version").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Value", { exact: true }).fill("y");
  await dialog.getByText("Metadata", { exact: true }).click();
  await dialog.getByText("id: 12345678901234567890").waitFor();
  await dialog.getByLabel("Value 1").fill("platform");
  await button(page, "Store the version").click();
  await dialog.waitFor({ state: "detached" });
  assert.match(await (await fetch(dev.url + path, { headers })).text(), /"metadata":{"id":12345678901234567890,"team":"platform"}/);
});

test("a server that says that a sealed vault is open gets nothing in the clear, unless the user agrees", async (t) => {
  const key = randomBytes(32);
  const vault = await makeVault();
  await enable(vault, key);
  const canary = "canary of the plaintext";
  const { page, watch } = await site.signedIn(t);
  watch.allow(/ 409 /);
  await openVault(page, vault);
  await unlock(page, key);
  // From here on the server lies: of the vault, of its CMEK, and to who writes what is sealed.
  await page.route(`**/v1/vaults/${vault.id}`, (route) => route.fulfill({ json: { ...vault, cmek_enabled: false, created_at: new Date().toISOString() } }));
  await page.route(`**/v1/vaults/${vault.id}/cmek*`, (route) => route.fulfill({ json: { enabled: false } }));
  await page.route(`**/v1/vaults/${vault.id}/secrets/**`, (route) => {
    if (route.request().method() !== "PUT") return route.continue();
    if (route.request().headers()["x-keyfold-cmek-fingerprint"]) return route.fulfill({ status: 409, json: { type: "cmek_key_mismatch", title: "x", status: 409, detail: "The vault is not sealed" } });
    return route.fulfill({ status: 201, json: { id: randomUUID(), path: "a", type: "note", version: 1, created_at: new Date().toISOString() } });
  });
  const write = async () => {
    await button(page, "New secret").click();
    const dialog = page.getByRole("dialog");
    await dialog.getByLabel("Path", { exact: true }).fill("a");
    await dialog.getByLabel("Value", { exact: true }).fill(canary);
    await dialog.getByRole("button", { name: "Create the secret" }).click();
    await dialog.getByText("the server now says that CMEK is disabled").waitFor();
    return dialog;
  };
  const dialog = await write();
  assert.ok(await button(page, "Send it in the clear").isDisabled(), "it can be sent without an answer");
  await accessible(page);
  await narrow(page);
  await shot(page, "secret-unsealed");
  assertNotSent(await watch.sent(), Buffer.from(canary), "the plaintext");
  await button(page, "Cancel").click();
  await page.getByRole("link", { name: "Vaults" }).first().click(); // the page reads the vault anew, and is lied to
  await page.getByRole("link", { name: vault.name, exact: true }).click();
  await page.getByRole("heading", { level: 1, name: vault.name }).waitFor();
  await write();
  assertNotSent(await watch.sent(), Buffer.from(canary), "the plaintext");
  await page.getByLabel("I know that CMEK was disabled").check();
  await button(page, "Send it in the clear").click();
  await dialog.waitFor({ state: "detached" });
  assert.ok((await watch.sent()).some((r) => r.body.includes(canary)), "what was agreed to was not sent");
});

test("the events of a vault are filtered", async (t) => {
  const vault = await makeVault();
  for (let n = 0; n < 60; n++) await put(vault, `many/secret-${n}`, { value: "x" });
  await get(vault, "many/secret-7");
  const { page } = await site.signedIn(t);
  await openVault(page, vault, "/audit");
  const rows = page.getByRole("region", { name: "Events" }).getByRole("row");
  await rows.nth(1).waitFor();
  await accessible(page);
  await narrow(page);
  await shot(page, "vault-audit");
  await page.getByLabel("What").selectOption("secret.read");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  await page.getByRole("cell", { name: "many/secret-7" }).waitFor();
  await page.getByLabel("What").selectOption("secret.written");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 50);
  await button(page, "Read older events").click();
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 60);
  await page.getByLabel("From").fill("2099-01-01T00:00");
  await page.getByText("No such event").waitFor();
});

test("what is not there, or does not answer, is told", async (t) => {
  const vault = await makeVault();
  const { page, watch } = await site.signedIn(t);
  watch.allow(/ 404 | 500 /);
  await openVault(page, vault, "/nothing");
  await page.getByText("There is no such part of a vault").waitFor();
  await openVault(page, vault, "/secrets?path=gone");
  await page.goto(site.at("vaults/01a2041e-0000-7000-8000-000000000000"));
  await page.getByRole("alert").waitFor();
  await page.route("**/v1/vaults", (route) => route.fulfill({ status: 500, json: { title: "Failed", detail: "The key process is away" } }));
  await page.goto(site.at("vaults"));
  await page.getByText("The key process is away").waitFor();
  await accessible(page);
  await page.unroute("**/v1/vaults");
  await button(page, "Try again").click();
  await page.getByRole("cell", { name: vault.name, exact: true }).waitFor();
});
