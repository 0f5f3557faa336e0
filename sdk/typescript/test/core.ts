// Everything that runs in Node and in a browser.

import { following } from "./follow.js";
import { format } from "./format.js";
import { json } from "./json.js";
import { passkeys } from "./passkeys.js";
import { rotation } from "./rotation.js";
import { server } from "./server.js";
import type { World } from "./suite.js";
import { trail } from "./trail.js";
import { transfer } from "./transfer.js";
import { transport } from "./transport.js";
import { unsealed } from "./unsealed.js";

export const cases = [...format, ...json, ...transport, ...passkeys, ...server, ...unsealed, ...following, ...transfer, ...rotation, ...trail];

/** Runs all cases and tells, by name, why each failed; undefined: it did not. */
export async function runAll(world: World): Promise<[name: string, failure: string | undefined][]> {
  const out: [string, string | undefined][] = [];
  for (const { name, run } of cases) {
    out.push([name, await run(world).then(() => undefined, (err: Error) => String(err.stack ?? err))]);
  }
  return out;
}
