// The root key of the key process, as it tells the server of it.

import { Badge } from "../../ui/parts.js";
import type { KeksInfo } from "./operator.js";

const kinds: Record<string, string> = {
  file: "A key file on the key process's machine (mode 0600). Who copies the file and the key store has all KEKs: keep both off backups that others read.",
  pkcs11: "A PKCS#11 token, such as an HSM. The KEKs are made inside it and do not leave it.",
};

export function Root({ info: { available, message, root, wrap_limit } }: { info: KeksInfo }) {
  return (
    <section class="card" aria-label="Root key">
      <h2>Root key</h2>
      {!available || !root ? (
        <>
          <div class="notice">
            <p>{message ?? "The key process does not tell this server of its keys."}</p>
          </div>
          <p class="hint">
            Where that is as it should be, <code>keyfold-kms status</code> and <code>keyfold-kms keys</code> tell the same on the key process's machine.
          </p>
        </>
      ) : (
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
            <strong>{root.kind === "file" ? "key file" : root.kind === "pkcs11" ? "HSM (PKCS#11)" : root.kind}</strong>
            {kinds[root.kind] && <span class="quiet"> {kinds[root.kind]}</span>}
          </dd>
          {wrap_limit && (
            <>
              <dt>Use</dt>
              <dd>
                {wrap_limit.toLocaleString()} wraps <span class="quiet">are the most that one version of a KEK makes; before that, it has to be rotated</span>
              </dd>
            </>
          )}
        </dl>
      )}
    </section>
  );
}
