// A vault's CMEK key in the browser: it is made, saved and used here, and no request
// has it. The vault's values too leave sealed only.

import assert from "node:assert/strict";
import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { accessible, assertNotSent, downloaded, narrow, seen, shot, start, stored } from "./harness.js";

const site = await start();
const { dev } = site;

interface Vault {
  id: string;
  name: string;
}
interface Status {
  enabled: boolean;
  fingerprint?: string;
  key_check?: string;
  blob_version?: number;
  keys?: { fingerprint: string; versions: number }[];
}

let made = 0;
const makeVault = () => dev.call<Vault>("POST", "/v1/vaults", { name: `payments ${++made}` });
const statusOf = ({ id }: Vault) => dev.call<Status>("GET", `/v1/vaults/${id}/cmek`);

const fingerprintOf = (key: Buffer) => createHash("sha256").update(key).digest("hex");
const newKey = () => randomBytes(32);
const keyFile = (key: Buffer, name = "some.key") => ({ name, mimeType: "application/octet-stream", buffer: Buffer.from(`${key.toString("base64")}\n`) });

/** Blobs of version 1, as cmek/FORMAT.md has them. */
function seal(key: Buffer, plaintext: string): string {
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  return Buffer.concat([Buffer.of(1), nonce, cipher.update(plaintext, "utf8"), cipher.final(), cipher.getAuthTag()]).toString("base64");
}
function open(key: Buffer, value: string): string {
  const blob = Buffer.from(value, "base64");
  assert.equal(blob[0], 1);
  const decipher = createDecipheriv("aes-256-gcm", key, blob.subarray(1, 13));
  decipher.setAuthTag(blob.subarray(-16));
  return Buffer.concat([decipher.update(blob.subarray(13, -16)), decipher.final()]).toString("utf8");
}

/** A vault that is sealed with the key and holds these secrets. */
async function sealedVault(key: Buffer, secrets: Record<string, string>): Promise<Vault> {
  const vault = await makeVault();
  await dev.call("POST", `/v1/vaults/${vault.id}/cmek`, { fingerprint: fingerprintOf(key) });
  for (const [path, value] of Object.entries(secrets)) {
    await dev.call("PUT", `/v1/vaults/${vault.id}/secrets/${path}`, { type: "generic", value: seal(key, value) });
  }
  return vault;
}

const valueOf = async (vault: Vault, path: string) => (await dev.call<{ value: string }>("GET", `/v1/vaults/${vault.id}/secrets/${path}`)).value;

async function settings(page: Page, vault: Vault): Promise<void> {
  await page.goto(site.at(`vaults/${vault.id}/settings`));
  await seen(page);
}

const button = (page: Page, name: string | RegExp) => page.getByRole("button", { name, exact: true });
const makeAndSave = (page: Page) => downloaded(page, () => button(page, "Make a key and download its file").click());

/** The key of a key file, by FORMAT.md. */
function keyOf(file: Buffer): Buffer {
  const lines = file.toString("utf8").split("\n").filter((l) => l !== "" && !l.startsWith("#"));
  assert.equal(lines.length, 1);
  const key = Buffer.from(lines[0]!, "base64");
  assert.equal(key.length, 32);
  return key;
}

/** Writes a secret on the tab Secrets, in this page, and reads it there. */
async function writeAndReveal(page: Page, path: string, value: string): Promise<void> {
  await page.getByRole("navigation", { name: "Parts of the vault" }).getByRole("link", { name: "Secrets" }).click();
  await button(page, "New secret").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Path", { exact: true }).fill(path);
  await dialog.getByLabel("Value", { exact: true }).fill(value);
  await dialog.getByRole("button", { name: "Create the secret" }).click();
  await dialog.waitFor({ state: "detached" });
  await button(page, "Reveal").click();
  await page.getByText(value, { exact: true }).waitFor();
  await button(page, "Hide").click();
}

