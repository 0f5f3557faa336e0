import type { wire } from "@keyfold/sdk";

const others: Record<string, string> = { threads: "Threads", server: "The server's own", "key-process": "The key process's own" };

/** What a KEK is called: by what it is of. */
export function nameOfKek({ of, vault_id, kek_id }: wire.Kek, vaults: readonly wire.Vault[]): string {
  if (of !== "vault") return others[of] ?? kek_id;
  return vaults.find((v) => v.id === vault_id)?.name ?? vault_id ?? kek_id;
}
