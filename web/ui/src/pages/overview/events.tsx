// What the trail recorded lately: how much of it in the last day, and the last of
// what was changed, refused, or read in clear.

import type { wire } from "@keyfold/sdk";
import { useLoad, type Loaded } from "../../load.js";
import { user } from "../../session.js";
import { Chart } from "../../ui/chart.js";
import { Head } from "../../ui/parts.js";
import { Empty, Show } from "../../ui/state.js";
import { outcomes, perStep } from "../audit/overtime.js";
import { EventTable } from "../audit/table.js";
import { readPeople } from "../vault/access/people.js";

/** How many of the newest events the overview reads. */
export const mostEvents = 1000;

const day = 24 * 60 * 60_000;
const shown = 8;

/** Those of the last 24 hours. */
export function lastDay(events: readonly wire.AuditEvent[]): wire.AuditEvent[] {
  return events.filter((e) => Date.now() - Date.parse(e.created_at) < day);
}

export function Calls({ events }: { events: Loaded<wire.AuditEvents> }) {
  return (
    <section class="card" aria-label="Recorded calls">
      <Show of={events} what="the chart">
        {({ events: all }) => {
          const list = lastDay(all);
          if (list.length === 0) return <p class="quiet">No calls were recorded in the last 24 hours.</p>;
          return <Chart title={`Recorded calls, ${list.length === mostEvents ? `the newest ${mostEvents.toLocaleString()}` : "the last 24 hours"}`} series={outcomes} {...perStep(list, Date.now())} />;
        }}
      </Show>
    </section>
  );
}

/** Whether an event tells of more than that somebody looked at a list. */
function telling({ action, outcome }: wire.AuditEvent): boolean {
  if (outcome !== "allowed" || action === "secret.read") return true;
  if (action === "secret.write" || action === "secret.delete") return false; // what came of it is an event, too
  return !/[._](read|list|versions|rotations?)$/.test(action) && action !== "vault.cmek";
}

export function Recent({ events, vaults }: { events: Loaded<wire.AuditEvents>; vaults: readonly wire.Vault[] }) {
  const people = useLoad(readPeople, []);
  const names = new Map([...(people.data ?? []), ...vaults].map(({ id, name }) => [id, name]));
  return (
    <section class="card" aria-label="Recent events">
      <Head level={2} title="Recent events">
        <a href="/ui/audit">The whole trail</a>
      </Head>
      <p class="hint">What was changed, what was refused or failed, and which secrets were read. Looks at lists are in the trail.</p>
      <Show of={events} what="events">
        {({ events: all }) => {
          const list = all.filter(telling).slice(0, shown);
          if (list.length === 0) return <Empty title="Nothing has happened lately" />;
          return <EventTable events={list} names={(id) => (id === user.value?.id ? "you" : names.get(id))} short />;
        }}
      </Show>
    </section>
  );
}
