// The DEK of a thread, for operators: which it is, under which version of the KEK, and
// a new one, with how far its job is.

import { useEffect, useState } from "preact/hooks";
import type { KeyfoldClient, wire } from "@keyfold/sdk";
import { useEvery, useLoad } from "../../load.js";
import { operator } from "../../operator.js";
import { Confirm } from "../../ui/dialog.js";
import { Badge, Id, Progress, Time } from "../../ui/parts.js";
import { Problem, Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { JobBadge } from "../jobs/state.js";
import { State, Uses } from "../keys/use.js";

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

function OperatorsDek({ client, thread }: { client: KeyfoldClient; thread: wire.Thread }) {
  const known = useLoad(() => client.admin.listDeks([thread.id]), [client, thread.id]);
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
        {(told) => <Deks told={told} />}
      </Show>
      {job && <Rotating key={job} client={client} id={job} ended={known.reload} />}
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

function Deks({ told: { deks, message, seal_limit } }: { told: wire.EncryptionDeks }) {
  if (deks.length === 0) return <p class="notice bad">The thread is in clear: it was made while the server did not encrypt. Encrypt it: POST /admin/encryption/encrypt-existing.</p>;
  return (
    <>
      {message && <p class="notice">{message}</p>}
      {deks.map((dek) => (
        <Facts key={dek.key_id} dek={dek} limit={seal_limit} />
      ))}
    </>
  );
}

function Facts({ dek, limit }: { dek: wire.Dek; limit: number | undefined }) {
  return (
    <dl class="facts">
      <dt>DEK</dt>
      <dd>
        <Id value={dek.key_id} what="the DEK's ID" /> <State of={dek.state} />
      </dd>
      <dt>Made</dt>
      <dd>{dek.created_at ? <Time at={dek.created_at} /> : <span class="quiet">not known: before the server kept it</span>}</dd>
      {dek.seals !== undefined && (
        <>
          <dt>Encryptions</dt>
          <dd>
            <Uses count={dek.seals} limit={limit} />
          </dd>
        </>
      )}
      <dt>Wrapped under</dt>
      <dd>KEK version {dek.kek_version}</dd>
    </dl>
  );
}

/** How far the job is that brings the messages under the new DEK. */
function Rotating({ client, id, ended }: { client: KeyfoldClient; id: string; ended: () => void }) {
  const job = useLoad(() => client.admin.getJob(id), [client, id]);
  const over = job.data !== undefined && job.data.status !== "running";
  useEvery(1_000, () => !over && job.reload());
  useEffect(() => {
    if (over) ended();
  }, [over]);
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
