// Runs the samples of a document as programs: each ```typescript block as it is
// printed, behind a prelude that gives it what the text around it takes for
// granted. Samples are compiled in strict mode first, so that their types hold.

import { mkdtemp, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import ts from "typescript";
import { cleanEnvironment, output, root } from "./harness.js";

/** The ```typescript blocks of a document, by the heading before each; several under one heading are a list. */
export async function samplesOf(document: string): Promise<Map<string, string[]>> {
  const text = await readFile(join(root, document), "utf8");
  const samples = new Map<string, string[]>();
  let heading = "";
  for (const m of text.matchAll(/^#+ (.*)$|^```typescript\n([\s\S]*?)^```$/gm)) {
    if (m[1] !== undefined) heading = m[1];
    else samples.set(heading, [...(samples.get(heading) ?? []), m[2]!]);
  }
  return samples;
}

export interface Programs {
  /** Runs a program of this name and returns what it printed. */
  run: (name: string, env: Record<string, string>) => Promise<string>;
  remove: () => Promise<void>;
}

/** Compiles programs, of which the package goes by both names. */
export async function compile(programs: Map<string, string>): Promise<Programs> {
  const dir = await mkdtemp(join(tmpdir(), "keyfold-samples-"));
  for (const [scope, name] of [["@1claw", "sdk"], ["@keyfold", "sdk"], ["@types", "node"]] as const) {
    await mkdir(join(dir, "node_modules", scope), { recursive: true });
    await symlink(scope === "@types" ? join(root, "node_modules/@types/node") : root, join(dir, "node_modules", scope, name));
  }
  await writeFile(join(dir, "package.json"), '{"type": "module"}');
  for (const [name, text] of programs) await writeFile(join(dir, name + ".ts"), text);
  const files = [...programs.keys()].map((name) => join(dir, name + ".ts"));
  const program = ts.createProgram(files, {
    strict: true, target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, skipLibCheck: true,
    types: ["node"], typeRoots: [join(dir, "node_modules/@types")],
  });
  const wrong = ts.getPreEmitDiagnostics(program);
  if (wrong.length > 0) throw new Error(ts.formatDiagnostics(wrong, { getCanonicalFileName: (f) => f, getCurrentDirectory: () => dir, getNewLine: () => "\n" }));
  program.emit();
  return {
    run: (name, env) => output(process.execPath, [join(dir, name + ".js")], cleanEnvironment(env)),
    remove: () => rm(dir, { recursive: true, force: true }),
  };
}
