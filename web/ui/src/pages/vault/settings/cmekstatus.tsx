// What is known of a vault's CMEK: its key, and which keys its stored versions need.

import type { wire } from "@keyfold/sdk";
import { unlocked } from "../../../keys.js";
import { Badge, Id, Table, Time } from "../../../ui/parts.js";

/** The key that new versions are sealed with. */
export function VaultKey({ status }: { status: wire.CmekStatus }) {
  return (
    <dl class="facts">
      <dt>State</dt>
      <dd>
        <Badge kind="sealed">enabled</Badge>
      </dd>
      <dt>Fingerprint</dt>
      <dd>
        <Id value={status.fingerprint ?? ""} what="the fingerprint" />
      </dd>
      <dt>Since</dt>
      <dd>{status.since ? <Time at={status.since} exact /> : "not known"}</dd>
      <dt>Blobs</dt>
      <dd>{status.blob_version === 2 ? "version 2, bound to vault, path and key" : "version 1"}</dd>
      <dt>Key check</dt>
      <dd>{status.key_check ? "kept: clients refuse a wrong key before they write" : "not kept"}</dd>
      <dt>In this tab</dt>
      <dd>{status.fingerprint && unlocked.value.has(status.fingerprint) ? "unlocked" : "locked: unlock with its key file to read and write values here"}</dd>
    </dl>
  );
}

/** Every key that a stored version needs. */
export function Inventory({ status, reencrypt }: { status: wire.CmekStatus; reencrypt: ((from: string) => void) | undefined }) {
  const keys = status.keys ?? [];
  return (
    <>
      <h3>Key inventory</h3>
      {keys.length === 0 ? <p class="quiet">No stored version is sealed with a CMEK key.</p> : <Keys keys={keys} own={status.fingerprint} reencrypt={reencrypt} />}
      {status.plain ? <p class="hint">{versions(status.plain)} not sealed. Write the newest ones again to seal them.</p> : null}
      {status.damaged ? <p class="notice">{versions(status.damaged)} damaged in the store: what they need is not known.</p> : null}
    </>
  );
}

function Keys({ keys, own, reencrypt }: { keys: NonNullable<wire.CmekStatus["keys"]>; own: string | undefined; reencrypt: ((from: string) => void) | undefined }) {
  return (
    <Table label="Key inventory" columns={["Key", "Opens", "Of these the newest", "First written", "Use"]}>
      {keys.map((k) => (
        <tr key={k.fingerprint}>
          <td>
            <Id value={k.fingerprint} what="the fingerprint" />
          </td>
          <td class="nowrap">{k.versions === 1 ? "1 version" : `${k.versions.toLocaleString()} versions`}</td>
          <td>{k.newest.toLocaleString()}</td>
          <td>{k.versions > 0 ? <Time at={k.oldest} /> : "–"}</td>
          <td>
            {k.fingerprint === own ? (
              <Badge kind="sealed">the vault's key</Badge>
            ) : reencrypt ? (
              <button type="button" class="small" onClick={() => reencrypt(k.fingerprint)}>
                Re-encrypt to the vault's key
              </button>
            ) : (
              <span class="quiet">reading only</span>
            )}
          </td>
        </tr>
      ))}
    </Table>
  );
}

const versions = (n: number) => (n === 1 ? "1 stored version is" : `${n.toLocaleString()} stored versions are`);