test("CMEK is enabled with a key that is made here, and only its fingerprint leaves", async (t) => {
  const vault = await makeVault();
  const { page, watch } = await site.signedIn(t);
  await settings(page, vault);
  await button(page, "Enable CMEK").click();
  const enable = button(page, "Enable");
  assert.ok(await enable.isDisabled(), "enabled without a key");
  const file = await makeAndSave(page);
  const key = keyOf(file.bytes);
  const fingerprint = fingerprintOf(key);
  assert.equal(file.name, `payments-${made}-${fingerprint.slice(0, 8)}.key`);
  assert.match(file.bytes.toString(), new RegExp(`# vault: ${vault.id}\n# fingerprint: ${fingerprint}\n`));
  assert.ok(await enable.isDisabled(), "enabled before the key was said to be saved");
  await accessible(page);
  await narrow(page);
  await shot(page, "cmek-enable");
  await page.getByLabel("I have saved it").check();
  await enable.click();
  await page.getByText("enabled", { exact: true }).waitFor();
  const status = await statusOf(vault);
  assert.equal(status.fingerprint, fingerprint);
  assert.match(status.key_check ?? "", /^[0-9a-f]{64}$/);
  assert.equal(status.blob_version, 1);
  await accessible(page);
  await narrow(page);
  await shot(page, "cmek-enabled");

  const plaintext = "correct horse battery staple";
  await writeAndReveal(page, "db/password", plaintext);
  assert.equal(open(key, await valueOf(vault, "db/password")), plaintext);

  await button(page, "Lock 1 key").click();
  await button(page, "Unlock with key file").first().waitFor();

  const kept = await stored(page);
  for (const form of [key.toString("hex"), key.toString("base64"), key.toString("base64url"), plaintext]) assert.ok(!kept.includes(form), "the page keeps a secret");
  const sent = await watch.sent();
  assert.ok(sent.some((r) => r.body.includes(fingerprint)), "the log has the request that enables");
  assertNotSent(sent, key, "the key");
  assertNotSent(sent, Buffer.from(plaintext), "the plaintext");
});

test("a vault takes bound blobs, and no key check, where that is chosen", async (t) => {
  const vault = await makeVault();
  const { page } = await site.signedIn(t);
  await settings(page, vault);
  await button(page, "Enable CMEK").click();
  await page.getByText("Options", { exact: true }).click();
  await page.getByLabel(/^Bound blobs/).check();
  await page.getByLabel(/key check/).uncheck();
  await makeAndSave(page);
  await page.getByLabel("I have saved it").check();
  await button(page, "Enable").click();
  await page.getByText("version 2, bound to vault, path and key").waitFor();
  const status = await statusOf(vault);
  assert.equal(status.blob_version, 2);
  assert.equal(status.key_check, undefined);
});

test("no key check is sent when none is wanted, though the tab has the key, and none by a rotation after it", async (t) => {
  const [key, fresh] = [newKey(), newKey()];
  const first = await sealedVault(key, {});
  const vault = await makeVault();
  const { page, watch } = await site.signedIn(t);
  await page.goto(site.at(`vaults/${first.id}`));
  await button(page, "Unlock with key file").first().click();
  await page.getByLabel("Key file", { exact: true }).setInputFiles(keyFile(key));
  await button(page, "Unlock").click();
  await button(page, "Lock 1 key").waitFor();
  await page.getByRole("link", { name: "Vaults" }).first().click();
  await page.getByRole("link", { name: vault.name, exact: true }).click();
  await page.getByRole("navigation", { name: "Parts of the vault" }).getByRole("link", { name: "Settings" }).click();
  await button(page, "Enable CMEK").click();
  await page.getByText("Options", { exact: true }).click();
  await page.getByText("The key's fingerprint and its key check are all of it that is sent").waitFor();
  await page.getByLabel(/key check/).uncheck();
  await page.getByText("The key's fingerprint is all of it that is sent").waitFor();
  await page.getByLabel("Use a key file that I have").check();
  await page.getByLabel("Key file", { exact: true }).setInputFiles(keyFile(key));
  await page.getByText("Holds the key").waitFor();
  await accessible(page);
  await shot(page, "cmek-enable-options");
  await button(page, "Enable").click();
  await button(page, "Rotate the key").click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile(key));
  await page.getByLabel("Use a key file that I have").check();
  await page.getByLabel("Key file", { exact: true }).setInputFiles(keyFile(fresh));
  await button(page, "Rotate").click();
  await page.getByRole("region", { name: "Rotations by the server" }).getByText("completed").waitFor();
  const status = await statusOf(vault);
  assert.deepEqual([status.fingerprint, status.key_check], [fingerprintOf(fresh), undefined]);
  assert.ok(!(await watch.sent()).some((r) => r.body.includes("key_check")), "a key check was sent");
});

