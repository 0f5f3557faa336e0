// The CMEK keys of the vaults that the user may see, by what the server counts of each.

import type { Result, wire } from "@keyfold/sdk";
import { settle, useLoad } from "../../load.js";
import { client } from "../../session.js";
import { Badge, Head, Id, Table, Time } from "../../ui/parts.js";
import { Empty, Show } from "../../ui/state.js";

type CmekKey = NonNullable<wire.CmekStatus["keys"]>[number];

interface Key extends CmekKey {
  vault: wire.Vault;
  /** It is the key that new versions are sealed with. */
  current: boolean;
  since: string | undefined;
}

async function keys(): Promise<Result<Key[]>> {
  const vaults = await client.vault.list();
  if (vaults.error) return vaults;
  const all = await Promise.all(vaults.data.vaults.map(ofVault));
  return { data: all.flat(), error: null, meta: vaults.meta };
}

async function ofVault(vault: wire.Vault): Promise<Key[]> {
  const { data } = await settle(() => client.vault.cmekStatus(vault.id));
  if (!data) return [];
  const used = (data.keys ?? []).map((k) => ({ ...k, vault, current: k.fingerprint === data.fingerprint, since: k.fingerprint === data.fingerprint ? data.since : undefined }));
  if (!data.fingerprint || used.some((k) => k.current)) return used;
  return [{ fingerprint: data.fingerprint, versions: 0, newest: 0, oldest: "", latest: "", vault, current: true, since: data.since }, ...used];
}

export function CmekKeys() {
  const loaded = useLoad(keys, []);
  return (
    <>
      <Head level={2} title="CMEK keys">
        <button type="button" onClick={loaded.reload}>
          Read again
        </button>
      </Head>
      <Show of={loaded} what="CMEK keys">
        {(list) =>
          list.length === 0 ? (
            <Empty title="No CMEK keys">
              <p>No vault is sealed with a key of yours. A vault's settings make one, in this browser.</p>
            </Empty>
          ) : (
            <Table label="CMEK keys" columns={["Vault", "Fingerprint", "State", "Since", "Versions that need it", "Last used"]}>
              {list.map((k) => (
                <tr key={k.vault.id + k.fingerprint}>
                  <td>
                    <a href={`/ui/vaults/${k.vault.id}/settings`}>{k.vault.name}</a>
                  </td>
                  <td>
                    <Id value={k.fingerprint} what="the fingerprint" />
                  </td>
                  <td>{k.current ? <Badge kind="good">in use</Badge> : <Badge>only to open</Badge>}</td>
                  <td>{k.since ? <Time at={k.since} /> : <span class="quiet">not known</span>}</td>
                  <td>{k.versions.toLocaleString()}</td>
                  <td>
                    <Time at={k.latest || undefined} />
                  </td>
                </tr>
              ))}
            </Table>
          )
        }
      </Show>
    </>
  );
}
