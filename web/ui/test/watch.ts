// What a page does beside what it shows: what it complains of, and what it sends.

import assert from "node:assert/strict";
import { setTimeout as later } from "node:timers/promises";
import type { Page, Request } from "playwright-core";

/** A request as it left the browser. */
export interface Sent {
  method: string;
  url: string;
  headers: Record<string, string>;
  body: Buffer;
}

export interface Watch {
  /** Lets the page complain of what matches: of a refusal that the test provokes, say. */
  allow: (what: RegExp) => void;
  /** All requests so far. */
  sent: () => Promise<Sent[]>;
  /** What the page complained of, of that which was not allowed. */
  complaints: () => string[];
}

/** Watches a page from before its first request. */
export async function watch(page: Page): Promise<Watch> {
  const complaints: string[] = [];
  const allowed: RegExp[] = [];
  const sent: Promise<Sent>[] = [];
  page.on("console", (m) => ["error", "warning"].includes(m.type()) && complaints.push(`console: ${m.text()} (${m.location().url})`));
  page.on("pageerror", (err) => complaints.push(`thrown: ${err.stack ?? err.message}`));
  page.on("requestfailed", (r) => {
    const why = r.failure()?.errorText ?? "";
    if (why !== "net::ERR_ABORTED") complaints.push(`request: ${r.method()} ${r.url()}: ${why}`);
  });
  page.on("request", (r) => sent.push(record(r)));
  // Chromium tells of a violation on the console, but not of all that are reported only.
  await page.addInitScript(() => document.addEventListener("securitypolicyviolation", (e) => console.error(`CSP ${e.effectiveDirective} forbids ${e.blockedURI} ${e.sample}`)));
  return {
    allow: (what) => void allowed.push(what),
    sent: () => Promise.all(sent),
    complaints: () => complaints.filter((c) => !allowed.some((a) => a.test(c))),
  };
}

async function record(r: Request): Promise<Sent> {
  const headers = await Promise.race([r.allHeaders(), later(10_000, undefined, { ref: false })]).catch(() => undefined) ?? r.headers(); // of a page that is gone, or a request that the browser says no more of
  return { method: r.method(), url: r.url(), headers, body: r.postDataBuffer() ?? Buffer.alloc(0) };
}

/** Fails when a request holds the secret: raw, in hex, or in base64 or base64url at any offset. */
export function assertNotSent(sent: readonly Sent[], secret: Uint8Array, what: string): void {
  const forms = formsOf(Buffer.from(secret));
  for (const r of sent) {
    assert.ok(!(Number(r.headers["content-length"]) > r.body.length), `${r.method} ${r.url} has a body that the browser does not show, such as a Blob`);
    const text = Buffer.concat([Buffer.from(`${r.url}\n${decodeURIComponent(r.url)}\n${JSON.stringify(r.headers)}\n`), r.body]);
    const lower = Buffer.from(text.toString("latin1").toLowerCase(), "latin1");
    for (const [name, form] of forms) {
      const found = (name === "hex" ? lower : text).includes(form);
      assert.ok(!found, `${r.method} ${r.url} holds ${what} (${name})`);
    }
  }
}

function formsOf(secret: Buffer): [name: string, form: Buffer][] {
  const forms: [string, Buffer][] = [["raw", secret], ["hex", Buffer.from(secret.toString("hex"))]];
  for (const shift of [0, 1, 2]) {
    const whole = Buffer.concat([Buffer.alloc(shift), secret]);
    // The characters at both ends also hold bits of what is beside the secret.
    for (const encoding of ["base64", "base64url"] as const) {
      const text = whole.toString(encoding).replace(/=+$/, "");
      forms.push([encoding, Buffer.from(text.slice(shift === 0 ? 0 : shift + 1, whole.length % 3 === 0 ? undefined : -1))]);
    }
  }
  return forms;
}
