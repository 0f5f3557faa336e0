// One secret: what is known of its newest version, its value, and its versions.

import { useState } from "preact/hooks";
import { formatJson, type wire } from "@keyfold/sdk";
import { client } from "../../session.js";
import { Confirm } from "../../ui/dialog.js";
import { Badge, Copy, Head, Time } from "../../ui/parts.js";
import { toast } from "../../ui/toast.js";
import { nameOf, ownMetadata } from "./secrets-kinds.js";
import { isSealed, keyOf, placeOf, type Sealed } from "./secrets-sealed.js";
import { Share, Shares, useShares } from "./secrets-share.js";
import { Marks } from "./secrets-tree.js";
import { Value } from "./secrets-value.js";
import { useNames, Versions, writerOf } from "./secrets-versions.js";

interface SecretProps {
  vault: wire.Vault;
  secret: wire.ListedSecret;
  sealed: Sealed | undefined;
  /** Is told that a value was read. */
  read: () => void;
  /** Opens the form for a new version. */
  write: (of: wire.SecretMetadata) => void;
  deleted: () => void;
}

export function Secret({ vault, secret, sealed, read, write, deleted }: SecretProps) {
  const [dropping, setDropping] = useState(false);
  const [sharing, setSharing] = useState(false);
  const shares = useShares();
  const key = keyOf(sealed, secret);
  const done = () => {
    toast(`Deleted ${secret.path}`);
    deleted();
  };
  return (
    <div>
      <section class="card" aria-label={secret.path}>
        <Head
          level={2}
          title={
            <>
              <span class="path">{secret.path}</span> <Badge>{nameOf(secret.type)}</Badge> <Marks secret={secret} sealed={isSealed(secret, sealed)} />
            </>
          }
        >
          <button type="button" onClick={() => write(secret)}>
            New version
          </button>
          <button type="button" onClick={() => setSharing(true)}>
            Share
          </button>
          <button type="button" class="danger" onClick={() => setDropping(true)}>
            Delete
          </button>
        </Head>
        <Value vault={vault} secret={secret} sealedWith={key} onRead={read} />
        <Facts secret={secret} limit={sealed?.get(placeOf(secret))} />
      </section>
      <Versions vault={vault} secret={secret} sealed={sealed} read={read} />
      <Shares of={shares} which={(s) => s.secret_id === secret.id} />
      {sharing && <Share secret={secret} sealedWith={isSealed(secret, sealed) ? (key ?? vault.cmek_fingerprint) : null} close={() => setSharing(false)} made={shares.reload} />}
      {dropping && (
        <Confirm title="Delete a secret" name={secret.path} submit="Delete the secret" send={() => client.secrets.delete(vault.id, secret.path)} done={done} close={() => setDropping(false)}>
          <p>
            Nobody can read any version of <code>{secret.path}</code> from then on. The path can be written again.
          </p>
        </Confirm>
      )}
    </div>
  );
}

function Facts({ secret, limit }: { secret: wire.ListedSecret; limit: wire.CmekVersion | undefined }) {
  const by = writerOf(secret, useNames());
  return (
    <dl class="facts">
      <dt>Path</dt>
      <dd class="id">
        <code>{secret.path}</code>
        <Copy text={secret.path} what="the path" />
      </dd>
      <dt>Version</dt>
      <dd>{secret.version}</dd>
      <dt>Written</dt>
      <dd>
        <Time at={secret.created_at} exact />
        {by && <span class="quiet"> by {by === "You" ? "you" : by}</span>}
      </dd>
      <dt>Expires</dt>
      <dd>
        <Time at={secret.expires_at} exact />
      </dd>
      {limit?.max_access_count !== undefined && (
        <>
          <dt>Reads</dt>
          <dd>
            {limit.reads ?? 0} of {limit.max_access_count}
          </dd>
        </>
      )}
      {Object.entries(ownMetadata(secret.metadata)).map(([name, value]) => (
        <>
          <dt key={name}>{name}</dt>
          <dd>{typeof value === "string" ? value : formatJson(value)}</dd>
        </>
      ))}
    </dl>
  );
}
