// The secrets of a vault: the tree of their paths, and the one that is open,
// which the address names (?path=).

import { useLocation } from "preact-iso";
import { useState } from "preact/hooks";
import type { wire } from "@keyfold/sdk";
import { useLoad } from "../../load.js";
import { client } from "../../session.js";
import { Field } from "../../ui/form.js";
import { Empty, Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { Secret } from "./secrets-detail.js";
import { Write } from "./secrets-form.js";
import { useSealed } from "./secrets-sealed.js";
import { Tree } from "./secrets-tree.js";

export function Secrets({ vault, reload }: { vault: wire.Vault; reload: () => void }) {
  const secrets = useLoad(() => client.secrets.list(vault.id), [vault.id]);
  const { query, route } = useLocation();
  const [search, setSearch] = useState("");
  const [writing, setWriting] = useState<{ of?: wire.SecretMetadata }>();
  const at = query["path"];
  const { sealed, again } = useSealed(vault, at !== undefined, secrets.data);
  const base = `/ui/vaults/${vault.id}/secrets`;
  const hrefOf = (path: string) => `${base}?path=${encodeURIComponent(path)}`;
  const written = (s: wire.SecretMetadata) => {
    toast(`Stored version ${s.version} of ${s.path}`);
    setWriting(undefined);
    secrets.reload();
    reload(); // whether it is sealed may have been found to have changed
    if (s.path !== at) route(hrefOf(s.path));
  };
  const deleted = () => {
    route(base);
    secrets.reload();
  };
  const make = () => setWriting({});
  return (
    <>
      <Show of={secrets} what="the secrets">
        {(data) =>
          data.secrets.length === 0 ? (
            <NoSecret make={make} />
          ) : (
            <div class="split">
              <div class="card">
                <button type="button" class="primary" onClick={make}>
                  New secret
                </button>
                <Field label="Search paths" type="search" value={search} onValue={setSearch} />
                <Tree secrets={data.secrets} search={search} at={at} hrefOf={hrefOf} />
              </div>
              <Open vault={vault} secrets={data.secrets} at={at} sealed={sealed} read={again} write={(of) => setWriting({ of })} deleted={deleted} />
            </div>
          )
        }
      </Show>
      {writing && <Write vault={vault} of={writing.of} taken={(path) => secrets.data?.secrets.some((s) => s.path === path) ?? false} close={() => setWriting(undefined)} done={written} />}
    </>
  );
}

function NoSecret({ make }: { make: () => void }) {
  return (
    <Empty title="No secret yet">
      <p>A secret has a path, such as db/credentials, and a value: a password, a key, a file, or a bundle of variables.</p>
      <button type="button" class="primary" onClick={make}>
        New secret
      </button>
    </Empty>
  );
}

interface OpenProps extends Omit<Parameters<typeof Secret>[0], "secret"> {
  secrets: wire.ListedSecret[];
  at: string | undefined;
}

function Open({ secrets, at, ...rest }: OpenProps) {
  const secret = secrets.find((s) => s.path === at);
  if (secret) return <Secret key={`${secret.path} ${secret.version}`} secret={secret} {...rest} />;
  if (at === undefined) return <Empty title={`${secrets.length.toLocaleString()} ${secrets.length === 1 ? "secret" : "secrets"}`}>Choose one to see its versions and its value.</Empty>;
  return (
    <Empty title={`There is no secret at ${at}`}>
      <p>It was deleted, or you may not see it.</p>
    </Empty>
  );
}
