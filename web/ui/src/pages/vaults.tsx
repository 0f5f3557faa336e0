// The vaults of the org that the user may see.

import { useLocation } from "preact-iso";
import { useEffect, useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { useLoad } from "../load.js";
import { madeIt } from "../rights.js";
import { client } from "../session.js";
import { Confirm, Dialog } from "../ui/dialog.js";
import { Field, Form } from "../ui/form.js";
import { Head, Table, Time } from "../ui/parts.js";
import { Empty, Show } from "../ui/state.js";
import { toast } from "../ui/toast.js";
import { Shares, useShares } from "./vault/secrets-share.js";
import { KeyBadge } from "./vault/unlock.js";

export default function Vaults() {
  const vaults = useLoad(() => client.vault.list(), []);
  const shares = useShares();
  const [making, setMaking] = useState(false);
  const [dropping, setDropping] = useState<wire.Vault>();
  const { route } = useLocation();
  useEffect(() => void (document.title = "Vaults · Keyfold"), []);
  const make = () => setMaking(true);
  return (
    <>
      <Head title="Vaults">
        <button type="button" class="primary" onClick={make}>
          Create a vault
        </button>
      </Head>
      <Show of={vaults} what="the vaults">
        {(data) => (data.vaults.length === 0 ? <NoVault make={make} /> : <List vaults={data.vaults} drop={setDropping} />)}
      </Show>
      {vaults.data && <Shares of={shares} which={() => true} paths />}
      {making && <Create close={() => setMaking(false)} done={(v) => route(`/ui/vaults/${v.id}`)} />}
      {dropping && (
        <DeleteVault
          vault={dropping}
          close={() => setDropping(undefined)}
          done={() => {
            setDropping(undefined);
            vaults.reload();
          }}
        />
      )}
    </>
  );
}

function NoVault({ make }: { make: () => void }) {
  return (
    <Empty title="No vault yet">
      <p>A vault holds secrets, says who may read them, and can be sealed with a key that only you have.</p>
      <button type="button" class="primary" onClick={make}>
        Create the first vault
      </button>
    </Empty>
  );
}

function List({ vaults, drop }: { vaults: wire.Vault[]; drop: (vault: wire.Vault) => void }) {
  return (
    <Table label="Vaults" columns={["Name", "Description", "Customer-managed key", "Created", { name: "Actions", kind: "sr" }]}>
      {vaults.map((v) => (
        <tr key={v.id}>
          <td>
            <a href={`/ui/vaults/${v.id}`}>{v.name}</a>
          </td>
          <td class="quiet">{v.description}</td>
          <td>{v.cmek_enabled ? <KeyBadge vault={v} /> : <span class="quiet">none</span>}</td>
          <td>
            <Time at={v.created_at} />
          </td>
          <td class="end">
            {madeIt(v) && (
              <button type="button" class="small" aria-label={`Delete ${v.name}`} onClick={() => drop(v)}>
                Delete
              </button>
            )}
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Create({ close, done }: { close: () => void; done: (vault: wire.Vault) => void }) {
  const [name, setName] = useState("");
  const [description, setDescription] = useState("");
  const request = { name, ...(description && { description }) };
  return (
    <Dialog title="Create a vault" close={close}>
      <Form submit="Create" send={() => client.vault.create(request)} done={done} cancel={close}>
        <Field label="Name" required maxLength={200} value={name} onValue={setName} />
        <Field label="Description" hint="Stored in the clear" value={description} onValue={setDescription} />
      </Form>
    </Dialog>
  );
}

function DeleteVault({ vault, close, done }: { vault: wire.Vault; close: () => void; done: () => void }) {
  const deleted = () => {
    toast(`Deleted ${vault.name}`);
    done();
  };
  return (
    <Confirm title="Delete a vault" name={vault.name} submit="Delete the vault" send={() => client.vault.delete(vault.id)} done={deleted} close={close}>
      <p>
        <strong>{vault.name}</strong> goes with all its secrets, versions and policies. Nobody can bring them back.
      </p>
    </Confirm>
  );
}
