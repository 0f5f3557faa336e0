// The settings of a vault: its CMEK key, and the vault itself.

import type { Result, wire } from "@keyfold/sdk";
import { useLocation } from "preact-iso";
import { useState } from "preact/hooks";
import { useLoad, type Loaded } from "../../load.js";
import { madeIt } from "../../rights.js";
import { client } from "../../session.js";
import { Confirm } from "../../ui/dialog.js";
import { Head, Id, Time } from "../../ui/parts.js";
import { Show } from "../../ui/state.js";
import { toast } from "../../ui/toast.js";
import { Inventory, VaultKey } from "./settings/cmekstatus.js";
import { Enable } from "./settings/enable.js";
import { Rotate, type Plan } from "./settings/rotate.js";
import { Rotations, UnderWay } from "./settings/rotations.js";
import { recallUnused, rememberUnused } from "./settings/unsaved.js";

interface SettingsProps {
  vault: wire.Vault;
  /** Reads the vault again. */
  reload: () => void;
}

export default function Settings({ vault, reload }: SettingsProps) {
  return (
    <>
      <CmekCard key={vault.id} vault={vault} reload={reload} />
      <VaultCard vault={vault} />
    </>
  );
}

/** The rotations, for those whom the server does not tell of them. */
const notTold: Promise<Result<wire.Rotations>> = Promise.resolve({ data: { rotations: [] }, error: null, meta: { status: 0 } });

function CmekCard({ vault, reload }: SettingsProps) {
  const status = useLoad(() => client.vault.cmekStatus(vault.id), [vault.id]);
  const rotations = useLoad(() => (madeIt(vault) ? client.vault.listRotations(vault.id) : notTold), [vault.id]);
  const changed = () => {
    status.reload();
    rotations.reload();
    reload();
  };
  return (
    <section class="card" aria-labelledby="cmek">
      <Head level={2} title={<span id="cmek">Customer-Managed Key</span>} />
      <UnusedNote vault={vault} status={status.data} />
      <Show of={status} what="the key">
        {(s) => (s.enabled ? <Enabled vault={vault} status={s} rotations={rotations} changed={changed} /> : <Off vault={vault} status={s} changed={changed} />)}
      </Show>
    </section>
  );
}

/** Tells of a key that was made here before the page was loaded again: whether the vault uses it by now is in its status. */
function UnusedNote({ vault, status }: { vault: wire.Vault; status: wire.CmekStatus | undefined }) {
  const [unused, setUnused] = useState(() => recallUnused(vault.id));
  if (!unused || !status) return null;
  const forget = () => {
    rememberUnused(undefined);
    setUnused(undefined);
  };
  const name = <code>{unused.fingerprint.slice(0, 8)}</code>;
  return (
    <div class="notice" role="status">
      {needs(status, unused.fingerprint) ? (
        <p>
          This page was left while the key {name} came into use. The vault needs it by now, and it is no longer here: keep its file <code>{unused.file}</code>. What was under way can be taken up below.
        </p>
      ) : (
        <p>
          This page was left before the key {name} was in use. The key is no longer here; nothing is sealed with it, and nothing in the vault has changed. If you saved its file <code>{unused.file}</code>,
          choose it as a key file that you have. Otherwise make a new key.
        </p>
      )}
      <button type="button" class="small" onClick={forget}>
        Understood
      </button>
    </div>
  );
}

/** Whether a key is the vault's, or to be it, or that of a stored version. */
function needs({ fingerprint, rotation, keys }: wire.CmekStatus, key: string): boolean {
  return key === fingerprint || key === rotation?.new_fingerprint || (keys?.some((k) => k.fingerprint === key && k.versions > 0) ?? false);
}

interface StateProps {
  vault: wire.Vault;
  status: wire.CmekStatus;
  changed: () => void;
}

function Off({ vault, status, changed }: StateProps) {
  const [enables, setEnables] = useState(false);
  return (
    <>
      <p>
        Off. With CMEK, values are sealed in your browser and your clients with a key that only you have: neither this server nor whoever runs it can read them. Who loses the key loses what it seals.
      </p>
      {!madeIt(vault) && <NotYours />}
      {enables && <Enable vault={vault} done={changed} cancel={() => setEnables(false)} />}
      {!enables && madeIt(vault) && (
        <div class="actions">
          <button type="button" class="primary" onClick={() => setEnables(true)}>
            Enable CMEK
          </button>
        </div>
      )}
      {(status.keys?.length ?? 0) > 0 && <Inventory status={status} reencrypt={undefined} />}
    </>
  );
}

