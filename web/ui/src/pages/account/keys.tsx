// The user's API keys, and the org's for those who may make them.

import { useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { useLoad } from "../../load.js";
import { runsOrg } from "../../rights.js";
import { client } from "../../session.js";
import { Confirm, Dialog } from "../../ui/dialog.js";
import { Choice, Field, Form } from "../../ui/form.js";
import { Once } from "../../ui/once.js";
import { Badge, Head, Table, Time } from "../../ui/parts.js";
import { Empty, Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";

/** What is open over the list. */
type Open = { what: "create" } | { what: "made"; made: wire.ApiKeyCreated } | { what: "delete"; key: wire.ApiKey };

export function ApiKeys() {
  const [open, setOpen] = useState<Open>();
  const keys = useLoad(() => client.apiKeys.list(), []);
  const close = () => setOpen(undefined);
  const made = (answer: wire.ApiKeyCreated) => {
    keys.reload();
    setOpen({ what: "made", made: answer });
  };
  const deleted = () => {
    toast("Deleted the API key");
    keys.reload();
    close();
  };
  return (
    <>
      <Head title="API keys" level={2}>
        <button type="button" onClick={() => setOpen({ what: "create" })}>
          Create an API key
        </button>
      </Head>
      <Show of={keys} what="API keys">
        {({ keys }) => (keys.length === 0 ? <None /> : <List keys={keys} remove={(key) => setOpen({ what: "delete", key })} />)}
      </Show>
      {open?.what === "create" && <Create done={made} close={close} />}
      {open?.what === "made" && (
        <Once title={`The key ${open.made.key.name}`} what="the API key" text={open.made.api_key} file="keyfold-api-key.txt" close={close}>
          <p>This key is shown now and never again. Programs take it from KEYFOLD_API_KEY.</p>
        </Once>
      )}
      {open?.what === "delete" && (
        <Confirm title={`Delete ${nameOf(open.key)}`} submit="Delete the key" send={() => client.apiKeys.delete(open.key.id)} done={deleted} close={close}>
          <p>Programs that use this key are refused from now on.</p>
        </Confirm>
      )}
    </>
  );
}

function None() {
  return (
    <Empty title="No API keys yet">
      <p>An API key lets a program act for you. For a program that should do less, make an agent.</p>
    </Empty>
  );
}

const nameOf = (key: wire.ApiKey) => key.name || `${key.key_prefix}…`;

function List({ keys, remove }: { keys: wire.ApiKey[]; remove: (key: wire.ApiKey) => void }) {
  return (
    <Table label="API keys" columns={["Name", "Begins with", "Scopes", "Created", "Last used", "Expires", { name: "Actions", kind: "sr" }]}>
      {keys.map((key) => (
        <tr key={key.id}>
          <td>
            {key.name ? <strong>{key.name}</strong> : <span class="quiet">no name</span>} {key.role && <Badge>{key.role}</Badge>} {!key.is_active && <Badge kind="bad">expired</Badge>}
          </td>
          <td>
            <code>{key.key_prefix}…</code>
          </td>
          <td>{key.scopes.length === 0 ? <span class="quiet">no limit</span> : <code>{key.scopes.join(", ")}</code>}</td>
          <td class="nowrap">
            <Time at={key.created_at} />
          </td>
          <td class="nowrap">
            <Time at={key.last_used_at} />
          </td>
          <td class="nowrap">
            <Time at={key.expires_at} />
          </td>
          <td class="end">
            <button type="button" class="small danger" aria-label={`Delete ${nameOf(key)}`} onClick={() => remove(key)}>
              Delete
            </button>
          </td>
        </tr>
      ))}
    </Table>
  );
}

const roles = [
  ["", "You"],
  ["frontend", "The org, from pages and apps"],
  ["backend", "The org, from its servers"],
] as const;

function Create({ done, close }: { done: (made: wire.ApiKeyCreated) => void; close: () => void }) {
  const [name, setName] = useState("");
  const [role, setRole] = useState("");
  const [scopes, setScopes] = useState("");
  const [expires, setExpires] = useState("");
  const send = () =>
    client.apiKeys.create({
      name: name.trim(),
      role: role as "" | "frontend" | "backend",
      scopes: scopes.split(/[\s,]+/).filter(Boolean),
      ...(expires === "" ? {} : { expires_at: new Date(expires).toISOString() }),
    });
  return (
    <Dialog title="Create an API key" close={close}>
      <Form submit="Create the key" send={send} done={done} cancel={close}>
        <Field label="Name" hint="Where it is used" required maxLength={200} value={name} onValue={setName} />
        {runsOrg() && <Choice label="Acts for" value={role} onValue={setRole} options={roles} />}
        <Field label="Scopes" hint="Patterns of paths, such as prod/*; empty: no limit" value={scopes} onValue={setScopes} />
        <Field label="Expires" hint="In your time zone; empty: never" type="datetime-local" value={expires} onValue={setExpires} />
      </Form>
    </Dialog>
  );
}
