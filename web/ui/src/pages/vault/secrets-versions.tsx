// The versions of a secret: who wrote each and when, and disabling one.

import { useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { useLoad } from "../../load.js";
import { client, user } from "../../session.js";
import { Confirm, Dialog } from "../../ui/dialog.js";
import { Badge, Head, Table, Time } from "../../ui/parts.js";
import { Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { isSealed, keyOf, placeOf, type Sealed } from "./secrets-sealed.js";
import { isOver } from "./secrets-tree.js";
import { Value } from "./secrets-value.js";

interface VersionsProps {
  vault: wire.Vault;
  secret: wire.SecretMetadata;
  sealed: Sealed | undefined;
  /** Is told that a value was read. */
  read: () => void;
}

type Doing = { what: "show" | "disable"; version: wire.VersionMetadata };

export function Versions({ vault, secret, sealed, read }: VersionsProps) {
  const versions = useLoad(() => client.secrets.listVersions(vault.id, secret.path), [vault.id, secret.path, secret.version]);
  const nameOf = useNames();
  const [doing, setDoing] = useState<Doing>();
  const close = () => setDoing(undefined);
  const disabled = () => {
    toast(`Disabled version ${doing!.version.version}`);
    close();
    versions.reload();
  };
  return (
    <>
      <Head title="Versions" level={2} />
      <Show of={versions} what="the versions">
        {(data) => (
          <Table label="Versions" columns={["Version", "Written", "By", "State", "Reads", { name: "Actions", kind: "sr" }]}>
            {data.versions.map((v) => (
              <Version key={v.version} version={v} by={writerOf(v, nameOf)} sealed={isSealed(v, sealed)} limit={sealed?.get(placeOf(v))} go={setDoing} />
            ))}
          </Table>
        )}
      </Show>
      {doing?.what === "show" && (
        <Dialog title={`Version ${doing.version.version} of ${secret.path}`} close={close}>
          <Value vault={vault} secret={doing.version} sealedWith={keyOf(sealed, doing.version)} onRead={read} />
        </Dialog>
      )}
      {doing?.what === "disable" && (
        <Confirm title={`Disable version ${doing.version.version}`} submit="Disable it" send={() => client.secrets.disableVersion(vault.id, secret.path, doing.version.version)} done={disabled} close={close}>
          <p>
            Nobody can read version {doing.version.version} of <code>{secret.path}</code> from then on, and it cannot be enabled again.
            {doing.version.version === secret.version && " It is the newest: the secret cannot be read until a new version is written."}
          </p>
        </Confirm>
      )}
    </>
  );
}

interface VersionProps {
  version: wire.VersionMetadata;
  by: string | undefined;
  sealed: boolean | undefined;
  limit: wire.CmekVersion | undefined;
  go: (doing: Doing) => void;
}

function Version({ version: v, by, sealed, limit, go }: VersionProps) {
  return (
    <tr>
      <td>{v.version}</td>
      <td>
        <Time at={v.created_at} />
      </td>
      <td>{by ?? <span class="quiet">not known</span>}</td>
      <td>
        <State version={v} sealed={sealed} limit={limit} />
      </td>
      <td>{limit?.max_access_count === undefined ? <span class="quiet">–</span> : `${limit.reads ?? 0} of ${limit.max_access_count}`}</td>
      <td class="end">
        {!v.is_disabled && (
          <div class="actions">
            <button type="button" class="small" aria-label={`Show version ${v.version}`} onClick={() => go({ what: "show", version: v })}>
              Show
            </button>
            <button type="button" class="small" aria-label={`Disable version ${v.version}`} onClick={() => go({ what: "disable", version: v })}>
              Disable
            </button>
          </div>
        )}
      </td>
    </tr>
  );
}

function State({ version: v, sealed, limit }: Pick<VersionProps, "version" | "sealed" | "limit">) {
  const state = v.is_disabled ? "Disabled" : isOver(v) ? "Expired" : limit?.state === "read_out" ? "Read out" : undefined;
  return (
    <>
      {state ? <Badge kind="warn">{state}</Badge> : <Badge kind="good">Readable</Badge>} {sealed && <Badge kind="sealed">Sealed</Badge>}
      {v.expires_at && !isOver(v) && (
        <div class="quiet">
          expires <Time at={v.expires_at} />
        </div>
      )}
    </>
  );
}

/** What to call who wrote a version; undefined: not known. */
export function writerOf({ created_by }: wire.ListedSecret, nameOf: NameOf): string | undefined {
  const at = created_by?.indexOf(":") ?? -1;
  return at < 0 ? undefined : nameOf({ actor_type: created_by!.slice(0, at), actor_id: created_by!.slice(at + 1) });
}

type NameOf = (who: { actor_type: string; actor_id: string }) => string;

/** What to call who did something. */
export function useNames(): NameOf {
  const members = useLoad(() => client.org.members(), []);
  const agents = useLoad(() => client.agents.list(), []);
  return ({ actor_type, actor_id }) => {
    if (actor_id === user.value?.id) return "You";
    const name = actor_type === "agent" ? agents.data?.agents.find((a) => a.id === actor_id)?.name : members.data?.members.find((m) => m.id === actor_id)?.email;
    return `${actor_type.replace("_", " ")} ${name ?? actor_id.slice(0, 8)}`.trim();
  };
}
