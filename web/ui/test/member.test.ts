// What somebody sees who may do little: a member who has just joined the org, and
// has neither a vault nor an agent; then one who may read a part of one vault. No
// page complains, none shows an error as the server says it.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Page } from "playwright-core";
import { accessible, narrow, seen, start, type Login } from "./harness.js";

const site = await start();

interface Made {
  id: string;
}

/** Somebody who has just joined the org. */
async function newcomer(email: string): Promise<Login & Made> {
  const { text } = await site.dev.call<{ text: string }>("POST", "/v1/org/invitations", { email, role: "member" });
  const password = "Quiet-Harbour-58!";
  const { user_id: id } = await site.dev.call<{ user_id: string }>("POST", "/v1/auth/signup", { email, password, invitation: text });
  return { email, password, id };
}

/** A vault of the owner's that is sealed, with nothing in it. */
async function sealedVault(): Promise<Made> {
  const vault = await site.dev.call<Made>("POST", "/v1/vaults", { name: "Sealed" });
  await site.dev.call("POST", `/v1/vaults/${vault.id}/cmek`, { fingerprint: "5e".repeat(32) });
  return vault;
}

/** A vault of the owner's with a secret at app/one and one at other/two. */
async function ownersVault(): Promise<Made> {
  const vault = await site.dev.call<Made>("POST", "/v1/vaults", { name: "Payments" });
  for (const path of ["app/one", "other/two"]) await site.dev.call("PUT", `/v1/vaults/${vault.id}/secrets/${path}`, { type: "generic", value: "x" });
  return vault;
}

/** A page, once nothing in it loads any more; it has a heading, and no error. */
async function visit(page: Page, path: string): Promise<string> {
  await page.goto(site.at(path));
  await seen(page);
  await page.waitForLoadState("networkidle");
  assert.equal(await page.locator("h1").count(), 1, `h1 of /ui/${path}`);
  assert.deepEqual(await page.locator(".problem").allInnerTexts(), [], `errors of /ui/${path}`);
  const text = await page.locator("main").innerText();
  assert.doesNotMatch(text, /may not do|undefined|NaN|\[object/, path);
  return text;
}

test("who has just joined finds every page, and how to begin", async (t) => {
  const { page } = await site.signedIn(t, await newcomer("new@keyfold.example"));
  const says: Record<string, RegExp> = {
    "": /For operators/,
    vaults: /Create the first vault/,
    agents: /No agents yet/,
    threads: /No threads yet/,
    audit: /Verify the chain/,
    keys: /For operators/,
    jobs: /For operators/,
    account: /member/,
  };
  for (const [path, what] of Object.entries(says)) assert.match(await visit(page, path), what, path);

  // An API key acts for him, and not for the org.
  await page.goto(site.at("account"));
  await page.getByRole("button", { name: "Create an API key" }).click();
  assert.equal(await page.getByLabel("Acts for").count(), 0);
});

test("who may read a part of a vault sees that part, and is offered no more", async (t) => {
  const who = await newcomer("reader@keyfold.example");
  const vault = await ownersVault();
  const sealed = await sealedVault();
  for (const { id } of [vault, sealed]) await site.dev.call("POST", `/v1/vaults/${id}/policies`, { principal_type: "user", principal_id: who.id, secret_path_pattern: "app/**", permissions: ["read"] });
  const { page, watch } = await site.signedIn(t, who);
  const at = `vaults/${vault.id}`;
  for (const path of ["", "keys", "jobs", "vaults"]) await visit(page, path);
  await page.getByRole("link", { name: "Payments" }).waitFor();
  assert.equal(await page.getByRole("button", { name: "Delete" }).count(), 0);

  const secrets = await visit(page, at);
  assert.match(secrets, /one/);
  assert.doesNotMatch(secrets, /two/);
  await visit(page, `${at}/secrets?path=app/one`);
  assert.match(await visit(page, `${at}/access`), /not for you to see/);
  await accessible(page);
  await narrow(page);
  await visit(page, `${at}/audit`);
  assert.match(await visit(page, `${at}/settings`), /Only who made the vault/);
  for (const name of ["Enable CMEK", "Delete the vault"]) assert.equal(await page.getByRole("button", { name }).count(), 0, name);

  for (const part of ["", "/access", "/audit", "/settings"]) await visit(page, `vaults/${sealed.id}${part}`);
  for (const name of ["Rotate the key", "Disable CMEK"]) assert.equal(await page.getByRole("button", { name }).count(), 0, name);

  // What the page cannot know beforehand is told in words.
  watch.allow(/ 403 .*\/secrets\//);
  await page.goto(site.at(at));
  await page.getByRole("button", { name: "New secret" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Path").fill("app/three");
  await dialog.getByLabel("Value", { exact: true }).fill("v");
  await dialog.getByRole("button", { name: "Create the secret" }).click();
  await dialog.getByRole("alert").getByText("You may not write a secret here").waitFor();
});

test("the address of a vault or thread that is somebody else's", async (t) => {
  const { page, watch } = await site.signedIn(t, await newcomer("curious@keyfold.example"));
  const vault = await ownersVault();
  const thread = await site.dev.call<Made>("POST", "/v1/threads", { title: "The owner's" });
  watch.allow(/ 40[34] /);
  for (const path of [`vaults/${vault.id}`, `vaults/${vault.id}/settings`, `threads/${thread.id}`, "vaults/01900000-0000-7000-8000-000000000000"]) {
    await page.goto(site.at(path));
    await page.getByRole("alert").waitFor();
    assert.equal(await page.locator("h1").count(), 1, `h1 of /ui/${path}`);
    const text = await page.locator("main").innerText();
    assert.doesNotMatch(text, /may not do|Payments|The owner's/, path);
    await accessible(page);
  }
});
