// The overview: what there is, what is rotating, what is due, and what happened last.

import { useEffect } from "preact/hooks";
import { useEvery, useLoad } from "../load.js";
import { client } from "../session.js";
import { ForgetKey, Operator } from "../ui/operator.js";
import { Badge, Head, Table } from "../ui/parts.js";
import { Empty, Show } from "../ui/state.js";
import { EventTable } from "./audit/table.js";
import { JobBadge, JobProgress } from "./jobs/state.js";
import { rotations } from "./jobs/rotations.js";
import { Due } from "./overview/due.js";
import { Calls } from "./overview/calls.js";
import { ServerNow } from "./overview/server.js";

export default function Overview() {
  useEffect(() => void (document.title = "Overview · Keyfold"), []);
  return (
    <>
      <Head title="Overview">
        <ForgetKey />
      </Head>
      <Health />
      <div class="grid">
        <Vaults />
        <Rotating />
      </div>
      <Due />
      <Calls />
      <Recent />
      <Operator what="Threads, messages and jobs of the whole server, as they change, are for operators. Give an admin key to see them.">{(admin) => <ServerNow client={admin} />}</Operator>
    </>
  );
}

/** Says so when the server does not do all of its work; when it does, nothing. */
function Health() {
  const health = useLoad(() => client.health(), []);
  useEvery(30_000, health.reload);
  const { status, encryption } = health.data ?? {};
  if (status === undefined || status === "healthy") return null;
  return (
    <div class="notice" role="status">
      {encryption === "off" && "Messages of threads are stored in clear on this server, as its operator wants. "}
      {encryption === "incomplete" && "Not all threads are encrypted yet: the operator has to start that. "}
      {!encryption && "A part of the server does not answer: the store or the key process. Keys says which."}
    </div>
  );
}

const shown = 5;

function Vaults() {
  const vaults = useLoad(() => client.vault.list(), []);
  return (
    <section class="card" aria-label="Vaults">
      <Head level={2} title="Vaults">
        <a href="/ui/vaults">All vaults</a>
      </Head>
      <Show of={vaults} what="vaults">
        {({ vaults: list }) =>
          list.length === 0 ? (
            <p class="quiet">
              There are none yet. <a href="/ui/vaults">Create one</a> to keep secrets in.
            </p>
          ) : (
            <>
              <dl class="numbers">
                <div>
                  <dt>{list.length === 1 ? "vault" : "vaults"}</dt>
                  <dd>{list.length.toLocaleString()}</dd>
                </div>
                <div>
                  <dt>sealed with your own key</dt>
                  <dd>{list.filter((v) => v.cmek_enabled).length.toLocaleString()}</dd>
                </div>
              </dl>
              <ul class="plain">
                {list.slice(0, shown).map((v) => (
                  <li key={v.id}>
                    <a href={`/ui/vaults/${v.id}`}>{v.name}</a> {v.cmek_enabled && <Badge kind="sealed">sealed</Badge>}
                  </li>
                ))}
              </ul>
            </>
          )
        }
      </Show>
    </section>
  );
}

function Rotating() {
  const jobs = useLoad(rotations, []);
  useEvery(3_000, () => jobs.data?.some((j) => j.status === "running") && jobs.reload());
  return (
    <section class="card" aria-label="Rotating">
      <Head level={2} title="Rotating">
        <a href="/ui/jobs">All jobs</a>
      </Head>
      <Show of={jobs} what="rotations">
        {(list) => {
          const under = list.filter((j) => j.status === "running" || j.status === "interrupted");
          if (under.length === 0) return <p class="quiet">No CMEK key is being rotated.</p>;
          return (
            <Table label="CMEK rotations under way" columns={["Vault", "Status", "Versions"]}>
              {under.map((j) => (
                <tr key={j.id}>
                  <td>
                    <a href={`/ui/vaults/${j.vault.id}/settings`}>{j.vault.name}</a>
                  </td>
                  <td>
                    <JobBadge status={j.status} />
                  </td>
                  <td>
                    <JobProgress status={j.status} done={j.processed} of={j.total_secrets} label={`Rotation of ${j.vault.name}`} />
                  </td>
                </tr>
              ))}
            </Table>
          );
        }}
      </Show>
    </section>
  );
}

function Recent() {
  const events = useLoad(() => client.audit.list({ limit: 8 }), []);
  return (
    <>
      <Head level={2} title="Recent events">
        <a href="/ui/audit">The whole trail</a>
      </Head>
      <Show of={events} what="events">
        {({ events: list }) => (list.length === 0 ? <Empty title="No events yet" /> : <EventTable events={list} short />)}
      </Show>
    </>
  );
}
