// The names of those whose IDs a thread holds.

import { useLoad } from "../../load.js";
import { user } from "../../session.js";
import { readPeople } from "../vault/access/people.js";

/** The name of an ID: "you", a user's or agent's name, or the ID where the caller does not see more. */
export type Names = (id: string) => string;

export function useNames(): Names {
  const people = useLoad(readPeople, []);
  const names = new Map(people.data?.map((p) => [p.id, p.name]));
  return (id) => (id === user.value?.id ? "you" : (names.get(id) ?? id));
}
