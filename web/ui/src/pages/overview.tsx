// The overview: what there is, what is rotating, what is due, and what happened last.

import { useEffect } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { useEvery, useLoad, type Loaded } from "../load.js";
import { operator } from "../operator.js";
import { client } from "../session.js";
import { ForgetKey, Operator } from "../ui/operator.js";
import { Head } from "../ui/parts.js";
import { Show } from "../ui/state.js";
import { rotationsOf } from "./jobs/rotations.js";
import { Due } from "./overview/due.js";
import { dueOf } from "./overview/duework.js";
import { Calls, Recent, mostEvents } from "./overview/events.js";
import { Rotating } from "./overview/rotating.js";
import { ServerNow } from "./overview/server.js";
import { Tiles } from "./overview/tiles.js";

export default function Overview() {
  useEffect(() => void (document.title = "Overview · Keyfold"), []);
  const vaults = useLoad(() => client.vault.list(), []);
  const events = useLoad(() => client.audit.list({ limit: mostEvents }), []);
  return (
    <>
      <Head title="Overview">
        <ForgetKey />
      </Head>
      <Health />
      <Show of={vaults} what="the overview">
        {({ vaults: list }) => <OfVaults vaults={list} events={events} />}
      </Show>
      {operator.value && <ServerNow client={operator.value} />}
      <Calls events={events} />
      <Recent events={events} vaults={vaults.data?.vaults ?? []} />
      <Operator what="Requests, their errors, jobs and keys of the whole server are for operators. Give an admin key to see them.">{() => null}</Operator>
    </>
  );
}

/** What is told of the vaults, which are read once for all of it. */
function OfVaults({ vaults, events }: { vaults: wire.Vault[]; events: Loaded<wire.AuditEvents> }) {
  const due = useLoad(() => dueOf(vaults, operator.value), [vaults, operator.value]);
  const rotations = useLoad(() => rotationsOf(vaults), [vaults]);
  useEvery(1_000, () => rotations.data?.some((j) => j.status === "running") && rotations.reload());
  return (
    <>
      <Tiles vaults={vaults} due={due} rotations={rotations} events={events} />
      <Rotating rotations={rotations} />
      <Due found={due} />
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
