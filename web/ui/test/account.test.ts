// The user's own account.

import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { Page } from "playwright-core";
import { encode } from "uqr";
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

/** Turns somebody's second factor on, beside the page. A code of the next 30 seconds signs in once. */
async function secondFactor(who: Login): Promise<{ next: () => string; recovery: string[] }> {
  const { access_token: token } = await site.dev.call<{ access_token: string }>("POST", "/v1/auth/token", who);
  const { secret } = await site.dev.call<{ secret: string }>("POST", "/v1/auth/mfa/totp", { password: who.password }, token);
  const { recovery_codes } = await site.dev.call<{ recovery_codes: string[] }>("POST", "/v1/auth/mfa/totp/confirm", { code: totp(secret) }, token);
  return { next: () => totp(secret, Date.now() + 30_000), recovery: recovery_codes };
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

test("with a second factor the session goes on after a new password, in all tabs of its browser", async (t) => {
  const { page, watch, who } = await account(t);
  watch.allow(/ 401 /); // of a tab whose token has ended
  const { next: code } = await secondFactor(who);
  const second = await page.context().newPage();
  await second.goto(site.at("vaults"));
  await seen(second);
  const next = "Louder-Harbour-69!";
  await page.getByLabel("Password now").fill(who.password);
  await page.getByLabel("New password", { exact: true }).fill(next);
  await page.getByLabel("New password again").fill(next);
  const renewed = second.waitForResponse((r) => r.url().endsWith("/v1/auth/refresh") && r.status() === 200);
  await page.getByRole("button", { name: "Change the password" }).click();
  await page.getByText("Changed the password").waitFor();
  await renewed;
  await second.getByRole("link", { name: "Agents" }).click();
  await seen(second);
  await second.getByRole("button", { name: "Create an agent" }).first().waitFor();
  await page.reload();
  await seen(page);
  await page.getByRole("button", { name: "Sign out", exact: true }).click();
  await signIn(page, { ...who, password: next });
  await page.getByLabel("Code").fill(code());
  await page.getByRole("button", { name: "Go on" }).click();
  await seen(page);
});

/** An authenticator in the browser, whose user is there and shows his finger. */
async function authenticator(page: Page) {
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("WebAuthn.enable");
  const options = { protocol: "ctap2", transport: "internal", hasResidentKey: true, hasUserVerification: true, isUserVerified: true, automaticPresenceSimulation: true } as const;
  const { authenticatorId } = await devtools.send("WebAuthn.addVirtualAuthenticator", { options });
  return { verifies: (isUserVerified: boolean) => devtools.send("WebAuthn.setUserVerified", { authenticatorId, isUserVerified }) };
}

test("a passkey is added, signs in in place of password and code, and is removed", async (t) => {
  const { page, watch, who } = await account(t);
  const { next } = await secondFactor(who);
  const add = async (name: string) => {
    await page.getByRole("button", { name: "Add a passkey" }).click();
    await page.getByRole("dialog").getByLabel("Name").fill(name);
    await page.getByRole("button", { name: "Add the passkey" }).click();
  };
  const byPasskey = page.getByRole("button", { name: "Sign in with a passkey" });
  const signOut = () => page.getByRole("button", { name: "Sign out", exact: true }).click();

  // Passkeys are for names: at its address the page says where to go.
  await page.getByText("No passkeys yet").waitFor();
  await add("phone");
  await page.getByRole("dialog").getByRole("alert").getByText("for localhost").waitFor();
  await page.getByRole("button", { name: "Close" }).click();
  await signOut();

  const at = (path = "") => site.at(path).replace("127.0.0.1", "localhost");
  await page.goto(at());
  const device = await authenticator(page);
  await signIn(page, who);
  await page.getByLabel("Code").fill(next());
  await page.getByRole("button", { name: "Go on" }).click();
  await seen(page);
  await page.goto(at("account"));
  await add(`My "phone" <b>bold</b>`);
  await page.getByText("Added the passkey").waitFor();
  await page.getByRole("cell", { name: `My "phone" <b>bold</b>`, exact: true }).waitFor();
  await accessible(page);
  await narrow(page);
  await shot(page, "account-passkeys");
  await add("the same again");
  await page.getByRole("dialog").getByRole("alert").getByText("already").waitFor();
  await accessible(page);
  await page.getByRole("button", { name: "Close" }).click();

  // In place of the code, and of both.
  await signOut();
  await signIn(page, who);
  await page.getByLabel("Code").waitFor();
  await accessible(page);
  await shot(page, "signin-code");
  await byPasskey.click();
  await seen(page);
  await signOut();
  await byPasskey.click();
  await seen(page);
  for (const c of await page.context().cookies(at())) assert.ok(c.httpOnly && c.sameSite === "Strict", `${c.name}: httpOnly ${c.httpOnly}, sameSite ${c.sameSite}`);
  await page.reload(); // the browser keeps this session, too
  await seen(page);
  await signOut();

  // A finger that is not the user's.
  await device.verifies(false);
  await byPasskey.click();
  await page.getByRole("alert").getByText("No passkey was used").waitFor();
  await accessible(page);
  await device.verifies(true);
  await byPasskey.click();
  await seen(page);

  await page.goto(at("account"));
  await page.getByRole("button", { name: "Remove My" }).click();
  await accessible(page);
  await page.getByRole("button", { name: "Remove the passkey" }).click();
  await page.getByText("No passkeys yet").waitFor();
  await signOut();
  watch.allow(/ 401 .*\/v1\/auth\/passkeys\/login\/finish/);
  await byPasskey.click();
  await page.getByRole("alert").getByText("does not sign you in").waitFor();
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
  const drawn = await dialog.getByRole("img", { name: "QR code" }).locator("path").getAttribute("d");
  const fields = encode(link!, { ecc: "M", border: 4 }).data.flatMap((row, y) => row.flatMap((dark, x) => (dark ? [`M${x} ${y}h1v1h-1z`] : [])));
  assert.equal(drawn, fields.join(""), "the QR code is of another text");
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
