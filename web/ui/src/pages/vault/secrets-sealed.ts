// Which versions of a vault are sealed, and how often those with a read limit
// were read. The list of secrets does not say it; the list of each key does.

import type { Result, wire } from "@keyfold/sdk";
import { useLoad } from "../../load.js";
import { client } from "../../session.js";

export type Sealed = ReadonlyMap<string, wire.CmekVersion & { fingerprint: string }>;

export const placeOf = (v: { path: string; version: number }): string => `${v.version} ${v.path}`;

/** The fingerprint of the key that a version is sealed with; null: none; undefined: not known. */
export const keyOf = (sealed: Sealed | undefined, v: { path: string; version: number }): string | null | undefined => sealed && (sealed.get(placeOf(v))?.fingerprint ?? null);

/** The sealed versions by their places; undefined while it is not known, or to somebody who may not know it. */
export function useSealed(vault: wire.Vault, turn: unknown): { sealed: Sealed | undefined; again: () => void } {
  const { data, reload } = useLoad(() => readSealed(vault.id), [vault.id, vault.cmek_enabled, turn]);
  return { sealed: data, again: reload };
}

async function readSealed(vaultId: string): Promise<Result<Sealed>> {
  const status = await client.vault.cmekStatus(vaultId);
  if (status.error) return status;
  const all = new Map<string, wire.CmekVersion & { fingerprint: string }>();
  for (const { fingerprint } of status.data.keys ?? []) {
    for (let cursor: string | undefined; ; ) {
      const page = await client.vault.cmekVersions(vaultId, fingerprint, cursor);
      if (page.error) return page;
      for (const v of page.data.versions) all.set(placeOf(v), { ...v, fingerprint });
      cursor = page.data.next_cursor;
      if (!cursor) break;
    }
  }
  return { data: all, error: null, meta: status.meta };
}
