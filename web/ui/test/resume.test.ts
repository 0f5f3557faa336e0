// A rotation of a CMEK key that is begun in the browser and interrupted: the server
// is killed in the middle (SIGKILL), the page is loaded again, or it is cancelled.
// Every version opens afterwards with the key that the page says.

import assert from "node:assert/strict";
import { createCipheriv, createDecipheriv, createHash, randomBytes } from "node:crypto";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import type { Page, Route } from "playwright-core";
import { patience, seen, start, type Opened } from "./harness.js";

const site = await start();
const { dev } = site;

interface Vault {
  id: string;
  name: string;
}
interface Status {
  enabled: boolean;
  fingerprint: string;
  rotation?: Job;
  keys?: { fingerprint: string; versions: number }[];
}
interface Job {
  id: string;
  status: string;
  processed: number;
  total_secrets: number;
}

const fingerprintOf = (key: Buffer) => createHash("sha256").update(key).digest("hex");
const shortOf = (key: Buffer) => fingerprintOf(key).slice(0, 8);
const keyFile = (key: Buffer) => ({ name: `${shortOf(key)}.key`, mimeType: "text/plain", buffer: Buffer.from(`${key.toString("base64")}\n`) });
const button = (page: Page, name: string | RegExp) => page.getByRole("button", { name, exact: true });
const statusOf = (vault: Vault) => dev.call<Status>("GET", `/v1/vaults/${vault.id}/cmek`);

function seal(key: Buffer, plaintext: string): string {
  const nonce = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", key, nonce);
  return Buffer.concat([Buffer.of(1), nonce, cipher.update(plaintext, "utf8"), cipher.final(), cipher.getAuthTag()]).toString("base64");
}

function opens(key: Buffer, value: string, plaintext: string): boolean {
  const blob = Buffer.from(value, "base64");
  const decipher = createDecipheriv("aes-256-gcm", key, blob.subarray(1, 13));
  decipher.setAuthTag(blob.subarray(-16));
  try {
    return Buffer.concat([decipher.update(blob.subarray(13, -16)), decipher.final()]).toString("utf8") === plaintext;
  } catch {
    return false;
  }
}

/** Does work for every number below n, some at once. */
async function each(n: number, work: (i: number) => Promise<unknown>): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: 16 }, async () => {
    while (next < n) await work(next++);
  }));
}

const pathOf = (n: number) => `app/secret-${n}`;
const plaintextOf = (n: number) => `the plaintext number ${n}`;

/** A vault with n secrets that are sealed with the key. */
async function sealedVault(name: string, key: Buffer, n: number): Promise<Vault> {
  const vault = await dev.call<Vault>("POST", "/v1/vaults", { name });
  await dev.call("POST", `/v1/vaults/${vault.id}/cmek`, { fingerprint: fingerprintOf(key) });
  await each(n, (i) => dev.call("PUT", `/v1/vaults/${vault.id}/secrets/${pathOf(i)}`, { type: "generic", value: seal(key, plaintextOf(i)) }));
  return vault;
}

/** How many versions need which key, as the page says it. */
async function inventoryOf(page: Page): Promise<Map<string, number>> {
  const rows = page.getByRole("region", { name: "Key inventory" }).locator("tbody tr");
  const said = await rows.evaluateAll((all) => all.map((row) => [row.querySelector("code")!.title, Number(row.querySelectorAll("td")[1]!.textContent!.replaceAll(/\D/g, ""))] as const));
  return new Map(said);
}

/** Fails unless all n secrets are there and open with the keys, and the page comes to say how many need which. */
async function assertAllOpen(page: Page, vault: Vault, n: number, keys: Buffer[]): Promise<void> {
  const counted = new Map<string, number>();
  await each(n, async (i) => {
    const { value } = await dev.call<{ value: string }>("GET", `/v1/vaults/${vault.id}/secrets/${pathOf(i)}`);
    const key = keys.find((k) => opens(k, value, plaintextOf(i)));
    assert.ok(key, `${pathOf(i)} opens with no key`);
    counted.set(fingerprintOf(key), (counted.get(fingerprintOf(key)) ?? 0) + 1);
  });
  const right = [...counted].sort();
  for (const until = Date.now() + patience; ; await sleep(100)) {
    const said = [...(await inventoryOf(page))].sort();
    if (isDeepStrictEqual(said, right)) return;
    if (Date.now() > until) assert.deepEqual(said, right, "what the page says of the keys is not what opens the versions");
  }
}

async function settings(page: Page, vault: Vault): Promise<void> {
  await page.goto(site.at(`vaults/${vault.id}/settings`));
  await seen(page);
}

