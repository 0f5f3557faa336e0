// Enabling CMEK: a key, its file, "I have saved it", and the fingerprint goes to the server.

import type { wire } from "@keyfold/sdk";
import { useState } from "preact/hooks";
import { keep } from "../../../keys.js";
import { client } from "../../../session.js";
import { Check, Form } from "../../../ui/form.js";
import { toast } from "../../../ui/toast.js";
import { ChooseKey, useKey } from "./choosekey.js";
import { rememberUnused } from "./unsaved.js";

export function Enable({ vault, done, cancel }: { vault: wire.Vault; done: () => void; cancel: () => void }) {
  const [chosen, setChosen] = useKey();
  const [bound, setBound] = useState(false);
  const [check, setCheck] = useState(true);
  const send = async () => {
    const { key } = chosen!;
    const request: wire.EnableCmek = { fingerprint: key.fingerprint, blob_version: bound ? 2 : 1 };
    if (check) request.key_check = await key.check(vault.id);
    return client.vault.enableCmek(vault.id, request);
  };
  const enabled = () => {
    keep(chosen!.key);
    rememberUnused(undefined);
    toast("CMEK is enabled");
    done();
  };
  const left = () => {
    rememberUnused(undefined);
    cancel();
  };
  return (
    <Form submit="Enable" send={send} done={enabled} cancel={left} disabled={!chosen?.saved}>
      <ChooseKey vault={vault} chosen={chosen} onChosen={setChosen} />
      <details class="stack">
        <summary>Options</summary>
        <Check label="Send a key check, so that clients refuse a wrong key before they write with it. It opens nothing." checked={check} onChecked={setCheck} />
        <Check label="Bound blobs (version 2): a value opens at its own vault and path only. Needs clients of Keyfold; other published clients refuse them." checked={bound} onChecked={setBound} />
      </details>
      <p class="hint">The server is sent the key's fingerprint{check ? ", the key check" : ""} and the version of the blobs. Values that are in the vault already stay as they are; write them again to seal them.</p>
    </Form>
  );
}
