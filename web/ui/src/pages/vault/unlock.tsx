// Unlocking a sealed vault for this tab, with its key file. The key stays in
// this page's memory; see ../../keys.ts.

import { useId, useState } from "preact/hooks";
import type { Result, wire } from "@keyfold/sdk";
import { keep, unlocked } from "../../keys.js";
import { Dialog } from "../../ui/dialog.js";
import { Form } from "../../ui/form.js";
import { Badge, Id } from "../../ui/parts.js";
import { toast } from "../../ui/toast.js";
import { readKey } from "./settings/keyathand.js";

/** Whether a vault is sealed with a key that this tab does not have. */
export function isLocked(vault: wire.Vault): boolean {
  return vault.cmek_enabled && !unlocked.value.has(vault.cmek_fingerprint ?? "");
}

/** That a vault is sealed, and whether this tab can open it. */
export function KeyBadge({ vault }: { vault: wire.Vault }) {
  if (!vault.cmek_enabled) return null;
  return (
    <>
      <Badge kind="sealed">Sealed</Badge> {!isLocked(vault) && <Badge kind="good">Unlocked in this tab</Badge>}
    </>
  );
}

/** A button that asks for the key file of a fingerprint. */
export function UnlockButton({ fingerprint, primary }: { fingerprint: string | undefined; primary?: boolean }) {
  const [asking, setAsking] = useState(false);
  return (
    <>
      <button type="button" class={primary ? "primary" : ""} onClick={() => setAsking(true)}>
        Unlock with key file
      </button>
      {asking && <Unlock fingerprint={fingerprint} close={() => setAsking(false)} />}
    </>
  );
}

function Unlock({ fingerprint, close }: { fingerprint: string | undefined; close: () => void }) {
  const [file, setFile] = useState<File>();
  const id = useId();
  const send = async (): Promise<Result<null>> => {
    keep((await readKey(file!, fingerprint)).key);
    return { data: null, error: null, meta: { status: 0 } };
  };
  const done = () => {
    toast("Unlocked in this tab");
    close();
  };
  return (
    <Dialog title="Unlock with a key file" close={close}>
      <Form submit="Unlock" send={send} done={done} cancel={close} disabled={!file}>
        <p>The key is read here and stays in this tab. It is not sent, and it is forgotten when you lock it, sign out, reload the page, or leave it alone for ten minutes.</p>
        {fingerprint && (
          <dl class="facts">
            <dt>Key</dt>
            <dd>
              <Id value={fingerprint} what="the fingerprint" />
            </dd>
          </dl>
        )}
        <div class="field">
          <label for={id}>Key file</label>
          <input id={id} type="file" accept=".key,.txt,text/plain,application/octet-stream" onChange={(e) => setFile(e.currentTarget.files?.[0])} />
        </div>
      </Form>
    </Dialog>
  );
}

/** In place of something that only the vault's key opens or seals. */
export function Locked({ fingerprint, what }: { fingerprint: string | undefined; what: string }) {
  return (
    <div class="empty locked">
      <h3>This vault is sealed</h3>
      <p>Its values are encrypted with a key that the server does not have. {what}</p>
      <UnlockButton fingerprint={fingerprint} primary />
    </div>
  );
}