/** Fills in the form of a rotation. */
async function choose(page: Page, old: Buffer, fresh: Buffer, here: boolean): Promise<void> {
  await button(page, "Rotate the key").click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile(old));
  await page.getByLabel("Use a key file that I have").check();
  await page.getByLabel("Key file", { exact: true }).setInputFiles(keyFile(fresh));
  if (here) await page.getByLabel(/^This browser/).check();
  await page.getByText("Holds the key").nth(1).waitFor();
}

const away = "The server does not answer. Look whether it runs and this computer reaches it, then try again.";
/** What the browser's console says of a server that is away. */
const complaints = /ERR_CONNECTION|ERR_EMPTY_RESPONSE|ERR_NETWORK|ERR_SOCKET|ERR_INCOMPLETE/;

interface Interrupted extends Opened {
  vault: Vault;
  old: Buffer;
  fresh: Buffer;
  count: number;
}

const versions = 1000;

/**
 * A page whose rotation by the server was killed in the middle; the server is away.
 * The work takes a fraction of a second: when it was over before the server could be
 * killed, another vault is taken.
 */
async function killedInTheMiddle(opened: Opened): Promise<Interrupted> {
  const { page, watch } = opened;
  watch.allow(complaints);
  for (let turn = 1; turn <= 8; turn++) {
    const [old, fresh] = [randomBytes(32), randomBytes(32)];
    const count = versions * turn;
    const vault = await sealedVault(`payments ${turn} ${shortOf(old)}`, old, count);
    await settings(page, vault);
    await choose(page, old, fresh, false);
    const running = (async () => {
      for (;;) {
        const { rotations } = await dev.call<{ rotations: Job[] }>("GET", `/v1/vaults/${vault.id}/cmek-rotations`);
        if (rotations[0] && (rotations[0].processed > 0 || rotations[0].status !== "running")) return;
      }
    })();
    await button(page, "Rotate").click();
    await running;
    await dev.kill();
    await dev.restart();
    const { rotations } = await dev.call<{ rotations: Job[] }>("GET", `/v1/vaults/${vault.id}/cmek-rotations`);
    if (rotations[0]?.status === "completed") continue; // it was over before the kill came
    await dev.kill();
    return { ...opened, vault, old, fresh, count };
  }
  throw new Error("no rotation was slow enough to be killed in the middle");
}

const rotationOf = (page: Page) => page.getByRole("region", { name: "Rotation", exact: true });

/** Chooses the two key files of an interrupted rotation, and goes on. */
async function goOn(page: Page, old: Buffer, fresh: Buffer): Promise<void> {
  await rotationOf(page).getByRole("button", { name: "Resume" }).click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile(old));
  await page.getByLabel("Key file of the new key").setInputFiles(keyFile(fresh));
  await button(page, "Go on").click();
}

test("the server is killed while it rotates: the page says so, knows it when it is back, and resumes", async (t) => {
  const { page, vault, old, fresh, count } = await killedInTheMiddle(await site.signedIn(t));
  await page.getByText(away).first().waitFor();
  await dev.restart();
  const rotation = rotationOf(page);
  await rotation.getByText("interrupted", { exact: true }).waitFor();
  await page.getByText(away).first().waitFor({ state: "detached" });
  const { rotation: job, fingerprint } = await statusOf(vault);
  assert.ok(job && job.processed > 0 && job.processed < count, `it was not in the middle: ${JSON.stringify(job)}`);
  assert.equal(fingerprint, fingerprintOf(old), "the vault has the new key before all versions do");
  await rotation.getByText(`${job.processed.toLocaleString("en-US")} of ${count.toLocaleString("en-US")}`).waitFor();
  await assertAllOpen(page, vault, count, [old, fresh]);

  page.on("dialog", (d) => assert.fail(`a reload asks: ${d.message()}`)); // the page holds nothing
  await page.reload();
  await seen(page);
  await rotation.getByText("interrupted", { exact: true }).waitFor();
  await goOn(page, old, fresh);
  await page.getByRole("region", { name: "Rotations by the server" }).getByText("completed", { exact: true }).waitFor();
  await page.getByRole("region", { name: "Key inventory" }).getByText(`${count.toLocaleString("en-US")} versions`).waitFor();
  assert.equal((await statusOf(vault)).fingerprint, fingerprintOf(fresh));
  await assertAllOpen(page, vault, count, [fresh]);
});