test("in all that is done with a vault and its keys, no request has a key or a plaintext", async (t) => {
  const vault = await makeVault();
  const { page, watch } = await site.signedIn(t);
  await settings(page, vault);
  await button(page, "Enable CMEK").click();
  const file = await makeAndSave(page);
  const first = keyOf(file.bytes);
  await page.getByLabel("I have saved it").check();
  await button(page, "Enable").click();
  await page.getByText("enabled", { exact: true }).waitFor();

  const plaintext = "correct horse battery staple";
  await writeAndReveal(page, "db/password", plaintext);
  const bytes = randomBytes(100_000);
  await button(page, "New secret").click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Path", { exact: true }).fill("app/logo");
  await dialog.getByLabel("Type").selectOption("file");
  await dialog.getByLabel("File").setInputFiles({ name: "logo.png", mimeType: "image/png", buffer: bytes });
  await dialog.getByText("100,000 bytes").waitFor();
  await dialog.getByRole("button", { name: "Create the secret" }).click();
  await dialog.waitFor({ state: "detached" });
  const back = async () => (await downloaded(page, () => button(page, "Download").click())).bytes;
  assert.deepEqual(await back(), bytes);

  const parts = page.getByRole("navigation", { name: "Parts of the vault" });
  await parts.getByRole("link", { name: "Settings" }).click();
  await button(page, "Rotate the key").click();
  await page.getByLabel("Key file of the old key").setInputFiles({ name: file.name, mimeType: "text/plain", buffer: file.bytes });
  const second = await makeAndSave(page);
  await page.getByLabel("I have saved it").check();
  await button(page, "Rotate").click();
  await page.getByRole("region", { name: "Rotations by the server" }).getByText("completed").waitFor();

  await button(page, "Rotate the key").click();
  await page.getByLabel("Key file of the old key").setInputFiles({ name: second.name, mimeType: "text/plain", buffer: second.bytes });
  const third = await makeAndSave(page);
  await page.getByLabel("I have saved it").check();
  await page.getByLabel(/^This browser/).check();
  await button(page, "Rotate").click();
  await page.getByText("2 versions are under the new key now").waitFor();
  await button(page, "Close").click();

  await parts.getByRole("link", { name: "Secrets" }).click();
  await page.getByRole("navigation", { name: "Secrets by path" }).getByRole("link", { name: "logo" }).click();
  assert.deepEqual(await back(), bytes);
  await button(page, "Share").click();
  await page.getByLabel(/^Whoever gets the link has the key/).check();
  await button(page, "Make the link").click();
  await page.getByLabel("I have saved the link").check();
  await button(page, "Done").click();
  await parts.getByRole("link", { name: "Settings" }).click();
  await button(page, "Disable CMEK").click();
  await dialog.getByLabel(`Type ${vault.name} to confirm`).fill(vault.name);
  await dialog.getByRole("button", { name: "Disable CMEK", exact: true }).click();
  await button(page, "Enable CMEK").waitFor();

  const sent = await watch.sent();
  for (const [what, method, path] of [["enables", "POST", /\/cmek$/], ["rotates", "POST", /\/cmek-rotate$/], ["re-encrypts", "PUT", /\/secret-version\//], ["uploads", "PUT", /\/secrets\/app\/logo$/], ["disables", "DELETE", /\/cmek$/]] as const) {
    assert.ok(sent.some((r) => r.method === method && path.test(r.url)), `the log has no request that ${what}`);
  }
  for (const [n, key] of [first, keyOf(second.bytes), keyOf(third.bytes)].entries()) assertNotSent(sent, key, `key ${n + 1}`);
  assertNotSent(sent, Buffer.from(plaintext), "the plaintext");
  for (const at of [0, 50_000, 99_968]) assertNotSent(sent, bytes.subarray(at, at + 32), "the file's bytes");
});

test("a key that was made here and came into use before the page was loaded again is said to be needed", async (t) => {
  const old = newKey();
  const vault = await sealedVault(old, { "app/one": "the first", "app/two": "the second" });
  const { page } = await site.signedIn(t);
  page.on("dialog", (d) => void d.accept());
  await settings(page, vault);
  await button(page, "Rotate the key").click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile(old));
  const made = await makeAndSave(page);
  const fresh = fingerprintOf(keyOf(made.bytes));
  await page.getByLabel("I have saved it").check();
  await page.getByLabel(/^This browser/).check();
  const held = page.waitForRequest((r) => r.method() === "PUT");
  await page.route(`**/v1/vaults/${vault.id}/secret-version/**`, (route) => (route.request().method() === "PUT" ? undefined : route.continue())); // no answer ever
  await button(page, "Rotate").click();
  await held;
  await page.reload();
  await page.unrouteAll({ behavior: "ignoreErrors" });
  await seen(page);
  await page.getByText(`This page was left while the key ${fresh.slice(0, 8)} came into use`).waitFor();
  assert.equal((await statusOf(vault)).fingerprint, fresh);
  await accessible(page);
  await narrow(page);
  await shot(page, "cmek-left");
  await button(page, "Re-encrypt to the vault's key").click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile(old));
  await page.getByLabel("Key file of the new key").setInputFiles({ name: made.name, mimeType: "text/plain", buffer: made.bytes });
  await button(page, "Go on").click();
  await page.getByText("2 versions are under the new key now").waitFor();
});

