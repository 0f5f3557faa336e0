// The DEK of a thread, for operators: which it is, under which version of the KEK, and
// a new one, with how far its job is.

import { useState } from "preact/hooks";
import type { KeyfoldClient, Result, wire } from "@keyfold/sdk";
import { useEvery, useLoad } from "../../load.js";
import { operator } from "../../operator.js";
import { Confirm } from "../../ui/dialog.js";
import { Badge, Id, Progress, Time } from "../../ui/parts.js";
import { Problem, Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { JobBadge } from "../jobs/state.js";

const pageSize = 1000;
const maxPages = 50;

export function Dek({ thread }: { thread: wire.Thread }) {
  const client = operator.value;
  return (
    <section class="card" aria-label="The key">
      <h2>The key</h2>
      {client ? (
        <OperatorsDek client={client} thread={thread} />
      ) : (
        <p class="hint">
          The thread has a DEK of its own, wrapped under the KEK of the threads. Which they are, and a new DEK, are for operators: enter the admin key on the page <a href="/ui/keys">Keys</a>, and come back.
        </p>
      )}
    </section>
  );
}

/** What an operator is told of the DEK; the list of all threads alone tells it. */
async function readDek(client: KeyfoldClient, threadId: string): Promise<Result<{ dek: wire.Thread["kms"]; found: boolean }>> {
  let cursor: string | undefined;
  for (let page = 1; ; page++) {
    const got: Result<wire.Threads> = await client.admin.listThreads({ limit: pageSize, ...(cursor === undefined ? {} : { cursor }) });
    if (got.error) return got;
    const found = got.data.threads.find((t) => t.id === threadId);
    cursor = got.data.next_cursor;
    if (found || cursor === undefined || page === maxPages) return { ...got, data: { dek: found?.kms, found: found !== undefined } };
  }
}

function OperatorsDek({ client, thread }: { client: KeyfoldClient; thread: wire.Thread }) {
  const known = useLoad(() => readDek(client, thread.id), [client, thread.id]);
  const [asking, setAsking] = useState(false);
  const [job, setJob] = useState<string>();
  const started = (answer: wire.ThreadDekRotated) => {
    toast("The thread has a new DEK");
    setAsking(false);
    setJob(answer.job_id);
    known.reload();
  };
  return (
    <>
      <Show of={known} what="the DEK">
        {({ dek, found }) => (found ? <Facts dek={dek} /> : <p class="hint">The server has too many threads for this page to find this one among them; GET /admin/threads tells of its DEK.</p>)}
      </Show>
      {job && <Rotating client={client} id={job} />}
      <div class="actions">
        <button type="button" onClick={() => setAsking(true)}>
          Rotate its DEK
        </button>
      </div>
      {asking && (
        <Confirm title="Rotate the DEK of the thread" submit="Rotate the DEK" send={() => client.admin.rotateThreadDek({ thread_id: thread.id })} done={started} close={() => setAsking(false)}>
          <p>New messages are under a new DEK at once. A job re-encrypts those there are, and destroys the old DEK then. Everything stays readable meanwhile.</p>
        </Confirm>
      )}
    </>
  );
}

function Facts({ dek }: { dek: wire.Thread["kms"] }) {
  if (!dek) return <p class="notice bad">The thread is in clear: it was made while the server did not encrypt. Encrypt it: POST /admin/encryption/encrypt-existing.</p>;
  return (
    <dl class="facts">
      <dt>DEK</dt>
      <dd>
        <Id value={dek.key_id} what="the DEK's ID" />
      </dd>
      <dt>Made</dt>
      <dd>{dek.created_ts ? <Time at={dek.created_ts / 1e6} /> : <span class="quiet">not known: before the server kept it</span>}</dd>
      <dt>Wrapped under</dt>
      <dd>KEK version {dek.kek_version}</dd>
    </dl>
  );
}

/** How far the job is that brings the messages under the new DEK. */
function Rotating({ client, id }: { client: KeyfoldClient; id: string }) {
  const job = useLoad(() => client.admin.getJob(id), [client, id]);
  useEvery(1_000, () => (job.data === undefined || job.data.status === "running") && job.reload());
  if (!job.data) return <Problem error={job.error} retry={job.reload} />;
  const { status, processed, total, failed, error } = job.data;
  return (
    <div class="stack" role="group" aria-label="Rotation of the DEK">
      <p aria-live="polite">
        {status === "completed" ? "All is under the new DEK" : "Messages are brought under the new DEK"} <JobBadge status={status} />
      </p>
      <Progress done={processed} of={Math.max(processed, total)} label="Messages under the new DEK" />
      {failed > 0 && (
        <p class="notice">
          {failed.toLocaleString()} <Badge kind="warn">left as they were</Badge> <a href="/ui/jobs">Jobs</a> names them.
        </p>
      )}
      {error && <p class="notice">{error}</p>}
    </div>
  );
}
