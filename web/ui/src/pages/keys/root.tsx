// The root key of the key process, as it tells the server of it.

import type { KeyfoldClient, wire } from "@keyfold/sdk";
import { useEvery, useLoad } from "../../load.js";
import { Badge } from "../../ui/parts.js";
import { Show } from "../../ui/state.js";

const kinds: Record<string, [name: string, text: string]> = {
  file: ["key file", "On the key process's machine. Who copies it and the key store has all KEKs: keep the two apart in backups."],
  pkcs11: ["HSM (PKCS#11)", "A token. The KEKs are made inside it and do not leave it."],
};

export function Root({ client }: { client: KeyfoldClient }) {
  const loaded = useLoad(() => client.admin.listKeks({ limit: 1 }), [client]);
  useEvery(30_000, loaded.reload);
  return (
    <section class="card" aria-label="Root key">
      <h2>Root key</h2>
      <Show of={loaded} what="the root key">
        {(keys) => (keys.available && keys.root ? <Facts root={keys.root} limit={keys.wrap_limit} /> : <NotTold message={keys.message} />)}
      </Show>
    </section>
  );
}

function NotTold({ message }: { message: string | undefined }) {
  return (
    <>
      <div class="notice">
        <p>{message ?? "The key process does not tell this server of its keys."}</p>
      </div>
      <p class="hint">
        On its machine, <code>keyfold-kms status</code> and <code>keyfold-kms keys</code> tell the same.
      </p>
    </>
  );
}

function Facts({ root, limit }: { root: wire.RootKey; limit: number | undefined }) {
  const [name, text] = kinds[root.kind] ?? [root.kind, ""];
  return (
    <dl class="facts">
      <dt>State</dt>
      <dd>
        {root.state === "unlocked" ? (
          <Badge kind="good">unlocked</Badge>
        ) : (
          <>
            <Badge kind="bad">{root.state}</Badge> Nothing can be read or written until it is unlocked: see <code>keyfold-kms status</code> on its machine.
          </>
        )}
      </dd>
      <dt>Kind</dt>
      <dd>
        {name} <span class="quiet">{text}</span>
      </dd>
      {limit && (
        <>
          <dt>Limit</dt>
          <dd>
            {limit.toLocaleString()} wraps <span class="quiet">by one version of a KEK; rotate it before</span>
          </dd>
        </>
      )}
    </dl>
  );
}
