// The jobs of the server, for its operator.

import { useState } from "preact/hooks";
import type { KeyfoldClient, Result, wire } from "@keyfold/sdk";
import { useEvery, useLoad } from "../../load.js";
import { Choice } from "../../ui/form.js";
import { Confirm } from "../../ui/dialog.js";
import { Head, Id, Table, Time, type Column } from "../../ui/parts.js";
import { Empty, Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { isUnderWay, JobBadge, jobName, JobProgress } from "./state.js";

/** What brings the rest of a job of this kind to its end, and what that does; a kind that is not here cannot be begun again from here. */
const again: Record<string, { does: string; send: (client: KeyfoldClient) => Promise<Result<unknown>> }> = {
  "vault-rewrap": { does: "Another job rewraps the DEKs of all vaults that are not under the primary version yet.", send: (c) => c.admin.rewrap({ all: true }) },
  "server-rewrap": { does: "Another job rewraps what is not under the primary version yet, of the server's own secrets, the vaults and the threads.", send: (c) => c.admin.rewrap({ all: true }) },
  "thread-rewrap": { does: "Another job rewraps the threads' DEKs that are not under the primary version yet.", send: (c) => c.admin.rewrap({ threads: true }) },
  "thread-dek-all": { does: "Another job gives all threads new DEKs, from the first on.", send: (c) => c.admin.rotateThreadDek({ all: true }) },
};

const statuses = [
  ["", "All"],
  ["underway", "Running or interrupted"],
  ["failed", "Failed, or with failures"],
  ["completed", "Completed"],
  ["cancelled", "Cancelled"],
] as const;

function isOf(job: wire.Job, status: string): boolean {
  if (status === "underway") return isUnderWay(job);
  if (status === "failed") return job.status === "failed" || job.failed > 0;
  return status === "" || job.status === status;
}

interface Asked {
  job: wire.Job;
  to: "cancel" | "resume";
}

export function ServerJobs({ client }: { client: KeyfoldClient }) {
  const jobs = useLoad(() => client.admin.listJobs(), [client]);
  const [status, setStatus] = useState("");
  const [asked, setAsked] = useState<Asked>();
  const running = jobs.data?.jobs.some((j) => j.status === "running") ?? false;
  useEvery(running ? 1_000 : 10_000, jobs.reload);
  return (
    <section class="card">
      <Head level={2} title="Jobs of the server">
        <button type="button" class="small" onClick={jobs.reload}>
          Read again
        </button>
      </Head>
      <Show of={jobs} what="jobs">
        {({ jobs: all }) =>
          all.length === 0 ? (
            <Empty title="No jobs">
              <p>
                What takes long runs as a job: a rotation of a KEK, a rewrap, a new DEK for a thread, a purge. Start one on <a href="/ui/keys">Keys</a>.
              </p>
            </Empty>
          ) : (
            <>
              <div class="filter">
                <Choice label="Status" value={status} onValue={setStatus} options={statuses} />
              </div>
              <JobTable jobs={all.filter((j) => isOf(j, status))} ask={setAsked} />
            </>
          )
        }
      </Show>
      {asked && <Ask asked={asked} client={client} done={jobs.reload} close={() => setAsked(undefined)} />}
    </section>
  );
}

function Ask({ asked: { job, to }, client, done, close }: { asked: Asked; client: KeyfoldClient; done: () => void; close: () => void }) {
  const resume = to === "resume" ? again[job.kind] : undefined;
  const send: () => Promise<Result<unknown>> = resume ? () => resume.send(client) : () => client.admin.cancelJob(job.id);
  return (
    <Confirm
      title={resume ? "Go on with what is left?" : "Cancel the job?"}
      submit={resume ? "Start it again" : "Cancel the job"}
      send={send}
      done={() => {
        toast(resume ? "Another job goes on with it" : "The job ends after what it is at now");
        done();
        close();
      }}
      close={close}
    >
      <p>{resume ? resume.does : `${jobName(job.kind)}: what is done stays done, and the rest stays as it is. ${again[job.kind] ? "Start it again to go on." : "To go on, start the same again where it was started."}`}</p>
    </Confirm>
  );
}

const columns: readonly (string | Column)[] = ["Job", "Status", "Done", "Failed", "Begun", "Last change", { name: "Actions", kind: "sr" }];

function JobTable({ jobs, ask }: { jobs: wire.Job[]; ask: (asked: Asked) => void }) {
  if (jobs.length === 0) {
    return (
      <Empty title="No such jobs">
        <p>There are jobs, but none of this status.</p>
      </Empty>
    );
  }
  return (
    <Table label="Jobs of the server" columns={columns}>
      {jobs.map((job) => (
        <Row key={job.id} job={job} ask={ask} />
      ))}
    </Table>
  );
}

function Row({ job, ask }: { job: wire.Job; ask: (asked: Asked) => void }) {
  return (
    <tr>
      <td>
        {jobName(job.kind)}
        <br />
        <Id value={job.id} what="the job's ID" />
      </td>
      <td>
        <JobBadge status={job.status} />
        {job.error && <p class="hint">{job.error}</p>}
      </td>
      <td>
        <JobProgress status={job.status} done={job.processed} of={job.total} since={job.created_at} label={jobName(job.kind)} />
      </td>
      <td>
        <Failed job={job} />
      </td>
      <td>
        <Time at={job.created_at} />
      </td>
      <td>
        <Time at={job.updated_at} />
      </td>
      <td class="end">
        <div class="actions">
          {again[job.kind] && (job.status === "failed" || job.status === "cancelled" || (job.status === "completed" && job.failed > 0)) && (
            <button type="button" class="small" onClick={() => ask({ job, to: "resume" })}>
              Resume
            </button>
          )}
          {isUnderWay(job) && (
            <button type="button" class="small danger" onClick={() => ask({ job, to: "cancel" })}>
              Cancel
            </button>
          )}
        </div>
      </td>
    </tr>
  );
}

/** How many units failed, and the names of those that the server remembers. */
function Failed({ job }: { job: wire.Job }) {
  if (job.failed === 0) return <span class="quiet">none</span>;
  const names = job.failed_items ?? [];
  return (
    <details>
      <summary>{job.failed.toLocaleString()} left as they were</summary>
      <ul class="names">
        {names.map((name) => (
          <li key={name}>
            <code>{name}</code>
          </li>
        ))}
      </ul>
      {names.length < job.failed && <p class="hint">The first {names.length}; the server's log names all.</p>}
    </details>
  );
}
