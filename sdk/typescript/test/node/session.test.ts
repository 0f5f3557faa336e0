// A session that a browser keeps, in the calls of a page against a real server, and
// second factors. A fetch of ours has the cookies and says where the page is.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test, type TestContext } from "node:test";
import { createClient, type KeyfoldClient } from "@keyfold/sdk";
import { data, refused } from "../suite.js";
import { startDev } from "./harness.js";

/** A browser with one cookie jar: makes clients as pages do, and remembers the answers. */
async function browser(t: TestContext) {
  const server = await startDev();
  t.after(server.stop);
  let cookie: string | undefined;
  const answers: string[] = [];
  const page: typeof fetch = async (input, init) => {
    const headers = { ...(init!.headers as Record<string, string>), Origin: server.url, "Sec-Fetch-Site": "same-origin" };
    if (init!.credentials === "same-origin" && cookie !== undefined) Object.assign(headers, { Cookie: cookie });
    const response = await fetch(input, { ...init, headers });
    const set = response.headers.get("Set-Cookie");
    if (set !== null) cookie = set.includes("Max-Age=0") ? undefined : set.split(";")[0];
    answers.push(await response.clone().text());
    return response;
  };
  const open = (): KeyfoldClient => createClient({ baseUrl: server.url, cmekKey: false, browserSession: true, fetch: page });
  return { server, answers, open, cookie: () => cookie };
}

test("a browser keeps a session until its user ends it", async (t) => {
  const { server, answers, open, cookie } = await browser(t);
  const first = open();
  assert.equal(refused(await first.auth.resume()).type, "auth_error");
  data(await first.auth.login({ email: server.email, password: server.password }));
  assert.equal(data(await first.auth.me()).email, server.email);

  const second = open(); // a reload
  assert.equal(refused(await second.auth.me()).type, "auth_error");
  data(await second.auth.resume());
  assert.equal(data(await second.auth.me()).email, server.email);
  for (const c of await Promise.all([open(), open(), open()].map(async (c) => (data(await c.auth.resume()), c)))) data(await c.auth.me());
  assert.ok(cookie() !== undefined);
  const token = cookie()!.split("=")[1]!;
  assert.ok(!answers.join().includes("refresh_token") && !answers.join().includes(token), "a page sees the refresh token");

  data(await second.auth.logout());
  assert.equal(cookie(), undefined);
  assert.equal(refused(await open().auth.resume()).type, "auth_error");
  assert.equal(refused(await second.auth.me()).type, "auth_error");

  data(await first.auth.login({ email: server.email, password: server.password }));
  data(await first.auth.logoutEverywhere());
  assert.equal(cookie(), undefined);
  assert.equal(refused(await first.auth.me()).type, "auth_error");
});

/** The code of an app (RFC 6238). */
function totp(secret: string, shift = 0): string {
  const bits = Array.from(secret, (c) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g)!.map((b) => parseInt(b, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000) + shift));
  const sum = createHmac("sha1", key).update(step).digest();
  return String((sum.readUInt32BE(sum[19]! & 15) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

test("a second factor begins, counts and ends", async (t) => {
  const { open } = await browser(t);
  const client = open();
  const login = { email: "two@example.com", password: "Quiet-Harbour-58!" };
  data(await client.auth.signUp(login));
  assert.equal(refused(await client.auth.beginTotp({ password: "wrong" })).type, "auth_error");
  const { secret, otpauth_uri } = data(await client.auth.beginTotp({ password: login.password }));
  assert.match(otpauth_uri, /^otpauth:/);
  assert.equal(data(await client.auth.confirmTotp({ code: totp(secret) })).recovery_codes.length, 10);
  const again = open();
  const challenge = data(await again.auth.login(login));
  assert.equal(challenge.mfa_required, true);
  data(await again.auth.verifyMfa({ mfa_token: challenge.mfa_token!, code: totp(secret, 1) }));
  assert.equal(data(await again.auth.me()).totp_enabled, true);
  data(await open().auth.resume());
  refused(await again.auth.disableTotp({ code: "000000" }));
});
