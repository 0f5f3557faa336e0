// What an operator sees of keys, and does with them.

import { useEffect, useState } from "preact/hooks";
import type { KeyfoldClient, wire } from "@keyfold/sdk";
import { useEvery, useLoad } from "../../load.js";
import { usePaged } from "../../paged.js";
import { Head } from "../../ui/parts.js";
import { Problem } from "../../ui/state.js";
import { JobBadge, jobName, JobProgress } from "../jobs/state.js";
import { Deks } from "./deks.js";
import { Keks } from "./keks.js";

const pageSize = 50;

/** What each page of KEKs says beside them. */
export type KeksInfo = Omit<wire.EncryptionKeys, "keks" | "pagination">;

export function OperatorKeys({ client }: { client: KeyfoldClient }) {
  const [jobs, setJobs] = useState<string[]>([]);
  const [info, setInfo] = useState<KeksInfo>();
  const [over, setOver] = useState(0); // jobs that have ended
  const keks = usePaged(async (cursor) => {
    const got = await client.admin.listKeks({ limit: pageSize, count: true, ...(cursor === undefined ? {} : { cursor }) });
    if (got.error) return got;
    const { keks: items, pagination, ...rest } = got.data;
    setInfo(rest);
    return { ...got, data: { items, next: pagination.has_more ? pagination.next_cursor : undefined } };
  }, [client]);
  const started = (ids: string[]) => {
    setJobs((old) => [...ids, ...old.filter((id) => !ids.includes(id))]);
    keks.reload();
  };
  const ended = () => {
    keks.reload();
    setOver((n) => n + 1);
  };
  return (
    <>
      {jobs.length > 0 && (
        <section class="card">
          <Head level={2} title="Started here">
            <a href="/ui/jobs">All jobs</a>
          </Head>
          {jobs.map((id) => (
            <Started key={id} client={client} id={id} ended={ended} />
          ))}
        </section>
      )}
      <Keks client={client} keks={keks} info={info} started={started} />
      <Deks client={client} maxAge={info?.max_age.dek} over={over} started={(id) => started([id])} />
    </>
  );
}

/** A job that was started here, until it has ended and after. */
function Started({ client, id, ended }: { client: KeyfoldClient; id: string; ended: () => void }) {
  const job = useLoad(() => client.admin.getJob(id), [client, id]);
  const over = job.data !== undefined && job.data.status !== "running";
  useEvery(1_000, () => !over && job.reload());
  useEffect(() => {
    if (over) ended();
  }, [over]);
  if (!job.data) return <Problem error={job.error} retry={job.reload} />;
  const { kind, status, processed, total, failed, error, created_at } = job.data;
  return (
    <div class="stack" role="group" aria-label={jobName(kind)} aria-live="polite">
      <div class="head">
        <span>
          {jobName(kind)} <JobBadge status={status} />
        </span>
        {over && <span class="quiet">{processed.toLocaleString()} done</span>}
      </div>
      {!over && <JobProgress status={status} done={processed} of={total} since={created_at} label={jobName(kind)} />}
      {failed > 0 && (
        <p class="notice">
          {failed.toLocaleString()} left as they were: <a href="/ui/jobs">Jobs</a> names them.
        </p>
      )}
      {error && <p class="notice">{error}</p>}
    </div>
  );
}
