// Says how much script the first load of a built dashboard takes, compressed: what
// index.html names and what that imports. Fails at 150 KB or more.
//
// usage: node scripts/size.mjs DIST

import { readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";

const limit = 150_000;
const dist = process.argv[2];
const html = readFileSync(join(dist, "index.html"), "utf8");
const files = new Map();

/** Takes a chunk and all that it imports at once; what it imports lazily is import("..."). */
function take(name) {
  if (files.has(name)) return;
  const code = readFileSync(join(dist, "assets", name));
  files.set(name, gzipSync(code).length);
  for (const [, imported] of code.toString().matchAll(/(?:\bfrom|\bimport)\s*"\.\/([^"]+\.js)"/g)) take(imported);
}

for (const [, path] of html.matchAll(/(?:src|href)="([^"]+\.js)"/g)) take(basename(path));
if (files.size === 0) throw new Error("index.html loads no script");
const total = [...files.values()].reduce((sum, size) => sum + size, 0);
console.log(`web: the first load is ${(total / 1000).toFixed(1)} KB of script (${files.size} files, gzip)`);
if (total >= limit) throw new Error(`that is not under ${limit / 1000} KB`);
