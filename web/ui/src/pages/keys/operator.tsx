// What an operator sees of keys, and does with them.

import { useState } from "preact/hooks";
import type { KeyfoldClient, wire } from "@keyfold/sdk";
import { client as session } from "../../session.js";
import { useEvery, useLoad } from "../../load.js";
import { Confirm } from "../../ui/dialog.js";
import { Choice } from "../../ui/form.js";
import { Head, Progress } from "../../ui/parts.js";
import { Problem } from "../../ui/state.js";
import { JobBadge, jobName } from "../jobs/state.js";
import { Deks } from "./deks.js";

export function OperatorKeys({ client }: { client: KeyfoldClient }) {
  const [jobs, setJobs] = useState<string[]>([]);
  const started = (ids: string[]) => setJobs((old) => [...ids, ...old.filter((id) => !ids.includes(id))]);
  return (
    <>
      <Keks client={client} started={started} />
      {jobs.map((id) => (
        <Started key={id} client={client} id={id} />
      ))}
      <Deks client={client} started={(id) => started([id])} />
    </>
  );
}

const what = { rotate: "Rotate", rewrap: "Rewrap" } as const;

/** Rotates KEKs, or rewraps under those that there are. */
function Keks({ client, started }: { client: KeyfoldClient; started: (jobs: string[]) => void }) {
  const vaults = useLoad(() => session.vault.list(), []);
  const [of, setOf] = useState("threads");
  const [asked, setAsked] = useState<keyof typeof what>();
  const list = vaults.data?.vaults ?? [];
  const options = [["threads", "The KEK of the threads"], ["all", "All KEKs"], ...list.map((v) => [v.id, `The KEK of the vault ${v.name}`] as const)] as const;
  const name = options.find(([id]) => id === of)?.[1] ?? of;
  const request: wire.RotateKek = of === "all" ? { all: true } : of === "threads" ? { threads: true } : { vault_id: of };
  return (
    <section class="card" aria-label="KEKs">
      <h2>KEKs</h2>
      <p class="quiet">
        A rotation makes a new primary version of a KEK and rewraps the DEKs under it; values and messages stay as they are. A rewrap brings those under it that are not yet.
      </p>
      <Choice label="KEK" value={of} onValue={setOf} options={options} />
      <Problem error={vaults.error} retry={vaults.reload} />
      <div class="actions">
        <button type="button" class="danger" onClick={() => setAsked("rotate")}>
          Rotate
        </button>
        <button type="button" onClick={() => setAsked("rewrap")}>
          Rewrap
        </button>
      </div>
      {asked && (
        <Confirm
          title={`${what[asked]}: ${name.charAt(0).toLowerCase()}${name.slice(1)}?`}
          submit={what[asked]}
          {...(asked === "rotate" && of === "all" ? { name: "all" } : {})}
          send={() => (asked === "rotate" ? client.admin.rotateKek(request) : client.admin.rewrap(request))}
          done={({ jobs }) => {
            setAsked(undefined);
            started(jobs.map((j) => j.id));
          }}
          close={() => setAsked(undefined)}
        >
          <p>{asked === "rotate" ? "A version of a KEK is never taken back: the old one stays to open with until nothing is under it." : "This changes no KEK. It runs as a job, which you can cancel."}</p>
        </Confirm>
      )}
    </section>
  );
}

/** A job that was started here, until it has ended and after. */
function Started({ client, id }: { client: KeyfoldClient; id: string }) {
  const job = useLoad(() => client.admin.getJob(id), [client, id]);
  useEvery(1_000, () => (job.data === undefined || job.data.status === "running") && job.reload());
  if (!job.data) return <Problem error={job.error} retry={job.reload} />;
  const { kind, status, processed, total, failed, error } = job.data;
  return (
    <section class="card" aria-label={jobName(kind)} aria-live="polite">
      <Head level={2} title={jobName(kind)}>
        <JobBadge status={status} />
      </Head>
      <Progress done={processed} of={Math.max(processed, total)} label={jobName(kind)} />
      {failed > 0 && (
        <p class="notice">
          {failed.toLocaleString()} left as they were: <a href="/ui/jobs">Jobs</a> names them.
        </p>
      )}
      {error && <p class="notice">{error}</p>}
    </section>
  );
}
