// What is due: keys older than their policy, and what expires soon. The policy is
// the dashboard's own, and is shown beside what it found.

import type { Result, wire } from "@keyfold/sdk";
import { settle, useLoad } from "../../load.js";
import { client } from "../../session.js";
import { Head, Table, Time } from "../../ui/parts.js";
import { Empty, Show } from "../../ui/state.js";

/** In days. */
const policy = { cmekKey: 365, apiKey: 90, ahead: 7 };
const day = 24 * 60 * 60_000;

export interface DueItem {
  what: string;
  name: string;
  href: string;
  why: string;
  at: string;
  act: string;
}

const older = (at: string | undefined, days: number) => at !== undefined && Date.now() - Date.parse(at) > days * day;
const soon = (at: string | undefined) => at !== undefined && Date.parse(at) - Date.now() < policy.ahead * day;

async function due(): Promise<Result<DueItem[]>> {
  const vaults = await client.vault.list();
  if (vaults.error) return vaults;
  const found = await Promise.all([apiKeys(), agents(), ...vaults.data.vaults.flatMap((v) => [cmekKeyOf(v), secretsOf(v)])]);
  const data = found.flat().sort((a, b) => a.at.localeCompare(b.at));
  return { data, error: null, meta: vaults.meta };
}

async function apiKeys(): Promise<DueItem[]> {
  const { data } = await settle(() => client.apiKeys.list());
  const base = { what: "API key", href: "/ui/account" };
  return (data?.keys ?? [])
    .filter((k) => k.is_active)
    .flatMap((k) => {
      const name = k.name || k.key_prefix;
      if (k.expires_at && soon(k.expires_at)) return [{ ...base, name, why: "expires", at: k.expires_at, act: "Create another, then delete it" }];
      if (older(k.created_at, policy.apiKey)) return [{ ...base, name, why: "created", at: k.created_at, act: "Create another, then delete it" }];
      return [];
    });
}

async function agents(): Promise<DueItem[]> {
  const { data } = await settle(() => client.agents.list({ limit: 1000 }));
  return (data?.agents ?? []).flatMap((a) =>
    a.is_active && a.expires_at && soon(a.expires_at) ? [{ what: "Agent", name: a.name, href: "/ui/agents", why: "expires", at: a.expires_at, act: "Give it more time, or create another" }] : [],
  );
}

async function cmekKeyOf(vault: wire.Vault): Promise<DueItem[]> {
  if (!vault.cmek_enabled) return [];
  const { data } = await settle(() => client.vault.cmekStatus(vault.id));
  if (!data?.since || !older(data.since, policy.cmekKey)) return [];
  return [{ what: "CMEK key", name: vault.name, href: `/ui/vaults/${vault.id}/settings`, why: "in use since", at: data.since, act: "Rotate it" }];
}

async function secretsOf(vault: wire.Vault): Promise<DueItem[]> {
  const { data } = await settle(() => client.secrets.list(vault.id));
  return (data?.secrets ?? []).flatMap((s) =>
    s.expires_at && soon(s.expires_at) ? [{ what: "Secret", name: `${vault.name}: ${s.path}`, href: `/ui/vaults/${vault.id}`, why: "expires", at: s.expires_at, act: "Write a new version" }] : [],
  );
}

export function Due() {
  const loaded = useLoad(due, []);
  return (
    <>
      <Head level={2} title="Due">
        <button type="button" onClick={loaded.reload}>
          Look again
        </button>
      </Head>
      <p class="hint">
        The policy: a CMEK key is due after {policy.cmekKey} days, an API key after {policy.apiKey}, and secrets, agents and API keys that expire {policy.ahead} days before.
      </p>
      <Show of={loaded} what="what is due">
        {(list) => (list.length === 0 ? <Empty title="Nothing is due" /> : <DueTable list={list} />)}
      </Show>
    </>
  );
}

function DueTable({ list }: { list: DueItem[] }) {
  return (
    <Table label="Due" columns={["What", "Name", "Why", "To do"]}>
      {list.map((d) => (
        <tr key={d.what + d.href + d.name}>
          <td>{d.what}</td>
          <td>
            <a href={d.href}>{d.name}</a>
          </td>
          <td>
            {d.why} <Time at={d.at} />
          </td>
          <td>{d.act}</td>
        </tr>
      ))}
    </Table>
  );
}
