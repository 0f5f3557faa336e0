// The CMEK rotations of all sealed vaults: those that are under way first.

import { useState } from "preact/hooks";
import type { Result, wire } from "@keyfold/sdk";
import { settle, useEvery, useLoad } from "../../load.js";
import { madeIt } from "../../rights.js";
import { client } from "../../session.js";
import { Confirm } from "../../ui/dialog.js";
import { Head, Id, Table, Time, type Column } from "../../ui/parts.js";
import { Empty, Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { isUnderWay, JobBadge, JobProgress } from "./state.js";

export interface VaultRotation extends wire.RotationJob {
  vault: wire.Vault;
}

/** The rotations of all vaults. */
export async function rotations(): Promise<Result<VaultRotation[]>> {
  const vaults = await client.vault.list();
  return vaults.error ? vaults : rotationsOf(vaults.data.vaults);
}

/** The rotations of these vaults, those under way first, then the newest. Who made a vault may see them; the others are passed over. */
export async function rotationsOf(vaults: readonly wire.Vault[]): Promise<Result<VaultRotation[]>> {
  const all = await Promise.all(vaults.filter((v) => v.cmek_enabled && madeIt(v)).map(ofVault));
  const data = all.flat().sort((a, b) => Number(isUnderWay(b)) - Number(isUnderWay(a)) || b.created_at.localeCompare(a.created_at));
  return { data, error: null, meta: { status: 200 } };
}

async function ofVault(vault: wire.Vault): Promise<VaultRotation[]> {
  const { data } = await settle(() => client.vault.listRotations(vault.id));
  return (data?.rotations ?? []).map((r) => ({ ...r, vault }));
}

const columns: readonly (string | Column)[] = ["Vault", "Status", "Versions", "To the key", "Begun", { name: "Actions", kind: "sr" }];

export function Rotations() {
  const jobs = useLoad(rotations, []);
  const [cancelled, setCancelled] = useState<VaultRotation>();
  useEvery(1_000, () => jobs.data?.some((j) => j.status === "running") && jobs.reload());
  return (
    <section class="card">
      <Head level={2} title="CMEK rotations">
        <button type="button" class="small" onClick={jobs.reload}>
          Read again
        </button>
      </Head>
      <Show of={jobs} what="rotations">
        {(list) =>
          list.length === 0 ? (
            <Empty title="No rotations">
              <p>
                The settings of a sealed vault rotate its CMEK key, and what comes of it is shown here. <a href="/ui/vaults">Choose a vault</a>
              </p>
            </Empty>
          ) : (
            <Table label="CMEK rotations" columns={columns}>
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
          <p>What is under the new key already stays under it. Keep both key files of {cancelled.vault.name}: its versions need one or the other.</p>
        </Confirm>
      )}
    </section>
  );
}

function Row({ job, cancel }: { job: VaultRotation; cancel: () => void }) {
  const settings = `/ui/vaults/${job.vault.id}/settings`;
  return (
    <tr>
      <td>
        <a href={settings}>{job.vault.name}</a>
      </td>
      <td>
        <JobBadge status={job.status} />
      </td>
      <td>
        <JobProgress status={job.status} done={job.processed} of={job.total_secrets} since={job.started_at} label={`Rotation of ${job.vault.name}`} />
        {job.error && <p class="hint">{job.error}</p>}
      </td>
      <td>
        <Id value={job.new_fingerprint} what="the fingerprint" />
      </td>
      <td>
        <Time at={job.created_at} />
      </td>
      <td class="end">
        <div class="actions">
          {(job.status === "interrupted" || job.status === "failed") && (
            <a class="button small" href={settings} aria-label={`Resume the rotation of ${job.vault.name}, with its key files`}>
              Resume
            </a>
          )}
          {isUnderWay(job) && (
            <button type="button" class="small danger" onClick={cancel} aria-label={`Cancel the rotation of ${job.vault.name}`}>
              Cancel
            </button>
          )}
        </div>
      </td>
    </tr>
  );
}
