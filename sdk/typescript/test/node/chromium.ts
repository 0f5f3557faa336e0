// A headless Chromium, spoken to in the DevTools protocol over a pipe.

import { spawn } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { end } from "./harness.js";

interface Message {
  id?: number;
  method?: string;
  result?: Record<string, unknown>;
  error?: { message: string };
}

export interface Browser {
  open: (url: string) => Promise<void>;
  /** The JSON value that a script's promise resolves to. */
  evaluate: (script: string) => Promise<unknown>;
  close: () => Promise<void>;
}

export async function launch(): Promise<Browser> {
  const profile = await mkdtemp(join(tmpdir(), "keyfold-chromium-"));
  const flags = [
    "--headless=new", "--remote-debugging-pipe", `--user-data-dir=${profile}`, "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions", "--no-proxy-server",
  ];
  if (process.getuid?.() === 0) flags.push("--no-sandbox"); // which Chromium cannot have as root
  const child = spawn(process.env["CHROMIUM"] ?? "chromium", flags, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
  const failed = new Promise<never>((_, reject) => {
    child.once("error", reject);
    child.once("exit", (code) => reject(new Error(`chromium ended with ${code}`)));
  });
  failed.catch(() => undefined);
  const pipe = talk(child.stdio[3] as Writable, child.stdio[4] as Readable);
  const send = (method: string, params: object, session?: string) => Promise.race([pipe.send(method, params, session), failed]);

  const { targetId } = await send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await send("Target.attachToTarget", { targetId, flatten: true });
  const session = String(sessionId);
  await send("Page.enable", {}, session);
  return {
    open: async (url) => {
      const loaded = pipe.event("Page.loadEventFired");
      await send("Page.navigate", { url }, session);
      await Promise.race([loaded, failed]);
    },
    evaluate: async (expression) => {
      const answer = await send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true }, session);
      const thrown = answer["exceptionDetails"] as { exception?: { description?: string } } | undefined;
      if (thrown) throw new Error(`in the page: ${thrown.exception?.description}`);
      return (answer["result"] as { value: unknown }).value;
    },
    close: async () => {
      await end(child, "SIGKILL");
      await rm(profile, { recursive: true, force: true, maxRetries: 5 });
    },
  };
}

/** Messages are JSON, each ended by a zero byte. */
function talk(to: Writable, from: Readable) {
  const waiting = new Map<number, (m: Message) => void>();
  const events = new Map<string, () => void>();
  let last = 0;
  let rest = "";
  from.setEncoding("utf8");
  from.on("data", (chunk: string) => {
    const parts = (rest + chunk).split("\0");
    rest = parts.pop()!;
    for (const part of parts) {
      const m = JSON.parse(part) as Message;
      if (m.id !== undefined) waiting.get(m.id)?.(m);
      else events.get(m.method ?? "")?.();
    }
  });
  return {
    event: (method: string) => new Promise<void>((done) => events.set(method, done)),
    send: (method: string, params: object, sessionId?: string) =>
      new Promise<Record<string, unknown>>((resolve, reject) => {
        const id = ++last;
        waiting.set(id, (m) => (m.error ? reject(new Error(`${method}: ${m.error.message}`)) : resolve(m.result ?? {})));
        to.write(JSON.stringify({ id, method, params, sessionId }) + "\0");
      }),
  };
}
