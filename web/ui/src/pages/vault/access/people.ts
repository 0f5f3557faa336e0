// Who a policy can be for: the users and agents of the org that the caller sees.

import type { Result, wire } from "@keyfold/sdk";
import type { Person } from "../../../decide.js";
import { client } from "../../../session.js";

const pageSize = 1000;

/** The users, then the agents. */
export async function readPeople(): Promise<Result<Person[]>> {
  const members = await client.org.members();
  if (members.error) return members;
  const people: Person[] = members.data.members.map((m) => ({ kind: "user", id: m.id, name: m.display_name || m.email, role: m.role }));
  let cursor: string | undefined;
  do {
    const got: Result<wire.Agents> = await client.agents.list(cursor === undefined ? { limit: pageSize } : { limit: pageSize, cursor });
    if (got.error) return got;
    people.push(...got.data.agents.map((agent) => ({ kind: "agent" as const, id: agent.id, name: agent.name, agent })));
    cursor = got.data.next_cursor;
  } while (cursor !== undefined);
  return { data: people, error: null, meta: members.meta };
}

/** The people, and those that policies name and the caller does not see. */
export function withNamed(people: readonly Person[], policies: readonly wire.Policy[]): Person[] {
  const all = new Map(people.map((p) => [refOf(p.kind, p.id), p]));
  for (const { principal_type: kind, principal_id: id } of policies) {
    if (!all.has(refOf(kind, id))) all.set(refOf(kind, id), { kind, id, name: id });
  }
  return [...all.values()];
}

/** How a principal is named in one text. */
export function refOf(kind: string, id: string): string {
  return `${kind}:${id}`;
}
