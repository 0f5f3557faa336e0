// Making and changing an agent.

import type { Result, wire } from "@keyfold/sdk";
import { useState } from "preact/hooks";
import { isLabel, patternProblem } from "../../glob.js";
import { client } from "../../session.js";
import { Dialog } from "../../ui/dialog.js";
import { Area, Check, Field, Form } from "../../ui/form.js";
import { fromLocal, toLocal } from "../../ui/local.js";

interface Fields {
  name: string;
  description: string;
  vaults: ReadonlySet<string>;
  /** One per line. */
  scopes: string;
  ttl: string;
  /** A local time; "": never. */
  expires: string;
  /** Of the key, likewise. */
  keyExpires: string;
  active: boolean;
}

function fieldsOf(agent: wire.Agent | undefined, keyExpires: string | undefined): Fields {
  return {
    name: agent?.name ?? "",
    description: agent?.description ?? "",
    vaults: new Set(agent?.vault_ids),
    scopes: agent?.scopes.join("\n") ?? "",
    ttl: String(agent?.token_ttl_seconds ?? 3600),
    expires: toLocal(agent?.expires_at),
    keyExpires: toLocal(keyExpires),
    active: agent?.is_active ?? true,
  };
}

function scopesOf(text: string): string[] {
  return text.split("\n").map((s) => s.trim()).filter((s) => s !== "");
}

/** Times that were not changed are left out: they may be past, and the field knows no seconds. */
function requestOf(f: Fields, before: Fields): wire.CreateAgent {
  const request: wire.CreateAgent = { name: f.name.trim(), description: f.description, vault_ids: [...f.vaults], scopes: scopesOf(f.scopes), token_ttl_seconds: Number(f.ttl) };
  if (f.expires !== before.expires) request.expires_at = fromLocal(f.expires);
  if (f.keyExpires !== before.keyExpires) request.api_key_expires_at = fromLocal(f.keyExpires);
  return request;
}

export interface AgentFormProps {
  /** Is changed; absent: one is made. */
  agent?: wire.Agent;
  /** When its key ends. */
  keyExpires?: string | undefined;
  vaults: wire.Vault[];
  close: () => void;
  created?: (made: wire.AgentCreated) => void;
  updated?: () => void;
}

export function AgentForm({ agent, keyExpires, vaults, close, created, updated }: AgentFormProps) {
  const [before] = useState(() => fieldsOf(agent, keyExpires));
  const [f, setFields] = useState(before);
  const set = (change: Partial<Fields>) => setFields({ ...f, ...change });
  const wrong = scopesOf(f.scopes).find((s) => !isLabel(s) && patternProblem(s) !== undefined);
  const send = (): Promise<Result<wire.AgentCreated | wire.Agent>> => (agent ? client.agents.update(agent.id, { ...requestOf(f, before), is_active: f.active }) : client.agents.create(requestOf(f, before)));
  const done = (answer: wire.AgentCreated | wire.Agent) => ("api_key" in answer ? created?.(answer) : updated?.());
  return (
    <Dialog title={agent ? `Edit ${agent.name}` : "Create an agent"} close={close}>
      <Form submit={agent ? "Save" : "Create the agent"} send={send} done={done} cancel={close} disabled={wrong !== undefined}>
        <Field label="Name" required maxLength={200} value={f.name} onValue={(name) => set({ name })} />
        <Field label="What it is for" value={f.description} onValue={(description) => set({ description })} />
        <Bound vaults={vaults} bound={f.vaults} onBound={(bound) => set({ vaults: bound })} />
        <Area
          label="Scopes"
          rows={3}
          mono
          value={f.scopes}
          onValue={(scopes) => set({ scopes })}
          placeholder={"db/**\nweb/*/key"}
          hint={wrong === undefined ? "Patterns of paths, one per line: the most that it can reach, whatever its policies allow. Empty: what its policies say." : `${wrong}: ${patternProblem(wrong)}`}
        />
        <Field label="A token lives (seconds)" type="number" required min={60} max={86400} value={f.ttl} onValue={(ttl) => set({ ttl })} hint="60 to 86400; 3600 is an hour" />
        <Field
          label="The agent expires"
          type="datetime-local"
          required={agent?.expires_at !== undefined}
          value={f.expires}
          onValue={(expires) => set({ expires })}
          hint={agent?.expires_at === undefined ? "Empty: never" : "It can be moved, not taken away"}
        />
        <Field
          label="Its key expires"
          type="datetime-local"
          required={keyExpires !== undefined}
          value={f.keyExpires}
          onValue={(at) => set({ keyExpires: at })}
          hint={keyExpires === undefined ? "Empty: never. When the key is rotated, the next one lives as long." : "It can be moved, not taken away. When the key is rotated, the next one lives as long."}
        />
        {agent && <Check label="Active; when it is not, its tokens end at once and it gets no more" checked={f.active} onChecked={(active) => set({ active })} />}
      </Form>
    </Dialog>
  );
}

function Bound({ vaults, bound, onBound }: { vaults: wire.Vault[]; bound: ReadonlySet<string>; onBound: (bound: Set<string>) => void }) {
  const unseen = [...bound].filter((id) => !vaults.some((v) => v.id === id)); // bound to what the caller may not see
  const toggle = (id: string, on: boolean) => {
    const next = new Set(bound);
    if (on) next.add(id);
    else next.delete(id);
    onBound(next);
  };
  return (
    <fieldset class="box">
      <legend>Bound to these vaults</legend>
      <p class="hint">None: any vault that its policies name.</p>
      <div class="choices">
        {[...vaults.map((v) => [v.id, v.name] as const), ...unseen.map((id) => [id, id] as const)].map(([id, name]) => (
          <Check key={id} label={name} checked={bound.has(id)} onChecked={(on) => toggle(id, on)} />
        ))}
      </div>
    </fieldset>
  );
}
