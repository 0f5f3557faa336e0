// The CMEK rotations of all sealed vaults: those that are under way first.

import type { Result, wire } from "@keyfold/sdk";
import { settle, useEvery, useLoad } from "../../load.js";
import { client } from "../../session.js";
import { Confirm } from "../../ui/dialog.js";
import { Head, Id, Table, Time } from "../../ui/parts.js";
import { Empty, Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { useState } from "preact/hooks";
import { JobBadge, JobProgress } from "./state.js";

export interface VaultRotation extends wire.RotationJob {
  vault: wire.Vault;
}

/** The rotations of all vaults, those under way first, then the newest. A vault that may not be read is passed over. */
export async function rotations(): Promise<Result<VaultRotation[]>> {
  const vaults = await client.vault.list();
  if (vaults.error) return vaults;
  const all = await Promise.all(vaults.data.vaults.filter((v) => v.cmek_enabled).map(ofVault));
  const under = (r: VaultRotation) => Number(r.status === "running" || r.status === "interrupted");
  const data = all.flat().sort((a, b) => under(b) - under(a) || b.created_at.localeCompare(a.created_at));
  return { data, error: null, meta: vaults.meta };
}

async function ofVault(vault: wire.Vault): Promise<VaultRotation[]> {
  const { data } = await settle(() => client.vault.listRotations(vault.id));
  return (data?.rotations ?? []).map((r) => ({ ...r, vault }));
}

export function Rotations() {
  const jobs = useLoad(rotations, []);
  const [cancelled, setCancelled] = useState<VaultRotation>();
  useEvery(2_000, () => jobs.data?.some((j) => j.status === "running") && jobs.reload());
  return (
    <>
      <Head level={2} title="CMEK rotations">
        <button type="button" onClick={jobs.reload}>
          Read again
        </button>
      </Head>
      <Show of={jobs} what="rotations">
        {(list) =>
          list.length === 0 ? (
            <Empty title="No rotations">
              <p>The rotation of a vault's CMEK key is started in the vault's settings, and is shown here.</p>
            </Empty>
          ) : (
            <Table label="CMEK rotations" columns={["Vault", "Status", "Versions", "To the key", "Begun", "Actions"]}>
              {list.map((job) => (
                <Row key={job.id} job={job} cancel={() => setCancelled(job)} />
              ))}
            </Table>
          )
        }
      </Show>
      {cancelled && (
        <Confirm
          title="Cancel the rotation?"
          submit="Cancel the rotation"
          send={() => client.vault.cancelRotation(cancelled.vault_id, cancelled.id)}
          done={() => {
            setCancelled(undefined);
            toast("Cancelled the rotation");
            jobs.reload();
          }}
          close={() => setCancelled(undefined)}
        >
          <p>
            What is under the new key already stays under it. Keep both key files of {cancelled.vault.name}: its versions need one or the other.
          </p>
        </Confirm>
      )}
    </>
  );
}

function Row({ job, cancel }: { job: VaultRotation; cancel: () => void }) {
  const ended = job.status !== "running" && job.status !== "interrupted";
  return (
    <tr>
      <td>
        <a href={`/ui/vaults/${job.vault.id}/settings`}>{job.vault.name}</a>
      </td>
      <td>
        <JobBadge status={job.status} />
      </td>
      <td>
        <JobProgress status={job.status} done={job.processed} of={job.total_secrets} label={`Rotation of ${job.vault.name}`} />
        {job.error && <p class="hint">{job.error}</p>}
      </td>
      <td>
        <Id value={job.new_fingerprint} what="the fingerprint" />
      </td>
      <td>
        <Time at={job.created_at} />
      </td>
      <td>
        {!ended && (
          <button type="button" class="small danger" onClick={cancel}>
            Cancel
          </button>
        )}
      </td>
    </tr>
  );
}
