// How many events there were over time, of the newest that a filter lets through.

import type { wire } from "@keyfold/sdk";
import { useLoad } from "../../load.js";
import { client } from "../../session.js";
import { Chart, type Moment, type Series } from "../../ui/chart.js";
import { Show } from "../../ui/state.js";
import { queryOf, type Filter } from "./filter.js";

export const outcomes: readonly Series[] = [
  { name: "allowed or done", kind: "plain" },
  { name: "refused", kind: "warn" },
  { name: "failed", kind: "bad" },
];

const most = 1000;
const minute = 60_000;
const steps: [ms: number, unit: string][] = [
  [minute, "Events per minute"], [10 * minute, "Events per ten minutes"], [60 * minute, "Events per hour"],
  [6 * 60 * minute, "Events per six hours"], [24 * 60 * minute, "Events per day"], [7 * 24 * 60 * minute, "Events per week"],
];
const maxBars = 48;
const minBars = 24;
const label = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit" });

/** The number of events in equal steps up to now. */
export function perStep(events: readonly wire.AuditEvent[], until: number): { unit: string; moments: Moment[] } {
  const times = events.map((e) => Date.parse(e.created_at));
  const span = until - Math.min(until, ...times);
  const [step, unit] = steps.find(([ms]) => span / ms <= maxBars) ?? steps.at(-1)!;
  const last = Math.floor(until / step);
  const count = Math.min(maxBars, Math.max(minBars, Math.ceil(span / step) + 1));
  const moments = Array.from({ length: count }, (_, i) => ({ label: label.format((last - count + 1 + i) * step), values: outcomes.map(() => 0) }));
  for (const [i, event] of events.entries()) {
    const at = moments[count - 1 - (last - Math.floor(times[i]! / step))];
    const kind = event.outcome === "refused" ? 1 : event.outcome === "failed" ? 2 : 0;
    if (at) at.values[kind]!++;
  }
  return { unit, moments };
}

export function OverTime({ filter }: { filter: Filter }) {
  const loaded = useLoad(() => client.audit.list({ ...queryOf(filter), limit: most }), [filter]);
  const until = filter.to ? Math.min(Date.now(), new Date(filter.to).getTime()) : Date.now();
  return (
    <section class="card" aria-label="Events over time">
      <Show of={loaded} what="the chart">
        {({ events }) =>
          events.length === 0 ? (
            <p class="quiet">No events to draw.</p>
          ) : (
            <Chart title={events.length === most ? `The newest ${most.toLocaleString()} events over time` : "Events over time"} series={outcomes} {...perStep(events, until)} />
          )
        }
      </Show>
    </section>
  );
}
