// What happened in a vault, from the audit trail of the org.

import { useEffect, useState } from "preact/hooks";
import type { ErrorInfo, wire } from "@keyfold/sdk";
import { settle, useLoad } from "../../load.js";
import { client } from "../../session.js";
import { Choice, Field } from "../../ui/form.js";
import { Badge, Table, Time } from "../../ui/parts.js";
import { Empty, Problem, Show } from "../../ui/state.js";
import { useNames } from "./secrets-versions.js";

const pageSize = 50;

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
  const query: wire.AuditQuery = { resource_id: vault.id, limit: pageSize, ...(action && { action }), ...(from && { from: new Date(from).toISOString() }), ...(to && { to: new Date(to).toISOString() }) };
  const first = useLoad(() => client.audit.list(query), [vault.id, action, from, to]);
  return (
    <>
      <div class="filters" role="search" aria-label="Events">
        <Choice label="What" value={action} onValue={setAction} options={actions} />
        <Field label="From" type="datetime-local" value={from} onValue={setFrom} />
        <Field label="Before" type="datetime-local" value={to} onValue={setTo} />
        <button type="button" onClick={first.reload}>
          Read again
        </button>
      </div>
      <Show of={first} what="the events">
        {(page) => <Events query={query} first={page} />}
      </Show>
    </>
  );
}

/** The query of the page after one; undefined: it was the last. */
function nextQuery(query: wire.AuditQuery, page: wire.AuditEvents): wire.AuditQuery | undefined {
  if (page.next_to !== undefined) return { ...query, to: page.next_to, offset: page.next_offset ?? 0 };
  return page.events.length < pageSize ? undefined : { ...query, offset: (query.offset ?? 0) + page.events.length };
}

function Events({ query, first }: { query: wire.AuditQuery; first: wire.AuditEvents }) {
  const [older, setOlder] = useState<wire.AuditEvent[]>([]);
  const [next, setNext] = useState<wire.AuditQuery>();
  const [error, setError] = useState<ErrorInfo | null>(null);
  const [busy, setBusy] = useState(false);
  const names = useNames();
  useEffect(() => {
    setOlder([]);
    setNext(nextQuery(query, first));
    setError(null);
  }, [first]);
  const more = async (at: wire.AuditQuery) => {
    setBusy(true);
    const got = await settle(() => client.audit.list(at));
    setBusy(false);
    setError(got.error);
    if (!got.data) return;
    setOlder([...older, ...got.data.events]);
    setNext(nextQuery(at, got.data));
  };
  const events = [...first.events, ...older];
  return (
    <>
      {events.length === 0 ? (
        <Empty title="No such event">
          <p>Nothing of this kind was recorded in this vault in this time.</p>
        </Empty>
      ) : (
        <Table label="Events" columns={["When", "Who", "What", "Path", "Outcome", "Address"]}>
          {events.map((e) => (
            <Event key={e.id} event={e} name={names(e)} />
          ))}
        </Table>
      )}
      <Problem error={error} />
      {next && (
        <div class="actions">
          <button type="button" disabled={busy} onClick={() => void more(next)}>
            Read older events
          </button>
        </div>
      )}
    </>
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
