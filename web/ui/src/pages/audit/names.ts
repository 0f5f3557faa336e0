// What the IDs of events stand for: users and agents, and vaults.

import { settle, useLoad } from "../../load.js";
import { client, user } from "../../session.js";
import { readPeople } from "../vault/access/people.js";

export interface Names {
  /** The name of an ID; undefined where the caller does not see it. */
  of: (id: string) => string | undefined;
  /** IDs and names to choose from. */
  people: readonly (readonly [id: string, name: string])[];
  vaults: readonly (readonly [id: string, name: string])[];
}

/** Reads the names once. What may not be read is left out. */
export function useNames(): Names {
  const loaded = useLoad(async () => {
    const [people, vaults] = await Promise.all([settle(readPeople), settle(() => client.vault.list())]);
    const data = {
      people: (people.data ?? []).map((p) => [p.id, p.name] as const),
      vaults: (vaults.data?.vaults ?? []).map((v) => [v.id, v.name] as const),
    };
    return { data, error: null, meta: { status: 200 } };
  }, []);
  const { people = [], vaults = [] } = loaded.data ?? {};
  const all = new Map([...people, ...vaults]);
  return { of: (id) => (id === user.value?.id ? "you" : all.get(id)), people, vaults };
}
