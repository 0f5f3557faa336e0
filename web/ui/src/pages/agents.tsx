// The org's agents: programs with a key of their own.

import { useEffect, useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { useLoad } from "../load.js";
import { usePaged } from "../paged.js";
import { client } from "../session.js";
import { Confirm } from "../ui/dialog.js";
import { Badge, Head, Id, Table, Time } from "../ui/parts.js";
import { Empty, Loading, Problem } from "../ui/state.js";
import { toast } from "../ui/toast.js";
import { AgentForm } from "./agents/form.js";
import { KeyOnce, type NewKey } from "./agents/key.js";

const pageSize = 50;

/** An agent, and when its key ends, which the list tells. */
interface Known extends wire.Agent {
  keyExpires?: string | undefined;
}

/** What is open over the list. */
type Open = { what: "create" } | { what: "edit" | "rotate" | "delete"; agent: Known } | { what: "key"; key: NewKey };

export default function Agents() {
  useEffect(() => void (document.title = "Agents · Keyfold"), []);
  const [open, setOpen] = useState<Open>();
  const vaults = useLoad(() => client.vault.list(), []);
  const agents = usePaged(async (cursor) => {
    const got = await client.agents.list(cursor === undefined ? { limit: pageSize } : { limit: pageSize, cursor });
    if (got.error) return got;
    const items = got.data.agents.map((a): Known => ({ ...a, keyExpires: got.data.api_keys_expire?.[a.id] }));
    return { ...got, data: { items, next: got.data.next_cursor } };
  }, []);
  const close = () => setOpen(undefined);
  const changed = (note: string) => {
    toast(note);
    agents.reload();
    close();
  };
  const made = (key: NewKey) => {
    agents.reload();
    setOpen({ what: "key", key });
  };
  const names = new Map(vaults.data?.vaults.map((v) => [v.id, v.name]));
  return (
    <>
      <Head title="Agents">
        <button type="button" class="primary" onClick={() => setOpen({ what: "create" })}>
          Create an agent
        </button>
      </Head>
      <Problem error={agents.error} retry={agents.reload} />
      {agents.items === undefined && agents.loading && <Loading what="agents" />}
      {agents.items?.length === 0 && (
        <Empty title="No agents yet">
          <p>An agent is a program with a key of its own. It reads what its policies allow, in the vaults that it is bound to.</p>
        </Empty>
      )}
      {agents.items && agents.items.length > 0 && <List agents={agents.items} names={names} open={setOpen} />}
      {agents.more && (
        <div class="actions">
          <button type="button" onClick={agents.more} disabled={agents.loading}>
            Show more
          </button>
        </div>
      )}
      {open && <Opened open={open} vaults={vaults.data?.vaults ?? []} close={close} changed={changed} made={made} />}
    </>
  );
}

function List({ agents, names, open }: { agents: Known[]; names: ReadonlyMap<string, string>; open: (what: Open) => void }) {
  return (
    <Table label="Agents" columns={["Name", "Bound to", "Scopes", "Token lives", "Key", "Last active", "Actions"]}>
      {agents.map((agent) => (
        <tr key={agent.id}>
          <td>
            <strong>{agent.name}</strong> <State agent={agent} />
            {agent.description && <p class="hint">{agent.description}</p>}
            <div>
              <Id value={agent.id} what="the agent's ID" />
            </div>
          </td>
          <td>{agent.vault_ids.length === 0 ? <span class="quiet">any vault</span> : agent.vault_ids.map((id) => names.get(id) ?? id).join(", ")}</td>
          <td>{agent.scopes.length === 0 ? <span class="quiet">what its policies say</span> : <code>{agent.scopes.join(", ")}</code>}</td>
          <td class="nowrap">{duration(agent.token_ttl_seconds)}</td>
          <td class="nowrap">
            <KeyState expires={agent.keyExpires} />
          </td>
          <td class="nowrap">
            <Time at={agent.last_active_at} />
          </td>
          <td>
            <div class="actions of-row">
              {(["edit", "rotate", "delete"] as const).map((what) => (
                <button key={what} type="button" class="small" aria-label={`${verbs[what]} ${agent.name}`} onClick={() => open({ what, agent })}>
                  {verbs[what]}
                </button>
              ))}
            </div>
          </td>
        </tr>
      ))}
    </Table>
  );
}

const verbs = { edit: "Edit", rotate: "Rotate key", delete: "Delete" } as const;

function State({ agent }: { agent: wire.Agent }) {
  if (!agent.is_active) return <Badge kind="bad">not active</Badge>;
  if (agent.expires_at === undefined) return null;
  if (new Date(agent.expires_at).getTime() <= Date.now()) return <Badge kind="bad">expired</Badge>;
  return (
    <Badge kind="warn">
      expires <Time at={agent.expires_at} />
    </Badge>
  );
}

const soon = 14 * 86_400_000; // ms

/** When the key ends; a key that has ended, or soon will, is pointed out. */
function KeyState({ expires }: { expires: string | undefined }) {
  if (expires === undefined) return <span class="quiet">no end</span>;
  const left = new Date(expires).getTime() - Date.now();
  if (left <= 0) return <Badge kind="bad">ended</Badge>;
  return left > soon ? (
    <>
      ends <Time at={expires} />
    </>
  ) : (
    <Badge kind="warn">
      ends <Time at={expires} />
    </Badge>
  );
}

interface OpenedProps {
  open: Open;
  vaults: wire.Vault[];
  close: () => void;
  changed: (note: string) => void;
  made: (key: NewKey) => void;
}

function Opened({ open, vaults, close, changed, made }: OpenedProps) {
  switch (open.what) {
    case "create":
      return <AgentForm vaults={vaults} close={close} created={(a) => made({ agent: a.agent, key: a.api_key })} />;
    case "key":
      return <KeyOnce made={open.key} close={close} />;
    case "edit":
      return <AgentForm key={open.agent.id} agent={open.agent} keyExpires={open.agent.keyExpires} vaults={vaults} close={close} updated={() => changed("Saved the agent")} />;
    case "rotate":
      return (
        <Confirm title={`Rotate the key of ${open.agent.name}`} submit="Rotate the key" send={() => client.agents.rotateKey(open.agent.id)} done={(a) => made({ agent: open.agent, key: a.api_key })} close={close}>
          <p>The agent gets another API key, which is shown once. Its key of now, and all tokens made with it, are dead at once: programs that use them stop until they have the new one.</p>
        </Confirm>
      );
    case "delete":
      return (
        <Confirm title={`Delete ${open.agent.name}`} name={open.agent.name} submit="Delete the agent" send={() => client.agents.delete(open.agent.id)} done={() => changed("Deleted the agent")} close={close}>
          <p>Its key and all its tokens are dead at once. This cannot be undone; to stop an agent for a while, edit it and make it not active.</p>
        </Confirm>
      );
  }
}

function duration(seconds: number): string {
  if (seconds % 3600 === 0) return seconds === 3600 ? "1 hour" : `${seconds / 3600} hours`;
  return seconds % 60 === 0 ? `${seconds / 60} minutes` : `${seconds} seconds`;
}
