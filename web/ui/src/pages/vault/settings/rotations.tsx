// The rotations by the server: the one that is not over, and the list of all.

import type { wire } from "@keyfold/sdk";
import { useEffect, useState } from "preact/hooks";
import { useEvery, useLoad, type Loaded } from "../../../load.js";
import { client } from "../../../session.js";
import { Confirm } from "../../../ui/dialog.js";
import { Badge, Id, Progress, Table, Time } from "../../../ui/parts.js";
import { Problem, Show } from "../../../ui/state.js";
import { toast } from "../../../ui/toast.js";
import { short } from "./keyathand.js";

interface UnderWayProps {
  vault: wire.Vault;
  rotation: wire.RotationJob;
  /** It is over, or interrupted. */
  changed: () => void;
  resume: () => void;
}

/** A rotation that runs or is interrupted. */
export function UnderWay({ vault, rotation, changed, resume }: UnderWayProps) {
  const [cancels, setCancels] = useState(false);
  const now = useLoad(() => client.vault.getRotationJobStatus(vault.id, rotation.id), [vault.id, rotation.id]);
  const job = now.data ?? rotation;
  const over = job.status !== "running" && job.status !== "interrupted";
  useEvery(1_000, () => {
    now.reload();
    if (over) changed(); // what named the rotation was read before its end
  });
  useEffect(() => {
    if (job.status === rotation.status) return;
    if (over) toast(`The rotation is ${job.status}`);
    changed(); // the key inventory, too
  }, [job.status]);
  return (
    <section class="stack" aria-label="Rotation">
      <p>
        <State job={job} /> From <code>{short(job.old_fingerprint)}</code> to <code>{short(job.new_fingerprint)}</code>. Readers and writers need both keys until it ends.
      </p>
      <Progress done={job.processed} of={job.total_secrets} label="Re-encrypted versions" />
      {job.error && <p class="notice">{job.error}</p>}
      <Problem error={now.error} retry={now.reload} />
      <div class="actions">
        {job.status === "interrupted" && (
          <button type="button" class="primary" onClick={resume}>
            Resume
          </button>
        )}
        {!over && (
          <button type="button" onClick={() => setCancels(true)}>
            Cancel the rotation
          </button>
        )}
      </div>
      {cancels && <Cancel vault={vault} job={job} close={() => setCancels(false)} done={changed} />}
    </section>
  );
}

function Cancel({ vault, job, close, done }: { vault: wire.Vault; job: wire.RotationJob; close: () => void; done: () => void }) {
  const cancelled = () => {
    close();
    done();
  };
  return (
    <Confirm title="Cancel the rotation" submit="Cancel the rotation" send={() => client.vault.cancelRotation(vault.id, job.id)} done={cancelled} close={close}>
      <p>
        The vault keeps the key <code>{short(job.old_fingerprint)}</code>. Versions that are re-encrypted already stay under <code>{short(job.new_fingerprint)}</code>: keep both key files.
      </p>
    </Confirm>
  );
}

const kinds = { running: "sealed", interrupted: "warn", completed: "good", failed: "bad", cancelled: "plain" } as const;

function State({ job }: { job: wire.RotationJob }) {
  return <Badge kind={kinds[job.status]}>{job.status}</Badge>;
}

/** All rotations by the server, newest first. */
export function Rotations({ of }: { of: Loaded<wire.Rotations> }) {
  useEvery(1_000, () => of.data?.rotations.some((job) => job.status === "running") && of.reload());
  return (
    <Show of={of} what="the rotations">
      {({ rotations }) =>
        rotations.length === 0 ? (
          <p class="quiet">None by the server. Rotations in a browser, or by the command line with <code class="nowrap">--client-side</code>, are not listed.</p>
        ) : (
          <Table label="Rotations by the server" columns={["Started", "State", "From", "To", "Versions", "Ended"]}>
            {rotations.map((job) => (
              <Row key={job.id} job={job} />
            ))}
          </Table>
        )
      }
    </Show>
  );
}

function Row({ job }: { job: wire.RotationJob }) {
  const { why, failed } = readError(job.error ?? "");
  return (
    <>
      <tr>
        <td>
          <Time at={job.started_at ?? job.created_at} />
        </td>
        <td>
          <State job={job} />
        </td>
        <td>
          <Id value={job.old_fingerprint} what="the old fingerprint" />
        </td>
        <td>
          <Id value={job.new_fingerprint} what="the new fingerprint" />
        </td>
        <td class="nowrap">
          {job.processed.toLocaleString()} of {job.total_secrets.toLocaleString()}
        </td>
        <td>{job.completed_at ? <Time at={job.completed_at} /> : "–"}</td>
      </tr>
      {job.error && (
        <tr>
          <td colSpan={6}>
            {why}
            {failed.length > 0 && (
              <ul class="names">
                {failed.map((name) => (
                  <li key={name}>
                    <code>{name}</code>
                  </li>
                ))}
              </ul>
            )}
          </td>
        </tr>
      )}
    </>
  );
}

/** The server's word on a rotation: why, and after it the names of versions that did not open. */
function readError(error: string): { why: string; failed: string[] } {
  const [why = "", ...failed] = error.split(/(?:^|: |; )(?=secret \S+, version \d)/);
  return { why, failed };
}
