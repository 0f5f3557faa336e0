// With which key a version of a vault is sealed, and how often one with a read limit
// was read. The list of secrets says only whether it is sealed; the list of each key does.

import type { Result, wire } from "@keyfold/sdk";
import { useLoad } from "../../load.js";
import { client } from "../../session.js";

export type Sealed = ReadonlyMap<string, wire.CmekVersion & { fingerprint: string }>;

export const placeOf = (v: { path: string; version: number }): string => `${v.version} ${v.path}`;

/** Whether a version is sealed; undefined: not known. */
export const isSealed = (v: wire.ListedSecret, sealed: Sealed | undefined): boolean | undefined => v.cmek_encrypted ?? sealed?.has(placeOf(v));

/** The fingerprint of the key that a version is sealed with; null: none; undefined: not known. */
export function keyOf(sealed: Sealed | undefined, v: wire.ListedSecret): string | null | undefined {
  if (v.cmek_encrypted === false) return null;
  return sealed?.get(placeOf(v))?.fingerprint ?? (sealed && !v.cmek_encrypted ? null : undefined);
}

/** The sealed versions by their places; undefined while they are not wanted or not known, or to somebody who may not know them. */
export function useSealed(vault: wire.Vault, wanted: boolean, turn: unknown): { sealed: Sealed | undefined; again: () => void } {
  const { data, reload } = useLoad(() => (wanted ? readSealed(vault.id) : unread), [vault.id, vault.cmek_enabled, wanted, turn]);
  return { sealed: data, again: reload };
}

const unread: Promise<Result<Sealed | undefined>> = Promise.resolve({ data: undefined, error: null, meta: { status: 0 } });

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
