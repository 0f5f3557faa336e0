// What the server does now, for its operator: its requests, its jobs, and what
// operators did.

import type { KeyfoldClient } from "@keyfold/sdk";
import { useEvery, useLoad } from "../../load.js";
import { Chart } from "../../ui/chart.js";
import { Head, Table } from "../../ui/parts.js";
import { Show } from "../../ui/state.js";
import { outcomes, perStep } from "../audit/overtime.js";
import { isUnderWay, JobBadge, jobName, JobProgress } from "../jobs/state.js";
import { Requests } from "./requests.js";

export function ServerNow({ client }: { client: KeyfoldClient }) {
  return (
    <>
      <Head level={2} title="The server">
        <Counts client={client} />
      </Head>
      <Requests client={client} />
      <div class="grid">
        <Running client={client} />
        <OperatorCalls client={client} />
      </div>
    </>
  );
}

function Counts({ client }: { client: KeyfoldClient }) {
  const stats = useLoad(() => client.admin.stats(), [client]);
  useEvery(30_000, stats.reload);
  if (!stats.data) return null;
  const { threads, messages } = stats.data;
  return (
    <span class="quiet">
      {threads.toLocaleString()} {threads === 1 ? "thread" : "threads"}, {messages.toLocaleString()} {messages === 1 ? "message" : "messages"}
    </span>
  );
}

/** The jobs that go on, rotations and rewraps among them. */
function Running({ client }: { client: KeyfoldClient }) {
  const loaded = useLoad(() => client.admin.listJobs(), [client]);
  useEvery(loaded.data?.jobs.some(isUnderWay) ? 1_000 : 5_000, loaded.reload);
  return (
    <section class="card" aria-label="Jobs of the server">
      <Head level={2} title="Jobs of the server">
        <a href="/ui/jobs">All jobs</a>
      </Head>
      <Show of={loaded} what="jobs">
        {({ jobs }) => {
          const running = jobs.filter(isUnderWay);
          if (running.length === 0) {
            return (
              <p class="quiet">
                No KEK or DEK is being rotated, and no other job runs. <a href="/ui/keys">Keys</a> starts one.
              </p>
            );
          }
          return (
            <Table label="Jobs under way" columns={["Job", "Status", "Done"]}>
              {running.map((j) => (
                <tr key={j.id}>
                  <td>{jobName(j.kind)}</td>
                  <td>
                    <JobBadge status={j.status} />
                  </td>
                  <td>
                    <JobProgress status={j.status} done={j.processed} of={j.total} since={j.created_at} label={jobName(j.kind)} />
                  </td>
                </tr>
              ))}
            </Table>
          );
        }}
      </Show>
    </section>
  );
}

/** What operators did, and what was refused to them, in the server's own trail. */
function OperatorCalls({ client }: { client: KeyfoldClient }) {
  const loaded = useLoad(() => client.admin.auditEvents({ limit: 1000 }), [client]);
  return (
    <section class="card" aria-label="Operators' calls">
      <Show of={loaded} what="the chart">
        {({ events }) => (events.length === 0 ? <p class="quiet">No operator has done anything yet.</p> : <Chart title="Operators' calls" series={outcomes} {...perStep(events, Date.now())} />)}
      </Show>
    </section>
  );
}
