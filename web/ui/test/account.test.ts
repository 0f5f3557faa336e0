// The user's own account.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { accessible, downloaded, narrow, seen, shot, signIn, start, totp, type Login } from "./harness.js";

const site = await start();

/** The account page of somebody who is new. */
async function account(t: TestContext) {
  const who: Login = { email: `${t.name.replace(/\W+/g, "-").slice(0, 40)}@keyfold.example`, password: "Quiet-Harbour-58!" };
  await site.dev.call("POST", "/v1/auth/signup", { ...who, display_name: "Before" });
  const opened = await site.signedIn(t, who);
  await opened.page.goto(site.at("account"));
  await seen(opened.page);
  return { ...opened, who };
}

test("the name is changed, and markup in it is text", async (t) => {
  const { page } = await account(t);
  const name = `<img src=x onerror=alert(1)> "O'Neil" & co`;
  await page.getByLabel("Name", { exact: true }).fill(name);
  await page.getByRole("button", { name: "Save the name" }).click();
  await page.getByText("Saved your name").waitFor();
  await page.reload();
  await seen(page);
  assert.equal(await page.getByLabel("Name", { exact: true }).inputValue(), name);
});

test("the password is changed, and the other sessions end", async (t) => {
  const { page, watch, who } = await account(t);
  watch.allow(/ 4\d\d .*\/v1\/auth\/change-password/);
  const other = await site.signedIn(t, who);
  const next = "Louder-Harbour-69!";
  const send = page.getByRole("button", { name: "Change the password" });
  const fill = async (current: string, again: string) => {
    await page.getByLabel("Password now").fill(current);
    await page.getByLabel("New password", { exact: true }).fill(next);
    await page.getByLabel("New password again").fill(again);
  };
  await fill(who.password, "something else");
  await page.getByText("not the same as above").waitFor();
  assert.ok(await send.isDisabled(), "two that differ can be sent");
  await fill("Wrong-Harbour-58!", next);
  await send.click();
  await page.getByRole("alert").waitFor();
  await fill(who.password, next);
  await send.click();
  await page.getByText("Changed the password").waitFor();

  await page.reload(); // this session goes on
  await seen(page);
  await other.page.reload();
  await signIn(other.page, { ...who, password: next });
  await seen(other.page);
});

test("an API key is made, shown once, works, and is deleted", async (t) => {
  const { page, who } = await account(t);
  await page.getByText("No API keys yet").waitFor();
  await page.getByRole("button", { name: "Create an API key" }).click();
  await page.getByLabel("Name", { exact: true }).last().fill("deploys <b>bold</b>");
  await page.getByLabel("Scopes").fill("prod/*, staging/*");
  await page.getByLabel("Expires").fill("2099-01-02T03:04");
  await accessible(page);
  await shot(page, "account-key-create");
  await page.getByRole("button", { name: "Create the key" }).click();
  const key = (await page.getByLabel("the API key", { exact: true }).innerText()).trim();
  assert.match(key, /^1ck_/);
  await accessible(page);
  const file = await downloaded(page, () => page.getByRole("button", { name: "Download" }).click());
  assert.deepEqual([file.name, file.bytes.toString()], ["keyfold-api-key.txt", `${key}\n`]);
  assert.ok(await page.getByRole("button", { name: "Done" }).isDisabled(), "it can be closed unsaved");
  await page.getByLabel("I have saved").check();
  await page.getByRole("button", { name: "Done" }).click();
  assert.ok(!(await page.content()).includes(key), "the page still holds the key");
  const me = await site.dev.call<{ email: string }>("GET", "/v1/auth/me", undefined, key);
  assert.equal(me.email, who.email.toLowerCase());
  await page.getByRole("cell", { name: "deploys <b>bold</b>", exact: true }).waitFor();
  await accessible(page);
  await narrow(page);
  await shot(page, "account");

  await page.getByRole("button", { name: "Delete deploys" }).click();
  await accessible(page);
  await page.getByRole("button", { name: "Delete the key" }).click();
  await page.getByText("No API keys yet").waitFor();
  await assert.rejects(site.dev.call("GET", "/v1/auth/me", undefined, key), /401/);
});

test("the second factor is turned on, its recovery codes are saved, and it is turned off by one", async (t) => {
  const { page, watch, who } = await account(t);
  watch.allow(/ 4\d\d .*\/v1\/auth\/mfa\/totp/);
  await page.getByRole("button", { name: "Set it up" }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Your password").fill("Wrong-Harbour-58!");
  await dialog.getByRole("button", { name: "Go on" }).click();
  await dialog.getByRole("alert").waitFor();
  await dialog.getByLabel("Your password").fill(who.password);
  await dialog.getByRole("button", { name: "Go on" }).click();
  const secret = (await dialog.getByLabel("Secret", { exact: true }).innerText()).replace(/\s/g, "");
  const link = await dialog.getByRole("link", { name: "open the app" }).getAttribute("href");
  assert.ok(link?.startsWith("otpauth://totp/") && link.includes(secret), "the address for the app");
  await dialog.getByLabel("Code that the app shows").fill("000000");
  await dialog.getByRole("button", { name: "Turn it on" }).click();
  await dialog.getByRole("alert").waitFor();
  await dialog.getByLabel("Code that the app shows").fill(totp(secret));
  await dialog.getByRole("button", { name: "Turn it on" }).click();
  const file = await downloaded(page, () => dialog.getByRole("button", { name: "Download" }).click());
  const codes = file.bytes.toString().trim().split("\n");
  assert.deepEqual([file.name, codes.length], ["keyfold-recovery-codes.txt", 10]);
  await dialog.getByLabel("I have saved").check();
  await dialog.getByRole("button", { name: "Done" }).click();
  await page.getByText("The second factor is on").waitFor();

  await page.getByRole("button", { name: "Turn it off" }).click();
  await dialog.getByLabel("Code").fill(codes[1]!);
  await dialog.getByRole("button", { name: "Turn it off" }).click();
  await page.getByText("The second factor is off").waitFor();
  await page.getByRole("button", { name: "Set it up" }).waitFor();
});
