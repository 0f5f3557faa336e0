// What happened in a vault, from the audit trail of the org.

import { useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { Choice, Field } from "../../ui/form.js";
import { Badge, Table, Time } from "../../ui/parts.js";
import { Empty, Loading, Problem } from "../../ui/state.js";
import { useEvents } from "../audit/pages.js";
import { useNames } from "./secrets-versions.js";

const actions = [
  ["", "All"],
  ["secret.read", "Secrets read"],
  ["secret.written", "Secrets written"],
  ["secret.deleted", "Secrets deleted"],
  ["secret.disable_version", "Versions disabled"],
  ["policy.create", "Policies created"],
  ["policy.update", "Policies changed"],
  ["policy.delete", "Policies deleted"],
  ["vault.cmek_enable", "CMEK enabled"],
  ["vault.cmek_disable", "CMEK disabled"],
  ["vault.cmek_rotate", "CMEK rotated"],
] as const;

export default function VaultAudit({ vault }: { vault: wire.Vault }) {
  const [action, setAction] = useState("");
  const [from, setFrom] = useState("");
  const [to, setTo] = useState("");
  const query: wire.AuditQuery = { resource_id: vault.id, ...(action && { action }), ...(from && { from: new Date(from).toISOString() }), ...(to && { to: new Date(to).toISOString() }) };
  const list = useEvents(query, [vault.id, action, from, to]);
  return (
    <>
      <div class="filters" role="search" aria-label="Events">
        <Choice label="What" value={action} onValue={setAction} options={actions} />
        <Field label="From" type="datetime-local" value={from} onValue={setFrom} />
        <Field label="Before" type="datetime-local" value={to} onValue={setTo} />
        <button type="button" onClick={list.reload}>
          Read again
        </button>
      </div>
      <Problem error={list.error} retry={list.reload} />
      {list.items ? <Events events={list.items} /> : !list.error && <Loading what="the events" />}
      {list.more && (
        <div class="actions">
          <button type="button" disabled={list.loading} aria-busy={list.loading} onClick={list.more}>
            Read older events
          </button>
        </div>
      )}
    </>
  );
}

function Events({ events }: { events: wire.AuditEvent[] }) {
  const names = useNames();
  if (events.length === 0)
    return (
      <Empty title="No such event">
        <p>Nothing of this kind was recorded in this vault in this time.</p>
      </Empty>
    );
  return (
    <Table label="Events" columns={["When", "Who", "What", "Path", "Outcome", "Address"]}>
      {events.map((e) => (
        <Event key={e.id} event={e} name={names(e)} />
      ))}
    </Table>
  );
}

const kinds = { allowed: "plain", done: "good", refused: "warn", failed: "bad" } as const;

function Event({ event: e, name }: { event: wire.AuditEvent; name: string }) {
  const version = e.details["version"];
  return (
    <tr>
      <td>
        <Time at={e.created_at} exact />
      </td>
      <td class="nowrap">{name}</td>
      <td>
        <code>{e.action}</code>
      </td>
      <td>
        {e.details["path"] ? <code>{e.details["path"]}</code> : <span class="quiet">–</span>}
        {version && <span class="quiet"> version {version}</span>}
      </td>
      <td>
        <Badge kind={kinds[e.outcome]}>{e.outcome}</Badge>
      </td>
      <td class="quiet">{e.ip_address}</td>
    </tr>
  );
}