function NotYours() {
  return <p class="quiet">Only who made the vault can change this.</p>;
}

function Enabled({ vault, status, rotations, changed }: StateProps & { rotations: Loaded<wire.Rotations> }) {
  const [plan, setPlan] = useState<Plan>();
  const [disables, setDisables] = useState(false);
  const { rotation } = status;
  const own = status.fingerprint ?? "";
  const rotate = () => setPlan({ from: own, failed: rotations.data?.rotations[0]?.status === "failed" });
  const idle = !rotation && !plan && madeIt(vault);
  return (
    <>
      <VaultKey status={status} />
      {!madeIt(vault) && <NotYours />}
      {rotation && <UnderWay key={rotation.id} vault={vault} rotation={rotation} changed={changed} resume={() => setPlan({ from: rotation.old_fingerprint, to: rotation.new_fingerprint, way: "server" })} />}
      {plan && <Rotate key={`${plan.from} ${plan.to}`} vault={vault} plan={plan} under={rotation} bound={status.blob_version === 2} check={status.key_check !== undefined} close={() => setPlan(undefined)} changed={changed} />}
      {idle && (
        <div class="actions">
          <button type="button" onClick={rotate}>
            Rotate the key
          </button>
          <button type="button" class="danger" onClick={() => setDisables(true)}>
            Disable CMEK
          </button>
        </div>
      )}
      {disables && <Disable vault={vault} fingerprint={own} close={() => setDisables(false)} done={changed} />}
      <Inventory status={status} reencrypt={idle ? (from) => setPlan({ from, to: own, way: "here" }) : undefined} />
      {madeIt(vault) && <h3>Rotations</h3>}
      {madeIt(vault) && <Rotations of={rotations} />}
    </>
  );
}

function Disable({ vault, fingerprint, close, done }: { vault: wire.Vault; fingerprint: string; close: () => void; done: () => void }) {
  const disabled = () => {
    close();
    toast("CMEK is disabled");
    done();
  };
  return (
    <Confirm title="Disable CMEK" name={vault.name} submit="Disable CMEK" send={() => client.vault.disableCmek(vault.id)} done={disabled} close={close}>
      <p>New values of this vault will no longer be sealed by you: the server can read them.</p>
      <p>
        What is sealed stays sealed and still needs the key <code>{fingerprint.slice(0, 8)}</code>. Keep its file: without it those values are lost.
      </p>
    </Confirm>
  );
}

function VaultCard({ vault }: { vault: wire.Vault }) {
  const [deletes, setDeletes] = useState(false);
  return (
    <section class="card" aria-labelledby="this-vault">
      <Head level={2} title={<span id="this-vault">This vault</span>}>
        {madeIt(vault) && (
          <button type="button" class="danger" onClick={() => setDeletes(true)}>
            Delete the vault
          </button>
        )}
      </Head>
      <dl class="facts">
        <dt>Name</dt>
        <dd>{vault.name}</dd>
        {vault.description && <dt>Description</dt>}
        {vault.description && <dd>{vault.description}</dd>}
        <dt>ID</dt>
        <dd>
          <Id value={vault.id} what="the vault's ID" />
        </dd>
        <dt>Made</dt>
        <dd>
          <Time at={vault.created_at} exact /> by {vault.created_by_type === "agent" ? "an agent" : "a user"}
        </dd>
      </dl>
      {deletes && <Delete vault={vault} close={() => setDeletes(false)} />}
    </section>
  );
}

function Delete({ vault, close }: { vault: wire.Vault; close: () => void }) {
  const { route } = useLocation();
  const deleted = () => {
    toast(`Deleted ${vault.name}`);
    route("/ui/vaults", true);
  };
  return (
    <Confirm title="Delete the vault" name={vault.name} submit="Delete the vault" send={() => client.vault.delete(vault.id)} done={deleted} close={close}>
      <p>All its secrets, with all their versions, are deleted for good, and agents that read them will fail. Nobody can bring them back.</p>
    </Confirm>
  );
}
