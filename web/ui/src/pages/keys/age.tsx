// How old a key is, and whether it is older than the operator's policy has it become.

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

/** "365 days", of seconds. */
export function inDays(seconds: number): string {
  const days = Math.round((seconds / 86_400) * 10) / 10;
  return days < 1 ? `${Math.round(seconds / 360) / 10} hours` : `${days.toLocaleString()} ${days === 1 ? "day" : "days"}`;
}
