// The user's passkeys: keys in his devices that sign in without a password.

import { useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { useLoad } from "../../load.js";
import { client } from "../../session.js";
import { Confirm, Dialog } from "../../ui/dialog.js";
import { Field, Form } from "../../ui/form.js";
import { Badge, Head, Table, Time } from "../../ui/parts.js";
import { Empty, Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";

/** What is open over the list. */
type Open = { what: "add" } | { what: "remove"; key: wire.Passkey };

export function Passkeys() {
  const [open, setOpen] = useState<Open>();
  const keys = useLoad(() => client.auth.passkeys.list(), []);
  if (keys.error?.type === "not_found") return <Nowhere />;
  const changed = (text: string) => {
    toast(text);
    setOpen(undefined);
    keys.reload();
  };
  const close = () => setOpen(undefined);
  return (
    <>
      <Head title="Passkeys" level={2}>
        <button type="button" onClick={() => setOpen({ what: "add" })}>
          Add a passkey
        </button>
      </Head>
      <Show of={keys} what="passkeys">
        {({ passkeys }) => (passkeys.length === 0 ? <None /> : <List keys={passkeys} remove={(key) => setOpen({ what: "remove", key })} />)}
      </Show>
      {open?.what === "add" && <Add done={() => changed("Added the passkey")} close={close} />}
      {open?.what === "remove" && (
        <Confirm title={`Remove ${open.key.name}`} submit="Remove the passkey" send={() => client.auth.passkeys.delete(open.key.id)} done={() => changed("Removed the passkey")} close={close}>
          <p>It signs in no more. Your device may still offer it; delete it there, too.</p>
        </Confirm>
      )}
    </>
  );
}

/** A passkey belongs to a name, and the server was told none. */
function Nowhere() {
  return (
    <>
      <Head title="Passkeys" level={2} />
      <Empty title="No passkeys here">
        <p>
          They are for a server that knows its address. Whoever runs this one can set <code>public_url</code>.
        </p>
      </Empty>
    </>
  );
}

function None() {
  return (
    <Empty title="No passkeys yet">
      <p>A passkey signs you in by your finger, face or PIN, on this device or on a security key, in place of password and code. It works on this site alone, so nobody can talk you out of it.</p>
    </Empty>
  );
}

function List({ keys, remove }: { keys: wire.Passkey[]; remove: (key: wire.Passkey) => void }) {
  return (
    <Table label="Passkeys" columns={["Name", "Added", "Last used", { name: "Actions", kind: "sr" }]}>
      {keys.map((key) => (
        <tr key={key.id}>
          <td>
            <strong>{key.name}</strong> {key.clone_warning && <Badge kind="bad">copied: signs in no more</Badge>}
          </td>
          <td class="nowrap">
            <Time at={key.created_at} />
          </td>
          <td class="nowrap">
            <Time at={key.last_used_at} />
          </td>
          <td class="end">
            <button type="button" class="small danger" aria-label={`Remove ${key.name}`} onClick={() => remove(key)}>
              Remove
            </button>
          </td>
        </tr>
      ))}
    </Table>
  );
}

function Add({ done, close }: { done: () => void; close: () => void }) {
  const [name, setName] = useState("");
  return (
    <Dialog title="Add a passkey" close={close}>
      <Form submit="Add the passkey" send={() => client.auth.passkeys.register(name.trim())} done={done} cancel={close}>
        <Field label="Name" hint="Of the device that keeps it, such as: My phone" required maxLength={100} value={name} onValue={setName} />
        <p class="quiet">Your browser asks next where to keep it, and for your finger, face or PIN.</p>
      </Form>
    </Dialog>
  );
}
