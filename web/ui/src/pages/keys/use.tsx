// The state of a key, and how much it was used.

import { Badge } from "../../ui/parts.js";

const kinds: Readonly<Record<string, "good" | "plain" | "bad">> = { enabled: "good", "decrypt-only": "plain", destroyed: "bad", missing: "bad", damaged: "bad" };

export function State({ of }: { of: string }) {
  return <Badge kind={kinds[of] ?? "plain"}>{of}</Badge>;
}

/** From which part of its uses on a key is told to be near their end. */
const near = 0.8;

/** How often a key was used, and how much of what it may that is. */
export function Uses({ count, limit }: { count: number; limit: number | undefined }) {
  const part = limit ? count / limit : 0;
  return (
    <>
      {count.toLocaleString()} {part > near ? <Badge kind="warn">{Math.floor(100 * part)}% of the limit</Badge> : part >= 0.01 && <span class="quiet">({Math.floor(100 * part)}%)</span>}
    </>
  );
}
