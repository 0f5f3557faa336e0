// Events in a table: who did what to what, and how it ended.

import { Fragment } from "preact";
import type { wire } from "@keyfold/sdk";
import { Badge, Table, Time } from "../../ui/parts.js";

const kinds: Record<string, "good" | "warn" | "bad" | "plain"> = { refused: "warn", failed: "bad", done: "good" };

export function Outcome({ outcome }: { outcome: string }) {
  return <Badge kind={kinds[outcome] ?? "plain"}>{outcome}</Badge>;
}

export function EventTable({ events, short }: { events: wire.AuditEvent[]; short?: boolean }) {
  const columns = ["Time", "Who", "Action", "Outcome", "Resource"];
  return (
    <Table label="Events" columns={short ? columns : [...columns, "More"]}>
      {events.map((e) => (
        <tr key={e.id}>
          <td>
            <Time at={e.created_at} />
          </td>
          <td>
            <Party type={e.actor_type} id={e.actor_id} />
          </td>
          <td>
            <code>{e.action}</code>
          </td>
          <td>
            <Outcome outcome={e.outcome} />
          </td>
          <td>
            <Party type={e.resource_type} id={e.resource_id} />
            {e.details?.["path"] !== undefined && <div>{e.details["path"]}</div>}
          </td>
          {!short && (
            <td>
              <More event={e} />
            </td>
          )}
        </tr>
      ))}
    </Table>
  );
}

/** What kind of thing it is, and enough of its ID to know it again; the facts have all of it. */
function Party({ type, id }: { type: string; id: string }) {
  return (
    <>
      {type.replaceAll("_", " ")} {id && <code title={id}>{id.length > 20 ? `${id.slice(0, 8)}…${id.slice(-6)}` : id}</code>}
    </>
  );
}

/** What else the server recorded of an event. */
function More({ event }: { event: wire.AuditEvent }) {
  const facts: [string, string | undefined][] = [
    ["actor", event.actor_id],
    ["resource", event.resource_id],
    ...Object.entries(event.details ?? {}),
    ["address", event.ip_address],
    ["request", event.request_id],
    ["event", event.id],
    ["hash", event.integrity_hash],
  ];
  return (
    <details>
      <summary>Facts</summary>
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
    </details>
  );
}
