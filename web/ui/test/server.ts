// A development server with data of its own, and what a test tells it beside the page.
// It can be killed and started again. Whatever becomes of the test, it does not outlive it.

import { spawn, type ChildProcess } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import type { Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

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
  /** Ends the server as a power cut does (SIGKILL). What it had not stored is lost. */
  kill: () => Promise<void>;
  /** Starts the killed server again, on the same data and the same port, and returns when it answers. */
  restart: () => Promise<void>;
  /** Ends the server and removes its data. */
  stop: () => Promise<void>;
}

/** How long a server may take to answer, on a machine that has much else to do. */
const patience = 60_000;

/** Starts `keyfold dev` of KEYFOLD_BIN on a free port, and returns when it answers. */
export async function startDev(...flags: string[]): Promise<Running> {
  const dir = await mkdtemp(join(tmpdir(), "keyfold-web-"));
  let server = await serve(dir, "127.0.0.1:0", flags);
  const { dev } = server;
  const kill = () => server.end("SIGKILL");
  const restart = async () => {
    await kill();
    server = await serve(dir, new URL(dev.url).host, flags);
  };
  const stop = async () => {
    await server.end("SIGTERM");
    await rm(dir, { recursive: true, force: true });
  };
  return { ...dev, dir, call: (method, path, body, key = dev.api_key) => call(dev.url + path, method, key, body), kill, restart, stop };
}

interface Served {
  dev: Dev;
  end: (signal: "SIGTERM" | "SIGKILL") => Promise<void>;
}

/** One process of a server. */
async function serve(dir: string, addr: string, flags: string[], until = Date.now() + patience): Promise<Served> {
  const program = process.env["KEYFOLD_BIN"];
  if (!program) throw new Error("KEYFOLD_BIN names no keyfold program; run: scripts/web.sh");
  const file = join(dir, "dev.json");
  await rm(file, { force: true }); // of one that was killed
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(KEYFOLD|ONECLAW)_/.test(name)));
  const child = spawn(program, ["dev", "--addr", addr, "--data", dir, "--rate", "0", ...flags], { env, stdio: ["ignore", "ignore", "pipe"] });
  let log = "";
  child.stderr!.on("data", (chunk: Buffer) => (log += chunk.toString()));
  const ended = new Promise<void>((done) => child.once("close", () => done()));
  const guard = guarded(child, dir);
  const end: Served["end"] = async (signal) => {
    child.kill(signal);
    await ended;
    guard.kill("SIGKILL");
  };
  for (; Date.now() < until; await sleep(20)) {
    const dev = await readFile(file, "utf8").then((text) => JSON.parse(text) as Dev, () => undefined);
    if (dev) return { dev, end };
    if (child.exitCode === null && child.signalCode === null) continue;
    await end("SIGKILL");
    // A connection of some other program's may have the port for a moment.
    if (/address already in use/.test(log) && !addr.endsWith(":0")) return sleep(200).then(() => serve(dir, addr, flags, until));
    throw new Error(`keyfold dev ended with ${child.exitCode ?? child.signalCode}: ${log}`);
  }
  await end("SIGKILL");
  throw new Error(`keyfold dev did not answer in ${patience / 1000} seconds: ${log}`);
}

/** A process that kills the server and removes its data when this one has ended without doing so: its standard input ends then. */
function guarded(server: ChildProcess, dir: string): ChildProcess {
  const guard = spawn("/bin/sh", ["-c", 'read _; kill -9 "$1"; rm -rf "$2"', "sh", String(server.pid), dir], { stdio: ["pipe", "ignore", "ignore"], detached: true });
  guard.unref();
  (guard.stdin as Socket).unref();
  return guard;
}

async function call<T>(url: string, method: string, key: string, body: unknown): Promise<T> {
  const headers: Record<string, string> = { Authorization: `Bearer ${key}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(url, { method, headers, signal: AbortSignal.timeout(patience), ...(body === undefined ? {} : { body: JSON.stringify(body) }) });
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
