// How old a key is, and whether that is more than the operator's policy admits.

import { Badge, Time } from "../../ui/parts.js";

/** max is in seconds; undefined or 0: any age will do. */
export function isDue(at: string | number | undefined, max: number | undefined): boolean {
  return at !== undefined && !!max && Date.now() - new Date(at).getTime() > max * 1000;
}

export function Age({ at, max, unknown = "not known" }: { at: string | number | undefined; max: number | undefined; unknown?: string }) {
  if (at === undefined) return <span class="quiet">{unknown}</span>;
  return (
    <>
      <Time at={at} /> {isDue(at, max) && <Badge kind="warn">due</Badge>}
    </>
  );
}

const numbers = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const plural = (n: number, unit: string) => `${numbers.format(n)} ${unit}${n === 1 ? "" : "s"}`;

/** "365 days", of seconds. */
export function inDays(seconds: number): string {
  if (seconds < 3_600) return plural(Math.round(seconds / 60), "minute");
  return seconds < 86_400 ? plural(seconds / 3_600, "hour") : plural(seconds / 86_400, "day");
}
