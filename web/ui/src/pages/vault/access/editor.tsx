// Making and changing a policy, with the paths that its pattern matches.

import { useState } from "preact/hooks";
import type { Result, wire } from "@keyfold/sdk";
import type { Person } from "../../../decide.js";
import { matches, patternProblem } from "../../../glob.js";
import { client } from "../../../session.js";
import { Dialog } from "../../../ui/dialog.js";
import { Check, Choice, Field, Form } from "../../../ui/form.js";
import { fromLocal, toLocal } from "../../../ui/local.js";
import { Conditions, conditionsOf, limitsOf, type Limits } from "./conditions.js";
import { refOf } from "./people.js";

interface Fields {
  /** "user:ID" or "agent:ID". */
  who: string;
  pattern: string;
  permissions: ReadonlySet<Permission>;
  deny: boolean;
  priority: string;
  /** A local time; "": never. */
  ends: string;
  limits: Limits;
}

type Permission = wire.Policy["permissions"][number];

const permissions: readonly (readonly [Permission, string])[] = [
  ["read", "read: values, versions and the list"],
  ["write", "write: new versions; delete and rotate as well"],
  ["delete", "delete: secrets and versions"],
  ["rotate", "rotate: values that the server makes"],
];

function fieldsOf(policy: wire.Policy | undefined): Fields {
  return {
    who: policy ? refOf(policy.principal_type, policy.principal_id) : "",
    pattern: policy?.secret_path_pattern ?? "",
    permissions: new Set(policy?.permissions ?? ["read"]),
    deny: policy?.effect === "deny",
    priority: String(policy?.priority ?? 0),
    ends: toLocal(policy?.expires_at),
    limits: limitsOf(policy?.conditions),
  };
}

/** What both calls take. An end that was not changed is not sent: the field has it to the minute only. */
function updateOf(f: Fields, policy?: wire.Policy): wire.UpdatePolicy {
  const request: wire.UpdatePolicy = { permissions: [...f.permissions], effect: f.deny ? "deny" : "allow", priority: Number(f.priority), conditions: conditionsOf(f.limits) };
  if (f.ends !== toLocal(policy?.expires_at)) request.expires_at = fromLocal(f.ends);
  return request;
}

function createOf(f: Fields): wire.CreatePolicy {
  const [kind, id = ""] = f.who.split(":");
  return { ...updateOf(f), permissions: [...f.permissions], secret_path_pattern: f.pattern, principal_type: kind === "agent" ? "agent" : "user", principal_id: id };
}

export interface EditorProps {
  vault: wire.Vault;
  people: Person[];
  /** Of the secrets that there are; undefined: the caller may not list them. */
  paths: string[] | undefined;
  /** Is changed; undefined: one is made. */
  policy: wire.Policy | undefined;
  close: () => void;
  done: () => void;
}

export function Editor({ vault, people, paths, policy, close, done }: EditorProps) {
  const [f, setFields] = useState(() => fieldsOf(policy));
  const set = (change: Partial<Fields>) => setFields({ ...f, ...change });
  const send = (): Promise<Result<wire.Policy>> => (policy ? client.policies.update(vault.id, policy.id, updateOf(f, policy)) : client.policies.create(vault.id, createOf(f)));
  const ready = f.who !== "" && f.permissions.size > 0 && patternProblem(f.pattern) === undefined;
  return (
    <Dialog title={policy ? "Edit the policy" : "Create a policy"} close={close}>
      <Form submit={policy ? "Save" : "Create the policy"} send={send} done={done} cancel={close} disabled={!ready}>
        {policy ? <Fixed people={people} policy={policy} /> : <Choice label="Who" value={f.who} onValue={(who) => set({ who })} options={optionsOf(people, vault)} />}
        {!policy && <Field label="Paths" required maxLength={512} value={f.pattern} onValue={(pattern) => set({ pattern })} placeholder="db/**" hint={patternHint(f.pattern)} />}
        <Matched pattern={f.pattern} paths={paths} />
        <fieldset class="box">
          <legend>What</legend>
          <Choice label="Effect" value={f.deny ? "deny" : "allow"} onValue={(effect) => set({ deny: effect === "deny" })} options={[["allow", "Allow"], ["deny", "Deny"]]} />
          {permissions.map(([name, label]) => (
            <Check key={name} label={label} checked={f.permissions.has(name)} onChecked={(on) => set({ permissions: toggled(f.permissions, name, on) })} />
          ))}
        </fieldset>
        <Field label="Priority" type="number" required min={0} max={2147483647} value={f.priority} onValue={(priority) => set({ priority })} hint="The greater goes before the less; at the same one a deny beats an allow" />
        <Conditions limits={f.limits} onLimits={(limits) => set({ limits })} />
        <Field
          label="It ends"
          type="datetime-local"
          required={policy?.expires_at !== undefined}
          value={f.ends}
          onValue={(ends) => set({ ends })}
          hint={policy?.expires_at === undefined ? "Empty: never" : "It can be moved, not taken away: for a policy without an end make another one"}
        />
      </Form>
    </Dialog>
  );
}

function toggled(set: ReadonlySet<Permission>, name: Permission, on: boolean): Set<Permission> {
  const next = new Set(set);
  if (on) next.add(name);
  else next.delete(name);
  return next;
}

function optionsOf(people: Person[], vault: wire.Vault): [string, string][] {
  const others = people.filter((p) => p.id !== vault.created_by); // whom no policy limits
  return [["", "Choose a user or an agent"], ...others.map((p): [string, string] => [refOf(p.kind, p.id), `${p.name} (${p.kind})`])];
}

function Fixed({ people, policy }: { people: Person[]; policy: wire.Policy }) {
  return (
    <dl class="facts">
      <dt>Who</dt>
      <dd>
        {people.find((p) => p.kind === policy.principal_type && p.id === policy.principal_id)?.name ?? policy.principal_id} <span class="quiet">{policy.principal_type}</span>
      </dd>
      <dt>Paths</dt>
      <dd>
        <code>{policy.secret_path_pattern}</code>
      </dd>
    </dl>
  );
}

function patternHint(pattern: string): string {
  const problem = pattern === "" ? undefined : patternProblem(pattern);
  return problem ?? "* is one segment, ** any number of them, none included; all else is literal";
}

const shown = 50;

/** The paths that a pattern matches, while it is typed. */
function Matched({ pattern, paths }: { pattern: string; paths: string[] | undefined }) {
  if (paths === undefined) return <p class="hint">You may not list the secrets of this vault, so this page cannot say which of them the pattern matches.</p>;
  if (patternProblem(pattern) !== undefined) return null;
  const found = paths.filter((p) => matches(pattern, p));
  return (
    <div class="matched" role="status">
      <p>{found.length === 0 ? "No secret of now matches" : `Matches ${found.length} of ${paths.length} ${paths.length === 1 ? "secret" : "secrets"}`}</p>
      {found.length > 0 && (
        <ul class="paths">
          {found.slice(0, shown).map((p) => (
            <li key={p}>
              <code>{p}</code>
            </li>
          ))}
        </ul>
      )}
      {found.length > shown && <p class="quiet">and {found.length - shown} more</p>}
    </div>
  );
}
