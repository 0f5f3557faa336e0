import { test } from "node:test";
import { cases } from "../core.js";
import { startDev, vectors } from "./harness.js";

test("in Node", async (t) => {
  const server = await startDev();
  t.after(server.stop);
  const world = { vectors: await vectors(), server };
  for (const { name, run } of cases) await t.test(name, () => run(world));
});
