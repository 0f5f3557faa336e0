// The events of a filter, newest first, page by page.

import { Head } from "../../ui/parts.js";
import { Empty, Loading, Problem } from "../../ui/state.js";
import { EventTable } from "./table.js";
import type { Names } from "./names.js";
import { queryOf, type Filter } from "./filter.js";
import { useEvents } from "./pages.js";

export function Events({ filter, names }: { filter: Filter; names: Names["of"] }) {
  const list = useEvents(queryOf(filter), [filter]);
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
