// Which events are shown.

import { useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { Field } from "../../ui/form.js";
import { fromLocal } from "../../ui/local.js";

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

export function FilterForm({ filter, apply }: { filter: Filter; apply: (filter: Filter) => void }) {
  const [draft, setDraft] = useState(filter);
  const field = (name: keyof Filter) => ({ value: draft[name], onValue: (value: string) => setDraft((d) => ({ ...d, [name]: value })) });
  const submit = (e: Event) => {
    e.preventDefault();
    apply(draft);
  };
  return (
    <form class="card filter" onSubmit={submit} aria-label="Filter of events" role="search">
      <Field label="Actor" placeholder="ID of a user or an agent" {...field("actor")} />
      <Field label="Action" placeholder="secret.read" {...field("action")} />
      <Field label="Resource" placeholder="ID of it, or of its vault" {...field("resource")} />
      <Field label="From" type="datetime-local" {...field("from")} />
      <Field label="Before" type="datetime-local" {...field("to")} />
      <div class="actions">
        <button type="submit" class="primary">
          Show these events
        </button>
        <button
          type="button"
          onClick={() => {
            setDraft(noFilter);
            apply(noFilter);
          }}
        >
          Show all
        </button>
      </div>
    </form>
  );
}
