// Events in a table: who did what to what, and how it ended.

import type { wire } from "@keyfold/sdk";
import { Badge, Id, Table, Time } from "../../ui/parts.js";

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
            <Party type={e.actor_type} id={e.actor_id} what="the actor's ID" />
          </td>
          <td>
            <code>{e.action}</code>
          </td>
          <td>
            <Outcome outcome={e.outcome} />
          </td>
          <td>
            <Party type={e.resource_type} id={e.resource_id} what="the resource's ID" />
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

function Party({ type, id, what }: { type: string; id: string; what: string }) {
  return (
    <>
      {type.replaceAll("_", " ")} {id && <Id value={id} what={what} />}
    </>
  );
}

/** What else the server recorded of an event. */
function More({ event }: { event: wire.AuditEvent }) {
  const facts: [string, string | undefined][] = [
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
              <>
                <dt key={`${name}-name`}>{name}</dt>
                <dd key={name}>
                  <code>{value}</code>
                </dd>
              </>
            ),
        )}
      </dl>
    </details>
  );
}
