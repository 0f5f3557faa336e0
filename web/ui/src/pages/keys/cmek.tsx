// The CMEK keys of the vaults that the user may see, by what the server counts of each.

import type { ErrorInfo, Result, wire } from "@keyfold/sdk";
import { settle, useLoad } from "../../load.js";
import { client } from "../../session.js";
import { Badge, Head, Id, Table, Time, type Column } from "../../ui/parts.js";
import { Empty, Show } from "../../ui/state.js";
import { Age, inDays } from "./age.js";

type CmekKey = NonNullable<wire.CmekStatus["keys"]>[number];

interface Key extends CmekKey {
  vault: wire.Vault;
  /** It is the key that new versions are sealed with. */
  current: boolean;
  since: string | undefined;
  maxAge: number | undefined;
}

async function keys(): Promise<Result<Key[]>> {
  const vaults = await client.vault.list();
  if (vaults.error) return vaults;
  const all = await Promise.all(vaults.data.vaults.map(ofVault));
  const error = all.find((of) => of.error)?.error;
  return error ? { data: null, error, meta: vaults.meta } : { data: all.flatMap((of) => of.keys), error: null, meta: vaults.meta };
}

/** The keys of a vault; none of one that the user may list and not open. */
async function ofVault(vault: wire.Vault): Promise<{ keys: Key[]; error?: ErrorInfo }> {
  const { data, error } = await settle(() => client.vault.cmekStatus(vault.id));
  if (error) return error.type === "auth_error" || error.type === "not_found" ? { keys: [] } : { keys: [], error };
  const of = (k: CmekKey): Key => {
    const current = k.fingerprint === data.fingerprint;
    return { ...k, vault, current, since: current ? data.since : undefined, maxAge: current ? data.max_age : undefined };
  };
  const used = (data.keys ?? []).map(of);
  if (!data.fingerprint || used.some((k) => k.current)) return { keys: used };
  return { keys: [of({ fingerprint: data.fingerprint, versions: 0, newest: 0, oldest: "", latest: "" }), ...used] };
}

const columns: readonly (string | Column)[] = ["Vault", "Fingerprint", "State", "In use since", { name: "Versions under it", kind: "num" }, "Last sealed with"];

export function CmekKeys() {
  const loaded = useLoad(keys, []);
  const max = loaded.data?.find((k) => k.maxAge)?.maxAge;
  return (
    <section class="card">
      <Head level={2} title="CMEK keys">
        <button type="button" class="small" onClick={loaded.reload}>
          Read again
        </button>
      </Head>
      {max && <p class="hint">By the operator's policy a CMEK key is due to be rotated after {inDays(max)}. The settings of its vault do that.</p>}
      <Show of={loaded} what="CMEK keys">
        {(list) =>
          list.length === 0 ? (
            <Empty title="No CMEK keys">
              <p>
                No vault is sealed with a key of yours. A vault's settings make one, in this browser. <a href="/ui/vaults">Choose a vault</a>
              </p>
            </Empty>
          ) : (
            <Table label="CMEK keys" columns={columns}>
              {list.map((k) => (
                <tr key={k.vault.id + k.fingerprint}>
                  <td>
                    <a href={`/ui/vaults/${k.vault.id}/settings`}>{k.vault.name}</a>
                  </td>
                  <td>
                    <Id value={k.fingerprint} what="the fingerprint" />
                  </td>
                  <td>{k.current ? <Badge kind="good">in use</Badge> : <Badge>only to open</Badge>}</td>
                  <td>
                    <Age at={k.since} max={k.maxAge} unknown={k.current ? "not known" : "–"} />
                  </td>
                  <td class="num">{k.versions.toLocaleString()}</td>
                  <td>
                    <Time at={k.latest || undefined} />
                  </td>
                </tr>
              ))}
            </Table>
          )
        }
      </Show>
    </section>
  );
}
