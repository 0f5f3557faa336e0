// Who may do what in a vault: its policies, and who can read a secret and why.

import { useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { rank, type Person } from "../../decide.js";
import { useLoad } from "../../load.js";
import { madeIt, runsOrg } from "../../rights.js";
import { client } from "../../session.js";
import { Confirm } from "../../ui/dialog.js";
import { Badge, Head, Table, Time } from "../../ui/parts.js";
import { Empty, Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { Editor } from "./access/editor.js";
import { readPeople, refOf, withNamed } from "./access/people.js";
import { Readers } from "./access/readers.js";
import "./access/access.css";

/** What is open over the page. */
type Open = { what: "create" } | { what: "edit" | "delete"; policy: wire.Policy };

export default function Access({ vault }: { vault: wire.Vault; reload: () => void }) {
  if (runsOrg() || madeIt(vault)) return <Managed vault={vault} />;
  return (
    <>
      <Head title="Policies" level={2} />
      <Empty title="The policies of this vault are not for you to see">
        <p>Who made the vault, and the owners and admins of the org, say here who may do what. What you may read is under Secrets; ask them for more.</p>
      </Empty>
    </>
  );
}

/** What those see who may change the policies. */
function Managed({ vault }: { vault: wire.Vault }) {
  const [open, setOpen] = useState<Open>();
  const policies = useLoad(() => client.policies.list(vault.id), [vault.id]);
  const people = useLoad(readPeople, []);
  const secrets = useLoad(() => client.secrets.list(vault.id), [vault.id]);
  const all = withNamed(people.data ?? [], policies.data?.policies ?? []);
  const close = () => setOpen(undefined);
  const changed = (note: string) => {
    toast(note);
    policies.reload();
    close();
  };
  return (
    <>
      <Head title="Policies" level={2}>
        {policies.data && (
          <button type="button" class="primary" onClick={() => setOpen({ what: "create" })}>
            Create a policy
          </button>
        )}
      </Head>
      <Show of={policies} what="policies">
        {({ policies: list }) => (
          <>
            <Policies policies={list} people={all} open={setOpen} />
            <Readers vault={vault} policies={list} people={all} secrets={secrets.data?.secrets ?? []} />
          </>
        )}
      </Show>
      {(open?.what === "create" || open?.what === "edit") && (
        <Editor
          vault={vault}
          people={all}
          paths={secrets.error ? undefined : secrets.data?.secrets.map((s) => s.path)}
          policy={open.what === "edit" ? open.policy : undefined}
          close={close}
          done={() => changed(open.what === "edit" ? "Saved the policy" : "Created the policy")}
        />
      )}
      {open?.what === "delete" && (
        <Confirm title="Delete the policy" submit="Delete the policy" send={() => client.policies.delete(vault.id, open.policy.id)} done={() => changed("Deleted the policy")} close={close}>
          <p>
            The policy for <strong>{nameOf(all, open.policy)}</strong> on <code>{open.policy.secret_path_pattern}</code> counts no more from the next request on.
            {open.policy.effect === "deny" && " It is a deny: what it forbids may be allowed by other policies then."}
          </p>
        </Confirm>
      )}
    </>
  );
}

function Policies({ policies, people, open }: { policies: wire.Policy[]; people: Person[]; open: (what: Open) => void }) {
  if (policies.length === 0) {
    return (
      <Empty title="No policies yet">
        <p>Only who created the vault can use its secrets. A policy lets another user, or an agent, read or change those whose paths match a pattern.</p>
      </Empty>
    );
  }
  return (
    <Table label="Policies" columns={["Who", "Paths", "May", "Priority", "When", "Actions"]}>
      {[...policies].sort(rank).map((policy) => (
        <tr key={policy.id}>
          <td>
            {nameOf(people, policy)} <span class="quiet">{policy.principal_type}</span>
          </td>
          <td>
            <code>{policy.secret_path_pattern}</code>
          </td>
          <td>
            <Badge kind={policy.effect === "deny" ? "bad" : "good"}>{policy.effect === "deny" ? "may not" : "may"}</Badge> {policy.permissions.join(", ")}
          </td>
          <td>{policy.priority ?? 0}</td>
          <td>
            <When policy={policy} />
          </td>
          <td>
            <div class="actions of-row">
              <button type="button" class="small" aria-label={`Edit the policy on ${policy.secret_path_pattern} for ${nameOf(people, policy)}`} onClick={() => open({ what: "edit", policy })}>
                Edit
              </button>
              <button type="button" class="small" aria-label={`Delete the policy on ${policy.secret_path_pattern} for ${nameOf(people, policy)}`} onClick={() => open({ what: "delete", policy })}>
                Delete
              </button>
            </div>
          </td>
        </tr>
      ))}
    </Table>
  );
}

/** Under which conditions a policy counts. */
function When({ policy: { conditions, expires_at } }: { policy: wire.Policy }) {
  const hours = conditions?.time_window;
  if (!conditions && expires_at === undefined) return <span class="quiet">always</span>;
  return (
    <ul class="conditions">
      {conditions?.ip_allowlist && <li>from {conditions.ip_allowlist.join(", ")}</li>}
      {hours && (
        <li>
          {hours.after ?? "00:00"} to {hours.before ?? "24:00"} {hours.timezone ?? "UTC"} {hours.weekdays?.join(", ")}
        </li>
      )}
      {conditions?.environment_in && <li>in the environment {conditions.environment_in.join(", ")}</li>}
      {expires_at !== undefined && (
        <li>
          {new Date(expires_at) <= new Date() ? <Badge kind="bad">ended</Badge> : "ends"} <Time at={expires_at} exact />
        </li>
      )}
    </ul>
  );
}

function nameOf(people: Person[], policy: wire.Policy): string {
  const ref = refOf(policy.principal_type, policy.principal_id);
  return people.find((p) => refOf(p.kind, p.id) === ref)?.name ?? policy.principal_id;
}
