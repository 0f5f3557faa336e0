// A development server with data of its own, and what a test tells it beside the page.

import { spawn, type ChildProcess } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

export interface Login {
  email: string;
  password: string;
}

/** dev.json */
export interface Dev extends Login {
  url: string;
  api_key: string;
  admin_key: string;
  backend_key: string;
  frontend_key: string;
  signing_key: string;
  org_id: string;
  member: Login;
  free: Login;
}

export interface Running extends Dev {
  dir: string;
  /** Calls the server as the owner, beside the page, and returns the body of its answer. Fails when it refuses. */
  call: <T = Record<string, unknown>>(method: string, path: string, body?: unknown, key?: string) => Promise<T>;
  stop: () => Promise<void>;
}

/** Starts `keyfold dev` of KEYFOLD_BIN on a free port, and returns when it answers. */
export async function startDev(...flags: string[]): Promise<Running> {
  const program = process.env["KEYFOLD_BIN"];
  if (!program) throw new Error("KEYFOLD_BIN names no keyfold program; run: scripts/web.sh");
  const dir = await mkdtemp(join(tmpdir(), "keyfold-web-"));
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(KEYFOLD|ONECLAW)_/.test(name)));
  const child = spawn(program, ["dev", "--addr", "127.0.0.1:0", "--data", dir, "--rate", "0", ...flags], { env, stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr!.on("data", (chunk: Buffer) => (log += chunk.toString()));
  const stop = async () => {
    await end(child);
    await rm(dir, { recursive: true, force: true });
  };
  for (;;) {
    try {
      const dev = JSON.parse(await readFile(join(dir, "dev.json"), "utf8")) as Dev;
      return { ...dev, dir, call: (method, path, body, key = dev.api_key) => call(dev.url + path, method, key, body), stop };
    } catch {
      if (child.exitCode !== null) throw new Error(`keyfold dev ended with ${child.exitCode}: ${log}`);
      await new Promise((done) => setTimeout(done, 20));
    }
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once("exit", done));
  child.kill("SIGTERM");
  await ended;
}

async function call<T>(url: string, method: string, key: string, body: unknown): Promise<T> {
  const headers: Record<string, string> = { Authorization: `Bearer ${key}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(url, { method, headers, ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${url}: ${answer.status} ${text}`);
  return (text ? JSON.parse(text) : null) as T;
}

/** The code of an authenticator app (RFC 6238: SHA-1, 6 digits, 30 seconds) for a base32 secret. */
export function totp(secret: string, at = Date.now()): string {
  let bits = "";
  for (const c of secret) bits += "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(c).toString(2).padStart(5, "0");
  const key = Buffer.from((bits.match(/.{8}/g) ?? []).map((b) => parseInt(b, 2)));
  const step = Buffer.alloc(8);
  step.writeBigUInt64BE(BigInt(Math.floor(at / 30_000)));
  const mac = createHmac("sha1", key).update(step).digest();
  const number = mac.readUInt32BE(mac[19]! & 0xf) & 0x7fffffff;
  return String(number % 1_000_000).padStart(6, "0");
}
