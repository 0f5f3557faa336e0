// What the server does now, for its operator: counts, and the pace of its jobs
// while the page is looked at.

import { useEffect, useState } from "preact/hooks";
import type { KeyfoldClient } from "@keyfold/sdk";
import { useEvery, useLoad } from "../../load.js";
import { Chart, type Moment } from "../../ui/chart.js";
import { Head, Table } from "../../ui/parts.js";
import { Problem, Show } from "../../ui/state.js";
import { JobBadge, jobName, JobProgress } from "../jobs/state.js";
import { outcomes, perStep } from "../audit/overtime.js";
import { sumOf } from "./metrics.js";

const every = 5_000;
const kept = 36;
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });

export function ServerNow({ client }: { client: KeyfoldClient }) {
  const stats = useLoad(() => client.admin.stats(), [client]);
  useEvery(30_000, stats.reload);
  return (
    <>
      <section class="card" aria-label="The server">
        <Head level={2} title="The server" />
        <Show of={stats} what="the counts">
          {({ threads, messages }) => (
            <dl class="numbers">
              <div>
                <dt>threads</dt>
                <dd>{threads.toLocaleString()}</dd>
              </div>
              <div>
                <dt>messages</dt>
                <dd>{messages.toLocaleString()}</dd>
              </div>
            </dl>
          )}
        </Show>
      </section>
      <Running client={client} />
      <div class="grid">
        <Pace client={client} />
        <OperatorCalls client={client} />
      </div>
    </>
  );
}

/** The jobs that go on, rotations and rewraps among them. */
function Running({ client }: { client: KeyfoldClient }) {
  const loaded = useLoad(() => client.admin.listJobs(), [client]);
  useEvery(every, loaded.reload);
  return (
    <section class="card" aria-label="Jobs of the server">
      <Head level={2} title="Jobs of the server">
        <a href="/ui/jobs">All jobs</a>
      </Head>
      <Show of={loaded} what="jobs">
        {({ jobs }) => {
          const running = jobs.filter((j) => j.status === "running" || j.status === "interrupted");
          if (running.length === 0) return <p class="quiet">No KEK or DEK is being rotated, and no other job runs.</p>;
          return (
            <Table label="Jobs under way" columns={["Job", "Status", "Done"]}>
              {running.map((j) => (
                <tr key={j.id}>
                  <td>{jobName(j.kind)}</td>
                  <td>
                    <JobBadge status={j.status} />
                  </td>
                  <td>
                    <JobProgress status={j.status} done={j.processed} of={j.total} label={jobName(j.kind)} />
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

/** Units of work of the running jobs, between one reading of the metrics and the next. */
function Pace({ client }: { client: KeyfoldClient }) {
  const metrics = useLoad(() => client.admin.metrics(), [client]);
  const [seen, setSeen] = useState<{ last: number[] | undefined; moments: Moment[] }>({ last: undefined, moments: [] });
  useEvery(every, metrics.reload);
  useEffect(() => {
    if (metrics.loading || metrics.data === undefined) return;
    const now = ["keyfold_job_processed", "keyfold_job_failed"].map((name) => sumOf(metrics.data!, name));
    setSeen(({ last, moments }) => {
      const values = now.map((n, i) => Math.max(0, n - (last?.[i] ?? n)));
      const moment = { label: clock.format(Date.now()), values: [Math.max(0, values[0]! - values[1]!), values[1]!] };
      return { last: now, moments: [...moments, moment].slice(-kept) };
    });
  }, [metrics.loading, metrics.data]);
  const blank = Array.from({ length: kept - seen.moments.length }, (_, i) => ({ label: clock.format(Date.now() - (kept - i) * every), values: [0, 0] }));
  return (
    <section class="card" aria-label="Jobs as they run">
      <Problem error={metrics.error} retry={metrics.reload} />
      <Chart
        title="Work of jobs"
        unit={`Units per ${every / 1000} seconds`}
        series={[
          { name: "done", kind: "good" },
          { name: "failed", kind: "bad" },
        ]}
        moments={seen.moments.length < kept ? [...blank, ...seen.moments] : seen.moments}
      />
      <p class="hint">
        {sumOf(metrics.data ?? "", "keyfold_jobs", 'status="running"').toLocaleString()} running. <a href="/ui/jobs">Jobs</a> names them.
      </p>
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
