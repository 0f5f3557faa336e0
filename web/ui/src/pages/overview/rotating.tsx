// The CMEK rotations under way; without any, nothing.

import type { Loaded } from "../../load.js";
import { Head, Table } from "../../ui/parts.js";
import { Problem } from "../../ui/state.js";
import type { VaultRotation } from "../jobs/rotations.js";
import { isUnderWay, JobBadge, JobProgress } from "../jobs/state.js";

export function Rotating({ rotations: { data, error, reload } }: { rotations: Loaded<VaultRotation[]> }) {
  const under = data?.filter(isUnderWay) ?? [];
  if (under.length === 0) return <Problem error={error} retry={reload} />;
  return (
    <section class="card" aria-label="Rotating">
      <Head level={2} title="Rotating">
        <a href="/ui/jobs">All jobs</a>
      </Head>
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
              {j.error && <p class="hint">{j.error}</p>}
            </td>
          </tr>
        ))}
      </Table>
    </section>
  );
}
