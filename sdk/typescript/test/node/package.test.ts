// The package as it is published: its files, its one dependency, its lock file.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { root } from "./harness.js";

const json = async (path: string) => JSON.parse(await readFile(join(root, path), "utf8"));

test("there is one dependency, versions are exact, and the lock file names the public registry", async () => {
  const { dependencies, devDependencies } = await json("package.json");
  assert.deepEqual(Object.keys(dependencies), ["@hpke/core"]);
  for (const version of Object.values({ ...dependencies, ...devDependencies })) assert.match(String(version), /^\d+\.\d+\.\d+$/);
  const lock = await json("package-lock.json");
  for (const [path, p] of Object.entries<{ resolved?: string; integrity?: string }>(lock.packages)) {
    if (path === "") continue;
    assert.match(String(p.resolved), /^https:\/\/registry\.npmjs\.org\//, path);
    assert.match(String(p.integrity), /^sha512-/, path);
  }
});

test("only what a program needs is published, and it is whole", async () => {
  const [pack] = JSON.parse(execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts", "--loglevel=error"], { cwd: root, encoding: "utf8" }));
  const files = (pack.files as { path: string }[]).map((f) => f.path);
  assert.ok(files.every((f) => /^(package\.json|README\.md|LICENSE|dist\/[a-z]+\.(js|d\.ts))$/.test(f)), files.join("\n"));
  assert.ok(files.includes("dist/index.js") && files.includes("dist/index.d.ts") && files.includes("dist/kms.js") && files.includes("README.md"));
});
