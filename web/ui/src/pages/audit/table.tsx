// Events in a table: who did what to what, and how it ended.

import { Fragment } from "preact";
import { useId, useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { Badge, Table, Time, type Column } from "../../ui/parts.js";
import type { Names } from "./names.js";

const kinds: Record<string, "good" | "warn" | "bad"> = { refused: "warn", failed: "bad", done: "good" };

/** How a call ended; that it was allowed is the rule, and said without emphasis. */
export function Outcome({ outcome }: { outcome: string }) {
  const kind = kinds[outcome];
  return kind ? <Badge kind={kind}>{outcome}</Badge> : <span class="quiet">{outcome}</span>;
}

const columns: readonly (string | Column)[] = ["Time", "Who", "Action", "Resource", "Outcome"];

export interface EventTableProps {
  events: readonly wire.AuditEvent[];
  names: Names["of"];
  /** Without the facts of each event, and with times that say how long ago it was. */
  short?: boolean;
}

export function EventTable({ events, names, short = false }: EventTableProps) {
  return (
    <Table label="Events" columns={short ? columns : [...columns, { name: "Facts", kind: "sr" }]}>
      {events.map((e) => (
        <Row key={e.id} event={e} names={names} short={short} />
      ))}
    </Table>
  );
}

function Row({ event: e, names, short }: { event: wire.AuditEvent; names: Names["of"]; short: boolean }) {
  const [open, setOpen] = useState(false);
  const id = useId();
  return (
    <>
      <tr>
        <td>
          <Time at={e.created_at} exact={short ? false : "second"} />
        </td>
        <td>
          <Party type={e.actor_type} id={e.actor_id} name={names(e.actor_id)} />
        </td>
        <td>
          <code>{e.action}</code>
        </td>
        <td>
          <Resource event={e} names={names} />
        </td>
        <td>
          <Outcome outcome={e.outcome} />
        </td>
        {!short && (
          <td class="end">
            <button type="button" class="small" aria-expanded={open} aria-controls={id} onClick={() => setOpen(!open)}>
              Facts
            </button>
          </td>
        )}
      </tr>
      {open && (
        <tr class="more" id={id}>
          <td colSpan={columns.length + 1}>
            <Facts event={e} />
          </td>
        </tr>
      )}
    </>
  );
}

/** What kind of thing it is, and its name, or enough of its ID to know it again; the facts have all of it. */
function Party({ type, id, name }: { type: string; id: string; name: string | undefined }) {
  if (name === "you") return <>you</>;
  return (
    <>
      <span class="quiet">{type.replaceAll("_", " ")}</span> {name ?? (id && <code title={id}>{id.length > 20 ? `${id.slice(0, 8)}…${id.slice(-6)}` : id}</code>)}
    </>
  );
}

/** The thing, and the vault that it is in. */
function Resource({ event: { resource_type, resource_id, details, org_id }, names }: { event: wire.AuditEvent; names: Names["of"] }) {
  const { path, vault_id } = details;
  const vault = vault_id && vault_id !== resource_id ? names(vault_id) : undefined;
  if (path !== undefined) {
    return (
      <>
        <code>{path}</code> {vault && <span class="quiet">in {vault}</span>}
      </>
    );
  }
  return (
    <>
      <Party type={resource_type} id={resource_id === org_id ? "" : resource_id} name={resource_id ? names(resource_id) : undefined} /> {vault && <span class="quiet">in {vault}</span>}
    </>
  );
}

/** What else the server recorded of an event. */
function Facts({ event }: { event: wire.AuditEvent }) {
  const facts: [string, string | undefined][] = [
    ["actor", event.actor_id],
    ["resource", event.resource_id],
    ...Object.entries(event.details ?? {}),
    ["address", event.ip_address],
    ["request", event.request_id],
    ["event", event.id],
    ["hash", event.integrity_hash],
    ["hash before", event.prev_hash],
  ];
  return (
    <dl class="facts">
      {facts.map(
        ([name, value]) =>
          value && (
            <Fragment key={name}>
              <dt>{name}</dt>
              <dd>
                <code>{value}</code>
              </dd>
            </Fragment>
          ),
      )}
    </dl>
  );
}
