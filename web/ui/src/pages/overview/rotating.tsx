// The CMEK rotations under way.

import type { Loaded } from "../../load.js";
import { Head, Table } from "../../ui/parts.js";
import { Show } from "../../ui/state.js";
import type { VaultRotation } from "../jobs/rotations.js";
import { JobBadge, JobProgress } from "../jobs/state.js";

export function Rotating({ rotations }: { rotations: Loaded<VaultRotation[]> }) {
  return (
    <section class="card" aria-label="Rotating">
      <Head level={2} title="Rotating">
        <a href="/ui/jobs">All jobs</a>
      </Head>
      <Show of={rotations} what="rotations">
        {(list) => {
          const under = list.filter((j) => j.status === "running" || j.status === "interrupted");
          if (under.length === 0) return <p class="quiet">No CMEK key is being rotated. A vault's settings rotate its key.</p>;
          return (
            <Table label="CMEK rotations under way" columns={["Vault", "Status", "Versions"]}>
              {under.map((j) => (
                <tr key={j.id}>
                  <td>
                    <a href={`/ui/vaults/${j.vault.id}/settings`}>{j.vault.name}</a>
                  </td>
                  <td>
                    <JobBadge status={j.status} />
                  </td>
                  <td>
                    <JobProgress status={j.status} done={j.processed} of={j.total_secrets} since={j.started_at} label={`Rotation of ${j.vault.name}`} />
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
