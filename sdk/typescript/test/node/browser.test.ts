// The same cases in a headless Chromium, on a page of an origin that the server
// lets in. The page loads the package as it is published: no bundler.

import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import { readFile } from "node:fs/promises";
import type { AddressInfo } from "node:net";
import { extname, join, normalize } from "node:path";
import { test } from "node:test";
import { cases } from "../core.js";
import { launch } from "./chromium.js";
import { root, startDev, vectors } from "./harness.js";

const page = `<!doctype html><meta charset="utf-8"><title>test</title><link rel="icon" href="data:,">
<script type="importmap">{"imports": {
  "@keyfold/sdk": "/dist/index.js",
  "@hpke/core": "/node_modules/@hpke/core/esm/mod.js",
  "@hpke/common": "/node_modules/@hpke/common/esm/mod.js"
}}</script>`;

const policy = "default-src 'none'; script-src 'self' 'unsafe-inline'; connect-src *; img-src data:";

/** Serves the page and the package's files on a free port. */
async function serve(): Promise<{ origin: string; server: Server }> {
  const server = createServer((request, response) => {
    const path = normalize(new URL(request.url!, "http://x").pathname);
    const file = path === "/" ? Promise.resolve(page) : readFile(join(root, path));
    const type = path === "/" ? "text/html" : extname(path) === ".js" ? "text/javascript" : "application/octet-stream";
    file.then(
      (body) => response.writeHead(200, { "Content-Type": type, "Content-Security-Policy": policy }).end(body),
      () => response.writeHead(404).end(),
    );
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server };
}

test("in Chromium", async (t) => {
  const { origin, server } = await serve();
  t.after(() => server.close());
  const dev = await startDev("--cors", origin);
  t.after(dev.stop);
  const browser = await launch();
  t.after(browser.close);
  await browser.open(origin + "/");
  const { dir: _, stop: __, ...facts } = dev;
  const world = JSON.stringify({ vectors: await vectors(), server: facts });
  const results = (await browser.evaluate(`import("/build/test/core.js").then((m) => m.runAll(${world}))`)) as [string, string | null][];
  assert.equal(results.length, cases.length);
  for (const [name, failure] of results) await t.test(name, () => assert.equal(failure ?? undefined, undefined));
});