test("a reload in the middle loses nothing but the unsaved key, and says so", async (t) => {
  const vault = await makeVault();
  const { page } = await site.signedIn(t);
  await settings(page, vault);
  await button(page, "Enable CMEK").click();
  const file = await makeAndSave(page);
  const fingerprint = fingerprintOf(keyOf(file.bytes));

  const asked: string[] = [];
  page.on("dialog", (d) => void (asked.push(d.type()), d.type() === "beforeunload" ? d.accept() : d.dismiss()));
  await page.getByRole("link", { name: "Agents" }).click();
  assert.deepEqual(asked, ["confirm"], "a link leaves the unsaved key without a question");
  await page.getByLabel("I have saved it").waitFor();
  await page.reload();
  assert.deepEqual(asked, ["confirm", "beforeunload"], "the reload is not warned of");
  await seen(page);
  await page.getByText(`before the key ${fingerprint.slice(0, 8)} was in use`).waitFor();
  assert.equal((await statusOf(vault)).enabled, false);

  await button(page, "Enable CMEK").click();
  await page.getByLabel("Use a key file that I have").check();
  await page.getByLabel("Key file", { exact: true }).setInputFiles({ name: file.name, mimeType: "text/plain", buffer: file.bytes });
  await button(page, "Enable").click();
  await page.getByText("enabled", { exact: true }).waitFor();
  assert.equal((await statusOf(vault)).fingerprint, fingerprint);
  await page.reload();
  await seen(page);
  assert.equal(await page.getByText("was in use").count(), 0, "the note stays when there is nothing to tell");
  assert.equal(asked.length, 2, "a saved key is warned of");
});

test("a page that nobody touches drops the keys of its forms, but not one that is not saved", async (t) => {
  const old = newKey();
  const vault = await sealedVault(old, {});
  const { page } = await site.signedIn(t);
  await page.clock.install();
  await settings(page, vault);
  await button(page, "Rotate the key").click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile(old));
  await page.getByText("Holds the key").waitFor();
  await makeAndSave(page);
  await page.clock.runFor(11 * 60_000);
  assert.equal(await page.getByText("Holds the key").count(), 0, "the old key is still in the form");
  await page.getByLabel("I have saved it").check();
  assert.ok(await button(page, "Rotate").isDisabled());
});

test("what is no key file is refused with a reason", async (t) => {
  const key = newKey();
  const vault = await sealedVault(key, {});
  const { page } = await site.signedIn(t);
  await settings(page, vault);
  await button(page, "Rotate the key").click();
  const old = page.getByLabel("Key file of the old key");
  await old.setInputFiles({ name: "notes.txt", mimeType: "text/plain", buffer: Buffer.from("hello\n") });
  await page.getByRole("alert").getByText(/key/).waitFor();
  await old.setInputFiles(keyFile(newKey(), "another.key"));
  await page.getByRole("alert").getByText(/another\.key holds the key .* is needed/).waitFor();
  assert.ok(await button(page, "Rotate").isDisabled());
  await old.setInputFiles(keyFile(key));
  await page.getByText("Holds the key").waitFor();
  assert.equal(await page.getByRole("alert").count(), 0, "the reason stays");
});