test("a rotation that the server's end interrupted is cancelled, and what it left is brought under one key", async (t) => {
  const { page, vault, old, fresh, count } = await killedInTheMiddle(await site.signedIn(t));
  await dev.restart();
  await rotationOf(page).getByText("interrupted", { exact: true }).waitFor();
  await button(page, "Cancel the rotation").click();
  await page.getByRole("dialog").getByText(`The vault keeps the key ${shortOf(old)}`).waitFor();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel the rotation" }).click();
  await page.getByRole("region", { name: "Rotations by the server" }).getByText("cancelled", { exact: true }).waitFor();
  await rotationOf(page).waitFor({ state: "detached" });
  await page.getByRole("region", { name: "Key inventory" }).getByText("the vault's key", { exact: true }).waitFor();
  assert.equal((await statusOf(vault)).fingerprint, fingerprintOf(old));
  await assertAllOpen(page, vault, count, [old, fresh]);

  await button(page, "Re-encrypt to the vault's key").click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile(fresh));
  await page.getByLabel("Key file of the new key").setInputFiles(keyFile(old));
  await button(page, "Go on").click();
  await page.getByText(/versions? (is|are) under the new key now/).waitFor();
  await assertAllOpen(page, vault, count, [old]);
});

const few = 60;

/** A page that rotates by itself and has sent some of the versions; the others wait to be sent until release is called. */
async function heldInTheMiddle({ page }: Opened, vault: Vault, old: Buffer, fresh: Buffer): Promise<() => Promise<void>> {
  let passes = 12;
  const held: Route[] = [];
  let enough = () => {};
  const full = new Promise<void>((done) => (enough = done));
  const writes = `**/v1/vaults/${vault.id}/secret-version/**`;
  await page.route(writes, async (route) => {
    if (route.request().method() !== "PUT" || passes-- > 0) return route.continue();
    held.push(route);
    if (held.length === 8) enough();
  });
  await settings(page, vault);
  await choose(page, old, fresh, true);
  await button(page, "Rotate").click();
  await full;
  await page.getByText(`12 of ${few}`).waitFor();
  return async () => {
    await page.unroute(writes);
    for (const route of held) await route.continue().catch(() => {}); // of a page that is gone
  };
}

test("the server is killed while the browser rotates: the page says so, keeps both keys, and goes on", async (t) => {
  const opened = await site.signedIn(t);
  const { page, watch } = opened;
  watch.allow(complaints);
  const [old, fresh] = [randomBytes(32), randomBytes(32)];
  const vault = await sealedVault("in the browser", old, few);
  const release = await heldInTheMiddle(opened, vault, old, fresh);
  await dev.kill();
  await release();
  await page.getByText(away).first().waitFor();
  await dev.restart();
  const between = await statusOf(vault);
  assert.equal(between.fingerprint, fingerprintOf(fresh), "the vault's key is the new one from the beginning");
  assert.deepEqual(between.keys?.map((k) => k.versions).sort(), [12, few - 12], "it was not in the middle");

  await button(page, "Rotate").click();
  await page.getByText("48 versions are under the new key now").waitFor();
  await page.getByRole("region", { name: "Key inventory" }).getByText(`${few} versions`).waitFor();
  await assertAllOpen(page, vault, few, [fresh]);
});

test("a page that rotates is loaded again: it asks first, and goes on with the same two key files", async (t) => {
  const opened = await site.signedIn(t);
  const { page } = opened;
  const [old, fresh] = [randomBytes(32), randomBytes(32)];
  const vault = await sealedVault("loaded again", old, few);
  const release = await heldInTheMiddle(opened, vault, old, fresh);
  const asked: string[] = [];
  page.on("dialog", (d) => void (asked.push(d.type()), d.accept()));
  await page.reload();
  assert.deepEqual(asked, ["beforeunload"]);
  await release();
  await seen(page);
  const inventory = page.getByRole("region", { name: "Key inventory" });
  await inventory.getByText("12 versions").waitFor();
  await assertAllOpen(page, vault, few, [old, fresh]);

  await button(page, "Re-encrypt to the vault's key").click();
  await page.getByLabel("Key file of the old key").setInputFiles(keyFile(old));
  await page.getByLabel("Key file of the new key").setInputFiles(keyFile(fresh));
  await button(page, "Go on").click();
  await page.getByText("48 versions are under the new key now").waitFor();
  await inventory.getByText(`${few} versions`).waitFor();
  await assertAllOpen(page, vault, few, [fresh]);
});

test("a rotation in the browser is cancelled, and says what it left", async (t) => {
  const opened = await site.signedIn(t);
  const { page } = opened;
  const [old, fresh] = [randomBytes(32), randomBytes(32)];
  const vault = await sealedVault("cancelled", old, few);
  const release = await heldInTheMiddle(opened, vault, old, fresh);
  await button(page, "Cancel").click();
  await release();
  const inventory = page.getByRole("region", { name: "Key inventory" });
  await inventory.getByText("20 versions").waitFor(); // the twelve, and the eight that were on their way
  await button(page, "Re-encrypt to the vault's key").waitFor();
  await assertAllOpen(page, vault, few, [old, fresh]);
});
