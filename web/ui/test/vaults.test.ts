// Vaults and their secrets: made, found, read, versioned, disabled and deleted; in
// a sealed vault with a key file of the user's.

import assert from "node:assert/strict";
import { createCipheriv, createHash, randomBytes } from "node:crypto";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { accessible, assertNotSent, downloaded, narrow, seen, shot, start, stored } from "./harness.js";

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

test("a sealed vault is opened with its key file, and locked again", async (t) => {
  const key = randomBytes(32);
  const vault = await makeVault();
  await dev.call("POST", `/v1/vaults/${vault.id}/cmek`, { fingerprint: createHash("sha256").update(key).digest("hex") });
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  const blob = Buffer.concat([Buffer.of(1), nonce, cipher.update("sealed words"), cipher.final(), cipher.getAuthTag()]).toString("base64");
  await put(vault, "db/password", { value: blob, type: "password", max_access_count: 5 });
  const { page, watch } = await site.signedIn(t);
  await openVault(page, vault, "/secrets?path=db%2Fpassword");
  await page.getByText("This vault is sealed").waitFor();
  assert.equal(await button(page, "Reveal").count(), 0);
  await accessible(page);
  await narrow(page);
  await shot(page, "vault-locked");

  const unlock = async (bytes: Buffer) => {
    await button(page, "Unlock with key file").first().click();
    await page.getByLabel("Key file", { exact: true }).setInputFiles({ name: "my.key", mimeType: "text/plain", buffer: Buffer.from(`${bytes.toString("base64")}\n`) });
    await button(page, "Unlock").click();
  };
  await unlock(randomBytes(32));
  await page.getByRole("dialog").getByRole("alert").getByText(/is needed/).waitFor();
  await button(page, "Cancel").click();
  await unlock(key);
  await page.getByText("Unlocked in this tab").first().waitFor();
  await button(page, "Reveal").click();
  await page.getByText("sealed words", { exact: true }).waitFor();
  await page.getByRole("cell", { name: "1 of 5" }).waitFor();
  await accessible(page);
  await shot(page, "vault-unlocked");

  await button(page, "Lock 1 key").click();
  await page.getByText("This vault is sealed").waitFor();
  assert.equal(await page.getByText("sealed words", { exact: true }).count(), 0);
  assertNotSent(await watch.sent(), key, "the key");
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
