// Pages of the audit trail, newest first.

import type { Result, wire } from "@keyfold/sdk";
import { usePaged, type Paged } from "../../paged.js";
import { client } from "../../session.js";

const pageSize = 50;
const maxOffset = 10_000; // of the server

/** Where a page begins: before a time (absent: now), after so many events. */
interface Place {
  to?: string | undefined;
  offset: number;
}

async function page(query: wire.AuditQuery, at: Place): Promise<Result<{ items: wire.AuditEvent[]; next?: string | undefined }>> {
  const got = await client.audit.list({ ...query, ...(at.to === undefined ? {} : { to: at.to }), limit: pageSize, offset: at.offset });
  if (got.error) return got;
  const { events, next_to, next_offset } = got.data;
  let next: Place | undefined;
  if (next_to) next = { to: next_to, offset: next_offset ?? 0 };
  else if (events.length === pageSize) next = after({ to: at.to ?? justAfter(events[0]!.created_at), offset: at.offset }, events);
  return { ...got, data: { items: events, next: next && JSON.stringify(next) } };
}

/** Where a page begins that comes after a full one. What is recorded meanwhile, this reading too, must not move it: so it counts from a time. */
function after(at: Place, events: wire.AuditEvent[]): Place {
  if (at.offset + 2 * pageSize <= maxOffset) return { to: at.to, offset: at.offset + pageSize };
  const time = events.at(-1)!.created_at;
  return { to: justAfter(time), offset: events.filter((e) => e.created_at === time).length };
}

/** A nanosecond later. */
function justAfter(time: string): string {
  const [, seconds = "", fraction = ""] = /^(.*?)(?:\.(\d+))?Z$/.exec(time) ?? [];
  const nanos = Number(fraction.padEnd(9, "0")) + 1;
  if (nanos < 1e9) return `${seconds}.${String(nanos).padStart(9, "0")}Z`;
  return new Date(Date.parse(`${seconds}Z`) + 1000).toISOString();
}

/** The events of a query, which is asked anew whenever one of deps changes. */
export function useEvents(query: wire.AuditQuery, deps: readonly unknown[]): Paged<wire.AuditEvent> {
  return usePaged((cursor) => page(query, cursor === undefined ? { offset: 0 } : (JSON.parse(cursor) as Place)), deps);
}
