// The jobs of the server, for its operator.

import { useState } from "preact/hooks";
import type { KeyfoldClient, wire } from "@keyfold/sdk";
import { useEvery, useLoad } from "../../load.js";
import { Confirm } from "../../ui/dialog.js";
import { Head, Id, Table, Time } from "../../ui/parts.js";
import { Empty, Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { JobBadge, jobName, JobProgress } from "./state.js";

export function ServerJobs({ client }: { client: KeyfoldClient }) {
  const jobs = useLoad(() => client.admin.listJobs(), [client]);
  const [cancelled, setCancelled] = useState<wire.Job>();
  const running = jobs.data?.jobs.some((j) => j.status === "running") ?? false;
  useEvery(running ? 1_000 : 10_000, jobs.reload);
  return (
    <>
      <Head level={2} title="Jobs of the server">
        <button type="button" onClick={jobs.reload}>
          Read again
        </button>
      </Head>
      <Show of={jobs} what="jobs">
        {({ jobs: list }) =>
          list.length === 0 ? (
            <Empty title="No jobs">
              <p>
                What takes long runs as a job: a rotation of a KEK, a rewrap, a new DEK for a thread, a purge. Start one on <a href="/ui/keys">Keys</a>.
              </p>
            </Empty>
          ) : (
            <Table label="Jobs of the server" columns={["Job", "Status", "Done", "Failed", "Begun", "Last change", "Actions"]}>
              {list.map((job) => (
                <Row key={job.id} job={job} cancel={() => setCancelled(job)} />
              ))}
            </Table>
          )
        }
      </Show>
      {cancelled && (
        <Confirm
          title="Cancel the job?"
          submit="Cancel the job"
          send={() => client.admin.cancelJob(cancelled.id)}
          done={() => {
            setCancelled(undefined);
            toast("The job ends after what it is at now");
            jobs.reload();
          }}
          close={() => setCancelled(undefined)}
        >
          <p>
            {jobName(cancelled.kind)}: what is done stays done, and the rest stays as it is. Start the same again to go on.
          </p>
        </Confirm>
      )}
    </>
  );
}

function Row({ job, cancel }: { job: wire.Job; cancel: () => void }) {
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
        <JobProgress status={job.status} done={job.processed} of={job.total} label={jobName(job.kind)} />
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
      <td>
        {(job.status === "running" || job.status === "interrupted") && (
          <button type="button" class="small danger" onClick={cancel}>
            Cancel
          </button>
        )}
      </td>
    </tr>
  );
}

/** How many units failed, and the names of those that the server remembers. */
function Failed({ job }: { job: wire.Job }) {
  if (job.failed === 0) return <>0</>;
  const names = job.failed_items ?? [];
  return (
    <details>
      <summary>{job.failed.toLocaleString()} left as they were</summary>
      <ul>
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
