// What the tests in Node start: a development server, and programs.

import { execFile, spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { Server, Vectors } from "../suite.js";

const run = promisify(execFile);

/** sdk/typescript */
export const root = join(dirname(fileURLToPath(import.meta.url)), "../../..");
const repository = join(root, "../..");

/** The keyfold program: KEYFOLD_BIN, or one that is built of the tree. */
export const keyfold = () => built("keyfold", "KEYFOLD_BIN");

/** The keyfold-kms program: KEYFOLD_KMS_BIN, or one that is built of the tree. */
export const keyfoldKms = () => built("keyfold-kms", "KEYFOLD_KMS_BIN");

async function built(name: string, variable: string): Promise<string> {
  const given = process.env[variable];
  if (given) return given;
  const path = join(root, "build", name);
  await run("go", ["build", "-o", path, `./cmd/${name}`], { cwd: repository });
  return path;
}

export async function vectors(): Promise<Vectors> {
  return JSON.parse(await readFile(join(repository, "cmek/testdata/vectors.json"), "utf8")) as Vectors;
}

/** The environment without anything that a client or the CLI would take from it. */
export function cleanEnvironment(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(KEYFOLD|ONECLAW)_/.test(name));
  return { ...Object.fromEntries(kept), ...extra };
}

export interface Dev extends Server {
  dir: string;
  stop: () => Promise<void>;
}

/** A development server with data of its own, on a free port, that answers. */
export async function startDev(...flags: string[]): Promise<Dev> {
  const dir = await mkdtemp(join(tmpdir(), "keyfold-sdk-"));
  const child = spawn(await keyfold(), ["dev", "--addr", "127.0.0.1:0", "--data", dir, "--rate", "0", ...flags], {
    env: cleanEnvironment(),
    stdio: ["ignore", "ignore", "pipe"],
  });
  let log = "";
  child.stderr!.on("data", (chunk: Buffer) => (log += chunk.toString()));
  const stop = async () => {
    await end(child, "SIGTERM");
    await rm(dir, { recursive: true, force: true });
  };
  for (;;) {
    try {
      return { ...(JSON.parse(await readFile(join(dir, "dev.json"), "utf8")) as Server), dir, stop };
    } catch {
      if (child.exitCode !== null) throw new Error(`keyfold dev ended with ${child.exitCode}: ${log}`);
      await new Promise((done) => setTimeout(done, 20));
    }
  }
}

/** Ends a program that we started, and waits for its end. */
export async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((done) => child.once("exit", done));
  child.kill(signal);
  await ended;
}

/** Runs a program to its end and returns its output. */
export function output(program: string, args: string[], env: NodeJS.ProcessEnv, input?: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = execFile(program, args, { env, maxBuffer: 1 << 26 }, (err, stdout, stderr) => {
      if (err) reject(new Error(`${args.slice(0, 2).join(" ")} failed: ${stderr || err.message}`));
      else resolve(stdout);
    });
    child.stdin?.end(input ?? "");
  });
}