test("the server rotates to a key that is made here, and is sent neither key nor value", async (t) => {
  const old = newKey();
  const secrets = Object.fromEntries(Array.from({ length: 150 }, (_, n) => [`app/secret-${n}`, `the plaintext number ${n}`]));
  const vault = await sealedVault(old, secrets);
  const { page, watch } = await site.signedIn(t);
  await settings(page, vault);
  await button(page, "Rotate the key").click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile(old));
  const fresh = keyOf((await makeAndSave(page)).bytes);
  await accessible(page);
  await narrow(page);
  await shot(page, "cmek-rotate");
  await page.getByLabel("I have saved it").check();
  await button(page, "Rotate").click();
  await page.getByRole("region", { name: "Rotations by the server" }).getByText("completed").waitFor();
  await page.getByRole("region", { name: "Key inventory" }).getByText("150 versions").waitFor();
  const status = await statusOf(vault);
  assert.equal(status.fingerprint, fingerprintOf(fresh));
  assert.deepEqual(status.keys?.map((k) => [k.fingerprint, k.versions]), [[fingerprintOf(fresh), 150]]);
  assert.equal(open(fresh, await valueOf(vault, "app/secret-7")), secrets["app/secret-7"]);
  await accessible(page);
  await shot(page, "cmek-rotated");
  const sent = await watch.sent();
  assert.ok(sent.some((r) => r.body.includes("sealed_keys")), "the log has the request that rotates");
  assertNotSent(sent, old, "the old key");
  assertNotSent(sent, fresh, "the new key");
  assertNotSent(sent, Buffer.from("the plaintext number"), "a plaintext");
});

test("the browser rotates, and sends neither key nor value", async (t) => {
  const [old, fresh] = [newKey(), newKey()];
  const secrets = Object.fromEntries(Array.from({ length: 40 }, (_, n) => [`app/secret-${n}`, `the plaintext number ${n}`]));
  const vault = await sealedVault(old, secrets);
  const { page, watch } = await site.signedIn(t);
  await settings(page, vault);
  await button(page, "Rotate the key").click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile(old));
  await page.getByLabel("Use a key file that I have").check();
  await page.getByLabel("Key file", { exact: true }).setInputFiles(keyFile(fresh));
  await page.getByLabel(/^This browser/).check();
  await button(page, "Rotate").click();
  await page.getByText("40 versions are under the new key now").waitFor();
  const status = await statusOf(vault);
  assert.deepEqual(status.keys?.map((k) => [k.fingerprint, k.versions]), [[fingerprintOf(fresh), 40]]);
  assert.equal(open(fresh, await valueOf(vault, "app/secret-7")), secrets["app/secret-7"]);
  const sent = await watch.sent();
  assert.ok(sent.filter((r) => r.method === "PUT").length >= 40, "the log has the writes");
  assertNotSent(sent, old, "the old key");
  assertNotSent(sent, fresh, "the new key");
  assertNotSent(sent, Buffer.from("the plaintext number"), "a plaintext");
});

test("a rotation in the browser that was left goes on from the key inventory", async (t) => {
  const [old, fresh] = [newKey(), newKey()];
  const vault = await sealedVault(old, { "app/one": "the first", "app/two": "the second" });
  await dev.call("POST", `/v1/vaults/${vault.id}/cmek`, { fingerprint: fingerprintOf(fresh), replaces: fingerprintOf(old) });
  const { page } = await site.signedIn(t);
  await settings(page, vault);
  await button(page, "Re-encrypt to the vault's key").click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile(old));
  await page.getByLabel("Key file of the new key").setInputFiles(keyFile(fresh));
  await button(page, "Go on").click();
  await page.getByText("2 versions are under the new key now").waitFor();
  assert.deepEqual((await statusOf(vault)).keys?.map((k) => k.fingerprint), [fingerprintOf(fresh)]);
});

test("versions that open with neither key are named, and can be accepted", async (t) => {
  const [old, fresh] = [newKey(), newKey()];
  const vault = await sealedVault(old, { "app/good": "opens" });
  await dev.call("PUT", `/v1/vaults/${vault.id}/secrets/app/strange`, { type: "generic", value: seal(newKey(), "of another key") });
  const { page } = await site.signedIn(t);
  const rotate = async () => {
    await button(page, "Rotate the key").click();
    await page.getByLabel("Key file of the old key").setInputFiles(keyFile(old));
    await page.getByLabel("Use a key file that I have").check();
    await page.getByLabel("Key file", { exact: true }).setInputFiles(keyFile(fresh));
  };
  await settings(page, vault);
  await rotate();
  await button(page, "Rotate").click();
  const list = page.getByRole("region", { name: "Rotations by the server" });
  await list.getByText("failed", { exact: true }).waitFor();
  await list.getByText(/^secret app\/strange, version 1/).waitFor();
  await accessible(page);
  await narrow(page);
  await rotate();
  await page.getByLabel(/^Complete in spite of/).check();
  await button(page, "Rotate").click();
  await list.getByText("completed", { exact: true }).first().waitFor();
  assert.equal((await statusOf(vault)).fingerprint, fingerprintOf(fresh));
});

