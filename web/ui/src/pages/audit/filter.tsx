// Which events are shown.

import { useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { Field } from "../../ui/form.js";
import { fromLocal, toLocal } from "../../ui/local.js";
import type { Names } from "./names.js";

/** As the fields have it; from and to are in the user's zone. */
export interface Filter {
  actor: string;
  action: string;
  resource: string;
  from: string;
  to: string;
}

export const noFilter: Filter = { actor: "", action: "", resource: "", from: "", to: "" };

/** The bounds in time, for the server. */
export function timesOf({ from, to }: Filter): Pick<wire.AuditQuery, "from" | "to"> {
  return { ...(from ? { from: fromLocal(from) } : {}), ...(to ? { to: fromLocal(to) } : {}) };
}

/** The whole filter, for the server. */
export function queryOf(filter: Filter): wire.AuditQuery {
  const { actor, action, resource } = filter;
  return {
    ...(actor.trim() ? { actor_id: actor.trim() } : {}),
    ...(action.trim() ? { action: action.trim() } : {}),
    ...(resource.trim() ? { resource_id: resource.trim() } : {}),
    ...timesOf(filter),
  };
}

/** Actions that are looked for most; the field takes any. */
const actions = [
  ["secret.read", "a secret is read"], ["secret.written", "a secret was written"], ["secret.deleted", "a secret was deleted"], ["auth.success", "a sign-in"], ["auth.failure", "a sign-in that failed"],
  ["vault.create", "a vault is made"], ["vault.delete", "a vault is deleted"], ["vault.cmek_enable", "CMEK is enabled"], ["vault.cmek_disable", "CMEK is disabled"], ["vault.cmek_rotate", "a CMEK key is rotated"],
  ["policy.create", "a policy is made"], ["policy.update", "a policy is changed"], ["policy.delete", "a policy is deleted"], ["agent.register", "an agent is made"], ["audit.read", "the trail is read"],
] as const;

const hour = 60 * 60_000;
const spans = [
  [hour, "Last hour"],
  [24 * hour, "Last day"],
  [7 * 24 * hour, "Last week"],
] as const;

export function FilterForm({ filter, names, apply }: { filter: Filter; names: Names; apply: (filter: Filter) => void }) {
  const [draft, setDraft] = useState(filter);
  const field = (name: keyof Filter) => ({ value: draft[name], onValue: (value: string) => setDraft((d) => ({ ...d, [name]: value })) });
  const show = (next: Filter) => {
    setDraft(next);
    apply(next);
  };
  return (
    <form
      class="card filter"
      onSubmit={(e) => {
        e.preventDefault();
        apply(draft);
      }}
      aria-label="Filter of events"
      role="search"
    >
      <Field label="Actor" placeholder="ID of a user or an agent" options={names.people} {...field("actor")} />
      <Field label="Action" placeholder="secret.read" options={actions} {...field("action")} />
      <Field label="Resource" placeholder="ID of it, or of its vault" options={names.vaults} {...field("resource")} />
      <Field label="From" type="datetime-local" {...field("from")} />
      <Field label="Before" type="datetime-local" {...field("to")} />
      <div class="actions">
        <button type="submit" class="primary">
          Show these events
        </button>
        {spans.map(([ms, text]) => (
          <button key={text} type="button" onClick={() => show({ ...draft, from: toLocal(new Date(Date.now() - ms).toISOString()), to: "" })}>
            {text}
          </button>
        ))}
        <button type="button" onClick={() => show(noFilter)}>
          Show all
        </button>
      </div>
    </form>
  );
}
