// The events of a filter, newest first, page by page.

import type { Result, wire } from "@keyfold/sdk";
import { client } from "../../session.js";
import { usePaged } from "../../paged.js";
import { Head } from "../../ui/parts.js";
import { Empty, Loading, Problem } from "../../ui/state.js";
import { EventTable } from "./table.js";
import type { Names } from "./names.js";
import { queryOf, type Filter } from "./filter.js";

const pageSize = 50;
const maxOffset = 10_000; // of the server

/** Where a page begins: before a time (absent: now), after so many events. */
interface Place {
  to?: string | undefined;
  offset: number;
}

async function page(filter: Filter, at: Place): Promise<Result<{ items: wire.AuditEvent[]; next?: string | undefined }>> {
  const got = await client.audit.list({ ...queryOf(filter), ...(at.to === undefined ? {} : { to: at.to }), limit: pageSize, offset: at.offset });
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

export function Events({ filter, names }: { filter: Filter; names: Names["of"] }) {
  const list = usePaged((cursor) => page(filter, cursor === undefined ? { offset: 0 } : (JSON.parse(cursor) as Place)), [filter]);
  return (
    <section class="card">
      <Head level={2} title="Events">
        <button type="button" class="small" onClick={list.reload}>
          Read again
        </button>
      </Head>
      <Problem error={list.error} retry={list.reload} />
      {list.items === undefined && !list.error && <Loading what="events" />}
      {list.items?.length === 0 && !list.more && (
        <Empty title="No such events">
          <p>Nothing was recorded that the filter lets through. IDs and actions have to be whole; Show all takes the filter away.</p>
        </Empty>
      )}
      {list.items && list.items.length > 0 && <EventTable events={list.items} names={names} />}
      {list.more && (
        <div class="actions">
          <button type="button" onClick={list.more} disabled={list.loading} aria-busy={list.loading}>
            Show older events
          </button>
          <span class="quiet" role="status">
            {list.items?.length ?? 0} shown
          </span>
        </div>
      )}
    </section>
  );
}