test("a rotation that ended while the page asked for it does not stay", async (t) => {
  const [old, fresh] = [newKey(), newKey()];
  const vault = await sealedVault(old, { "app/one": "the first" });
  const over = {
    id: "0d4f9a52-7a0f-4c52-9a3e-3f6f1f0a2b12", vault_id: vault.id, old_fingerprint: fingerprintOf(old), new_fingerprint: fingerprintOf(fresh),
    status: "failed", total_secrets: 1, processed: 0, created_at: new Date().toISOString(),
  };
  const { page } = await site.signedIn(t);
  let asked = 0;
  await page.route(`**/v1/vaults/${vault.id}/cmek`, async (route) => route.fulfill({ json: { ...(await statusOf(vault)), ...(asked++ < 2 ? { rotation: over } : {}) } }));
  await page.route(`**/v1/vaults/${vault.id}/cmek-rotate/${over.id}`, (route) => route.fulfill({ json: over }));
  await settings(page, vault);
  await page.getByRole("region", { name: "Rotation", exact: true }).waitFor();
  await button(page, "Rotate the key").waitFor();
});

test("a rotation shows how far it is, and an interrupted one is resumed with its own two keys, or cancelled", async (t) => {
  const [old, fresh] = [newKey(), newKey()];
  const vault = await sealedVault(old, { "app/one": "the first" });
  const job = {
    id: "0d4f9a52-7a0f-4c52-9a3e-3f6f1f0a2b11", vault_id: vault.id, old_fingerprint: fingerprintOf(old), new_fingerprint: fingerprintOf(fresh),
    status: "running", total_secrets: 10, processed: 0, created_at: new Date().toISOString(),
  };
  const steps = [{ processed: 4 }, { processed: 7 }, { processed: 7, status: "interrupted", error: "the key process no longer has the keys" }];
  const now = () => ({ ...job, ...(steps.length > 1 ? steps.shift() : steps[0]) });
  const { page } = await site.signedIn(t);
  await page.route(`**/v1/vaults/${vault.id}/cmek`, async (route) => route.fulfill({ json: { ...(await statusOf(vault)), rotation: job } }));
  await page.route(`**/v1/vaults/${vault.id}/cmek-rotate/${job.id}`, (route) =>
    route.request().method() === "DELETE" ? route.fulfill({ json: { ...job, status: "cancelled" } }) : route.fulfill({ json: now() }),
  );
  await settings(page, vault);
  await page.getByText("4 of 10 (40%)").waitFor();
  await page.getByText("7 of 10 (70%)").waitFor();
  await button(page, "Resume").click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile(old));
  await page.getByLabel("Key file of the new key").setInputFiles(keyFile(fresh));
  await accessible(page);
  const asked = page.waitForRequest((r) => r.method() === "POST" && r.url().endsWith("/cmek-rotate"));
  await button(page, "Go on").click();
  assert.equal(((await asked).postDataJSON() as { new_fingerprint: string }).new_fingerprint, fingerprintOf(fresh));
  await button(page, "Cancel the rotation").click();
  const cancelled = page.waitForRequest((r) => r.method() === "DELETE" && r.url().endsWith(job.id));
  await page.getByRole("dialog").getByRole("button", { name: "Cancel the rotation" }).click();
  await cancelled;
});

test("CMEK is disabled, and a vault deleted, by name", async (t) => {
  const key = newKey();
  const vault = await sealedVault(key, { "app/one": "the first" });
  const { page } = await site.signedIn(t);
  await settings(page, vault);
  const confirm = async (name: string) => {
    await button(page, name).click();
    const dialog = page.getByRole("dialog");
    const sure = dialog.getByRole("button", { name, exact: true });
    assert.ok(await sure.isDisabled(), `${name} without the name`);
    await accessible(page);
    await dialog.getByLabel(`Type ${vault.name} to confirm`).fill(vault.name);
    await sure.click();
  };
  await confirm("Disable CMEK");
  await button(page, "Enable CMEK").waitFor();
  await page.getByRole("region", { name: "Key inventory" }).getByText("1 version", { exact: true }).waitFor();
  assert.equal((await statusOf(vault)).enabled, false);
  await confirm("Delete the vault");
  await page.waitForURL(/\/ui\/vaults$/);
  const { vaults } = await dev.call<{ vaults: Vault[] }>("GET", "/v1/vaults");
  assert.ok(!vaults.some((v) => v.id === vault.id), "the vault is still there");
});
