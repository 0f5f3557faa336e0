// The calls that the trail recorded in the last day, and those of them that were refused or failed.

import { useLoad } from "../../load.js";
import { client } from "../../session.js";
import { Chart } from "../../ui/chart.js";
import { Show } from "../../ui/state.js";
import { outcomes, perStep } from "../audit/overtime.js";

const day = 24 * 60 * 60_000;
const most = 1000;

export function Calls() {
  const loaded = useLoad(() => client.audit.list({ from: new Date(Date.now() - day).toISOString(), limit: most }), []);
  return (
    <section class="card" aria-label="Recorded calls">
      <Show of={loaded} what="the chart">
        {({ events }) =>
          events.length === 0 ? (
            <p class="quiet">No calls were recorded in the last 24 hours.</p>
          ) : (
            <Chart title={`Recorded calls, ${events.length === most ? `the newest ${most.toLocaleString()}` : "the last 24 hours"}`} series={outcomes} {...perStep(events, Date.now())} />
          )
        }
      </Show>
    </section>
  );
}
